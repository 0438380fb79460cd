"""The search space S0 (DisWOT, CVPR 2023): ResNets for CIFAR with fixed widths and 64 choices of depth."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from diswot.architecture import Architecture
from diswot.errors import ArchitectureError
from diswot.space import Cost, SearchSpace
from search_spaces import _count

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

DEPTHS = (1, 3, 5, 7)
WIDTHS = (16, 16, 32, 64)  # stem, then one per stage


class ResNetDepth(SearchSpace):
    """The search space of the ResNets whose three stages each have 1, 3, 5 or 7 basic blocks.

    The stages have 16, 32 and 64 channels. Where the shape changes, the shortcut is a 1x1 convolution.

    >>> [space.arch(d) for d in ((1, 1, 1), (5, 5, 7))][1].choices
    {'depths': [5, 5, 7]}
    """

    name = "resnet_depth"

    def arch(self, depths: tuple[int, ...]) -> Architecture:
        """Return the architecture with these three depths."""
        return Architecture(self.name, {"depths": list(depths)})

    def size(self) -> int:
        return len(DEPTHS) ** 3

    def enumerate(self) -> Iterator[Architecture]:
        return map(self.arch, itertools.product(DEPTHS, repeat=3))

    def sample(self, rng: np.random.Generator) -> Architecture:
        return self.arch(tuple(int(d) for d in rng.choice(DEPTHS, 3)))

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        neighbours = list(self.neighbours(arch))
        return neighbours[int(rng.integers(len(neighbours)))]

    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        depths = arch.choices["depths"]
        for stage, depth in itertools.product(range(3), DEPTHS):
            if depth != depths[stage]:
                yield self.arch((*depths[:stage], depth, *depths[stage + 1 :]))

    def check(self, arch: Architecture) -> None:
        choices = arch.choices
        depths = choices.get("depths") if isinstance(choices, dict) and len(choices) == 1 else None
        if not isinstance(depths, list) or len(depths) != 3 or any(type(d) is not int or d not in DEPTHS for d in depths):
            raise ArchitectureError(
                f'{self.name}: the choices must be {{"depths": [a, b, c]}} with each depth one of 1, 3, 5, 7, not {choices!r:.80}'
            )

    def extremes(self) -> tuple[Architecture, ...]:
        return self.arch((min(DEPTHS),) * 3), self.arch((max(DEPTHS),) * 3)

    def build(self, arch: Architecture, num_classes: int, in_chans: int = 3) -> nn.Module:
        from diswot.models.resnet import CifarResNet

        return CifarResNet(arch.choices["depths"], WIDTHS, num_classes, in_chans)

    def count(self, arch: Architecture, num_classes: int, in_chans: int, input_size: int) -> Cost:
        counter = _count.LayerCounter(in_chans, input_size)
        counter.conv(WIDTHS[0], 3)
        for stage, depth in enumerate(arch.choices["depths"]):
            for block in range(depth):
                width, stride = WIDTHS[stage + 1], 2 if stage and not block else 1
                counter.residual([(width, 3, stride), (width, 3, 1)])
        return counter.classifier(num_classes)


space = ResNetDepth()
