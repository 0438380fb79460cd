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
from search_spaces import nasbench101, nasbench201, nats_size
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


def test_nats_size_costs_are_the_published_ones() -> None:
    """As the benchmark's files and its authors' notebook have them; their FLOPs count the additions of the classifier's bias."""
    space = nats_size.space
    params = {"8:8:8:8:8": 11_714, "8:8:8:16:40": 67_378, "8:8:16:40:40": 107_826, "64:64:64:64:64": 713_674}
    for text, published in params.items():
        cost = space.count(Architecture("nats_size", text), 10, 3, 32)
        assert cost.params == published
        if text == "8:8:8:16:40":
            assert cost.flops + 10 == 7_991_706
    order = [arch.choices for arch in space.enumerate()]
    assert (order[0], order[12], order[-1]) == ("8:8:8:8:8", "8:8:8:16:40", "64:64:64:64:64")


def test_nats_size_cell_by_hand() -> None:
    """A cell that changes its width, against the sum of its paths written out; the changed skip connection has no ReLU."""
    from diswot.models.nats_size import SizedCell

    cell = SizedCell(nats_size.CELL, nasbench201.EDGES, 8, 16).eval()
    x = torch.randn(2, 8, 6, 6)
    conv01, conv02, conv12, skip03, conv13, conv23 = cell.edges
    node1 = conv01(x)
    node2 = conv02(x) + conv12(node1)
    torch.testing.assert_close(cell(x), skip03(x) + conv13(node1) + conv23(node2))
    assert [type(layer).__name__ for layer in skip03] == ["Conv2d", "BatchNorm2d"]
    same = SizedCell(nats_size.CELL, nasbench201.EDGES, 8, 8)
    assert isinstance(same.edges[3], torch.nn.Identity)


CONV3, CONV1, POOL = nasbench101.OPERATIONS
FIRST_OF_THE_FILE = {
    "matrix": [[0, 1, 0, 0, 1, 1, 0], [0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 1], [0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1, 0],
               [0, 0, 0, 0, 0, 0, 1], [0] * 7],
    "ops": ["input", CONV3, POOL, CONV3, CONV3, CONV1, "output"],
}  # fmt: skip
INCEPTION = {
    "matrix": [[0, 1, 1, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1],
               [0, 0, 0, 0, 0, 0, 1], [0] * 7],
    "ops": ["input", CONV1, CONV3, CONV3, CONV3, POOL, "output"],
}  # fmt: skip
INCEPTION_IN_THE_FILE = {
    "matrix": [[0, 1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1, 0],
               [0, 0, 0, 0, 0, 0, 1], [0] * 7],
    "ops": ["input", CONV3, CONV1, POOL, CONV3, CONV3, "output"],
}  # fmt: skip


def graph(choices: dict) -> Architecture:
    return Architecture("nasbench101", choices)


def test_nasbench101_costs_hash_and_canonical_form_are_the_published_ones() -> None:
    """From the benchmark's notebook and its first record; the largest network of all has 49,979,274 parameters."""
    space = nasbench101.space
    params = [space.count(graph(c), 10, 3, 32).params for c in (FIRST_OF_THE_FILE, INCEPTION, INCEPTION_IN_THE_FILE)]
    assert params == [8_555_530, 2_694_282, 2_694_282]
    assert nasbench101.module_hash(nasbench101.parse(FIRST_OF_THE_FILE)) == "00005c142e6f48ac74fdcf73e3439874"
    assert space.canonical(graph(FIRST_OF_THE_FILE)) == graph(FIRST_OF_THE_FILE)
    assert space.canonical(graph(INCEPTION)) == graph(INCEPTION_IN_THE_FILE)
    assert max(space.count(arch, 10, 3, 32).params for arch in space.extremes()) == 49_979_274


def test_nasbench101_canonical_forms_are_as_many_as_hashes() -> None:
    """All 3,364 living cells of up to 5 vertices: equal forms and equal hashes are the same thing. Up to 7 there are 423,624."""
    forms, hashes, pairs = set(), set(), set()
    for size in range(2, 6):
        places = list(itertools.combinations(range(size), 2))
        for edges in itertools.product((0, 1), repeat=len(places)):
            chosen = dict(zip(places, edges, strict=True))
            matrix = tuple(tuple(chosen.get((u, v), 0) for v in range(size)) for u in range(size))
            for ops in itertools.product(nasbench101.OPERATIONS, repeat=size - 2):
                cell = nasbench101.Cell(matrix, ("input", *ops, "output"))
                if sum(edges) > nasbench101.MAX_EDGES or nasbench101.prune(cell) != cell or not sum(edges):
                    continue
                form, key = nasbench101.smallest_relabelling(cell), nasbench101.module_hash(cell)
                forms.add(form)
                hashes.add(key)
                pairs.add((form, key))
    assert len(forms) == len(hashes) == len(pairs) == 2532


def test_nasbench101_isomorphic_cells_share_form_and_hash() -> None:
    """Random relabellings of random cells, with dead vertices put in between."""
    space, rng = nasbench101.space, np.random.default_rng(0)
    for _ in range(100):
        arch = space.sample(rng)
        cell = nasbench101.prune(nasbench101.parse(arch.choices))
        size = len(cell.ops)
        orders = [(0, *(int(v) for v in rng.permutation(range(1, size - 1))), size - 1) for _ in range(50)]
        for order in orders:  # the vertex at each place
            matrix = np.array(cell.matrix)[np.ix_(order, order)]
            if np.tril(matrix).any():
                continue
            twin = nasbench101.Cell(tuple(map(tuple, matrix.tolist())), tuple(cell.ops[v] for v in order))
            assert nasbench101.module_hash(twin) == nasbench101.module_hash(cell)
            assert space.canonical(space.arch(twin)) == space.canonical(arch)
        changed = space.mutate(arch, rng)
        living = nasbench101.prune(nasbench101.parse(changed.choices))
        equal = space.canonical(changed) == space.canonical(arch)
        assert equal == (nasbench101.module_hash(living) == nasbench101.module_hash(cell))


def test_nasbench101_dead_vertices_change_nothing() -> None:
    space = nasbench101.space
    dead = {
        "matrix": [[0, 1, 1, 0, 0], [0, 0, 0, 0, 1], [0] * 5, [0, 0, 0, 0, 1], [0] * 5],
        "ops": ["input", CONV1, CONV3, CONV3, "output"],
    }
    living = {"matrix": [[0, 1, 0], [0, 0, 1], [0] * 3], "ops": ["input", CONV1, "output"]}
    assert space.canonical(graph(dead)) == graph(living)
    assert space.count(graph(dead), 10, 3, 32) == space.count(graph(living), 10, 3, 32)
    assert str(space.build(graph(dead), 10)) == str(space.build(graph(living), 10))


def test_nasbench101_smallest_cell_can_grow() -> None:
    space, rng = nasbench101.space, np.random.default_rng(0)
    arch = graph({"matrix": [[0, 1], [0, 0]], "ops": ["input", "output"]})
    sizes = set()
    for _ in range(100):
        arch = space.mutate(arch, rng)
        sizes.add(len(space.canonical(arch).choices["ops"]))
    assert max(sizes) >= 5


@pytest.mark.parametrize(
    ("edges", "out_chans", "widths"),
    [
        ([(0, 1), (1, 2), (2, 3)], 16, [16, 16]),
        ([(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)], 8, [8, 8, 8]),
        ([(0, 1), (0, 2), (1, 3), (2, 3)], 15, [8, 7]),
        ([(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)], 8, [3, 3, 2]),
        ([(0, 1), (1, 2), (1, 3), (2, 4), (3, 4)], 9, [5, 5, 4]),
        ([(0, 1), (0, 3), (1, 2), (1, 4), (2, 3), (3, 4)], 15, [8, 7, 7]),
        ([(0, 1)], 5, []),
    ],
)
def test_nasbench101_widths_are_the_benchmarks(edges: list[tuple[int, int]], out_chans: int, widths: list[int]) -> None:
    """The cases of the benchmark's own tests."""
    size = max(v for _, v in edges) + 1
    matrix = tuple(tuple(int((u, v) in edges) for v in range(size)) for u in range(size))
    assert nasbench101.vertex_widths(matrix, out_chans) == [0, *widths, out_chans]


def test_nasbench101_cell_by_hand() -> None:
    """A cell with a cut to fewer channels, a sum, and the input added to the output, against its paths written out."""
    from diswot.models.nasbench101 import GraphCell

    edges = [(0, 1), (0, 3), (1, 2), (1, 3), (2, 4), (3, 4), (0, 4)]
    matrix = [[int((u, v) in edges) for v in range(5)] for u in range(5)]
    cell = GraphCell(matrix, [None, 3, None, 1, None], [0, 5, 5, 4, 9], 6).eval()
    x = torch.randn(2, 6, 8, 8)
    to = cell.projections
    one = cell.operations["1"](to["1"](x))
    two = torch.nn.functional.max_pool2d(one, 3, 1, 1)
    three = cell.operations["3"](one[:, :4] + to["3"](x))
    torch.testing.assert_close(cell(x), torch.cat([two, three], 1) + to["4"](x))


def test_new_benchmark_spaces_count_odd_image_sizes() -> None:
    rng = np.random.default_rng(0)
    for space in (nasbench101.space, nats_size.space):
        arch = space.extremes()[0] if space is nasbench101.space else space.sample(rng)
        for side in (28, 33, 50):
            assert space.count(arch, 10, 3, side) == count_network(space.build(arch, 10), 3, side), (space.name, side)


@pytest.mark.parametrize(
    ("name", "choices", "says"),
    [
        ("s0", {"depths": [1, 2, 3]}, "1, 3, 5, 7"),
        ("s0", {"depths": [1, 3]}, "1, 3, 5, 7"),
        ("s0", {"depths": [True, 1, 1]}, "1, 3, 5, 7"),
        ("nasbench201", "|nor_conv_9x9~0|+|none~0|none~1|+|none~0|none~1|none~2|", "nor_conv_9x9"),
        ("nasbench201", "|none~0|", "not of the form"),
        ("zoo", "resnet21", "did you mean"),
        ("nats_size", "8:16:24:32", "8:16:24:32:64"),
        ("nats_size", "8:16:24:32:72", "'8:16:24:32:72' is not five widths"),
        ("nats_size", "8:16:24:32:064", "five widths"),
        ("nats_size", [8, 8, 8, 8, 8], "five widths"),
        ("nasbench101", {"matrix": [[0, 1], [0, 0]]}, "ops"),
        ("nasbench101", {"matrix": [[0, 1], [0]], "ops": ["input", "output"]}, "2 to 7 rows"),
        ("nasbench101", {"matrix": [[0] * 8] * 8, "ops": ["input", "output"]}, "2 to 7 rows"),
        ("nasbench101", {"matrix": [[0, True], [0, 0]], "ops": ["input", "output"]}, "holds True in row 0, column 1"),
        ("nasbench101", {"matrix": [[0, 1], [1, 0]], "ops": ["input", "output"]}, "holds 1 in row 1, column 0"),
        ("nasbench101", {"matrix": [[0, 1], [0, 0]], "ops": ["input", "maxpool3x3", "output"]}, "3 ops for a matrix of 2 vertices"),
        ("nasbench101", {"matrix": [[0, 1], [0, 0]], "ops": ["output", "input"]}, 'from "input" to "output"'),
        ("nasbench101", {"matrix": [[0] * 3] * 3, "ops": ["input", "maxpool3x3", "output"]}, "no path"),
        ("nasbench101", {"matrix": [[0] * 3] * 3, "ops": ["input", "conv5x5", "output"]}, "unknown operation 'conv5x5'"),
        ("nasbench101", {"matrix": [[0] * 3] * 3, "ops": ["input", [1], "output"]}, "unknown operation a list"),
        (
            "nasbench101",
            {"matrix": [[int(u < v) for v in range(5)] for u in range(5)], "ops": ["input", *["maxpool3x3"] * 3, "output"]},
            "10 edges",
        ),
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
