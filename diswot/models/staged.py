"""Residual networks whose every stage has its own kernel, widths and depth: the networks of S1 and S2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from diswot.models.base import ImageClassifier, conv_bn, conv_bn_relu, stage_info


@dataclass(frozen=True)
class Stage:
    """`depth` residual blocks in a row, the first at `stride`; each block the convolutions (out channels, kernel, stride) of `convs`."""

    block: str
    kernel: int
    width: int
    mid: int
    depth: int
    stride: int

    def blocks(self) -> list[list[tuple[int, int, int]]]:
        """The convolutions of each block. `basic`: k x k to mid, k x k to width. `bottleneck`: 1x1 to mid, k x k, 1x1 to width."""
        return [self._convs(self.stride if i == 0 else 1) for i in range(self.depth)]

    def _convs(self, stride: int) -> list[tuple[int, int, int]]:
        if self.block == "basic":
            return [(self.mid, self.kernel, stride), (self.width, self.kernel, 1)]
        return [(self.mid, 1, 1), (self.mid, self.kernel, stride), (self.width, 1, 1)]


class ResidualBlock(nn.Module):
    """A chain of convolutions with batch norm, ReLU between them and after the sum with the shortcut."""

    def __init__(self, in_chans: int, convs: Sequence[tuple[int, int, int]]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        chans, stride = in_chans, 1
        for out_chans, kernel, step in convs:
            layers += [*conv_bn(chans, out_chans, kernel, step), nn.ReLU(inplace=True)]
            chans, stride = out_chans, stride * step
        self.relu = layers.pop()
        self.body = nn.Sequential(*layers)
        changes = stride != 1 or in_chans != chans
        self.downsample = nn.Sequential(*conv_bn(in_chans, chans, 1, stride)) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.body(x) + self.downsample(x))


class StagedResNet(ImageClassifier):
    """A k x k stem, stages of residual blocks, and a last 1x1 convolution where `head` is not 0.

    Args:
        stem: (channels, kernel, stride).
        stages: what each stage is made of.
        head: channels of the last 1x1 convolution; 0 leaves it out.
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
        self.finish(head or chans, num_classes, stage_info([s.width for s in stages], reductions, names))

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x)
