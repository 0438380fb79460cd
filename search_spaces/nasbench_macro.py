"""The search space of NAS-Bench-Macro (Su et al., "Prioritized Architecture Sampling with Monto-Carlo Tree Search", CVPR 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diswot.architecture import Architecture
from diswot.space import Cost
from search_spaces import _count
from search_spaces._digits import DigitSpace

if TYPE_CHECKING:
    from torch import nn

STEM, HEAD = 32, 1280  # channels
STAGES = ((64, 2), (128, 3), (256, 3))  # channels and layers of each; the first layer halves the resolution
BLOCKS = {1: (3, 3), 2: (6, 5)}  # expansion and kernel of the inverted residual that a digit stands for


class NasBenchMacro(DigitSpace):
    """The 6,561 chains of eight layers of NAS-Bench-Macro.

    The choices are the benchmark's own string, a digit for each layer: 0 is the identity (in the first layer of a stage, which changes
    the shape, a 1x1 convolution), 1 an inverted residual with expansion 3 and kernel 3, 2 one with expansion 6 and kernel 5.

    >>> space.canonical(Architecture("nasbench_macro", "01001200")).choices
    '01010200'
    """

    name, digits, num_digits = "nasbench_macro", "012", 8

    def stages(self, arch: Architecture) -> list[tuple[int, ...]]:
        """Return the digits of each stage."""
        word = self.parse(arch.choices)
        ends = (2, 5, 8)
        return [word[begin:end] for begin, end in zip((0, *ends), ends, strict=False)]

    def canonical(self, arch: Architecture) -> Architecture:
        """Move the identities of a stage, which do nothing wherever they stand after its first layer, to its end."""
        ordered = (
            (first, *sorted(rest, key=lambda digit: digit == 0))  # a stable sort keeps the order of the others
            for first, *rest in self.stages(arch)
        )
        return Architecture(self.name, "".join(str(digit) for stage in ordered for digit in stage))

    def extremes(self) -> tuple[Architecture, ...]:
        return tuple(Architecture(self.name, digit * self.num_digits) for digit in self.digits)

    def build(self, arch: Architecture, num_classes: int, in_chans: int = 3) -> nn.Module:
        from diswot.models.macro import InvertedResidualNet

        stages = [(width, [BLOCKS.get(digit) for digit in stage]) for (width, _), stage in zip(STAGES, self.stages(arch), strict=True)]
        return InvertedResidualNet(STEM, stages, HEAD, num_classes, in_chans)

    def count(self, arch: Architecture, num_classes: int, in_chans: int, input_size: int) -> Cost:
        counter = _count.LayerCounter(in_chans, input_size)
        counter.conv(STEM, 3)
        for (width, _), stage in zip(STAGES, self.stages(arch), strict=True):
            for layer, digit in enumerate(stage):
                stride = 2 if layer == 0 else 1
                if digit in BLOCKS:
                    expansion, kernel = BLOCKS[digit]
                    counter.conv(counter.chans * expansion, 1)
                    counter.depthwise(kernel, stride)
                    counter.conv(width, 1)
                elif stride != 1:
                    counter.conv(width, 1, stride)
        counter.conv(HEAD, 1)
        return counter.classifier(num_classes)


space = NasBenchMacro()
