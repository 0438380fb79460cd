"""The state of an optimizer, as tensors and plain values; and whether one can be resumed exactly."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from diswot.config.training import Recipe
from diswot.errors import ConfigError, first_line
from diswot.models.init import seeded
from diswot.training.optim import make_optimizer


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state of an optimizer: tensors, and plain values."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    kept = optimizer.state_dict()
    for index, slots in kept["state"].items():
        for key, value in slots.items():
            (tensors if isinstance(value, Tensor) else plain)[f"optimizer.{index}.{key}"] = value
    for index, group in enumerate(kept["param_groups"]):
        if "step" in group:  # some optimizers count here, as a number or as a tensor
            (tensors if isinstance(group["step"], Tensor) else plain)[f"group.{index}"] = group["step"]
    return tensors, plain


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
    """Bring back what `optimizer_state` gave."""
    state: dict[int, dict[str, Any]] = {}
    for name, value in _under("optimizer.", {**tensors, **plain}).items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    for number, step in _under("group.", {**tensors, **plain}).items():
        groups[int(number)]["step"] = step
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, kept in state.items():
        slots = optimizer.state[parameters[index]]
        for key, value in kept.items():  # torch casts to the parameter's type, and forgets its layout
            if isinstance(value, Tensor):
                like = parameters[index] if value.shape == parameters[index].shape else slots[key]
                slots[key] = torch.empty_like(like, dtype=value.dtype).copy_(value).detach()


def check_optimizer(recipe: Recipe) -> None:
    """Try on a small network whether a training with the recipe's optimizer could be resumed.

    Raises:
        ConfigError: it cannot be made, cannot take a step, or goes on otherwise after a resume.
    """
    with seeded(0):
        layer = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    images = torch.linspace(-1, 1, 96).reshape(2, 3, 4, 4)
    small = replace(recipe, layer_decay=1.0)
    try:
        optimizer = make_optimizer(small, layer)
        _try_step(layer, optimizer, images)
        twin = copy.deepcopy(layer)
        other = make_optimizer(small, twin)
        tensors, plain = optimizer_state(optimizer)
        restore_optimizer(other, tensors, json.loads(json.dumps(plain)))
        for one, its in ((layer, optimizer), (twin, other)):
            _try_step(one, its, images)
        pairs = zip(layer.parameters(), twin.parameters(), strict=True)
        same = all(torch.equal(one.nan_to_num(), other.nan_to_num()) for one, other in pairs)  # a rate far too high is told by the loss
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise ConfigError(f"--opt {recipe.opt}: it cannot train here ({first_line(error, 100)}): use another") from None
    if not same:
        raise ConfigError(f"--opt {recipe.opt}: a training that was cut off would go on otherwise; use another")


def _try_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor) -> None:
    optimizer.zero_grad()
    model(images).square().sum().backward()
    optimizer.step()


def _under(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
