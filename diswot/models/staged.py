"""Residual networks in which every stage has its own kernel size, widths and depth: the networks of the search spaces S1 and S2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from diswot.models.base import ImageClassifier, conv_bn, conv_bn_relu, stage_info


@dataclass(frozen=True)
class Stage:
    """The description of a stage, which is a sequence of residual blocks.

    Attributes:
        block: kind of the blocks, `basic` or `bottleneck`.
        kernel: kernel size k of the convolutions that are not 1x1.
        width: number of channels at the output of each block.
        mid: number of channels inside each block.
        depth: number of blocks.
        stride: stride of the first block; the others have stride 1.
    """

    block: str
    kernel: int
    width: int
    mid: int
    depth: int
    stride: int

    def blocks(self) -> list[list[tuple[int, int, int]]]:
        """Return the convolutions of each block, each as (out channels, kernel, stride).

        A `basic` block has a k x k convolution to `mid` channels and a k x k convolution to `width` channels. A `bottleneck` block has
        a 1x1 convolution to `mid` channels, a k x k convolution, and a 1x1 convolution to `width` channels.
        """
        return [self._convs(self.stride if i == 0 else 1) for i in range(self.depth)]

    def _convs(self, stride: int) -> list[tuple[int, int, int]]:
        if self.block == "basic":
            return [(self.mid, self.kernel, stride), (self.width, self.kernel, 1)]
        return [(self.mid, 1, 1), (self.mid, self.kernel, stride), (self.width, 1, 1)]


class ResidualBlock(nn.Module):
    """A residual block around any chain of convolutions.

    Each convolution has batch norm. There is a ReLU between two convolutions and one after the sum with the shortcut, which is a 1x1
    convolution with batch norm if the shape changes, and the identity otherwise.

    Args:
        in_chans: number of channels of the input.
        convs: (out channels, kernel, stride) of each convolution.
    """

    def __init__(self, in_chans: int, convs: Sequence[tuple[int, int, int]]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        chans, stride = in_chans, 1
        for out_chans, kernel, conv_stride in convs:
            layers += [*conv_bn(chans, out_chans, kernel, conv_stride), nn.ReLU(inplace=True)]
            chans, stride = out_chans, stride * conv_stride
        self.relu = layers.pop()
        self.body = nn.Sequential(*layers)
        shape_changes = stride != 1 or in_chans != chans
        self.downsample = nn.Sequential(*conv_bn(in_chans, chans, 1, stride)) if shape_changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.body(x) + self.downsample(x))


class StagedResNet(ImageClassifier):
    """A residual network with a stem, stages that are described one by one, and a last 1x1 convolution.

    Args:
        stem: (channels, kernel, stride) of the stem.
        stages: description of each stage.
        head: number of channels of the last 1x1 convolution; 0 leaves it out.
        num_classes: number of classes.
        in_chans: number of channels of the images.
    """

    def __init__(self, stem: tuple[int, int, int], stages: Sequence[Stage], head: int, num_classes: int = 100, in_chans: int = 3) -> None:
        super().__init__()
        chans, _, reduction = stem
        self.stem = conv_bn_relu(in_chans, *stem)
        self.stages = nn.ModuleList()
        reductions = []
        for stage in stages:
            blocks = []
            for convs in stage.blocks():
                blocks.append(ResidualBlock(chans, convs))
                chans = stage.width
            self.stages.append(nn.Sequential(*blocks))
            reduction *= stage.stride
            reductions.append(reduction)
        names = [f"stages.{i}" for i in range(len(stages))]
        self.head = conv_bn_relu(chans, head, 1) if head else nn.Identity()
        self.init_classifier(head or chans, num_classes, stage_info([s.width for s in stages], reductions, names))

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x)
