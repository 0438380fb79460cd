"""NAS-Bench-Macro and Channel-Bench-Macro: their costs are those of the published tables, their blocks by hand."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from diswot.architecture import Architecture
from diswot.benchmarks import read_benchmark
from diswot.models.init import initialise
from diswot.observe import batch_statistics
from diswot.space import load_space

TABLES = {"nasbench_macro": "nasbench_macro/nasbench_macro.csv.gz", "channel_bench": "channel_bench/channel_bench_resnet.csv.gz"}


@pytest.mark.parametrize("name", TABLES)
def test_every_cost_is_that_of_the_benchmarks_table(name: str, real_data: Path) -> None:
    space = load_space(name)
    with gzip.open(real_data / TABLES[name], "rt") as file:
        rows = list(csv.DictReader(file))
    assert [arch.choices for arch in space.enumerate() or []] == [row["arch"] for row in rows]
    for row in rows:
        cost = space.count(Architecture(name, row["arch"]), 10, 3, 32)
        assert cost is not None and (cost.params, cost.flops) == (int(row["params"]), int(row["flops"])), row["arch"]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_recognised_by_its_architectures(name: str, real_data: Path) -> None:
    table = read_benchmark(real_data / TABLES[name])
    assert table.space == name and table.dataset_names() == ["cifar10"] and table.accuracy("cifar10", "test").min() > 40


def test_identities_do_nothing_wherever_they_stand(real_data: Path) -> None:
    """Networks of one canonical form compute the same, and their published accuracies differ as three seeds do."""
    space = load_space("nasbench_macro")
    moved, form = Architecture(space.name, "10102001"), Architecture(space.name, "10120010")
    assert space.canonical(moved) == form != moved and space.canonical(form) == form
    outputs = []
    for arch in (moved, form):
        model = space.build(arch, 10)
        initialise(model, "kaiming", 0)
        with torch.no_grad(), batch_statistics(model):
            outputs.append(model(torch.ones(2, 3, 32, 32).cumsum(3)))
    torch.testing.assert_close(*outputs, rtol=0, atol=0)

    table = read_benchmark(real_data / TABLES["nasbench_macro"])
    accuracy = table.accuracy("cifar10", "test")
    classes: dict[str, list[float]] = {}
    for arch, value in zip(table.archs, accuracy, strict=True):
        classes.setdefault(space.canonical(arch).choices, []).append(value)
    assert len(classes) == 3969
    within = np.concatenate([np.array(values) - np.mean(values) for values in classes.values() if len(values) > 1])
    assert within.std() < 0.05 * accuracy.std()


def test_an_inverted_residual_by_hand() -> None:
    """Expansion 6 and kernel 5, written out layer by layer; the sum with the input only where the shape stays."""
    model = load_space("nasbench_macro").build(Architecture("nasbench_macro", "22000000"), 10).eval()
    first, second = model.stages[0]
    x = torch.randn(2, 32, 8, 8)

    def by_hand(block: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        (expand, norm1, _), (depthwise, norm2, _), project, norm3 = block.body
        assert depthwise.weight.shape == (6 * x.shape[1], 1, 5, 5)
        y = F.relu(norm1(F.conv2d(x, expand.weight)))
        y = F.relu(norm2(F.conv2d(y, depthwise.weight, stride=depthwise.stride, padding=2, groups=y.shape[1])))
        return norm3(F.conv2d(y, project.weight))

    half = by_hand(first, x)
    assert half.shape == (2, 64, 4, 4)
    torch.testing.assert_close(first(x), half)
    torch.testing.assert_close(second(half), half + by_hand(second, half))


def test_the_third_block_of_channel_bench_has_no_shortcut() -> None:
    model = load_space("channel_bench").build(Architecture("channel_bench", "1234123"), 10).eval()
    plain, x = model.stages[1][0], torch.randn(2, 64, 8, 8)
    (conv1, norm1, _), (conv2, norm2, _) = plain.body
    y = F.relu(norm1(F.conv2d(x, conv1.weight, stride=2, padding=1)))
    torch.testing.assert_close(plain(x), F.relu(norm2(F.conv2d(y, conv2.weight, padding=1))))
    early = model.stages[0][0]
    assert torch.equal(early(x), F.relu(early.body(x) + x))
