"""`Learner`: a network in training, with its losses, its optimiser and the state that a checkpoint keeps."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from diswot.errors import ConfigError, RunError, first_line
from diswot.losses import Loss
from diswot.models.init import seeded
from diswot.observe import Observation, Observer
from diswot.training.evaluation import Network
from diswot.training.parallel import Parallel, sync_norms
from diswot.training.recipe import Recipe


@dataclass(frozen=True)
class Pupil:
    """Who is to learn what: a name for the log, a network, and its loss with each of those it learns from (one, but with peers)."""

    name: str
    network: Network
    losses: Sequence[Loss]


class Learner:
    """A pupil in training.

    Args:
        pupil: its losses must be prepared.
        needs: fields of its observation that are asked of it, by its own losses and by its peers'.
    """

    def __init__(self, pupil: Pupil, needs: frozenset[str], recipe: Recipe, device: str, parallel: Parallel) -> None:
        self.name, self.network, self.recipe, self.parallel = pupil.name, pupil.network, recipe, parallel
        self.modules = nn.ModuleList(pupil.losses)
        if parallel.world > 1 and recipe.sync_norms:
            self.network = Network(sync_norms(self.network.model, device), self.network.normalise)
            sync_norms(self.modules, device)
        self.average = ModelEmaV3(self.model, decay=recipe.ema) if recipe.ema else None  # a copy, so before any hook is set
        self.losses = [parallel.wrap(loss) for loss in pupil.losses]
        observer = Observer(self.model, needs)
        self.observer = parallel.wrap(torch.compile(observer) if recipe.compile else observer)
        self.optimizer = recipe.make_optimizer(self.model, self.modules.parameters())
        self.previous: Observation | None = None  # of the step before, for a network that learns from itself

    @property
    def model(self) -> nn.Module:
        return self.network.model

    @property
    def result(self) -> Network:
        """What is measured and kept: the moving average where there is one."""
        return Network(self.average.module if self.average is not None else self.model, self.network.normalise)

    def begin_epoch(self, epoch: int) -> None:
        rate = self.recipe.learning_rate(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        for loss in self.modules:
            loss.begin_epoch(epoch)  # type: ignore[operator]
        self.model.train()
        self.previous = None

    def end_epoch(self) -> None:
        """Where processes normalise by their own parts of the batch, their running statistics are averaged: they are one network again."""
        if self.parallel.world > 1 and not self.recipe.sync_norms:
            for model in filter(None, (self.model, self.average and self.average.module)):
                for buffer in model.buffers():
                    if buffer.is_floating_point():
                        buffer.copy_(self.parallel.sum(buffer) / self.parallel.world)

    def finite(self) -> bool:
        """Whether all weights are numbers."""
        return bool(torch.stack([parameter.detach().isfinite().all() for parameter in self.model.parameters()]).all())

    def parameters(self) -> list[nn.Parameter]:
        return [*self.model.parameters(), *self.modules.parameters()]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that training goes on from: tensors, and plain values."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"loss.{k}": v for k, v in self.modules.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{k}": v for k, v in self.average.module.state_dict().items()}
        slots, plain = optimizer_state(self.optimizer)
        return tensors | slots, plain

    def restore(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        """Brings back what `state` gave; `RunError` where it is another network's."""
        try:
            self.model.load_state_dict(_under("model.", tensors))
            self.modules.load_state_dict(_under("loss.", tensors))
            if self.average is not None:
                self.average.module.load_state_dict(_under("average.", tensors))
            restore_optimizer(self.optimizer, tensors, plain)
        except (RuntimeError, KeyError, TypeError, ValueError):
            raise RunError("its weights do not fit the student") from None


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What an optimiser remembers: tensors, and plain values."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    kept = optimizer.state_dict()
    for index, slots in kept["state"].items():
        for key, value in slots.items():
            (tensors if isinstance(value, Tensor) else plain)[f"optimizer.{index}.{key}"] = value
    for index, group in enumerate(kept["param_groups"]):
        if "step" in group:  # some optimisers count here, as a number or as a tensor
            (tensors if isinstance(group["step"], Tensor) else plain)[f"group.{index}"] = group["step"]
    return tensors, plain


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
    """Brings back what `optimizer_state` gave."""
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
    """Tries on a small network whether a training with the recipe's optimiser could be resumed.

    Raises:
        ConfigError: it cannot be made, cannot take a step, or goes on otherwise after a resume.
    """
    with seeded(0):
        layer = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    images = torch.linspace(-1, 1, 96).reshape(2, 3, 4, 4)
    small = replace(recipe, layer_decay=1.0)
    try:
        optimizer = small.make_optimizer(layer, [])
        _try_step(layer, optimizer, images)
        twin = copy.deepcopy(layer)
        other = small.make_optimizer(twin, [])
        tensors, plain = optimizer_state(optimizer)
        restore_optimizer(other, tensors, json.loads(json.dumps(plain)))
        for one, its in ((layer, optimizer), (twin, other)):
            _try_step(one, its, images)
        same = all(torch.equal(a, b) for a, b in zip(layer.parameters(), twin.parameters(), strict=True))
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise ConfigError(f"optimizer {recipe.optimizer} cannot train here ({first_line(error, 100)}): use another") from None
    if not same:
        raise ConfigError(f"optimizer {recipe.optimizer}: a training that was cut off would go on otherwise; use another")


def _try_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor) -> None:
    optimizer.zero_grad()
    model(images).square().sum().backward()
    optimizer.step()


def _under(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


def prepare(losses: Sequence[Loss], student: Observation, partners: Sequence[Observation | None], seed: int) -> None:
    """Makes the adapters of losses, from the seed."""
    for number, (loss, partner) in enumerate(zip(losses, partners, strict=True)):
        with seeded(seed * 1009 + number):
            loss.prepare(student, partner)
