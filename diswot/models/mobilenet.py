"""MobileNetV2 (Sandler et al., CVPR 2018) at CIFAR's resolution, as the distillation literature uses it: half width."""

from __future__ import annotations

from torch import Tensor, nn

from diswot.models.base import ImageClassifier, conv_bn, conv_bn_relu, stage_info

# expansion, channels at full width, blocks, stride
SETTINGS = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
HEAD = 1280


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, linear 1x1; a shortcut where the shape stays."""

    def __init__(self, in_chans: int, out_chans: int, stride: int, expansion: int) -> None:
        super().__init__()
        mid = in_chans * expansion
        depthwise = conv_bn_relu(mid, mid, 3, stride, groups=mid)
        self.body = nn.Sequential(conv_bn_relu(in_chans, mid, 1), depthwise, *conv_bn(mid, out_chans, 1))
        self.residual = stride == 1 and in_chans == out_chans

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.residual else y


class CifarMobileNetV2(ImageClassifier):
    """Stem at stride 2, seven stages of inverted residuals, a last 1x1 convolution to 1280 channels.

    >>> sum(p.numel() for p in CifarMobileNetV2().parameters())
    812836
    """

    def __init__(self, width: float = 0.5, num_classes: int = 100, in_chans: int = 3) -> None:
        super().__init__()
        chans = int(32 * width)
        self.stem = conv_bn_relu(in_chans, chans, 3, 2)
        self.stages = nn.ModuleList()
        widths, reductions, reduction = [], [], 2
        for expansion, full_width, blocks, stride in SETTINGS:
            out = int(full_width * width)
            layers = []
            for block in range(blocks):
                layers.append(InvertedResidual(chans, out, stride if block == 0 else 1, expansion))
                chans = out
            self.stages.append(nn.Sequential(*layers))
            reduction *= stride
            widths.append(out)
            reductions.append(reduction)
        self.head = conv_bn_relu(chans, HEAD, 1)
        self.finish(HEAD, num_classes, stage_info(widths, reductions, [f"stages.{i}" for i in range(len(SETTINGS))]))

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x)
