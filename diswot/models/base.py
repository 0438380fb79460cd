"""The base class of all networks in this package, which follows timm's protocol for image classifiers, and layers that they share."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn


class ImageClassifier(nn.Module):
    """An image classifier with timm's methods: a feature map, global average pooling and a linear classifier.

    A subclass defines `forward_features` and calls `init_classifier` at the end of its `__init__`, when all its other layers are set.

    Attributes:
        num_features: number of channels of the last feature map, which is the width of the classifier's input.
        num_classes: number of classes; 0 if the network has no classifier.
        feature_info: one dict per stage, with timm's keys: `num_chs` (channels), `reduction` (stride relative to the image) and
            `module` (name of the module).
        fc: the classifier.
    """

    num_features: int
    feature_info: list[dict[str, Any]]
    fc: nn.Module

    def init_classifier(self, num_features: int, num_classes: int, feature_info: list[dict[str, Any]]) -> None:
        """Set the attributes that timm's protocol asks for, and make the classifier.

        Args:
            num_features: number of channels of the last feature map.
            num_classes: number of classes; 0 makes a network without a classifier.
            feature_info: one dict per stage, see `stage_info`.
        """
        self.num_features = self.head_hidden_size = num_features
        self.feature_info = feature_info
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifier by a new one for `num_classes`; with 0 classes the network returns its pooled features."""
        self.num_classes = num_classes
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Return the classifier, a linear layer, or an identity if there are no classes."""
        return self.fc

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the feature map before global pooling: (B, in_chans, H, W) -> (B, num_features, h, w)."""
        raise NotImplementedError

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits of a feature map: (B, C, h, w) -> (B, num_classes), or the pooled features (B, C) if `pre_logits` is true."""
        pooled = features.mean((2, 3))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images: (B, in_chans, H, W) -> (B, num_classes)."""
        return self.forward_head(self.forward_features(x))


def conv_bn(in_chans: int, out_chans: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return a convolution without bias, padded so that stride 1 keeps the image size, and its batch norm."""
    return [
        nn.Conv2d(in_chans, out_chans, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_chans),
    ]


def conv_bn_relu(in_chans: int, out_chans: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return the two layers of `conv_bn` and a ReLU as one module."""
    return nn.Sequential(*conv_bn(in_chans, out_chans, kernel, stride, groups), nn.ReLU(inplace=True))


def repeated(module: nn.Module, count: int) -> list[nn.Module]:
    """Return `module` and `count - 1` newly initialised modules like it, in a third of the time that constructing them takes.

    Attributes that are neither parameters, buffers nor modules are shared.

    >>> first, second = repeated(nn.Linear(2, 3), 2)
    >>> second.weight.shape, bool((first.weight == second.weight).any())
    (torch.Size([3, 2]), False)
    """
    return [module, *(_like(module) for _ in range(count - 1))]


def _like(module: nn.Module) -> nn.Module:
    new = object.__new__(type(module))
    new.__dict__ = {name: OrderedDict() if isinstance(value, OrderedDict) else value for name, value in module.__dict__.items()}  # hooks
    new._parameters = {
        name: parameter if parameter is None else nn.Parameter(torch.empty_like(parameter), parameter.requires_grad)
        for name, parameter in module._parameters.items()
    }
    new._buffers = {name: buffer if buffer is None else buffer.clone() for name, buffer in module._buffers.items()}
    new._modules = {name: child if child is None else _like(child) for name, child in module._modules.items()}
    if callable(reset := getattr(new, "reset_parameters", None)):
        reset()
    return new


class PadShortcut(nn.Module):
    """A shortcut without parameters (option A of He et al. 2016).

    It keeps every `stride`-th pixel in each direction. The additional channels are zero, one half before and one half after the old ones.

    >>> import torch
    >>> PadShortcut(2, 6, 2)(torch.ones(1, 2, 4, 4)).shape
    torch.Size([1, 6, 2, 2])
    """

    def __init__(self, in_chans: int, out_chans: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        pad_before = (out_chans - in_chans) // 2
        self.pad = (0, 0, 0, 0, pad_before, out_chans - in_chans - pad_before)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], self.pad)


def stage_info(channels: list[int], reductions: list[int], names: list[str]) -> list[dict[str, Any]]:
    """Return timm's `feature_info`, one dict per stage, from its three columns."""
    return [{"num_chs": c, "reduction": r, "module": n} for c, r, n in zip(channels, reductions, names, strict=True)]
