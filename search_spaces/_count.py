"""A counter of the parameters, FLOPs and depth of a chain of layers, which works by arithmetic and builds no network."""

from __future__ import annotations

from collections.abc import Sequence

from diswot.space import Cost


class LayerCounter:
    """A counter of the cost of a network, to which the layers are added one after another.

    Convolutions have no bias, are padded so that stride 1 keeps the image size, and are followed by batch norm, as those of
    `diswot.models.base.conv_bn`.

    Args:
        in_chans: number of channels of the images.
        size: side of the square images in pixels.

    >>> counter = LayerCounter(in_chans=3, size=32)
    >>> counter.conv(16, 3)
    >>> counter.classifier(10)
    Cost(params=634, flops=442528, depth=2)
    """

    def __init__(self, in_chans: int, size: int) -> None:
        self.chans, self.size = in_chans, size
        self.params = self.flops = self.depth = 0

    def add(self, later: LayerCounter) -> None:
        """Add layers that were counted by themselves, from the shape that these have now."""
        self.params += later.params
        self.flops += later.flops
        self.depth += later.depth
        self.chans, self.size = later.chans, later.size

    def _add_conv(self, in_chans: int, out_chans: int, kernel: int, size: int) -> None:
        weights = in_chans * out_chans * kernel * kernel
        self.params += weights + 2 * out_chans
        self.flops += weights * size * size

    def conv(self, out_chans: int, kernel: int, stride: int = 1) -> None:
        """Add a convolution with batch norm."""
        self.size = -(-self.size // stride)
        self._add_conv(self.chans, out_chans, kernel, self.size)
        self.chans = out_chans
        self.depth += 1

    def depthwise(self, kernel: int, stride: int = 1) -> None:
        """Add a depthwise convolution with batch norm, which keeps the number of channels."""
        self.size = -(-self.size // stride)
        weights = self.chans * kernel * kernel
        self.params += weights + 2 * self.chans
        self.flops += weights * self.size * self.size
        self.depth += 1

    def residual(self, convs: Sequence[tuple[int, int, int]], times: int = 1) -> None:
        """Add residual blocks, whose shortcut is a 1x1 convolution if the shape changes, and the identity otherwise.

        Args:
            convs: (out channels, kernel, stride) of each convolution.
            times: number of equal blocks, one after the other; more than one only of blocks that keep the shape.
        """
        before = self.params, self.flops, self.depth
        in_chans, in_size = self.chans, self.size
        for out_chans, kernel, stride in convs:
            self.conv(out_chans, kernel, stride)
        if (self.chans, self.size) != (in_chans, in_size):
            self._add_conv(in_chans, self.chans, 1, self.size)
        self.params += (times - 1) * (self.params - before[0])
        self.flops += (times - 1) * (self.flops - before[1])
        self.depth += (times - 1) * (self.depth - before[2])

    def classifier(self, num_classes: int) -> Cost:
        """Add the linear classifier and return the cost of the whole network."""
        weights = self.chans * num_classes
        return Cost(self.params + weights + num_classes, self.flops + weights, self.depth + 1)
