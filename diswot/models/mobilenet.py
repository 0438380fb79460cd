"""MobileNetV2 (Sandler et al., CVPR 2018) for the images of CIFAR, at half width, as the distillation literature uses it."""

from __future__ import annotations

from torch import Tensor, nn

from diswot.models.base import ImageClassifier, conv_bn, conv_bn_relu, stage_info

# each stage: expansion, channels at full width, number of blocks, stride
SETTINGS = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
HEAD_CHANS = 1280  # channels of the last convolution


class InvertedResidual(nn.Module):
    """An inverted residual block: a 1x1 expansion, a depthwise convolution and a 1x1 projection without activation.

    The input is added if it has the shape of the output.
    """

    def __init__(self, in_chans: int, out_chans: int, stride: int, expansion: int, kernel: int = 3) -> None:
        super().__init__()
        hidden_chans = in_chans * expansion
        depthwise = conv_bn_relu(hidden_chans, hidden_chans, kernel, stride, groups=hidden_chans)
        self.body = nn.Sequential(conv_bn_relu(in_chans, hidden_chans, 1), depthwise, *conv_bn(hidden_chans, out_chans, 1))
        self.residual = stride == 1 and in_chans == out_chans

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.residual else y


class CifarMobileNetV2(ImageClassifier):
    """MobileNetV2 for CIFAR: a stem with stride 2, seven stages of inverted residuals, and a last 1x1 convolution to 1280 channels.

    Args:
        width: factor on the number of channels of the stem and of the stages.
        num_classes: number of classes.
        in_chans: number of channels of the images.

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
            out_chans = int(full_width * width)
            layers = []
            for block in range(blocks):
                layers.append(InvertedResidual(chans, out_chans, stride if block == 0 else 1, expansion))
                chans = out_chans
            self.stages.append(nn.Sequential(*layers))
            reduction *= stride
            widths.append(out_chans)
            reductions.append(reduction)
        self.head = conv_bn_relu(chans, HEAD_CHANS, 1)
        self.init_classifier(HEAD_CHANS, num_classes, stage_info(widths, reductions, [f"stages.{i}" for i in range(len(SETTINGS))]))

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x)
