"""`Learner`: a network in training, with its losses, its optimiser and the state that a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from diswot.errors import RunError
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

    def parameters(self) -> list[nn.Parameter]:
        return [*self.model.parameters(), *self.modules.parameters()]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that training goes on from: tensors, and plain values."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"loss.{k}": v for k, v in self.modules.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{k}": v for k, v in self.average.module.state_dict().items()}
        kept = self.optimizer.state_dict()
        plain: dict[str, Any] = {}
        for index, slots in kept["state"].items():
            for key, value in slots.items():
                (tensors if isinstance(value, Tensor) else plain)[f"optimizer.{index}.{key}"] = value
        for index, group in enumerate(kept["param_groups"]):
            if "step" in group:  # some optimisers count here, as a number or as a tensor
                value = group["step"]
                (tensors if isinstance(value, Tensor) else plain)[f"group.{index}"] = value
        return tensors, plain

    def restore(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        """Brings back what `state` gave; `RunError` where it is another network's."""
        try:
            self.model.load_state_dict(_under("model.", tensors))
            self.modules.load_state_dict(_under("loss.", tensors))
            if self.average is not None:
                self.average.module.load_state_dict(_under("average.", tensors))
            self._restore_optimizer(tensors, plain)
        except (RuntimeError, KeyError, TypeError, ValueError):
            raise RunError("its weights do not fit the student") from None

    def _restore_optimizer(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        state: dict[int, dict[str, Any]] = {}
        kept = {**tensors, **plain}
        for name, value in _under("optimizer.", kept).items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        for index, step in _under("group.", kept).items():
            groups[int(index)]["step"] = step
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        for parameter, slots in self.optimizer.state.items():
            for key, value in slots.items():  # in the parameter's own layout, as they were when the run was cut off
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    slots[key] = torch.empty_like(parameter).copy_(value).detach()


def _under(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


def prepare(losses: Sequence[Loss], student: Observation, partners: Sequence[Observation | None], seed: int) -> None:
    """Makes the adapters of losses, from the seed."""
    for number, (loss, partner) in enumerate(zip(losses, partners, strict=True)):
        with seeded(seed * 1009 + number):
            loss.prepare(student, partner)
