"""ShuffleNet V1 (Zhang et al., CVPR 2018) and V2 (Ma et al., ECCV 2018) at CIFAR's resolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diswot.models.base import ImageClassifier, conv_bn, conv_bn_relu, stage_info

STEM = 24


class Bottleneck(nn.Module):
    """V1: grouped 1x1, channel shuffle, 3x3 depthwise, grouped 1x1; at stride 2 the pooled input is concatenated, not added."""

    def __init__(self, in_chans: int, out_chans: int, stride: int, groups: int) -> None:
        super().__init__()
        mid_chans = out_chans // 4
        entry_groups = 1 if in_chans == STEM else groups  # the first unit is too narrow to be grouped
        self.reduce = conv_bn_relu(in_chans, mid_chans, 1, groups=entry_groups)
        self.shuffle = nn.ChannelShuffle(entry_groups)
        self.depthwise = nn.Sequential(*conv_bn(mid_chans, mid_chans, 3, stride, groups=mid_chans))
        self.expand = nn.Sequential(*conv_bn(mid_chans, out_chans, 1, groups=groups))
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(self.depthwise(self.shuffle(self.reduce(x))))
        return self.relu(x + y if self.pool is None else torch.cat([y, self.pool(x)], 1))


class ShuffleNetV1(ImageClassifier):
    """1x1 stem of 24 channels, three stages of 4, 8 and 4 units at 240, 480 and 960 channels, 3 groups.

    >>> sum(p.numel() for p in ShuffleNetV1().parameters())
    949258
    """

    def __init__(self, num_classes: int = 100, in_chans: int = 3, groups: int = 3) -> None:
        super().__init__()
        widths, depths = [240, 480, 960], [4, 8, 4]
        self.stem = conv_bn_relu(in_chans, STEM, 1)
        self.stages = nn.ModuleList()
        chans = STEM
        for width, depth in zip(widths, depths, strict=True):
            entry = Bottleneck(chans, width - chans, 2, groups)
            self.stages.append(nn.Sequential(entry, *(Bottleneck(width, width, 1, groups) for _ in range(depth - 1))))
            chans = width
        self.finish(chans, num_classes, stage_info(widths, [2, 4, 8], [f"stages.{i}" for i in range(3)]))

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return x


def _branch(in_chans: int, out_chans: int, stride: int) -> list[nn.Module]:
    """3x3 depthwise, 1x1."""
    return [*conv_bn(in_chans, in_chans, 3, stride, groups=in_chans), conv_bn_relu(in_chans, out_chans, 1)]


class Unit(nn.Module):
    """V2: half the channels pass, half go through 1x1, depthwise, 1x1; at stride 2 both halves see the whole input."""

    def __init__(self, in_chans: int, out_chans: int, stride: int) -> None:
        super().__init__()
        half = out_chans // 2
        self.left = nn.Sequential(*_branch(in_chans, half, stride)) if stride == 2 else None
        entry = in_chans if stride == 2 else half
        self.right = nn.Sequential(conv_bn_relu(entry, half, 1), *_branch(half, half, stride))
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1) if self.left is None else (self.left(x), x)
        return self.shuffle(torch.cat([left, self.right(right)], 1))


class ShuffleNetV2(ImageClassifier):
    """1x1 stem of 24 channels, a stride-2 unit and 3, 7 and 3 more at 116, 232 and 464 channels, a last 1x1 to 1024.

    >>> sum(p.numel() for p in ShuffleNetV2().parameters())
    1355528
    """

    def __init__(self, num_classes: int = 100, in_chans: int = 3) -> None:
        super().__init__()
        widths, depths, head = [116, 232, 464], [3, 7, 3], 1024
        self.stem = conv_bn_relu(in_chans, STEM, 1)
        self.stages = nn.ModuleList()
        chans = STEM
        for width, depth in zip(widths, depths, strict=True):
            self.stages.append(nn.Sequential(Unit(chans, width, 2), *(Unit(width, width, 1) for _ in range(depth))))
            chans = width
        self.head = conv_bn_relu(chans, head, 1)
        self.finish(head, num_classes, stage_info(widths, [2, 4, 8], [f"stages.{i}" for i in range(3)]))

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x)
