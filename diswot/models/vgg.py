"""VGG for CIFAR as the distillation literature uses it: with batch norm, three pooling layers and one linear layer."""

from __future__ import annotations

from torch import Tensor, nn

from diswot.models.base import ImageClassifier, stage_info

WIDTHS = [64, 128, 256, 512, 512]


class CifarVGG(ImageClassifier):
    """A VGG for CIFAR: five stages of 3x3 convolutions, with 2x2 max pooling after each of the first three.

    Args:
        convs: number of convolutions per stage: 1 for VGG-8, 2 for VGG-13.
        num_classes: number of classes.
        in_chans: number of channels of the images.

    >>> sum(p.numel() for p in CifarVGG(1).parameters())
    3965028
    """

    def __init__(self, convs: int, num_classes: int = 100, in_chans: int = 3) -> None:
        super().__init__()
        chans = in_chans
        self.stages = nn.ModuleList()
        for width in WIDTHS:
            layers: list[nn.Module] = []
            for _ in range(convs):
                layers += [nn.Conv2d(chans, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
                chans = width
            self.stages.append(nn.Sequential(*layers))
        self.pool = nn.MaxPool2d(2)
        self.init_classifier(chans, num_classes, stage_info(WIDTHS, [1, 2, 4, 8, 8], [f"stages.{i}" for i in range(5)]))

    def forward_features(self, x: Tensor) -> Tensor:
        for index, stage in enumerate(self.stages):
            x = stage(self.pool(x) if 0 < index < 4 else x)
        return x
