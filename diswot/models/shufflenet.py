"""ShuffleNet V1 (Zhang et al., CVPR 2018) and V2 (Ma et al., ECCV 2018) for the images of CIFAR."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diswot.models.base import ImageClassifier, conv_bn, conv_bn_relu, stage_info

STEM_CHANS = 24  # channels of the stem


class ShuffleUnitV1(nn.Module):
    """The unit of ShuffleNet V1: a grouped 1x1 convolution, a channel shuffle, a 3x3 depthwise and a grouped 1x1 convolution.

    With stride 1 the input is added to the result; with stride 2 the average-pooled input is concatenated with it.
    """

    def __init__(self, in_chans: int, out_chans: int, stride: int, groups: int) -> None:
        super().__init__()
        mid_chans = out_chans // 4
        entry_groups = 1 if in_chans == STEM_CHANS else groups  # the first unit is too narrow to be grouped
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
    """ShuffleNet V1 for CIFAR: a 1x1 stem with 24 channels and three stages of 4, 8 and 4 units with 240, 480 and 960 channels.

    Args:
        num_classes: number of classes.
        in_chans: number of channels of the images.
        groups: number of groups of the 1x1 convolutions.

    >>> sum(p.numel() for p in ShuffleNetV1().parameters())
    949258
    """

    def __init__(self, num_classes: int = 100, in_chans: int = 3, groups: int = 3) -> None:
        super().__init__()
        widths, depths = [240, 480, 960], [4, 8, 4]
        self.stem = conv_bn_relu(in_chans, STEM_CHANS, 1)
        self.stages = nn.ModuleList()
        chans = STEM_CHANS
        for width, depth in zip(widths, depths, strict=True):
            first_unit = ShuffleUnitV1(chans, width - chans, 2, groups)
            self.stages.append(nn.Sequential(first_unit, *(ShuffleUnitV1(width, width, 1, groups) for _ in range(depth - 1))))
            chans = width
        self.init_classifier(chans, num_classes, stage_info(widths, [2, 4, 8], [f"stages.{i}" for i in range(3)]))

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return x


def _depthwise_separable(in_chans: int, out_chans: int, stride: int) -> list[nn.Module]:
    """Return a 3x3 depthwise and a 1x1 convolution."""
    return [*conv_bn(in_chans, in_chans, 3, stride, groups=in_chans), conv_bn_relu(in_chans, out_chans, 1)]


class ShuffleUnitV2(nn.Module):
    """The unit of ShuffleNet V2, whose output is two halves of the channels that are concatenated and shuffled.

    With stride 1 the first half of the input passes unchanged, and the second goes through a 1x1, a 3x3 depthwise and a 1x1 convolution.
    With stride 2 both halves are computed from the whole input, the first by a 3x3 depthwise and a 1x1 convolution.
    """

    def __init__(self, in_chans: int, out_chans: int, stride: int) -> None:
        super().__init__()
        half = out_chans // 2
        self.left = nn.Sequential(*_depthwise_separable(in_chans, half, stride)) if stride == 2 else None
        right_in_chans = in_chans if stride == 2 else half
        self.right = nn.Sequential(conv_bn_relu(right_in_chans, half, 1), *_depthwise_separable(half, half, stride))
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1) if self.left is None else (self.left(x), x)
        return self.shuffle(torch.cat([left, self.right(right)], 1))


class ShuffleNetV2(ImageClassifier):
    """ShuffleNet V2 for CIFAR: a 1x1 stem with 24 channels, three stages and a last 1x1 convolution to 1024 channels.

    The stages have 116, 232 and 464 channels. Each begins with a unit of stride 2, which 3, 7 and 3 units of stride 1 follow.

    >>> sum(p.numel() for p in ShuffleNetV2().parameters())
    1355528
    """

    def __init__(self, num_classes: int = 100, in_chans: int = 3) -> None:
        super().__init__()
        widths, depths, head = [116, 232, 464], [3, 7, 3], 1024
        self.stem = conv_bn_relu(in_chans, STEM_CHANS, 1)
        self.stages = nn.ModuleList()
        chans = STEM_CHANS
        for width, depth in zip(widths, depths, strict=True):
            self.stages.append(nn.Sequential(ShuffleUnitV2(chans, width, 2), *(ShuffleUnitV2(width, width, 1) for _ in range(depth))))
            chans = width
        self.head = conv_bn_relu(chans, head, 1)
        self.init_classifier(head, num_classes, stage_info(widths, [2, 4, 8], [f"stages.{i}" for i in range(3)]))

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x)
