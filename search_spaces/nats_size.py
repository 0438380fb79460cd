"""The size space of NATS-Bench (Dong et al., TPAMI 2021): networks of one fixed cell with five widths of 8 to 64 channels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from diswot.architecture import Architecture
from diswot.errors import ArchitectureError
from diswot.space import Cost, SearchSpace
from search_spaces import nasbench201

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

WIDTHS = tuple(range(8, 65, 8))
NUM_WIDTHS = 5
CELL = nasbench201.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|")
_WORDS = {str(width): width for width in WIDTHS}
_CELL_DEPTH = 3  # convolutions on the longest path, through the nodes 0, 1, 2 and 3

Widths = tuple[int, ...]


def parse(text: Any) -> Widths:
    """Return the five widths, in channels, from the benchmark's string.

    Raises:
        ArchitectureError: the text is not of this form; the message says what is wrong.

    >>> parse("8:16:24:32:64")
    (8, 16, 24, 32, 64)
    >>> parse("8:16:20:32:64")
    Traceback (most recent call last):
    diswot.errors.ArchitectureError: nats_size: '8:16:20:32:64' is not five widths of 8, 16, ..., 64 such as 8:16:24:32:64
    """
    words = text.split(":") if isinstance(text, str) and len(text) < 80 else []
    if len(words) != NUM_WIDTHS or not all(word in _WORDS for word in words):
        raise ArchitectureError(f"nats_size: {text!r:.80} is not five widths of 8, 16, ..., 64 such as 8:16:24:32:64")
    return tuple(_WORDS[word] for word in words)


class NatsSize(SearchSpace):
    """The search space of the 32,768 networks of NATS-Bench that differ in their widths.

    All have the cell that is the best of NAS-Bench-201 on CIFAR-100. The choices are the benchmark's own string: the widths of the stem
    and the first cell, of the first reduction block, of the second cell, of the second reduction block, and of the third cell.

    >>> [arch.choices for arch in space.extremes()]
    ['8:8:8:8:8', '64:64:64:64:64']
    """

    name = "nats_size"

    def arch(self, widths: Widths) -> Architecture:
        """Return the architecture with these five widths."""
        return Architecture(self.name, ":".join(map(str, widths)))

    def size(self) -> int:
        return len(WIDTHS) ** NUM_WIDTHS

    def enumerate(self) -> Iterator[Architecture]:
        """Return all architectures in the order of the benchmark's indices."""
        return map(self.arch, itertools.product(WIDTHS, repeat=NUM_WIDTHS))

    def sample(self, rng: np.random.Generator) -> Architecture:
        return self.arch(tuple(int(width) for width in rng.choice(WIDTHS, NUM_WIDTHS)))

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        neighbours = list(self.neighbours(arch))
        return neighbours[int(rng.integers(len(neighbours)))]

    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        widths = parse(arch.choices)
        for index, width in itertools.product(range(NUM_WIDTHS), WIDTHS):
            if width != widths[index]:
                yield self.arch((*widths[:index], width, *widths[index + 1 :]))

    def check(self, arch: Architecture) -> None:
        parse(arch.choices)

    def extremes(self) -> tuple[Architecture, ...]:
        return self.arch((min(WIDTHS),) * NUM_WIDTHS), self.arch((max(WIDTHS),) * NUM_WIDTHS)

    def build(self, arch: Architecture, num_classes: int, in_chans: int = 3) -> nn.Module:
        from diswot.models.nats_size import SizeNetwork

        return SizeNetwork(CELL, nasbench201.EDGES, parse(arch.choices), num_classes, in_chans)

    def count(self, arch: Architecture, num_classes: int, in_chans: int, input_size: int) -> Cost:
        widths = parse(arch.choices)
        half = -(-input_size // 2)
        sizes = (input_size, half, half, -(-half // 2), -(-half // 2))
        params = in_chans * widths[0] * 9 + 2 * widths[0]
        flops = in_chans * widths[0] * 9 * input_size**2
        for index, (in_width, width, size) in enumerate(zip((widths[0], *widths), widths, sizes, strict=False)):
            weights, norms = _reduction(in_width, width) if index % 2 else _cell(in_width, width)
            params += weights + 2 * width * norms
            flops += weights * size * size
        last = widths[-1]
        depth = 1 + 3 * _CELL_DEPTH + 2 * 2 + 1
        return Cost(params + 2 * last + last * num_classes + num_classes, flops + last * num_classes, depth)


def _cell(in_width: int, width: int) -> tuple[int, int]:
    """Return the weights and the number of batch norms of a cell; its skip connection is a 1x1 convolution if the widths differ."""
    weights = norms = 0
    for operation, (source, _) in zip(CELL, nasbench201.EDGES, strict=True):
        source_width = in_width if source == 0 else width
        is_skip = operation == "skip_connect"
        if not is_skip or source_width != width:
            weights += source_width * width * (1 if is_skip else nasbench201.KERNELS[operation] ** 2)
            norms += 1
    return weights, norms


def _reduction(in_width: int, width: int) -> tuple[int, int]:
    """Return the weights and the number of batch norms of a reduction block.

    It has two 3x3 convolutions with batch norm, and a 1x1 convolution without batch norm on the pooled shortcut.
    """
    return in_width * width * 9 + width * width * 9 + in_width * width, 2


space = NatsSize()
