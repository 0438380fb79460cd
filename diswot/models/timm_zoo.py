"""The networks of `diswot.models.zoo` as timm's: `import diswot.models.timm_zoo`, then `timm.create_model("cifar_resnet20")`.

Apart from the zoo, since to import timm takes a second, and a search of our own spaces needs none of it.
"""

from __future__ import annotations

import sys
from typing import Any

from timm.models import register_model

from diswot.models.base import ImageClassifier
from diswot.models.zoo import ZOO, Build


def _register(name: str, build: Build) -> None:
    """Register a network with timm, whose registry takes functions and files them under their names and modules."""

    def entrypoint(pretrained: bool = False, pretrained_cfg: Any = None, **kwargs: Any) -> ImageClassifier:
        if pretrained:
            raise RuntimeError(f"cifar_{name} has no pretrained weights to download: create it with pretrained=False and load your own")
        options = {key: value for key, value in kwargs.items() if key in ("num_classes", "in_chans")}
        return build(**options)

    entrypoint.__name__ = f"cifar_{name}"
    entrypoint.__module__ = __name__
    setattr(sys.modules[__name__], entrypoint.__name__, register_model(entrypoint))


for _name, _build in ZOO.items():
    _register(_name, _build)
