"""NAS-Bench-201: its costs, the canonical forms of its cells, and one cell by hand."""

from __future__ import annotations

import csv
import gzip
import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from diswot.architecture import Architecture
from diswot.models.cell import Cell
from diswot.models.init import initialise
from search_spaces import nasbench201

DATA = (("cifar10", 10, 32), ("cifar100", 100, 32), ("imagenet16_120", 120, 16))  # classes and image size
PUBLISHED = """\
|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|,15.64737,0.129306,15.65322,0.135156,3.91948,0.136456
|nor_conv_3x3~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|none~1|avg_pool_3x3~2|,43.17249,0.316346,43.17834,0.322196,10.80076,0.323496
|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|none~1|none~2|,47.10465,0.344346,47.1105,0.350196,11.7838,0.351496
|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|,184.73025,1.288506,184.7361,1.294356,46.1902,1.295656
|none~0|+|none~0|none~1|+|none~0|none~1|none~2|,7.78305,0.073306,7.7889,0.079156,1.9534,0.080456"""


def check_costs(text: str, published: Sequence[tuple[float, float]]) -> None:
    """The table counts the N additions of the classifier's bias as FLOPs; torch, and we, do not."""
    for (_, classes, side), (flops, params) in zip(DATA, published, strict=True):
        cost = nasbench201.space.count(Architecture("nasbench201", text), classes, 3, side)
        assert round(cost.params / 1e6, 6) == params
        assert round((cost.flops + classes) / 1e6, 5) == pytest.approx(flops, abs=1e-9)


@pytest.mark.parametrize("row", PUBLISHED.splitlines())
def test_nasbench201_costs_are_the_published_ones(row: str) -> None:
    text, *numbers = row.split(",")
    values = list(map(float, numbers))
    check_costs(text, list(zip(values[::2], values[1::2], strict=True)))


def test_nasbench201_costs_equal_the_whole_table(real_data: Path) -> None:
    """All 15,625, on three data sets."""
    with gzip.open(real_data / "nasbench201" / "nasbench201.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15_625
    for row in rows:
        check_costs(row["arch_str"], [(float(row[f"{data}_flops_m"]), float(row[f"{data}_params_m"])) for data, _, _ in DATA])


def authors_string(operations: tuple[str, ...]) -> str:
    """The string by which the benchmark's authors tell topologies apart, written from its description."""
    nodes = ["0"]
    for node in (1, 2, 3):
        terms = []
        for operation, (source, target) in zip(operations, nasbench201.EDGES, strict=True):
            if target == node:
                zero = operation == "none" or nodes[source] == "#"
                kept = nodes[source] if operation == "skip_connect" else f"({nodes[source]})@{operation}"
                terms.append("#" if zero else kept)
        nodes.append("+".join(sorted(terms)))
    return nodes[-1]


def test_nasbench201_canonical_form_refines_the_published_one() -> None:
    cells = list(itertools.product(nasbench201.OPERATIONS, repeat=6))
    strings = {cell: authors_string(cell) for cell in cells}
    terms = {cell: nasbench201.output_terms(cell) for cell in cells}
    assert len(set(strings.values())) == 6466  # as published
    assert len(set(terms.values())) == 4930
    merged: dict[str, set[object]] = {}
    for cell in cells:
        merged.setdefault(strings[cell], set()).add(terms[cell])
    assert all(len(found) == 1 for found in merged.values()), "what the authors call equal is equal here"


def test_nasbench201_canonical_networks_compute_the_same() -> None:
    """With the weights of living edges carried over by hand, a cell and its representative agree on random images."""
    space = nasbench201.space
    edges = [
        ("|nor_conv_3x3~0|+|skip_connect~0|none~1|+|none~0|none~1|nor_conv_1x1~2|", "dead convolution"),
        ("|skip_connect~0|+|none~0|avg_pool_3x3~1|+|nor_conv_3x3~0|none~1|skip_connect~2|", "sum through a skip"),
    ]
    for text, what in edges:
        arch = Architecture("nasbench201", text)
        twin = space.canonical(arch)
        assert twin.choices != text, what
        a, b = (space.build(x, 10) for x in (arch, twin))
        live = [m for m in a.stages[0][0].edges if not isinstance(m, torch.nn.Identity | torch.nn.AvgPool2d)]
        assert len(live) >= sum(1 for o in nasbench201.parse(twin.choices) if o in nasbench201.KERNELS)
        initialise(b, "kaiming", 0)
        _copy_living(a, b, arch, twin)
        images = torch.randn(4, 3, 32, 32)
        torch.testing.assert_close(a(images), b(images))


def _copy_living(a: torch.nn.Module, b: torch.nn.Module, arch: Architecture, twin: Architecture) -> None:
    """Both examples hold one living convolution a cell; it is found by its kernel size."""
    kernel = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
    (size,) = [kernel[o] for o in nasbench201.parse(twin.choices) if o in kernel]
    state = dict(b.state_dict())
    for name in list(state):
        if ".edges." in name:
            del state[name]
    a.load_state_dict(state, strict=False)
    for cell_a, cell_b in zip(_cells(a), _cells(b), strict=True):
        (conv_a,), (conv_b,) = (
            [m for m in cell.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (size, size)] for cell in (cell_a, cell_b)
        )
        conv_a.weight.data.copy_(conv_b.weight.data)


def _cells(model: torch.nn.Module) -> list[torch.nn.Module]:
    return [m for m in model.modules() if isinstance(m, Cell)]


def test_nasbench201_network_by_hand() -> None:
    """One cell against the sum of its paths written out."""
    operations = ("nor_conv_3x3", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "none", "nor_conv_3x3")
    cell = Cell(operations, nasbench201.EDGES, 8).eval()
    x = torch.randn(2, 8, 6, 6)
    conv01, skip02, pool12, conv03, conv23 = cell.edges
    node2 = skip02(x) + pool12(conv01(x))
    torch.testing.assert_close(cell(x), conv03(x) + conv23(node2))
