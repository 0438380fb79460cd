"""The search space of NAS-Bench-101 (Ying et al., ICML 2019).

A cell is a graph of at most 7 vertices and 9 edges, with one of 3 operations on each interior vertex.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from diswot.architecture import Architecture
from diswot.errors import ArchitectureError, brief_repr
from diswot.space import Cost, SearchSpace

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")  # in the order of the benchmark's labels
KERNELS = {"conv3x3-bn-relu": 3, "conv1x1-bn-relu": 1}
MAX_VERTICES = 7
MAX_EDGES = 9
STEM = 128  # channels
STACKS = (128, 256, 512)  # channels
MODULES = 3  # cells in each stack

Matrix = tuple[tuple[int, ...], ...]


class Cell(NamedTuple):
    """A cell, which is a directed graph with an operation on each vertex.

    Attributes:
        matrix: adjacency matrix, upper triangular: row u, column v is 1 if vertex u feeds vertex v.
        ops: operation of each vertex; the first is `input` and the last `output`.
    """

    matrix: Matrix
    ops: tuple[str, ...]


def parse(choices: Any) -> Cell:
    """Return the cell that an architecture's choices describe, including vertices and edges that have no effect on the output.

    Raises:
        ArchitectureError: the choices are no valid cell; the message says what is wrong.

    >>> parse({"matrix": [[0, 1], [0, 0]], "ops": ["input", "output"]}).ops
    ('input', 'output')
    >>> parse({"matrix": [[0, 0], [0, 0]], "ops": ["input", "output"]})
    Traceback (most recent call last):
    diswot.errors.ArchitectureError: nasbench101: no path leads from the input to the output: add an edge
    """
    if not isinstance(choices, dict) or set(choices) != {"matrix", "ops"}:
        raise ArchitectureError(
            f'nasbench101: the choices must be {{"matrix": [[0, 1, ...], ...], "ops": ["input", ..., "output"]}}, not {brief_repr(choices)}'
        )
    cell = Cell(_matrix(choices["matrix"]), _ops(choices["ops"]))
    if len(cell.ops) != len(cell.matrix):
        raise ArchitectureError(
            f"nasbench101: there are {len(cell.ops)} ops for a matrix of {len(cell.matrix)} vertices: give one for each vertex"
        )
    edges = num_edges(prune(cell))
    if not 1 <= edges <= MAX_EDGES:
        too_many = f"the cell has {edges} edges: remove some, since {MAX_EDGES} are the most"
        reason = too_many if edges else "no path leads from the input to the output: add an edge"
        raise ArchitectureError(f"nasbench101: {reason}")
    return cell


def _matrix(rows: Any) -> Matrix:
    size = len(rows) if isinstance(rows, list) else 0
    if not 2 <= size <= MAX_VERTICES or any(not isinstance(row, list) or len(row) != size for row in rows):
        raise ArchitectureError(
            f"nasbench101: the matrix must be a list of 2 to {MAX_VERTICES} rows, each with as many entries as there are rows"
        )
    for u, row in enumerate(rows):
        for v, value in enumerate(row):
            if type(value) is not int or value not in (0, 1) or (value and v <= u):
                raise ArchitectureError(
                    f"nasbench101: the matrix holds {brief_repr(value)} in row {u}, column {v}: "
                    "entries above the diagonal must be 0 or 1, all others 0"
                )
    return tuple(map(tuple, rows))


def _ops(ops: Any) -> tuple[str, ...]:
    if not isinstance(ops, list) or ops[:1] != ["input"] or ops[-1:] != ["output"]:
        raise ArchitectureError(f'nasbench101: the ops must be a list from "input" to "output", not {brief_repr(ops)}')
    for name in ops[1:-1]:
        if name not in OPERATIONS:
            raise ArchitectureError(f"nasbench101: unknown operation {brief_repr(name)}: known: {', '.join(OPERATIONS)}")
    return tuple(ops)


def num_edges(cell: Cell) -> int:
    """Return the number of edges of a cell."""
    return sum(map(sum, cell.matrix))


def prune(cell: Cell) -> Cell:
    """Return the cell without the vertices that are on no path from the input to the output.

    If there is no such path, the input and the output remain, without an edge.
    """
    last = len(cell.matrix) - 1
    from_input, to_output = {0}, {last}
    for v in range(1, last + 1):
        if any(cell.matrix[u][v] for u in from_input):
            from_input.add(v)
    for u in reversed(range(last)):
        if any(cell.matrix[u][v] for v in to_output):
            to_output.add(u)
    kept = sorted((from_input & to_output) | {0, last})
    return Cell(tuple(tuple(cell.matrix[u][v] for v in kept) for u in kept), tuple(cell.ops[v] for v in kept))


def module_hash(cell: Cell) -> str:
    """Return the benchmark's own key of a pruned cell: 32 hexadecimal digits, which are equal for isomorphic cells.

    The hash of a vertex is at first the MD5 of its degrees and its label. It is then renewed as many times as there are vertices, each
    time from its own value and the hashes of the vertices before and after it.
    """
    vertices = range(len(cell.ops))
    labels = [-1, *(OPERATIONS.index(name) for name in cell.ops[1:-1]), -2]
    sources = [[u for u in vertices if cell.matrix[u][v]] for v in vertices]
    targets = [[v for v in vertices if cell.matrix[u][v]] for u in vertices]
    hashes = [_md5(str((len(targets[v]), len(sources[v]), labels[v]))) for v in vertices]
    for _ in vertices:
        hashes = [
            _md5("|".join([*("".join(sorted(hashes[u] for u in adjacent[v])) for adjacent in (sources, targets)), hashes[v]]))
            for v in vertices
        ]
    return _md5(str(sorted(hashes)))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@functools.cache
def _relabellings(vertices: int) -> list[tuple[int, ...]]:
    """Return all ways to number the vertices anew in which the input and the output keep their places."""
    return [(0, *interior, vertices - 1) for interior in itertools.permutations(range(1, vertices - 1))]


def smallest_relabelling(cell: Cell) -> Cell:
    """Return the first of all cells isomorphic to this one, in the order in which the benchmark generates them.

    In every published example this is the cell that the benchmark's files contain. Cells are ordered by their matrix, read as a number
    whose bits are the columns one after the other, from the lowest bit to the highest; then by their operations.
    """
    edges = [(u, v) for u, row in enumerate(cell.matrix) for v, present in enumerate(row) if present]
    labels = [OPERATIONS.index(name) for name in cell.ops[1:-1]]
    best: tuple[int, list[int]] | None = None
    for new_index in _relabellings(len(cell.ops)):
        if any(new_index[u] >= new_index[v] for u, v in edges):
            continue
        number = sum(1 << (new_index[u] + new_index[v] * (new_index[v] - 1) // 2) for u, v in edges)
        if best is None or number <= best[0]:
            ordered = [label for _, label in sorted(zip(new_index[1:-1], labels, strict=True))]
            best = min(best or (number, ordered), (number, ordered))
    assert best is not None, "the numbering that the cell came with is one of them"
    number, ordered = best
    size = range(len(cell.ops))
    matrix = tuple(tuple((number >> (u + v * (v - 1) // 2)) & 1 if u < v else 0 for v in size) for u in size)
    return Cell(matrix, ("input", *(OPERATIONS[label] for label in ordered), "output"))


def vertex_widths(matrix: Matrix, out_chans: int) -> list[int]:
    """Return the number of channels of each vertex of a pruned cell; 0 for the input, which is projected wherever it goes.

    The output concatenates the interior vertices that feed it, so these share its channels evenly, and the first of them get one more
    each if there is a remainder. Any other vertex is as wide as the widest vertex that it feeds.

    >>> vertex_widths(((0, 1, 1, 1, 0), (0, 0, 0, 0, 1), (0, 0, 0, 0, 1), (0, 0, 0, 0, 1), (0,) * 5), 128)
    [0, 43, 43, 42, 128]
    """
    last = len(matrix) - 1
    widths = [0] * last + [out_chans]
    sources = [u for u in range(1, last) if matrix[u][last]]
    for index, u in enumerate(sources):
        widths[u] = out_chans // len(sources) + (index < out_chans % len(sources))
    for u in reversed(range(1, last)):
        widths[u] = widths[u] or max(widths[v] for v in range(u + 1, last) if matrix[u][v])
    return widths


class NasBench101(SearchSpace):
    """The search space of the 423,624 cells of NAS-Bench-101 that differ as graphs.

    The choices are the benchmark's own matrix and operations; vertices that have no effect on the output are allowed.

    >>> arch = space.arch(Cell(((0, 1, 0), (0, 0, 1), (0, 0, 0)), ("input", "maxpool3x3", "output")))
    >>> arch.choices["ops"], space.count(arch, 10, 3, 32).depth
    (['input', 'maxpool3x3', 'output'], 11)

    Isomorphic cells share one canonical form. They may differ by a few parameters: if the output's channels do not divide evenly among
    the vertices that feed it, the order of these decides which of them get one more. The benchmark treats such cells as equal, and so
    does this space.
    """

    name = "nasbench101"

    def arch(self, cell: Cell) -> Architecture:
        """Return the architecture of a cell."""
        return Architecture(self.name, {"matrix": [list(row) for row in cell.matrix], "ops": list(cell.ops)})

    def size(self) -> int:
        return 423_624

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Return a random cell, drawn as in the benchmark's own random search.

        It has 7 vertices and each edge with probability 1/2, and is drawn again until it is valid. Vertices without effect are kept,
        since a mutation can connect them.
        """
        while True:
            draws = iter(rng.integers(2, size=MAX_VERTICES * (MAX_VERTICES - 1) // 2).tolist())
            rows = [[next(draws) if u < v else 0 for v in range(MAX_VERTICES)] for u in range(MAX_VERTICES)]
            ops = [OPERATIONS[i] for i in rng.integers(len(OPERATIONS), size=MAX_VERTICES - 2)]
            cell = Cell(tuple(map(tuple, rows)), ("input", *ops, "output"))
            if _valid(cell):
                return self.arch(cell)

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        neighbours = list(self.neighbours(arch))
        return neighbours[int(rng.integers(len(neighbours)))]

    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        """Yield every valid cell that differs in one edge or in one operation.

        All have 7 vertices: a smaller cell first gets vertices without effect, so that it can grow again.
        """
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
        """Return the smallest and the largest cell, which were found by looking at all cells.

        The one has a single projection, to a quarter of the channels; the other as many 3x3 convolutions in a row as possible.
        """
        narrow = _uniform("maxpool3x3", 6, [(0, 1), *((1, v) for v in (2, 3, 4, 5)), (2, 5), (3, 5), (4, 5)])
        wide = _uniform("conv3x3-bn-relu", 7, [*((0, v) for v in (1, 2, 3, 4)), *((v, v + 1) for v in range(1, 6))])
        return self.arch(narrow), self.arch(wide)

    def sketch(self, arch: Architecture) -> list[str]:
        r"""What each vertex of the cell does, and with the outputs of which.

        >>> choices = {"matrix": [[0, 1, 1], [0, 0, 1], [0, 0, 0]], "ops": ["input", "maxpool3x3", "output"]}
        >>> print("\n".join(space.sketch(Architecture("nasbench101", choices))))
        the cell, by what reaches each vertex:
          1 maxpool3x3       ◀── input
          output             ◀── input, 1
        """
        cell = parse(arch.choices)
        lines = ["the cell, by what reaches each vertex:"]
        for vertex in range(1, len(cell.ops)):
            name = "output" if vertex == len(cell.ops) - 1 else f"{vertex} {cell.ops[vertex]}"
            sources = [str(source or "input") for source in range(vertex) if cell.matrix[source][vertex]]
            lines.append(f"  {name:18} ◀── {', '.join(sources) or 'nothing'}")
        return lines

    def build(self, arch: Architecture, num_classes: int, in_chans: int = 3) -> nn.Module:
        from diswot.models.nasbench101 import GraphNetwork

        matrix, ops = prune(parse(arch.choices))
        kernels = [KERNELS.get(name) for name in ops]
        return GraphNetwork(matrix, kernels, [vertex_widths(matrix, chans) for chans in STACKS], STEM, MODULES, num_classes, in_chans)

    def count(self, arch: Architecture, num_classes: int, in_chans: int, input_size: int) -> Cost:
        cell = prune(parse(arch.choices))
        params, flops = _conv(in_chans, STEM, 3, input_size)
        previous_chans, size = STEM, input_size
        for stack, chans in enumerate(STACKS):
            size = -(-size // 2) if stack else size
            for cell_in_chans in (previous_chans, *[chans] * (MODULES - 1)):
                for cost in _convolutions(cell, cell_in_chans, chans, size):
                    params, flops = params + cost[0], flops + cost[1]
            previous_chans = chans
        weights = STACKS[-1] * num_classes
        depth = 1 + len(STACKS) * MODULES * _depth(cell) + 1
        return Cost(params + weights + num_classes, flops + weights, depth)


def _valid(cell: Cell) -> bool:
    return 1 <= num_edges(prune(cell)) <= MAX_EDGES


def _uniform(operation: str, vertices: int, edges: list[tuple[int, int]]) -> Cell:
    """Return the cell that has these edges and the same operation on all interior vertices."""
    matrix = tuple(tuple(int((u, v) in edges) for v in range(vertices)) for u in range(vertices))
    return Cell(matrix, ("input", *[operation] * (vertices - 2), "output"))


def _padded(cell: Cell) -> Cell:
    """Return the same cell on 7 vertices; the new ones stand before the output and are connected to nothing."""
    last = len(cell.ops) - 1
    missing = MAX_VERTICES - 1 - last
    rows = [(*row[:last], *[0] * missing, row[last]) for row in cell.matrix]
    no_edges = (0,) * MAX_VERTICES
    return Cell((*rows[:last], *[no_edges] * missing, rows[last]), (*cell.ops[:last], *OPERATIONS[:1] * missing, cell.ops[last]))


def _conv(in_chans: int, out_chans: int, kernel: int, size: int) -> tuple[int, int]:
    """Return the parameters and FLOPs of a convolution with batch norm."""
    weights = in_chans * out_chans * kernel**2
    return weights + 2 * out_chans, weights * size**2


def _convolutions(cell: Cell, in_chans: int, out_chans: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the parameters and FLOPs of each convolution of a cell: the projections of the input and those on the vertices."""
    widths = vertex_widths(cell.matrix, out_chans)
    for v in range(1, len(cell.ops)):
        if cell.matrix[0][v]:
            yield _conv(in_chans, widths[v], 1, size)
        if cell.ops[v] in KERNELS:
            yield _conv(widths[v], widths[v], KERNELS[cell.ops[v]], size)


def _depth(cell: Cell) -> int:
    """Return the number of convolutions on the longest path through a cell, including the projections."""
    depths = [0]
    for v in range(1, len(cell.ops)):
        longest = max(1 if u == 0 else depths[u] for u in range(v) if cell.matrix[u][v])
        depths.append(longest + (cell.ops[v] in KERNELS))
    return depths[-1]


space = NasBench101()
