"""Small networks in float64, whose proxies slow loops can check."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diswot.models.init import Initialiser
from diswot.models.resnet import CifarResNet
from diswot.observe import observe
from diswot.proxies import (
    PASSES,
    Candidate,
    NetworkSummary,
    get_proxy,
)
from diswot.space import Cost

NO_COST = Cost(1, 1, 1)
CLASSES, BATCH, SIDE = 4, 6, 8
WEIGHTED = (nn.Conv2d, nn.Linear)
EVERYTHING = {name: frozenset({"graph", "blocks", "agreements", "codes", "conv_entropies", "outputs"}) for name in PASSES}


class Small(CifarResNet):
    """Few channels, so that loops over all of them are quick."""

    def __init__(self) -> None:
        super().__init__([1, 1, 1], num_classes=CLASSES)


class Unusual(nn.Module):
    """timm's protocol round layers that are easily got wrong: an activation in place right after a convolution, a grouped convolution, an
    operation in place, a linear layer on channels-last maps, a layer that is used twice, one that never is, a norm of sequences."""

    def __init__(self, inplace: bool = False, padding_mode: str = "zeros") -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, padding_mode=padding_mode)
        self.act = nn.Hardswish(inplace=inplace)
        self.grouped = nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2)
        self.mixer = nn.Linear(4, 4)
        self.twice = nn.Conv2d(4, 4, 1, bias=False)
        self.unused = nn.Linear(5, 5)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, CLASSES)

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.grouped(self.act(self.stem(x)))
        x.mul_(1.5)
        x = self.mixer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.twice(F.relu(self.twice(x)))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.norm(x.flatten(2)).mean(2)
        return x if pre_logits else self.head(x)

    def get_classifier(self) -> nn.Module:
        return self.head


def candidate_of(model: nn.Module, images: Tensor, target: Tensor) -> Candidate:
    """A network under the seed 7, whose shared passes keep everything."""
    initialisers: dict[Any, Initialiser] = {}

    def weights(init: Any) -> None:
        chosen = init or "kaiming"
        initialisers.setdefault(chosen, Initialiser(model, chosen))(7)

    return Candidate(model, weights, images, target, 7, EVERYTHING, lambda: NO_COST)


def score(name: str, candidate: Candidate, teacher: NetworkSummary | None = None) -> float:
    with torch.no_grad():
        return float(get_proxy(name).score(candidate, teacher, NO_COST))  # type: ignore[arg-type]  # None where it needs no teacher


def layers(model: nn.Module) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, WEIGHTED)]


def backward(candidate: Candidate) -> nn.Module:
    """A copy of the network after an ordinary backward pass of the loss."""
    model = copy.deepcopy(candidate.model)
    F.cross_entropy(observe(model, candidate.input("images")).logits, candidate.target).backward()
    return model


def relu_inputs(candidate: Candidate, run: Callable[[nn.Module], Any]) -> list[np.ndarray[Any, Any]]:
    model, seen = copy.deepcopy(candidate.model), []
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_pre_hook(lambda _m, x: seen.append(x[0].detach().flatten(1).numpy()))
    run(model)
    return seen
