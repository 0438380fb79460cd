"""A search space of one's own: plain convolutional networks of three stages, each with a width and a depth.

diswot search --space space:PlainSpace --params 0.2M --iterations 200
"""

from collections.abc import Iterator

import numpy as np
from torch import Tensor, nn

from diswot import Architecture, SearchSpace
from diswot.errors import ArchitectureError
from diswot.models.base import ImageClassifier, conv_bn_relu, stage_info

WIDTHS, DEPTHS = (8, 16, 24, 32, 48, 64), (1, 2, 3, 4)


class PlainNet(ImageClassifier):
    """Convolutions of 3x3, at half the resolution from stage to stage."""

    def __init__(self, stages: list[tuple[int, int]], num_classes: int, in_chans: int) -> None:
        super().__init__()
        self.stages, channels = nn.ModuleList(), in_chans
        for stage, (width, depth) in enumerate(stages):
            strides = [2 if stage else 1, *[1] * (depth - 1)]
            inputs = [channels, *[width] * (depth - 1)]
            self.stages.append(nn.Sequential(*(conv_bn_relu(c, width, 3, s) for c, s in zip(inputs, strides, strict=True))))
            channels = width
        info = stage_info([width for width, _ in stages], [1, 2, 4], [f"stages.{i}" for i in range(3)])
        self.init_classifier(channels, num_classes, info)

    def forward_features(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        return x


class PlainSpace(SearchSpace):
    """The choices are `[[width, depth], [width, depth], [width, depth]]`."""

    def size(self) -> int:
        return (len(WIDTHS) * len(DEPTHS)) ** 3

    def sample(self, rng: np.random.Generator) -> Architecture:
        return Architecture(self.name, [[int(rng.choice(WIDTHS)), int(rng.choice(DEPTHS))] for _ in range(3)])

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        near = list(self.neighbours(arch))
        return near[int(rng.integers(len(near)))]

    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        for stage in range(3):
            for position, options in enumerate((WIDTHS, DEPTHS)):
                for value in options:
                    choices = [list(pair) for pair in arch.choices]
                    if choices[stage][position] != value:
                        choices[stage][position] = value
                        yield Architecture(self.name, choices)

    def check(self, arch: Architecture) -> None:
        try:
            fits = len(arch.choices) == 3 and all(width in WIDTHS and depth in DEPTHS for width, depth in arch.choices)
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise ArchitectureError(f"{arch.choices!r:.80} is not three pairs of a width in {WIDTHS} and a depth in {DEPTHS}")

    def extremes(self) -> list[Architecture]:
        return [Architecture(self.name, [[width, depth]] * 3) for width in (WIDTHS[0], WIDTHS[-1]) for depth in (DEPTHS[0], DEPTHS[-1])]

    def build(self, arch: Architecture, num_classes: int, in_chans: int = 3) -> nn.Module:
        return PlainNet(arch.choices, num_classes, in_chans)
