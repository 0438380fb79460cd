"""The residual half of Channel-Bench-Macro (Su et al., "BCNet: Searching for Network Width with Bilaterally
Coupled Network", CVPR 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diswot.architecture import Architecture
from diswot.space import Cost
from search_spaces import _count
from search_spaces._digits import DigitSpace

if TYPE_CHECKING:
    from torch import nn

LARGEST = (256, 256, 256, 512, 512, 512, 512)  # channels; a digit takes that many quarters of them


class ChannelBench(DigitSpace):
    """The 16,384 networks of Channel-Bench-Macro that have one residual topology and differ in seven widths.

    The choices are the benchmark's own string, seven digits of 1 to 4, each a width in quarters of its maximum: of the stem, the insides
    of the first three blocks, the output of the third, and the insides of the last two.

    >>> space.widths(Architecture("channel_bench", "1234123"))
    (64, 128, 192, 512, 128, 256, 384)
    """

    name, digits, num_digits = "channel_bench", "1234", 7

    def widths(self, arch: Architecture) -> tuple[int, ...]:
        """Return the seven widths in channels."""
        return tuple(most * digit // 4 for most, digit in zip(LARGEST, self.parse(arch.choices), strict=True))

    def extremes(self) -> tuple[Architecture, ...]:
        return Architecture(self.name, "1" * self.num_digits), Architecture(self.name, "4" * self.num_digits)

    def build(self, arch: Architecture, num_classes: int, in_chans: int = 3) -> nn.Module:
        from diswot.models.macro import WidthResNet

        return WidthResNet(self.widths(arch), num_classes, in_chans)

    def count(self, arch: Architecture, num_classes: int, in_chans: int, input_size: int) -> Cost:
        stem, first, second, third, late, fourth, fifth = self.widths(arch)
        counter = _count.LayerCounter(in_chans, input_size)
        counter.conv(stem, 3, 2)
        for inside in (first, second):
            counter.residual([(inside, 3, 1), (stem, 3, 1)])
        counter.conv(third, 3, 2)
        counter.conv(late, 3)
        for inside in (fourth, fifth):
            counter.residual([(inside, 3, 1), (late, 3, 1)])
        return counter.classifier(num_classes)


space = ChannelBench()
