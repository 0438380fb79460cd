"""A teacher of one's own: any function that is called with num_classes and in_chans and gives a torch module.

diswot distill resnet20 --teacher teacher:wide_teacher --data images.npz
diswot search --teacher teacher:wide_teacher --params 0.3M
"""

from torch import nn

from diswot.models.resnet import CifarResNet


def wide_teacher(num_classes: int, in_chans: int) -> nn.Module:
    """ResNet-14 with twice the channels."""
    return CifarResNet([2, 2, 2], (16, 32, 64, 128), num_classes=num_classes, in_chans=in_chans)
