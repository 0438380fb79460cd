"""A student in training: the network, its losses, its optimizer, and the state that a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diswot.config.training import Recipe
from diswot.errors import RunError
from diswot.losses import Loss
from diswot.models.init import seeded
from diswot.observe import Observation, Observer
from diswot.training.distributed import DistributedContext, sync_batch_norms
from diswot.training.evaluation import Network
from diswot.training.optim import make_optimizer
from diswot.training.optimizer_state import _under, optimizer_state, restore_optimizer


@dataclass(frozen=True)
class StudentSpec:
    """A student that is to be trained.

    Attributes:
        name: for the log.
        network: the model, and how its images are normalised.
        losses: one for each of those it learns from: one, but for students among peers.
    """

    name: str
    network: Network
    losses: Sequence[Loss]


def _average(model: nn.Module, decay: float) -> Any:
    """timm's moving average of the weights; none where the decay is 0."""
    if not decay:
        return None
    from timm.utils import ModelEmaV3

    return ModelEmaV3(model, decay=decay)


class StudentState:
    """A student in training.

    Args:
        spec: its losses must have their adapters.
    """

    def __init__(self, spec: StudentSpec, recipe: Recipe, device: str, distributed: DistributedContext) -> None:
        self.name, self.network, self.recipe, self.distributed = spec.name, spec.network, recipe, distributed
        self.modules = nn.ModuleList(spec.losses)
        if distributed.world_size > 1 and recipe.sync_bn:
            self.network = Network(sync_batch_norms(self.network.model, device), self.network.normalise)
            sync_batch_norms(self.modules, device)
        self.average = _average(self.model, recipe.model_ema_decay)  # a copy, so before any hook is set
        self.losses = [distributed.wrap(loss) for loss in spec.losses]
        observer = Observer(self.model, frozenset({"logits"}).union(*(loss.student_fields for loss in spec.losses)))
        self.observer = distributed.wrap(torch.compile(observer) if recipe.torchcompile else observer)
        self.optimizer = make_optimizer(recipe, self.model, self.modules.parameters())

    @property
    def model(self) -> nn.Module:
        """The network that is trained."""
        return self.network.model

    @property
    def unwrapped_losses(self) -> list[Loss]:
        """The losses themselves, not wrapped for several processes."""
        return [loss for loss in self.modules if isinstance(loss, Loss)]

    @property
    def label_term(self) -> str:
        """The name of the losses' term of the labels."""
        return self.unwrapped_losses[0].supervised_loss.kind

    @property
    def result(self) -> Network:
        """The network that is measured and kept: the moving average of the weights where there is one."""
        return Network(self.average.module if self.average is not None else self.model, self.network.normalise)

    def begin_epoch(self, epoch: int) -> None:
        """Set the learning rate, and tell the losses."""
        rate = self.recipe.learning_rate(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        for loss in self.modules:
            loss.begin_epoch(epoch)  # type: ignore[operator]
        self.model.train()

    def end_epoch(self) -> None:
        """Average the running statistics of processes that normalise by their own parts of the batch: they are one network again."""
        if self.distributed.world_size > 1 and not self.recipe.sync_bn:
            for model in filter(None, (self.model, self.average and self.average.module)):
                for buffer in model.buffers():
                    if buffer.is_floating_point():
                        buffer.copy_(self.distributed.sum(buffer) / self.distributed.world_size)

    def finite(self) -> bool:
        """Whether all weights are finite."""
        return bool(torch.stack([parameter.detach().isfinite().all() for parameter in self.model.parameters()]).all())

    def parameters(self) -> list[nn.Parameter]:
        """The parameters of the network and of its losses' adapters."""
        return [*self.model.parameters(), *self.modules.parameters()]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that a training goes on from: tensors, and plain values."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"loss.{k}": v for k, v in self.modules.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{k}": v for k, v in self.average.module.state_dict().items()}
        slots, plain = optimizer_state(self.optimizer)
        return tensors | slots, plain

    def restore(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        """Bring back what `state` gave.

        Raises:
            RunError: it is the state of another network.
        """
        try:
            self.model.load_state_dict(_under("model.", tensors))
            self.modules.load_state_dict(_under("loss.", tensors))
            if self.average is not None:
                self.average.module.load_state_dict(_under("average.", tensors))
            restore_optimizer(self.optimizer, tensors, plain)
        except (RuntimeError, KeyError, TypeError, ValueError, AttributeError, IndexError):
            raise RunError("its weights do not fit the student") from None


def make_adapters(losses: Sequence[Loss], student: Observation, references: Sequence[Observation | None], seed: int) -> None:
    """Make the adapters of a student's losses, with weights from the seed.

    Args:
        losses: of one student.
        student: its observation.
        references: for each loss, the observation that it compares the student's with.
        seed: random seed.
    """
    for number, (loss, reference) in enumerate(zip(losses, references, strict=True)):
        with seeded(seed * 1009 + number):
            loss.make_adapters(student, reference)
