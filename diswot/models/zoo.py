"""The CIFAR networks of the distillation literature, under the names used there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from diswot.models.base import ImageClassifier
from diswot.models.mobilenet import CifarMobileNetV2
from diswot.models.resnet import CifarResNet
from diswot.models.shufflenet import ShuffleNetV1, ShuffleNetV2
from diswot.models.vgg import CifarVGG
from diswot.models.wrn import WideResNet

Build = Callable[..., ImageClassifier]
_WIDE = (32, 64, 128, 256)  # channels of the stem and of the stages of resnet8x4 and resnet32x4


def _resnets() -> dict[str, Build]:
    depths = {name: [(number - 2) // 6] * 3 for number in (8, 14, 20, 32, 44, 56, 110) for name in [f"resnet{number}"]}
    nets: dict[str, Build] = {name: partial(CifarResNet, depth) for name, depth in depths.items()}
    nets |= {f"{name}_pad": partial(CifarResNet, depth, shortcut="pad") for name, depth in depths.items()}
    nets |= {f"{name}x4": partial(CifarResNet, depths[name], _WIDE) for name in ("resnet8", "resnet32")}
    return nets


ZOO: dict[str, Build] = {
    **_resnets(),
    **{f"wrn_{depth}_{widen}": partial(WideResNet, depth, widen) for depth in (16, 40) for widen in (1, 2)},
    "vgg8": partial(CifarVGG, 1),
    "vgg13": partial(CifarVGG, 2),
    "mobilenetv2": CifarMobileNetV2,
    "shufflenetv1": ShuffleNetV1,
    "shufflenetv2": ShuffleNetV2,
}


def zoo_name(name: str) -> str:
    """Return the zoo's spelling of a network's name, whatever its capitals, hyphens and underscores.

    A name that the zoo does not have is returned unchanged.

    >>> zoo_name("WRN-16-2"), zoo_name("resnet56")
    ('wrn_16_2', 'resnet56')
    """
    normalised = name.lower().replace("-", "").replace("_", "")
    return next((zoo_spelling for zoo_spelling in ZOO if zoo_spelling.replace("_", "") == normalised), name)
