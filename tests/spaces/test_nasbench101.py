"""NAS-Bench-101: its costs, hashes and canonical forms, and one cell by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from diswot.architecture import Architecture
from diswot.models.nasbench101 import GraphCell
from search_spaces import nasbench101

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
    edges = [(0, 1), (0, 3), (1, 2), (1, 3), (2, 4), (3, 4), (0, 4)]
    matrix = [[int((u, v) in edges) for v in range(5)] for u in range(5)]
    cell = GraphCell(matrix, [None, 3, None, 1, None], [0, 5, 5, 4, 9], 6).eval()
    x = torch.randn(2, 6, 8, 8)
    to = cell.projections
    one = cell.operations["1"](to["1"](x))
    two = torch.nn.functional.max_pool2d(one, 3, 1, 1)
    three = cell.operations["3"](one[:, :4] + to["3"](x))
    torch.testing.assert_close(cell(x), torch.cat([two, three], 1) + to["4"](x))
