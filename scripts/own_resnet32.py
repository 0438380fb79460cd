"""The ResNet-32 that karanchahal/distiller published for CIFAR-100, as an example of a teacher of one's own: a plain `torch.nn.Module`.

PYTHONPATH=scripts diswot distill resnet8 --teacher own_resnet32:ResNet32 --teacher-weights resnet32_cifar100.pt --data cifar100 \
    --teacher-norm .507,.487,.441/.267,.256,.276
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Two convolutions and a shortcut, which is a 1x1 convolution where shapes change; nothing is activated after the sum."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return out + self.shortcut(x)


class ResNet32(nn.Module):
    """A stem of 64 channels, three stages of five blocks, each ended by one ReLU, and average pooling to 2x2."""

    def __init__(self, num_classes: int = 100, in_chans: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = self._stage(64, 16, 1)
        self.layer2 = self._stage(16, 32, 2)
        self.layer3 = self._stage(32, 64, 2)
        self.linear = nn.Linear(256, num_classes)

    @staticmethod
    def _stage(width_in: int, width: int, stride: int) -> nn.Sequential:
        return nn.Sequential(Block(width_in, width, stride), *[Block(width, width, 1) for _ in range(4)], nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(F.avg_pool2d(x, 4).flatten(1))
        return logits
