"""NAS-Bench-201 (Dong & Yang, ICLR 2020; the topology space of NATS-Bench): cells of 4 nodes and 6 edges with 5 operations."""

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
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # (from, to), in the order of the string
KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
_STRING = re.compile(r"\|(\w+)~0\|\+\|(\w+)~0\|(\w+)~1\|\+\|(\w+)~0\|(\w+)~1\|(\w+)~2\|")

Operations = tuple[str, ...]


def parse(text: Any) -> Operations:
    """The operations of the six edges, in the order of `EDGES`; an `ArchitectureError` names what is wrong.

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
    """The inverse of `parse`."""
    a, b, c, d, e, f = operations
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


def output_terms(operations: Operations) -> tuple[Any, ...]:
    """What the cell computes, as a sum in normal form: the sorted terms of the output node, each (operation, terms of its input).

    Dead edges vanish, skip connections are absorbed and sums are flattened, so two cells share it exactly when they compute the
    same function at initialisation. 4,930 of the 15,625 differ; the string of the benchmark's authors, which keeps some dead edges,
    tells 6,466 apart.
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
    """For each function the cell with the fewest convolutions, the first of those in the benchmark's alphabet."""
    cells = itertools.product(OPERATIONS, repeat=len(EDGES))
    ordered = sorted(cells, key=lambda ops: (sum(KERNELS.get(o, 0) for o in ops), ops))
    return {output_terms(ops): ops for ops in reversed(ordered)}


class NasBench201(SearchSpace):
    """All 15,625 cells. The choices are the benchmark's own string.

    >>> import numpy as np
    >>> arch = space.sample(np.random.default_rng(0))
    >>> space.canonical(space.canonical(arch)) == space.canonical(arch)
    True
    """

    name = "nasbench201"

    def arch(self, operations: Operations) -> Architecture:
        return Architecture(self.name, to_string(operations))

    def size(self) -> int:
        return len(OPERATIONS) ** len(EDGES)

    def enumerate(self) -> Iterator[Architecture]:
        return map(self.arch, itertools.product(OPERATIONS, repeat=len(EDGES)))

    def sample(self, rng: np.random.Generator) -> Architecture:
        return self.arch(tuple(OPERATIONS[i] for i in rng.integers(len(OPERATIONS), size=len(EDGES))))

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        near = list(self.neighbours(arch))
        return near[int(rng.integers(len(near)))]

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

    def build(self, arch: Architecture, num_classes: int, in_chans: int = 3) -> nn.Module:
        from diswot.models.cell import CellNetwork

        return CellNetwork(parse(arch.choices), EDGES, num_classes, in_chans)

    def count(self, arch: Architecture, num_classes: int, in_chans: int, input_size: int) -> Cost:
        """Every cell of a stage costs the same, and a cell costs what its convolutions cost, dead ones included (as in the table)."""
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
    """Layers on the longest path: the stem, 15 cells, two reduction blocks of two convolutions, the classifier; 0 where a cell passes
    nothing on."""
    best = [0, -1, -1, -1]  # -1: not reached
    for operation, (source, target) in zip(cell, EDGES, strict=True):
        if operation != "none" and best[source] >= 0:
            best[target] = max(best[target], best[source] + (operation in KERNELS))
    return 0 if best[3] < 0 else 1 + 15 * best[3] + 2 * 2 + 1


space = NasBench201()
