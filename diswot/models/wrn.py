"""Wide residual networks for CIFAR, which are made of pre-activation blocks (Zagoruyko & Komodakis, BMVC 2016)."""

from __future__ import annotations

from torch import Tensor, nn

from diswot.models.base import ImageClassifier, stage_info


class PreActBlock(nn.Module):
    """A pre-activation block: batch norm, ReLU and a 3x3 convolution, twice, and a shortcut.

    If the number of channels width_changes, the shortcut is a 1x1 convolution of the activated input, otherwise it is the identity.
    """

    def __init__(self, in_chans: int, out_chans: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_chans)
        self.conv1 = nn.Conv2d(in_chans, out_chans, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_chans)
        self.conv2 = nn.Conv2d(out_chans, out_chans, 3, 1, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        width_changes = in_chans != out_chans
        self.shortcut = nn.Conv2d(in_chans, out_chans, 1, stride, bias=False) if width_changes else None

    def forward(self, x: Tensor) -> Tensor:
        activated = self.relu(self.bn1(x))
        y = self.conv2(self.relu(self.bn2(self.conv1(activated))))
        return y + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(ImageClassifier):
    """The wide residual network WRN-`depth`-`widen`.

    Args:
        depth: number of layers; each of the three stages has (depth - 4) / 6 blocks.
        widen: factor on the 16, 32 and 64 channels of the three stages.
        num_classes: number of classes.
        in_chans: number of channels of the images.

    >>> sum(p.numel() for p in WideResNet(40, 2).parameters())
    2255156
    """

    def __init__(self, depth: int, widen: int, num_classes: int = 100, in_chans: int = 3) -> None:
        super().__init__()
        widths = [16 * widen, 32 * widen, 64 * widen]
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(in_chans, 16, 3, padding=1, bias=False)
        chans = 16
        self.stages = nn.ModuleList()
        for stage, width in enumerate(widths):
            first = PreActBlock(chans, width, 2 if stage else 1)
            self.stages.append(nn.Sequential(first, *(PreActBlock(width, width, 1) for _ in range(blocks - 1))))
            chans = width
        self.bn = nn.BatchNorm2d(chans)
        self.relu = nn.ReLU(inplace=True)
        self.init_classifier(chans, num_classes, stage_info(widths, [1, 2, 4], [f"stages.{i}" for i in range(3)]))

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for stage in self.stages:
            x = stage(x)
        return self.relu(self.bn(x))
