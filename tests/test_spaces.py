from __future__ import annotations

import csv
import gzip
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from diswot.architecture import Architecture
from diswot.budget import count_network
from diswot.errors import ArchitectureError, ConfigError
from diswot.models.init import initialise
from diswot.space import BUILT_IN, SearchSpace, load_space
from diswot.testing import check_space
from search_spaces import nasbench201
from search_spaces._staged import CIFAR, scaled


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_space_conforms(name: str) -> None:
    check_space(load_space(name), samples=3, input_size=64 if name.endswith("imagenet") else None)


def test_the_suite_notices_a_wrong_count(monkeypatch: pytest.MonkeyPatch) -> None:
    space = load_space("s0")
    honest = space.count
    monkeypatch.setattr(space, "count", lambda *a: type(honest(*a))(honest(*a).params + 1, honest(*a).flops, honest(*a).depth))
    with pytest.raises(AssertionError, match="count says"):
        check_space(space, samples=1)


def test_s0_spans_the_published_costs() -> None:
    space = load_space("s0")
    costs = [space.count(arch, 100, 3, 32) for arch in space.enumerate()]
    assert len(costs) == 64
    assert (min(c.params for c in costs), max(c.params for c in costs)) == (83_892, 667_188)
    assert round(min(c.flops for c in costs) / 1e6, 1) == 12.5
    assert round(max(c.flops for c in costs) / 1e6, 1) == 97.4


def test_s0_777_is_resnet44() -> None:
    space = load_space("s0")
    resnet44 = load_space("zoo").build(Architecture("zoo", "resnet44"), 100)
    assert space.count(Architecture("resnet_depth", {"depths": [7, 7, 7]}), 100, 3, 32) == count_network(resnet44, 3, 32)


def test_nasbench201_costs_equal_the_table(real_data: Path) -> None:
    """All 15,625, on three data sets. The table counts the N additions of the classifier's bias as FLOPs; torch, and we, do not."""
    space = load_space("nasbench201")
    with gzip.open(real_data / "nasbench201" / "nasbench201.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15_625
    for row in rows:
        arch = Architecture("nasbench201", row["arch_str"])
        for data, classes, side in (("cifar10", 10, 32), ("cifar100", 100, 32), ("imagenet16_120", 120, 16)):
            cost = space.count(arch, classes, 3, side)
            assert round(cost.params / 1e6, 6) == float(row[f"{data}_params_m"])
            assert round((cost.flops + classes) / 1e6, 5) == pytest.approx(float(row[f"{data}_flops_m"]), abs=1e-9)


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
    from diswot.models.cell import Cell

    return [m for m in model.modules() if isinstance(m, Cell)]


def test_nasbench201_network_by_hand() -> None:
    """One cell against the sum of its paths written out."""
    from diswot.models.cell import Cell

    operations = ("nor_conv_3x3", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "none", "nor_conv_3x3")
    cell = Cell(operations, nasbench201.EDGES, 8).eval()
    x = torch.randn(2, 8, 6, 6)
    conv01, skip02, pool12, conv03, conv23 = cell.edges
    node2 = skip02(x) + pool12(conv01(x))
    torch.testing.assert_close(cell(x), conv03(x) + conv23(node2))


def test_residual_connections_are_really_there() -> None:
    """With every convolution zeroed, what is left of a block is its shortcut: the input reaches the output."""
    for name in ("s0", "s1", "s2", "nasbench201"):
        space = load_space(name)
        arch = space.extremes()[0] if name != "s1" else space.sample(np.random.default_rng(0))
        model = space.build(arch, 10).eval()
        first = next(m for m in model.modules() if type(m).__name__ in ("BasicBlock", "ResidualBlock", "ReductionBlock"))
        assert hasattr(first, "downsample"), name
        images = torch.randn(2, 3, 32, 32)
        for module in model.modules():
            if type(module).__name__ in ("BasicBlock", "ResidualBlock", "ReductionBlock"):
                for key, parameter in module.named_parameters():
                    if "downsample" not in key and parameter.ndim == 4:
                        torch.nn.init.zeros_(parameter)
        changed = model.forward_features(images)
        if name != "nasbench201":  # whose smallest cell passes nothing on
            assert changed.std() > 0, name


@pytest.mark.parametrize(
    ("name", "choices", "says"),
    [
        ("s0", {"depths": [1, 2, 3]}, "1, 3, 5, 7"),
        ("s0", {"depths": [1, 3]}, "1, 3, 5, 7"),
        ("s0", {"depths": [True, 1, 1]}, "1, 3, 5, 7"),
        ("nasbench201", "|nor_conv_9x9~0|+|none~0|none~1|+|none~0|none~1|none~2|", "nor_conv_9x9"),
        ("nasbench201", "|none~0|", "not of the form"),
        ("zoo", "resnet21", "did you mean"),
    ],
)
def test_choices_outside_the_space_are_named(name: str, choices: object, says: str) -> None:
    space = load_space(name)
    with pytest.raises(ArchitectureError, match=says):
        space.check(Architecture(space.name, choices))


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("stem",), 12, "multiple of 8"),
        (("stem",), 4096, "2048"),
        (("head",), 0, "head"),
        (("stages",), [], "list of 4"),
        (("stages", 0, "kernel"), 9, "kernel 9"),
        (("stages", 0, "depth"), 0, "depth 0"),
        (("stages", 0, "depth"), 10**9, "depth"),
        (("stages", 0, "block"), "bottleneck", "block"),
        (("stages", 1, "width"), 8.0, "multiple of 8"),
        (("stages", 1, "mid"), [8], "mid"),
    ],
)
def test_staged_choices_outside_the_space_are_named(path: tuple, value: object, says: str) -> None:
    space = load_space("s1")
    choices = space.start().choices
    inner = choices
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ArchitectureError, match=says):
        space.check(Architecture(space.name, choices))


def test_the_seed_of_s1_is_zen_nas() -> None:
    choices = load_space("s1").start().choices
    assert [(s["width"], s["mid"], s["depth"]) for s in choices["stages"]] == [(16, 8, 1), (32, 16, 1), (64, 32, 1), (64, 32, 1)]
    assert (choices["stem"], choices["head"], [s[1] for s in CIFAR.stages]) == (8, 128, [1, 2, 2, 2])


def test_widths_are_multiples_of_8_within_bounds() -> None:
    widths = [scaled(w, f) for w in range(8, 2049, 8) for f in (2.5, 1.5, 1.0, 1 / 1.25, 1 / 2.5)]
    assert {w % 8 for w in widths} == {0}
    assert (min(widths), max(widths)) == (8, 2048)
    assert scaled(100 * 8, 1.0) == 800


@pytest.mark.parametrize("name", ["s1", "s2"])
def test_mutation_replaces_at_most_two_parts(name: str) -> None:
    space, rng = load_space(name), np.random.default_rng(0)
    arch = space.start()
    for _ in range(200):
        child = space.mutate(arch, rng)
        parts = [(arch.choices[k], child.choices[k]) for k in ("stem", "head")]
        parts += list(zip(arch.choices["stages"], child.choices["stages"], strict=True))
        assert 1 <= sum(a != b for a, b in parts) <= 2
        arch = child


def test_a_space_of_ones_own_loads_by_its_dotted_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mylab_space.py").write_text(OWN_SPACE)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="--space mylab_space:own"):
        load_space("mylab_space:own")  # a name out of a file may not import code
    space = load_space("mylab_space:own", trusted=True)
    assert isinstance(space, SearchSpace)
    check_space(space, samples=2)
    with pytest.raises(ConfigError, match="holds no SearchSpace named 'other'"):
        load_space("mylab_space:other", trusted=True)
    with pytest.raises(ConfigError, match="cannot be imported"):
        load_space("mylab_nowhere:own", trusted=True)


OWN_SPACE = """
from diswot import Architecture, SearchSpace
from diswot.errors import ArchitectureError
from diswot.models.resnet import CifarResNet

class Own(SearchSpace):
    name = "mylab_space:own"
    def arch(self, width): return Architecture(self.name, width)
    def size(self): return 4
    def enumerate(self): return map(self.arch, (8, 16, 24, 32))
    def sample(self, rng): return self.arch(int(rng.choice([8, 16, 24, 32])))
    def mutate(self, arch, rng): return list(self.neighbours(arch))[int(rng.integers(3))]
    def neighbours(self, arch): return (a for a in self.enumerate() if a != arch)
    def check(self, arch):
        if type(arch.choices) is not int or arch.choices not in (8, 16, 24, 32): raise ArchitectureError("own: 8, 16, 24 or 32")
    def extremes(self): return self.arch(8), self.arch(32)
    def build(self, arch, num_classes, in_chans=3): return CifarResNet([1, 1], (8, 8, arch.choices), num_classes, in_chans)

own = Own()
"""
