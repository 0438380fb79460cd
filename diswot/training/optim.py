"""The optimizer that follows from a recipe."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from diswot.config.training import SGD, Recipe
from diswot.errors import ConfigError, first_line, suggest
from diswot.training.dot import DOT


def make_optimizer(recipe: Recipe, model: nn.Module, others: Iterable[nn.Parameter] = ()) -> torch.optim.Optimizer:
    """Create the optimizer of a student, and of the adapters of its loss.

    Every group of parameters has an `lr_scale`, what the learning rate is multiplied by there (1 but with layer decay).
    """
    groups = _groups(recipe, model)
    if others := list(others):
        groups.append({"params": others, "weight_decay": recipe.weight_decay})
    for group in groups:
        group.setdefault("lr_scale", 1.0)
    if recipe.dot_delta:
        return DOT(groups, recipe.lr, recipe.momentum, recipe.dot_delta)
    if recipe.opt == SGD:
        return torch.optim.SGD(groups, recipe.lr, recipe.momentum, nesterov=recipe.nesterov and recipe.momentum > 0)
    import timm.optim

    known = timm.optim.list_optimizers()
    if recipe.opt not in known:
        raise ConfigError(f"--opt {recipe.opt!r}: unknown optimizer: {suggest(recipe.opt, [SGD, *known])}")
    try:
        return timm.optim.create_optimizer_v2(groups, opt=recipe.opt, lr=recipe.lr, momentum=recipe.momentum)
    except Exception as error:  # an optimiser may need a package or a device that is not there
        raise ConfigError(f"--opt {recipe.opt}: the optimizer cannot be made: {first_line(error)}") from None


def _groups(recipe: Recipe, model: nn.Module) -> list[dict[str, Any]]:
    if recipe.layer_decay < 1:
        from timm.optim import param_groups_layer_decay

        if not hasattr(model, "group_matcher"):
            raise ConfigError(
                f"--layer-decay {recipe.layer_decay}: this network does not say which its layers are, timm's do: leave it out"
            )
        scaled = param_groups_layer_decay(
            model, recipe.weight_decay, weight_decay_exclude_1d=not recipe.norm_weight_decay, layer_decay=recipe.layer_decay
        )
        return list(scaled)
    if not recipe.norm_weight_decay:
        from timm.optim import param_groups_weight_decay

        return list(param_groups_weight_decay(model, recipe.weight_decay))
    return [{"params": [p for p in model.parameters() if p.requires_grad], "weight_decay": recipe.weight_decay}]
