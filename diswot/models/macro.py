"""The networks of NAS-Bench-Macro and of the residual half of Channel-Bench-Macro, whose layers are chosen one by one."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from diswot.models.base import ImageClassifier, conv_bn, conv_bn_relu, stage_info
from diswot.models.mobilenet import InvertedResidual
from diswot.models.staged import ResidualBlock


class InvertedResidualNet(ImageClassifier):
    """A chain of inverted residuals between a 3x3 stem and a last 1x1 convolution, in stages that begin by halving the resolution.

    Args:
        stem: number of channels of the stem, which has stride 1.
        stages: (channels, layers) of each stage; a layer is the (expansion, kernel) of an inverted residual, or None for the identity,
            in whose place the first layer of a stage has a 1x1 convolution with stride 2 and batch norm.
        head: number of channels of the last 1x1 convolution.
        num_classes: number of classes.
        in_chans: number of channels of the images.

    >>> net = InvertedResidualNet(32, [(64, [None, (3, 3)]), (128, [(6, 5), None, None])], 1280, num_classes=10)
    >>> [type(layer).__name__ for layer in net.stages[1]]
    ['InvertedResidual']
    """

    def __init__(
        self,
        stem: int,
        stages: Sequence[tuple[int, Sequence[tuple[int, int] | None]]],
        head: int,
        num_classes: int = 10,
        in_chans: int = 3,
    ) -> None:
        super().__init__()
        self.stem = conv_bn_relu(in_chans, stem, 3)
        self.stages = nn.ModuleList()
        chans = stem
        for width, layers in stages:
            built: list[nn.Module] = []
            for index, layer in enumerate(layers):
                stride = 2 if index == 0 else 1
                if layer is not None:
                    built.append(InvertedResidual(chans, width, stride, *layer))
                elif stride != 1:
                    built.append(nn.Sequential(*conv_bn(chans, width, 1, stride)))
                chans = width
            self.stages.append(nn.Sequential(*built))
        self.head = conv_bn_relu(chans, head, 1)
        reductions = [2 ** (index + 1) for index in range(len(stages))]
        self.init_classifier(head, num_classes, stage_info([width for width, _ in stages], reductions, _names(len(stages))))

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x)


class PlainBlock(nn.Module):
    """A block of 3x3 convolutions, each with batch norm and ReLU, without a shortcut.

    Args:
        in_chans: number of channels of the input.
        widths: number of channels of each convolution's output.
        stride: stride of the first convolution.
    """

    def __init__(self, in_chans: int, widths: Sequence[int], stride: int) -> None:
        super().__init__()
        before = (in_chans, *widths)
        strides = (stride, *(1 for _ in widths[1:]))
        self.body = nn.Sequential(*(conv_bn_relu(i, o, 3, s) for i, o, s in zip(before, widths, strides, strict=False)))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return y


class WidthResNet(ImageClassifier):
    """A ResNet of five blocks with seven free widths: a stem with stride 2, two blocks, one without a shortcut that halves the resolution
    and changes the width, and two more.

    Args:
        widths: number of channels of the stem, the insides of the first three blocks, the output of the third, and the insides of the
            last two.
        num_classes: number of classes.
        in_chans: number of channels of the images.
    """

    def __init__(self, widths: Sequence[int], num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        stem, first, second, third, late, fourth, fifth = widths
        self.stem = conv_bn_relu(in_chans, stem, 3, 2)
        early = [ResidualBlock(stem, [(inside, 3, 1), (stem, 3, 1)]) for inside in (first, second)]
        later = [ResidualBlock(late, [(inside, 3, 1), (late, 3, 1)]) for inside in (fourth, fifth)]
        self.stages = nn.ModuleList([nn.Sequential(*early), nn.Sequential(PlainBlock(stem, (third, late), 2), *later)])
        self.init_classifier(late, num_classes, stage_info([stem, late], [2, 4], _names(2)))

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return x


def _names(count: int) -> list[str]:
    return [f"stages.{index}" for index in range(count)]
