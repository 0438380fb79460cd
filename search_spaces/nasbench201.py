"""The search space of NAS-Bench-201 (Dong & Yang, ICLR 2020), which is also the topology space of NATS-Bench.

A cell has 4 nodes and 6 edges, with one of 5 operations on each edge.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from diswot.architecture import Architecture
from diswot.errors import ArchitectureError
from diswot.space import Cost, SearchSpace

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # (from, to) nodes, in the order of the benchmark's string
KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
_STRING = re.compile(r"\|(\w+)~0\|\+\|(\w+)~0\|(\w+)~1\|\+\|(\w+)~0\|(\w+)~1\|(\w+)~2\|")

Operations = tuple[str, ...]


def parse(text: Any) -> Operations:
    """Return the operations of the six edges, in the order of `EDGES`, from the benchmark's string.

    Raises:
        ArchitectureError: the text describes no cell; the message says what is wrong.

    >>> parse("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|")[:2]
    ('nor_conv_3x3', 'none')
    """
    match = _STRING.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ArchitectureError(f"nasbench201: {text!r:.120} is not of the form |op~0|+|op~0|op~1|+|op~0|op~1|op~2|")
    for operation in match.groups():
        if operation not in OPERATIONS:
            raise ArchitectureError(f"nasbench201: unknown operation {operation!r}: known: {', '.join(OPERATIONS)}")
    return match.groups()


def to_string(operations: Operations) -> str:
    """Return the benchmark's string of a cell; the inverse of `parse`."""
    a, b, c, d, e, f = operations
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


def output_terms(operations: Operations) -> tuple[Any, ...]:
    """Return what the cell computes, as a sum in normal form: the sorted terms of the output node, each (operation, terms of its input).

    Edges without effect are left out, skip connections are replaced by what they pass on, and nested sums are flattened. So two cells
    have equal terms exactly if they compute the same function at initialisation. The 15,625 cells have 4,930 different results; the
    string that the benchmark's authors use for this purpose keeps some edges without effect and has 6,466.
    """
    nodes: list[tuple[Any, ...]] = [(("input",),)]
    for node in (1, 2, 3):
        terms: list[Any] = []
        for operation, (source, target) in zip(operations, EDGES, strict=True):
            if target != node or operation == "none" or not nodes[source]:
                continue
            terms += nodes[source] if operation == "skip_connect" else [(operation, nodes[source])]
        nodes.append(tuple(sorted(terms, key=repr)))
    return nodes[3]


@functools.cache
def _representatives() -> dict[Any, Operations]:
    """Return one cell for each function: the one with the smallest sum of kernel sizes, and of these the first by alphabet."""
    cells = itertools.product(OPERATIONS, repeat=len(EDGES))
    ordered = sorted(cells, key=lambda ops: (sum(KERNELS.get(o, 0) for o in ops), ops))
    return {output_terms(ops): ops for ops in reversed(ordered)}


class NasBench201(SearchSpace):
    """The search space of the 15,625 cells of NAS-Bench-201. The choices are the benchmark's own string.

    >>> import numpy as np
    >>> arch = space.sample(np.random.default_rng(0))
    >>> space.canonical(space.canonical(arch)) == space.canonical(arch)
    True
    """

    name = "nasbench201"

    def arch(self, operations: Operations) -> Architecture:
        """Return the architecture with these operations on the six edges."""
        return Architecture(self.name, to_string(operations))

    def size(self) -> int:
        return len(OPERATIONS) ** len(EDGES)

    def enumerate(self) -> Iterator[Architecture]:
        return map(self.arch, itertools.product(OPERATIONS, repeat=len(EDGES)))

    def sample(self, rng: np.random.Generator) -> Architecture:
        return self.arch(tuple(OPERATIONS[i] for i in rng.integers(len(OPERATIONS), size=len(EDGES))))

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        neighbours = list(self.neighbours(arch))
        return neighbours[int(rng.integers(len(neighbours)))]

    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        cell = parse(arch.choices)
        for edge, operation in itertools.product(range(len(EDGES)), OPERATIONS):
            if operation != cell[edge]:
                yield self.arch((*cell[:edge], operation, *cell[edge + 1 :]))

    def check(self, arch: Architecture) -> None:
        parse(arch.choices)

    def canonical(self, arch: Architecture) -> Architecture:
        return self.arch(_representatives()[output_terms(parse(arch.choices))])

    def extremes(self) -> tuple[Architecture, ...]:
        return self.arch(("none",) * 6), self.arch(("nor_conv_3x3",) * 6)

    def sketch(self, arch: Architecture) -> list[str]:
        r"""What reaches each node of the cell.

        >>> print("\n".join(space.sketch(space.extremes()[1])[:4]))
        the cell, by what reaches each node:
          1       ◀── nor_conv_3x3 ── input
          2       ◀── nor_conv_3x3 ── input
                  ◀── nor_conv_3x3 ── 1
        """
        names = {0: "input", 3: "output"}
        lines = ["the cell, by what reaches each node:"]
        for node in (1, 2, 3):
            edges = zip(EDGES, parse(arch.choices), strict=True)
            reached = [f"{name} ── {names.get(source, source)}" for (source, to), name in edges if to == node and name != "none"]
            for number, text in enumerate(reached or ["nothing"]):
                label = "" if number else str(names.get(node, node))
                lines.append(f"  {label:6}  ◀── {text}")
        return lines

    def build(self, arch: Architecture, num_classes: int, in_chans: int = 3) -> nn.Module:
        from diswot.models.cell import CellNetwork

        return CellNetwork(parse(arch.choices), EDGES, num_classes, in_chans)

    def count(self, arch: Architecture, num_classes: int, in_chans: int, input_size: int) -> Cost:
        """Return the cost of the network, which is that of its convolutions and its classifier.

        Convolutions without effect on the output are counted too, as in the benchmark's table.
        """
        cell = parse(arch.choices)
        sizes = [input_size, -(-input_size // 2), -(-input_size // 4)]
        params = in_chans * 16 * 9 + 2 * 16
        flops = in_chans * 16 * 9 * sizes[0] ** 2
        for stage, (width, size) in enumerate(zip((16, 32, 64), sizes, strict=True)):
            for kernel in (KERNELS[o] for o in cell if o in KERNELS):
                weights = width * width * kernel * kernel
                params += 5 * (weights + 2 * width)
                flops += 5 * weights * size * size
            if stage:  # reduction block: 3x3 at stride 2, 3x3, and a 1x1 on the pooled shortcut, which has no batch norm
                half = width // 2
                weights = half * width * 9 + width * width * 9 + half * width
                params += weights + 4 * width
                flops += weights * size * size
        classifier = 64 * num_classes
        return Cost(params + 2 * 64 + classifier + num_classes, flops + classifier, _depth(cell))


def _depth(cell: Operations) -> int:
    """Return the number of layers on the longest path, or 0 if the cell passes nothing on.

    The path leads through the stem, 15 cells, two reduction blocks of two convolutions each, and the classifier.
    """
    depths = [0, -1, -1, -1]  # of the nodes; -1 if the input does not reach a node
    for operation, (source, target) in zip(cell, EDGES, strict=True):
        if operation != "none" and depths[source] >= 0:
            depths[target] = max(depths[target], depths[source] + (operation in KERNELS))
    return 0 if depths[3] < 0 else 1 + 15 * depths[3] + 2 * 2 + 1


space = NasBench201()
