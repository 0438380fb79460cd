"""The common base of the search spaces S1 and S2.

Their networks have a stem, stages with a kernel size, two widths and a depth each, and possibly a last 1x1 convolution.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diswot.architecture import Architecture
from diswot.errors import ArchitectureError
from diswot.space import Cost, SearchSpace
from search_spaces import _count

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from diswot.models.staged import Stage

KERNELS = (3, 5, 7)
STEP, SMALLEST, LARGEST = 8, 8, 2048  # channels: every width is a multiple of STEP within the two bounds
MAX_DEPTH = 16  # blocks in a stage; this keeps the space finite
MAX_STEPS = 24  # the most mutations by which `sample` moves away from the seed network

Choices = dict[str, Any]


@dataclass(frozen=True)
class SeedNetwork:
    """The network from which a search space starts.

    Attributes:
        stem: (channels, kernel, stride) of the stem.
        stages: (width, stride, mid, depth) of each stage, where `mid` is the number of channels inside a block.
        head: number of channels of the last 1x1 convolution; 0 if there is none.
        input_size: side of the images in pixels.
    """

    stem: tuple[int, int, int]
    stages: tuple[tuple[int, int, int, int], ...]
    head: int
    input_size: int


# The seed network of Zen-NAS's search for CIFAR networks of 1M parameters (Lin et al., ICCV 2021), and the DisWOT authors' for ImageNet.
CIFAR = SeedNetwork((8, 3, 1), ((16, 1, 8, 1), (32, 2, 16, 1), (64, 2, 32, 1), (64, 2, 32, 1)), 128, 32)
IMAGENET = SeedNetwork((64, 7, 2), ((64, 2, 64, 2), (128, 2, 128, 2), (256, 2, 256, 2), (512, 2, 512, 2)), 0, 224)


class StagedSpace(SearchSpace):
    """A search space of all networks that can be reached from a seed network by changing widths, depths, kernels and kinds of block.

    Args:
        name: name of the space.
        seed: the seed network. Its strides, the kernel of its stem and its number of stages never change.
        blocks: kinds of block that a stage may have.
        factors: what one change may multiply a width by; the result is rounded to a multiple of 8 and kept within 8 and 2048.
        depth_steps: what one change may add to a depth; the result is kept within 1 and 16.
    """

    def __init__(
        self, name: str, seed: SeedNetwork, blocks: tuple[str, ...], factors: tuple[float, ...], depth_steps: tuple[int, ...]
    ) -> None:
        self.name, self.seed, self.input_size = name, seed, seed.input_size
        self.blocks, self.factors, self.depth_steps = blocks, factors, depth_steps

    def start(self) -> Architecture:
        """Return the architecture of the seed network."""
        stages = [
            {"block": self.blocks[0], "kernel": KERNELS[0], "width": width, "mid": mid, "depth": depth}
            for width, _, mid, depth in self.seed.stages
        ]
        return Architecture(self.name, {"stem": self.seed.stem[0], "stages": stages, "head": self.seed.head})

    def size(self) -> int:
        widths = (LARGEST - SMALLEST) // STEP + 1
        stage = len(self.blocks) * len(KERNELS) * widths**2 * MAX_DEPTH
        return widths ** (2 if self.seed.head else 1) * stage ** len(self.seed.stages)

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Return the seed network after 1 to 24 mutations, so that networks of every order of size come up."""
        choices = self.start().choices
        for _ in range(int(rng.integers(1, MAX_STEPS + 1))):
            choices = self._mutated(choices, rng)
        return Architecture(self.name, choices)

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """Change one or two of the stem, the stages and the head, as in Zen-NAS: every attribute of a changed part is drawn anew."""
        return Architecture(self.name, self._mutated(arch.choices, rng))

    def _mutated(self, choices: Choices, rng: np.random.Generator) -> Choices:
        parts = len(self.seed.stages) + (2 if self.seed.head else 1)
        while True:
            changed = _copy(choices)
            for part in _draw_one_or_two(parts, rng):
                self._redraw_part(changed, part, rng)
            if changed != choices:
                return changed

    def _redraw_part(self, choices: Choices, part: int, rng: np.random.Generator) -> None:
        def pick(values: tuple[Any, ...]) -> Any:
            return values[int(rng.integers(len(values)))]

        if part < len(self.seed.stages):
            stage = choices["stages"][part]
            stage["block"], stage["kernel"] = pick(self.blocks), pick(KERNELS)
            stage["width"] = scale_width(stage["width"], pick(self.factors))
            stage["mid"] = scale_width(stage["mid"], pick(self.factors))
            stage["depth"] = change_depth(stage["depth"], pick(self.depth_steps))
        else:
            name = ("stem", "head")[part - len(self.seed.stages)]
            choices[name] = scale_width(choices[name], pick(self.factors))

    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        for name in ("stem", "head") if self.seed.head else ("stem",):
            for width in self._widths(arch.choices[name]):
                yield Architecture(self.name, {**_copy(arch.choices), name: width})
        for index, stage in enumerate(arch.choices["stages"]):
            options: dict[str, list[Any]] = {
                "block": [b for b in self.blocks if b != stage["block"]],
                "kernel": [k for k in KERNELS if k != stage["kernel"]],
                "width": self._widths(stage["width"]),
                "mid": self._widths(stage["mid"]),
                "depth": sorted({change_depth(stage["depth"], step) for step in self.depth_steps} - {stage["depth"]}),
            }
            for attribute, value in ((a, v) for a, values in options.items() for v in values):
                choices = _copy(arch.choices)
                choices["stages"][index][attribute] = value
                yield Architecture(self.name, choices)

    def _widths(self, width: int) -> list[int]:
        """Return the other widths that one change leads to."""
        return sorted({scale_width(width, factor) for factor in self.factors} - {width})

    def check(self, arch: Architecture) -> None:
        choices = arch.choices
        if not isinstance(choices, dict) or set(choices) != {"stem", "stages", "head"}:
            raise ArchitectureError(f"{self.name}: the choices must be a dict with the keys stem, stages and head, not {choices!r:.80}")
        self._check_width("stem", choices["stem"])
        if self.seed.head or choices["head"] != 0:
            self._check_width("head", choices["head"])
        if bool(choices["head"]) != bool(self.seed.head):
            raise ArchitectureError(f"{self.name}: head is {choices['head']}, but this space has no last convolution: set head to 0")
        stages = choices["stages"]
        if not isinstance(stages, list) or len(stages) != len(self.seed.stages):
            raise ArchitectureError(f"{self.name}: stages must be a list of {len(self.seed.stages)} stages, not {stages!r:.80}")
        for stage in stages:
            self._check_stage(stage)

    def _check_stage(self, stage: Any) -> None:
        if not isinstance(stage, dict) or set(stage) != {"block", "kernel", "width", "mid", "depth"}:
            raise ArchitectureError(
                f"{self.name}: a stage must be a dict with the keys block, kernel, width, mid and depth, not {stage!r:.80}"
            )
        for attribute, allowed in (("block", self.blocks), ("kernel", KERNELS), ("depth", range(1, MAX_DEPTH + 1))):
            value = stage[attribute]
            if type(value) not in (int, str) or value not in allowed:
                remedy = f"a whole number from 1 to {MAX_DEPTH}" if attribute == "depth" else f"one of {', '.join(map(str, allowed))}"
                raise ArchitectureError(f"{self.name}: {attribute} {value!r:.40} is not allowed: use {remedy}")
        self._check_width("width", stage["width"])
        self._check_width("mid", stage["mid"])

    def _check_width(self, attribute: str, value: Any) -> None:
        if type(value) is not int or value % STEP or not SMALLEST <= value <= LARGEST:
            raise ArchitectureError(f"{self.name}: {attribute} {value!r:.40} is not a multiple of {STEP} from {SMALLEST} to {LARGEST}")

    def extremes(self) -> list[Architecture]:
        bounds = ((SMALLEST, KERNELS[0], 1), (LARGEST, KERNELS[-1], MAX_DEPTH))
        return [self._uniform(block, *bound) for bound in bounds for block in self.blocks]

    def _uniform(self, block: str, width: int, kernel: int, depth: int) -> Architecture:
        """Return the architecture in which all stages are alike."""
        stage = {"block": block, "kernel": kernel, "width": width, "mid": width, "depth": depth}
        stages = [dict(stage) for _ in self.seed.stages]
        return Architecture(self.name, {"stem": width, "stages": stages, "head": width if self.seed.head else 0})

    def _stages(self, arch: Architecture) -> list[Stage]:
        from diswot.models.staged import Stage

        strides = [stride for _, stride, _, _ in self.seed.stages]
        return [Stage(**stage, stride=stride) for stage, stride in zip(arch.choices["stages"], strides, strict=True)]

    def build(self, arch: Architecture, num_classes: int, in_chans: int = 3) -> nn.Module:
        from diswot.models.staged import StagedResNet

        stem = (arch.choices["stem"], *self.seed.stem[1:])
        return StagedResNet(stem, self._stages(arch), arch.choices["head"], num_classes, in_chans)

    def count(self, arch: Architecture, num_classes: int, in_chans: int, input_size: int) -> Cost:
        counter = _count.LayerCounter(in_chans, input_size)
        counter.conv(arch.choices["stem"], *self.seed.stem[1:])
        for stage, (_, stride, _, _) in zip(arch.choices["stages"], self.seed.stages, strict=True):
            counter.add(_count_stage(counter.chans, counter.size, stride, *stage.values()))
        if arch.choices["head"]:
            counter.conv(arch.choices["head"], 1)
        return counter.classifier(num_classes)


@functools.lru_cache(maxsize=10_000)
def _count_stage(in_chans: int, size: int, stride: int, block: str, depth: int, kernel: int, mid: int, width: int) -> _count.LayerCounter:
    """Count a stage alone, whose attributes come in the order of the alphabet, as an architecture keeps them. A search meets the same
    stages again and again."""
    from diswot.models.staged import Stage

    counter = _count.LayerCounter(in_chans, size)
    first, *others = Stage(block, kernel, width, mid, min(depth, 2), stride).blocks()
    counter.residual(first)
    if others:
        counter.residual(others[0], times=depth - 1)
    return counter


def scale_width(width: int, factor: float) -> int:
    """Return the width times the factor, rounded to the nearest multiple of 8 (halves up) and kept within 8 and 2048.

    >>> scale_width(16, 1.25), scale_width(16, 1.5), scale_width(8, 0.5), scale_width(2048, 2)
    (24, 24, 8, 2048)
    """
    return min(max(math.floor(width * factor / STEP + 0.5) * STEP, SMALLEST), LARGEST)


def change_depth(depth: int, step: int) -> int:
    """Return the depth plus the step, kept within 1 and 16.

    >>> change_depth(3, -1), change_depth(1, -1), change_depth(16, 2)
    (2, 1, 16)
    """
    return min(max(depth + step, 1), MAX_DEPTH)


def _draw_one_or_two(count: int, rng: np.random.Generator) -> list[int]:
    """Draw one or two different numbers below `count`: what `rng.choice` without replacement gives, in a third of its time."""
    if rng.integers(1, 3) == 1:
        return [int(rng.integers(count))]
    first, second = int(rng.integers(count - 1)), int(rng.integers(count))
    pair = [first, count - 1 if second == first else second]  # Floyd's algorithm
    return pair if rng.integers(2) else pair[::-1]


def _copy(choices: Choices) -> Choices:
    return {**choices, "stages": [dict(stage) for stage in choices["stages"]]}


def with_inverses(*above_one: float) -> tuple[float, ...]:
    """Return the factors, 1, and the inverse of each factor, from the largest to the smallest.

    >>> with_inverses(2.0)
    (2.0, 1.0, 0.5)
    """
    return (*above_one, 1.0, *(1 / factor for factor in reversed(above_one)))
