"""NAS-Bench-101 (Ying et al., ICML 2019): cells that are graphs of at most 7 vertices and 9 edges, with one of 3 operations on each
interior vertex."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from diswot.architecture import Architecture
from diswot.errors import ArchitectureError, shown
from diswot.space import Cost, SearchSpace

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")  # in the order of the benchmark's labels
KERNELS = {"conv3x3-bn-relu": 3, "conv1x1-bn-relu": 1}
MAX_VERTICES = 7
MAX_EDGES = 9
STEM = 128
STACKS = (128, 256, 512)  # channels
MODULES = 3  # cells a stack

Matrix = tuple[tuple[int, ...], ...]


class Cell(NamedTuple):
    """Row u, column v of the upper triangular `matrix` is 1 where vertex u feeds vertex v; `ops` name the vertices, the first `input`
    and the last `output`."""

    matrix: Matrix
    ops: tuple[str, ...]


def parse(choices: Any) -> Cell:
    """The cell as it is written, dead parts included; an `ArchitectureError` names what is wrong.

    >>> parse({"matrix": [[0, 1], [0, 0]], "ops": ["input", "output"]}).ops
    ('input', 'output')
    >>> parse({"matrix": [[0, 0], [0, 0]], "ops": ["input", "output"]})
    Traceback (most recent call last):
    diswot.errors.ArchitectureError: nasbench101: no path leads from the input to the output
    """
    if not isinstance(choices, dict) or set(choices) != {"matrix", "ops"}:
        raise ArchitectureError(f'nasbench101: {shown(choices)} is not {{"matrix": [[0, 1, ...], ...], "ops": ["input", ..., "output"]}}')
    cell = Cell(_matrix(choices["matrix"]), _ops(choices["ops"]))
    if len(cell.ops) != len(cell.matrix):
        raise ArchitectureError(f"nasbench101: {len(cell.ops)} ops for a matrix of {len(cell.matrix)} vertices")
    edges = num_edges(prune(cell))
    if not 1 <= edges <= MAX_EDGES:
        what = f"{edges} edges are more than {MAX_EDGES}" if edges else "no path leads from the input to the output"
        raise ArchitectureError(f"nasbench101: {what}")
    return cell


def _matrix(rows: Any) -> Matrix:
    size = len(rows) if isinstance(rows, list) else 0
    if not 2 <= size <= MAX_VERTICES or any(not isinstance(row, list) or len(row) != size for row in rows):
        raise ArchitectureError(f"nasbench101: the matrix must be a list of 2 to {MAX_VERTICES} rows, each as long as there are rows")
    for u, row in enumerate(rows):
        for v, value in enumerate(row):
            if type(value) is not int or value not in (0, 1) or (value and v <= u):
                raise ArchitectureError(
                    f"nasbench101: the matrix holds {shown(value)} in row {u}, column {v}: 0 or 1, and 0 up to the diagonal"
                )
    return tuple(map(tuple, rows))


def _ops(ops: Any) -> tuple[str, ...]:
    if not isinstance(ops, list) or ops[:1] != ["input"] or ops[-1:] != ["output"]:
        raise ArchitectureError(f'nasbench101: the ops must be a list from "input" to "output", not {shown(ops)}')
    for name in ops[1:-1]:
        if name not in OPERATIONS:
            raise ArchitectureError(f"nasbench101: unknown operation {shown(name)}: known: {', '.join(OPERATIONS)}")
    return tuple(ops)


def num_edges(cell: Cell) -> int:
    return sum(map(sum, cell.matrix))


def prune(cell: Cell) -> Cell:
    """The cell without the vertices that are on no path from the input to the output; without edges where there is no such path."""
    last = len(cell.matrix) - 1
    ahead, behind = {0}, {last}
    for v in range(1, last + 1):
        if any(cell.matrix[u][v] for u in ahead):
            ahead.add(v)
    for u in reversed(range(last)):
        if any(cell.matrix[u][v] for v in behind):
            behind.add(u)
    living = sorted((ahead & behind) | {0, last})
    return Cell(tuple(tuple(cell.matrix[u][v] for v in living) for u in living), tuple(cell.ops[v] for v in living))


def module_hash(cell: Cell) -> str:
    """The benchmark's own key of a pruned cell, the same for isomorphic ones: 32 hexadecimal digits.

    Every vertex begins with the MD5 of its degrees and its label, and takes in those of its neighbours as often as there are vertices.
    """
    vertices = range(len(cell.ops))
    labels = [-1, *(OPERATIONS.index(name) for name in cell.ops[1:-1]), -2]
    sources = [[u for u in vertices if cell.matrix[u][v]] for v in vertices]
    targets = [[v for v in vertices if cell.matrix[u][v]] for u in vertices]
    keys = [_md5(str((len(targets[v]), len(sources[v]), labels[v]))) for v in vertices]
    for _ in vertices:
        keys = [_md5("|".join([*("".join(sorted(keys[u] for u in near[v])) for near in (sources, targets)), keys[v]])) for v in vertices]
    return _md5(str(sorted(keys)))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@functools.cache
def _relabellings(vertices: int) -> list[tuple[int, ...]]:
    """New numbers for all vertices, the input and the output staying where they are."""
    return [(0, *interior, vertices - 1) for interior in itertools.permutations(range(1, vertices - 1))]


def smallest_relabelling(cell: Cell) -> Cell:
    """The first of all isomorphic cells in the order in which the benchmark generates them; in every example published, the one its files
    hold.

    The order: the matrix as a number whose bits are its columns one after the other, the first vertex the lowest; then the operations.
    """
    edges = [(u, v) for u, row in enumerate(cell.matrix) for v, present in enumerate(row) if present]
    labels = [OPERATIONS.index(name) for name in cell.ops[1:-1]]
    best: tuple[int, list[int]] | None = None
    for new in _relabellings(len(cell.ops)):
        if any(new[u] >= new[v] for u, v in edges):
            continue
        number = sum(1 << (new[u] + new[v] * (new[v] - 1) // 2) for u, v in edges)
        if best is None or number <= best[0]:
            ordered = [label for _, label in sorted(zip(new[1:-1], labels, strict=True))]
            best = min(best or (number, ordered), (number, ordered))
    assert best is not None, "the labelling that came in is one of them"
    number, ordered = best
    size = range(len(cell.ops))
    matrix = tuple(tuple((number >> (u + v * (v - 1) // 2)) & 1 if u < v else 0 for v in size) for u in size)
    return Cell(matrix, ("input", *(OPERATIONS[label] for label in ordered), "output"))


def vertex_widths(matrix: Matrix, out_chans: int) -> list[int]:
    """Channels at each vertex of a pruned cell, the input's left at 0 since it is projected wherever it goes.

    The output concatenates, so its sources share its channels, the first ones taking what is left over; any other vertex is as wide as
    the widest that it feeds.

    >>> vertex_widths(((0, 1, 1, 1, 0), (0, 0, 0, 0, 1), (0, 0, 0, 0, 1), (0, 0, 0, 0, 1), (0,) * 5), 128)
    [0, 43, 43, 42, 128]
    """
    last = len(matrix) - 1
    widths = [0] * last + [out_chans]
    parts = [u for u in range(1, last) if matrix[u][last]]
    for place, u in enumerate(parts):
        widths[u] = out_chans // len(parts) + (place < out_chans % len(parts))
    for u in reversed(range(1, last)):
        widths[u] = widths[u] or max(widths[v] for v in range(u + 1, last) if matrix[u][v])
    return widths


class NasBench101(SearchSpace):
    """The 423,624 cells that are different as graphs. The choices are the benchmark's own matrix and operations, dead vertices allowed:

    >>> arch = space.arch(Cell(((0, 1, 0), (0, 0, 1), (0, 0, 0)), ("input", "maxpool3x3", "output")))
    >>> arch.choices["ops"], space.count(arch, 10, 3, 32).depth
    (['input', 'maxpool3x3', 'output'], 11)

    Isomorphic cells share one canonical form. Where channels do not divide evenly among the sources of the output, which of them takes
    one more depends on their order, so isomorphic cells may differ by a few parameters; the benchmark holds them for equal, and so do we.
    """

    name = "nasbench101"

    def arch(self, cell: Cell) -> Architecture:
        return Architecture(self.name, {"matrix": [list(row) for row in cell.matrix], "ops": list(cell.ops)})

    def size(self) -> int:
        return 423_624

    def sample(self, rng: np.random.Generator) -> Architecture:
        """As the benchmark's own random search: 7 vertices, every edge with probability 1/2, drawn again until the cell is valid. It is
        kept as drawn: a dead vertex is what a mutation can bring to life."""
        while True:
            draws = iter(rng.integers(2, size=MAX_VERTICES * (MAX_VERTICES - 1) // 2).tolist())
            rows = [[next(draws) if u < v else 0 for v in range(MAX_VERTICES)] for u in range(MAX_VERTICES)]
            ops = [OPERATIONS[i] for i in rng.integers(len(OPERATIONS), size=MAX_VERTICES - 2)]
            cell = Cell(tuple(map(tuple, rows)), ("input", *ops, "output"))
            if _valid(cell):
                return self.arch(cell)

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        near = list(self.neighbours(arch))
        return near[int(rng.integers(len(near)))]

    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        """One edge or one operation changed, on 7 vertices: a smaller cell gets dead ones first, so that it can grow again."""
        matrix, ops = _padded(parse(arch.choices))
        for u, v in itertools.combinations(range(MAX_VERTICES), 2):
            row = (*matrix[u][:v], 1 - matrix[u][v], *matrix[u][v + 1 :])
            cell = Cell((*matrix[:u], row, *matrix[u + 1 :]), ops)
            if _valid(cell):
                yield self.arch(cell)
        for v, name in itertools.product(range(1, MAX_VERTICES - 1), OPERATIONS):
            if name != ops[v]:
                yield self.arch(Cell(matrix, (*ops[:v], name, *ops[v + 1 :])))

    def check(self, arch: Architecture) -> None:
        parse(arch.choices)

    def canonical(self, arch: Architecture) -> Architecture:
        return self.arch(smallest_relabelling(prune(parse(arch.choices))))

    def extremes(self) -> tuple[Architecture, ...]:
        """Found among all the cells: one projection to a quarter of the channels, and as much 3x3 convolution in a row as there can be."""
        narrow = _uniform("maxpool3x3", 6, [(0, 1), *((1, v) for v in (2, 3, 4, 5)), (2, 5), (3, 5), (4, 5)])
        wide = _uniform("conv3x3-bn-relu", 7, [*((0, v) for v in (1, 2, 3, 4)), *((v, v + 1) for v in range(1, 6))])
        return self.arch(narrow), self.arch(wide)

    def build(self, arch: Architecture, num_classes: int, in_chans: int = 3) -> nn.Module:
        from diswot.models.nasbench101 import GraphNetwork

        matrix, ops = prune(parse(arch.choices))
        kernels = [KERNELS.get(name) for name in ops]
        return GraphNetwork(matrix, kernels, [vertex_widths(matrix, chans) for chans in STACKS], STEM, MODULES, num_classes, in_chans)

    def count(self, arch: Architecture, num_classes: int, in_chans: int, input_size: int) -> Cost:
        cell = prune(parse(arch.choices))
        params, flops = _conv(in_chans, STEM, 3, input_size)
        before, size = STEM, input_size
        for stack, chans in enumerate(STACKS):
            size = -(-size // 2) if stack else size
            for entry in (before, *[chans] * (MODULES - 1)):
                for cost in _convolutions(cell, entry, chans, size):
                    params, flops = params + cost[0], flops + cost[1]
            before = chans
        weights = STACKS[-1] * num_classes
        depth = 1 + len(STACKS) * MODULES * _depth(cell) + 1
        return Cost(params + weights + num_classes, flops + weights, depth)


def _valid(cell: Cell) -> bool:
    return 1 <= num_edges(prune(cell)) <= MAX_EDGES


def _uniform(operation: str, vertices: int, edges: list[tuple[int, int]]) -> Cell:
    """A cell with one operation on all its vertices."""
    matrix = tuple(tuple(int((u, v) in edges) for v in range(vertices)) for u in range(vertices))
    return Cell(matrix, ("input", *[operation] * (vertices - 2), "output"))


def _padded(cell: Cell) -> Cell:
    """The same cell on 7 vertices, the new ones dead and before the output."""
    last = len(cell.ops) - 1
    dead = MAX_VERTICES - 1 - last
    rows = [(*row[:last], *[0] * dead, row[last]) for row in cell.matrix]
    blank = (0,) * MAX_VERTICES
    return Cell((*rows[:last], *[blank] * dead, rows[last]), (*cell.ops[:last], *OPERATIONS[:1] * dead, cell.ops[last]))


def _conv(in_chans: int, out_chans: int, kernel: int, size: int) -> tuple[int, int]:
    """Parameters and FLOPs of a convolution with batch norm."""
    weights = in_chans * out_chans * kernel**2
    return weights + 2 * out_chans, weights * size**2


def _convolutions(cell: Cell, in_chans: int, out_chans: int, size: int) -> Iterator[tuple[int, int]]:
    """What the convolutions of one cell cost: a projection wherever the input goes, and those on the vertices."""
    widths = vertex_widths(cell.matrix, out_chans)
    for v in range(1, len(cell.ops)):
        if cell.matrix[0][v]:
            yield _conv(in_chans, widths[v], 1, size)
        if cell.ops[v] in KERNELS:
            yield _conv(widths[v], widths[v], KERNELS[cell.ops[v]], size)


def _depth(cell: Cell) -> int:
    """Convolutions on the longest path through one cell, projections included."""
    best = [0]
    for v in range(1, len(cell.ops)):
        arriving = max(1 if u == 0 else best[u] for u in range(v) if cell.matrix[u][v])
        best.append(arriving + (cell.ops[v] in KERNELS))
    return best[-1]


space = NasBench101()
