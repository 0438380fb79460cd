"""What every network here shares: timm's protocol for image classifiers."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class ImageClassifier(nn.Module):
    """Feature map, global average pooling, linear classifier, by timm's names.

    A subclass defines `forward_features(x)`: (B, in_chans, H, W) -> (B, num_features, h, w), and calls `finish` once its layers stand.

    Attributes:
        num_features: channels of the last feature map, the width of the classifier's input.
        feature_info: one dict a stage, as timm's: num_chs, reduction (stride so far), module.
    """

    num_features: int
    feature_info: list[dict[str, Any]]
    fc: nn.Module

    def finish(self, num_features: int, num_classes: int, feature_info: list[dict[str, Any]]) -> None:
        self.num_features = self.head_hidden_size = num_features
        self.feature_info = feature_info
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """A new classifier for `num_classes`; 0 leaves the pooled features as the output."""
        self.num_classes = num_classes
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward_features(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """(B, C, h, w) -> (B, num_classes), or (B, C) pooled where `pre_logits`."""
        pooled = features.mean((2, 3))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def conv_bn(in_chans: int, out_chans: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A bias-free convolution, padded so that stride 1 keeps the size, and its batch norm."""
    return [
        nn.Conv2d(in_chans, out_chans, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_chans),
    ]


def conv_bn_relu(in_chans: int, out_chans: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(*conv_bn(in_chans, out_chans, kernel, stride, groups), nn.ReLU(inplace=True))


class PadShortcut(nn.Module):
    """The shortcut without parameters (option A of He et al. 2016): every `stride`-th pixel, zeros for the channels that are new.

    >>> import torch
    >>> PadShortcut(2, 6, 2)(torch.ones(1, 2, 4, 4)).shape
    torch.Size([1, 6, 2, 2])
    """

    def __init__(self, in_chans: int, out_chans: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        before = (out_chans - in_chans) // 2
        self.pad = (0, 0, 0, 0, before, out_chans - in_chans - before)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], self.pad)


def stage_info(channels: list[int], reductions: list[int], names: list[str]) -> list[dict[str, Any]]:
    """`feature_info` from its three columns."""
    return [{"num_chs": c, "reduction": r, "module": n} for c, r, n in zip(channels, reductions, names, strict=True)]
