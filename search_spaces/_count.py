"""Parameters, FLOPs and depth of a chain of layers by arithmetic, without building it."""

from __future__ import annotations

from collections.abc import Sequence

from diswot.space import Cost


class Tally:
    """Walks a chain of layers and adds up what each costs. Convolutions are bias-free, padded to keep the size at stride 1, and
    followed by batch norm, as `diswot.models.base.conv_bn` makes them.

    >>> tally = Tally(in_chans=3, size=32)
    >>> tally.conv(16, 3)
    >>> tally.classifier(10)
    Cost(params=634, flops=442528, depth=2)
    """

    def __init__(self, in_chans: int, size: int) -> None:
        self.chans, self.size = in_chans, size
        self.params = self.flops = self.depth = 0

    def _add_conv(self, in_chans: int, out_chans: int, kernel: int, size: int) -> None:
        weights = in_chans * out_chans * kernel * kernel
        self.params += weights + 2 * out_chans
        self.flops += weights * size * size

    def conv(self, out_chans: int, kernel: int, stride: int = 1) -> None:
        self.size = -(-self.size // stride)
        self._add_conv(self.chans, out_chans, kernel, self.size)
        self.chans = out_chans
        self.depth += 1

    def residual(self, convs: Sequence[tuple[int, int, int]]) -> None:
        """A block of (out channels, kernel, stride) with a shortcut: a 1x1 convolution where the shape changes, else the identity."""
        in_chans, in_size = self.chans, self.size
        for out_chans, kernel, stride in convs:
            self.conv(out_chans, kernel, stride)
        if (self.chans, self.size) != (in_chans, in_size):
            self._add_conv(in_chans, self.chans, 1, self.size)

    def classifier(self, num_classes: int) -> Cost:
        weights = self.chans * num_classes
        return Cost(self.params + weights + num_classes, self.flops + weights, self.depth + 1)
