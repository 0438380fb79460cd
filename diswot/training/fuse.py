"""Batch norms of a frozen network, fused into the convolutions before them."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_NEAR = 1e-3  # of the largest logit: rounding, where a fusion that is wrong is off by more than 1


def fuse_conv_bn(model: nn.Module, images: Tensor) -> nn.Module:
    """Copy a network with every batch norm that reads a convolution's output made part of that convolution: the same function up to
    rounding.

    Args:
        model: in evaluation mode; left as it is.
        images: (B, C, H, W) to find out by what follows what, and to make sure that the copy does the same; the model itself is given
            back where it does not.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    >>> [type(layer).__name__ for layer in fuse_conv_bn(net, torch.randn(2, 3, 8, 8))]
    ['Conv2d', 'Identity']
    """
    with torch.no_grad():
        expected = model(images)

    def fuse(pairs: list[tuple[str, str]]) -> nn.Module | None:
        """Return the model with these pairs fused, or None where something else, as a shortcut, reads a convolution too."""
        twin = copy.deepcopy(model)
        for norm_name, conv_name in pairs:
            conv: Any = twin.get_submodule(conv_name)
            norm: Any = twin.get_submodule(norm_name)
            twin.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
            twin.set_submodule(norm_name, nn.Identity())
        with torch.no_grad():
            near = (expected - twin(images)).abs().max() <= _NEAR * expected.abs().max()
        return twin if near else None

    pairs = _pairs(model, images)
    return fuse(pairs) or fuse([pair for pair in pairs if fuse([pair])]) or model


def _pairs(model: nn.Module, images: Tensor) -> list[tuple[str, str]]:
    """Names of batch norms, each with the convolution whose output it reads, where both run once."""
    runs: Counter[str] = Counter()
    outputs: dict[int, tuple[str, Tensor]] = {}  # the tensors are held, so that no number is used twice
    pairs: list[tuple[str, str]] = []

    def note_convolution(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            runs[name] += 1
            outputs[id(output)] = name, output

        return hook

    def note_norm(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
            runs[name] += 1
            if id(inputs[0]) in outputs:
                pairs.append((name, outputs[id(inputs[0])][0]))

        return hook

    handles = []
    for name, module in model.named_modules():
        if type(module) is nn.Conv2d:
            handles.append(module.register_forward_hook(note_convolution(name)))
        elif type(module) is nn.BatchNorm2d and module.track_running_stats:
            handles.append(module.register_forward_hook(note_norm(name)))
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return [(norm, conv) for norm, conv in pairs if runs[norm] == runs[conv] == 1]
