"""`Recipe`: how a network is trained, apart from what it learns from; and the optimiser that follows from it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from diswot.errors import ConfigError, first_line
from diswot.losses import Truth
from diswot.options import Augment, Precision, RecipeOptions, Schedule, Supervision
from diswot.registry import suggest

SGD = "sgd"


@dataclass(frozen=True)
class Recipe:
    """The standard CIFAR recipe of the distillation literature, unless told otherwise. The fields are those of `RecipeOptions`."""

    epochs: int = 240
    batch: int = 64
    optimizer: str = SGD
    lr: float = 0.05
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    decay_norms: bool = True
    layer_decay: float = 1.0
    schedule: Schedule = "step"
    milestones: tuple[float, ...] = (0.625, 0.75, 0.875)
    decay: float = 0.1
    warmup_epochs: int = 0
    warmup_lr: float = 1e-6
    min_lr: float = 0.0
    clip: float = 0.0
    accumulate: int = 1
    ema: float = 0.0
    supervision: Supervision = "ce"
    smoothing: float = 0.0
    augment: Augment = "crop"
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    auto_augment: str = ""
    erase: float = 0.0
    repeats: int = 1
    measure_every: int = 1
    precision: Precision = "fp32"
    channels_last: bool = True
    compile: bool = False
    deterministic: bool = False
    sync_norms: bool = True
    seed: int = 0

    @classmethod
    def of(cls, options: RecipeOptions) -> Recipe:
        """The recipe that options ask for, checked.

        Raises:
            ConfigError: names every number that cannot be.
        """
        names = [name for name in cls.__dataclass_fields__ if name != "milestones"]
        recipe = cls(milestones=_milestones(options.milestones), **{name: getattr(options, name) for name in names})
        recipe.check()
        return recipe

    @property
    def truth(self) -> Truth:
        """How students are held to the labels."""
        return Truth(self.supervision, self.smoothing)

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed with each other."""
        return self.mixup > 0 or self.cutmix > 0

    def learning_rate(self, epoch: int) -> float:
        """Of the epoch counted from 0. Milestones are shares of `epochs`, warm-up included.

        >>> [round(Recipe().learning_rate(e), 8) for e in (0, 149, 150, 180, 239)]
        [0.05, 0.05, 0.005, 0.0005, 5e-05]
        >>> [round(Recipe(epochs=4, schedule="cosine", lr=1.0).learning_rate(e), 3) for e in range(4)]
        [1.0, 0.854, 0.5, 0.146]
        """
        if epoch < self.warmup_epochs:
            return self.warmup_lr + (self.lr - self.warmup_lr) * epoch / self.warmup_epochs
        if self.schedule == "cosine":
            return self.min_lr + (self.lr - self.min_lr) * (1 + math.cos(math.pi * epoch / self.epochs)) / 2
        if self.schedule == "constant" or self.epochs == 1:
            return self.lr
        return float(self.lr * self.decay ** sum(epoch >= math.floor(round(share * self.epochs, 9)) for share in self.milestones))

    def check(self) -> None:
        """`ConfigError` for numbers that cannot be; all are named at once."""
        positive, share = (lambda v: 0 < v < math.inf), (lambda v: 0 <= v < 1)
        limits: dict[str, tuple[Any, str]] = {
            **dict.fromkeys(("epochs", "lr"), (positive, "more than 0 is needed")),
            "batch": (lambda v: v >= 2, "at least 2 is needed"),
            **dict.fromkeys(("accumulate", "repeats", "measure_every"), (lambda v: v >= 1, "at least 1 is needed")),
            **dict.fromkeys(("momentum", "ema", "smoothing"), (share, "0 or more, and below 1")),
            **dict.fromkeys(("layer_decay", "decay"), (lambda v: 0 < v <= 1, "more than 0, at most 1")),
            "erase": (lambda v: 0 <= v <= 1, "0 to 1"),
            **dict.fromkeys(
                ("weight_decay", "warmup_epochs", "warmup_lr", "min_lr", "clip", "cutout", "mixup", "cutmix"),
                (lambda v: 0 <= v < math.inf, "0 or more"),
            ),
        }
        faults = [
            f"{name.replace('_', '-')} {getattr(self, name)}: {says}" for name, (ok, says) in limits.items() if not ok(getattr(self, name))
        ]
        if self.warmup_epochs and not self.warmup_epochs < self.epochs:
            faults.append(f"warmup-epochs {self.warmup_epochs}: fewer than the {self.epochs} epochs")
        if self.accumulate > max(self.batch // 2, 1):
            faults.append(f"accumulate {self.accumulate}: a batch of {self.batch} has no more than {self.batch // 2} parts of two images")
        if faults:
            raise ConfigError("; ".join(faults))

    def make_optimizer(self, model: nn.Module, others: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser of a student, and of the adapters of its loss.

        Every group of parameters has an `lr_scale`, what the learning rate is multiplied by there (1 but with layer decay).
        """
        groups = self._groups(model)
        if others := list(others):
            groups.append({"params": others, "weight_decay": self.weight_decay})
        for group in groups:
            group.setdefault("lr_scale", 1.0)
        if self.optimizer == SGD:
            return torch.optim.SGD(groups, self.lr, self.momentum, nesterov=self.nesterov and self.momentum > 0)
        import timm.optim

        known = timm.optim.list_optimizers()
        if self.optimizer not in known:
            raise ConfigError(f"unknown optimizer {self.optimizer!r}: {suggest(self.optimizer, [SGD, *known])}")
        try:
            return timm.optim.create_optimizer_v2(groups, opt=self.optimizer, lr=self.lr, momentum=self.momentum)
        except Exception as error:  # an optimiser may need a package or a device that is not there
            raise ConfigError(f"optimizer {self.optimizer} cannot be made: {first_line(error)}") from None

    def _groups(self, model: nn.Module) -> list[dict[str, Any]]:
        from timm.optim import param_groups_layer_decay, param_groups_weight_decay

        if self.layer_decay < 1:
            if not hasattr(model, "group_matcher"):
                raise ConfigError(
                    f"--layer-decay {self.layer_decay}: this network does not say which its layers are, timm's do: leave it out"
                )
            scaled = param_groups_layer_decay(
                model, self.weight_decay, weight_decay_exclude_1d=not self.decay_norms, layer_decay=self.layer_decay
            )
            return list(scaled)
        if not self.decay_norms:
            return list(param_groups_weight_decay(model, self.weight_decay))
        return [{"params": [p for p in model.parameters() if p.requires_grad], "weight_decay": self.weight_decay}]


def _milestones(text: str) -> tuple[float, ...]:
    """Shares of the training at which a step schedule drops.

    >>> _milestones("0.5, 0.75")
    (0.5, 0.75)
    """
    try:
        shares = tuple(sorted(float(word) for word in text.split(",") if word.strip()))
    except ValueError:
        shares = (math.nan,)
    if not all(0 < share < 1 for share in shares):
        raise ConfigError(f"milestones {text!r}: shares of the training between 0 and 1, as 0.5,0.75")
    return shares
