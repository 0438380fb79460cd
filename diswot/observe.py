"""`Observation`: what one forward pass shows of a network, read off timm's protocol; and what hooks can watch besides."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from timm.layers import activations as timm_acts
from timm.models.nfnet import GammaAct
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from diswot.errors import TeacherError


@dataclass(frozen=True)
class Observation:
    """One forward pass of B images through a network with C features and N classes.

    Attributes:
        features: (B, C, H, W) the map before global pooling; a transformer's patch tokens on their grid.
        pooled: (B, C') the classifier's input. C' is C but where a network has a layer between the map and the classifier.
        logits: (B, N).
        weight: (N, C') the classifier's weight.
    """

    features: Tensor
    pooled: Tensor
    logits: Tensor
    weight: Tensor

    def detach(self) -> Observation:
        return Observation(self.features.detach(), self.pooled.detach(), self.logits.detach(), self.weight.detach())


def observe(model: nn.Module, images: Tensor) -> Observation:
    """Runs `model` once on (B, in_chans, H, W) images; gradients flow unless the caller turns them off.

    Raises:
        TeacherError: the network lacks timm's protocol (`forward_features`, `forward_head`, `get_classifier`) or its classifier
            is not one linear layer.

    >>> import torch
    >>> from diswot.models.resnet import CifarResNet
    >>> observe(CifarResNet([1, 1, 1], num_classes=10), torch.zeros(2, 3, 32, 32)).features.shape
    torch.Size([2, 64, 8, 8])
    """
    protocol: Any = model
    try:
        classifier = protocol.get_classifier()
        features = protocol.forward_features(images)
        pooled = protocol.forward_head(features, pre_logits=True)
    except AttributeError as error:
        raise TeacherError(f"{type(model).__name__} does not follow timm's protocol ({error})") from None
    if not isinstance(classifier, nn.Linear):
        raise TeacherError(f"{type(model).__name__}: its classifier is {type(classifier).__name__}, not one linear layer")
    return Observation(_as_map(model, features), pooled, classifier(pooled), classifier.weight)


def _as_map(model: nn.Module, features: Tensor) -> Tensor:
    """(B, C, H, W) from what `forward_features` of timm's families give: maps, channels-last maps, or tokens."""
    if features.ndim == 4:
        channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        return features.permute(0, 3, 1, 2) if channels_last else features
    if features.ndim == 3:
        tokens = features[:, getattr(model, "num_prefix_tokens", 0) :]
        side = math.isqrt(tokens.shape[1])
        if side * side == tokens.shape[1]:
            return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], side, side)
    shape = tuple(features.shape)
    raise TeacherError(
        f"{type(model).__name__} has no feature map: forward_features gives {shape}, neither (B, C, H, W) nor square patches"
    )


@contextlib.contextmanager
def batch_statistics(model: nn.Module) -> Iterator[nn.Module]:
    """Inside, evaluation mode (no dropout) but batch norm on the statistics of the batch, as every score here is computed.

    Running statistics are neither read nor written, and the model is left as it was found.

    >>> import torch
    >>> norm = nn.BatchNorm2d(3)
    >>> with batch_statistics(norm):
    ...     _ = norm(torch.full((2, 3, 4, 4), 5.0))
    >>> norm.running_mean.tolist(), norm.training
    ([0.0, 0.0, 0.0], True)
    """
    modes = [(module, module.training) for module in model.modules()]
    tracking = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    model.eval()
    for norm in tracking:
        norm.training, norm.track_running_stats = True, False
    try:
        yield model
    finally:
        for norm in tracking:
            norm.track_running_stats = True
        for module, training in modes:
            module.training = training


ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish),
    *(timm_acts.GELU, timm_acts.GELUTanh, timm_acts.QuickGELU, timm_acts.Swish, timm_acts.Mish, timm_acts.HardSwish, GammaAct),
)


def units(model: nn.Module) -> list[nn.Module]:
    """The modules of a network's trunk, from input to output: its children, containers (Sequential, ModuleList) opened up.

    >>> from diswot.models.resnet import CifarResNet
    >>> [type(unit).__name__ for unit in units(CifarResNet([1, 1, 1]))]
    ['Conv2d', 'BatchNorm2d', 'ReLU', 'BasicBlock', 'BasicBlock', 'BasicBlock', 'Linear']
    """
    found: list[nn.Module] = []
    for child in model.children():
        opened = isinstance(child, nn.Sequential | nn.ModuleList) or type(child).forward is nn.Module.forward
        found += units(child) if opened else [child]
    return found


def _is_block(unit: nn.Module) -> bool:
    """Whether a new block begins here: single layers without weights, and normalisation, belong to the block before them."""
    if isinstance(unit, nn.Conv2d | nn.Linear):
        return True
    return not isinstance(unit, _NormBase | nn.LayerNorm | nn.GroupNorm) and any(True for _ in unit.children())


@contextlib.contextmanager
def watch_blocks(model: nn.Module) -> Iterator[list[Tensor]]:
    """Inside, each forward pass puts the maps (B, C, H, W) after the stem and after every block into the list, in order.

    A block is a convolution, or a unit of the trunk that is made of several layers, with the single layers that follow it.
    """
    blocks: list[Tensor] = []

    def note(unit: nn.Module) -> Callable[..., None]:
        new = _is_block(unit)
        weighted = any(isinstance(m, nn.Conv2d | nn.Linear) for m in unit.modules())

        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor) or output.ndim != 4:
                return
            if blocks and output.shape[-2:] == (1, 1) and not weighted:
                return  # global pooling is the head's
            if new or not blocks:
                blocks.append(output)
            else:
                blocks[-1] = output

        return hook

    handles = [unit.register_forward_hook(note(unit)) for unit in units(model)]
    try:
        yield blocks
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def watch(model: nn.Module, kinds: tuple[type[nn.Module], ...], see: Callable[[nn.Module, Tensor, Tensor], Any]) -> Iterator[None]:
    """Inside, `see(module, input, output)` is called for every module of these kinds as it runs; a tensor it returns is the output then."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Any:
        return see(module, inputs[0], output)

    handles = [m.register_forward_hook(hook) for m in model.modules() if isinstance(m, kinds)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def not_in_place(model: nn.Module) -> nn.Module:
    """The model with every in-place activation writing to a tensor of its own, so that what hooks see is not overwritten."""
    for module in model.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return model


def stages(blocks: list[Tensor]) -> list[Tensor]:
    """The last map of each resolution, from the finest to the coarsest.

    >>> import torch
    >>> [s.shape[-1] for s in stages([torch.zeros(1, 2, n, n) for n in (8, 8, 4, 2, 2)])]
    [8, 4, 2]
    """
    last = {block.shape[-2:]: block for block in blocks}
    return list(last.values())
