"""ResNets for CIFAR (He et al. 2016, section 4.2) with both kinds of shortcut, and their wider variants of the distillation literature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from diswot.models.base import ImageClassifier, PadShortcut, conv_bn, stage_info

Shortcut = Literal["conv", "pad"]


class BasicBlock(nn.Module):
    """The basic residual block: two 3x3 convolutions with batch norm, and a shortcut."""

    def __init__(self, in_chans: int, out_chans: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(in_chans, out_chans, 3, stride)
        self.conv2, self.bn2 = conv_bn(out_chans, out_chans, 3)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_chans != out_chans:
            if shortcut == "pad":
                self.downsample = PadShortcut(in_chans, out_chans, stride)
            else:
                self.downsample = nn.Sequential(*conv_bn(in_chans, out_chans, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)).add_(self.downsample(x)))


class CifarResNet(ImageClassifier):
    """A ResNet for CIFAR: a 3x3 stem and stages of basic blocks; every stage but the first begins by halving the resolution.

    Args:
        depths: number of blocks in each stage; (n, n, n) is ResNet-(6n+2).
        widths: number of channels of the stem, then of each stage.
        num_classes: number of classes.
        in_chans: number of channels of the images.
        shortcut: kind of shortcut where the shape changes: `conv` is a 1x1 convolution with batch norm (as in the distillation
            literature), `pad` is `PadShortcut`, which has no parameters.

    >>> import torch
    >>> CifarResNet([3, 3, 3], num_classes=10)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int] = (16, 16, 32, 64),
        num_classes: int = 100,
        in_chans: int = 3,
        shortcut: Shortcut = "conv",
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(in_chans, widths[0], 3)
        self.relu = nn.ReLU(inplace=True)
        width = widths[0]
        names = [f"layer{i}" for i in range(1, len(depths) + 1)]
        self.stages = names
        for stage, (name, depth, out_width) in enumerate(zip(names, depths, widths[1:], strict=True)):
            strides = [1 if stage == 0 else 2] + [1] * (depth - 1)
            in_widths = [width] + [out_width] * (depth - 1)
            self.add_module(name, nn.Sequential(*(BasicBlock(i, out_width, s, shortcut) for i, s in zip(in_widths, strides, strict=True))))
            width = out_width
        self.init_classifier(width, num_classes, stage_info(list(widths[1:]), [2**i for i in range(len(depths))], names))

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        for name in self.stages:
            x = self.get_submodule(name)(x)
        return x
