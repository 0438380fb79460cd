"""CTKD: a temperature that is trained against the student."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from diswot.config.fields import option
from diswot.losses.base import LOSSES, Loss, temperature_option, weight_option
from diswot.losses.logits import kd
from diswot.observe import Observation
from diswot.schemes.base import Terms


class _ReversedGradient(torch.autograd.Function):
    """What it is given; backwards, minus so many times the gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


def reverse_gradient(value: Tensor, strength: float) -> Tensor:
    """Return the tensor as it is; its gradient is multiplied by minus the strength.

    >>> x = torch.ones(2, requires_grad=True)
    >>> reverse_gradient(x, 0.5).sum().backward()
    >>> x.grad
    tensor([-0.5000, -0.5000])
    """
    reversed_value: Tensor = _ReversedGradient.apply(value, strength)
    return reversed_value


@LOSSES.register("ctkd")
class CTKD(Loss):
    """ce_weight CE + kd_weight `kd` at a temperature T = lowest + span sigmoid(v) that is trained to make the task harder: v ascends the
    loss, by a strength that grows from 0 to 1 along half a cosine over the first `warmup` epochs (Li et al., AAAI 2023, the global
    temperature).

    The warm-up is that of trainings of 240 epochs; shorter ones have a shorter one.
    """

    ce_weight: float = weight_option(0.1)
    kd_weight: float = weight_option(0.9)
    lowest: float = temperature_option(1.0)
    span: float = weight_option(20.0)
    warmup: int = option(10, ge=0, le=1_000_000)

    summary = "KD at a temperature that is trained against the student (Li et al. 2023)"
    has_adapters = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.strength = 1.0

    def begin_epoch(self, epoch: int) -> None:
        warmup = self.scaled_epochs(self.warmup)
        self.strength = (1 - math.cos(math.pi * min((epoch + 1) / warmup, 1.0))) / 2 if warmup else 1.0

    def build_adapters(self, student: Observation, reference: Observation) -> None:
        self.position = nn.Parameter(torch.ones(1))

    @property
    def temperature(self) -> Tensor:
        """The temperature now, (1,)."""
        return self.lowest + self.span * torch.sigmoid(reverse_gradient(self.position, self.strength))

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        return {"kd": self.kd_weight * kd(student.logits, reference.logits, self.temperature).squeeze()}
