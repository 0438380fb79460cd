"""DOT: SGD with a momentum of its own for the gradient of the labels and for that of the teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class DOT(torch.optim.Optimizer):
    """The distillation-oriented trainer (Zhao et al., ICCV 2023): what the labels ask for has less momentum, what the teacher asks for
    more, so that the two do not hold each other up.

    In each step the gradients of the distillation losses are made first, then put aside by `hold`, then those of the labels are made. Both
    have a buffer, b = m b + gradient, with m = momentum - delta for the labels (weight decay included) and momentum + delta for the
    teacher; the weights move by -lr times the sum. A parameter that has gradients of one side alone has the plain momentum.

    Args:
        params: parameters, or groups of them.
        lr, momentum: as in SGD.
        delta: half the difference of the two momenta.

    >>> weight = nn.Parameter(torch.zeros(1))
    >>> optimizer = DOT([weight], lr=1.0, momentum=0.5, delta=0.25)
    >>> for _ in range(2):
    ...     (2 * weight).sum().backward()
    ...     optimizer.hold()
    ...     weight.sum().backward()
    ...     optimizer.step()
    ...     optimizer.zero_grad()
    >>> weight.item()  # -(2 + 1), then -(2 + 1.5) - (1 + .25)
    -7.75
    """

    def __init__(self, params: Iterable[nn.Parameter] | Iterable[dict[str, Any]], lr: float, momentum: float, delta: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "delta": delta, "weight_decay": 0.0})
        self._held: dict[nn.Parameter, Tensor] = {}

    def hold(self) -> None:
        """Put the gradients that are there aside, as the teacher's; those of parts of a batch add up."""
        for parameter in (parameter for group in self.param_groups for parameter in group["params"]):
            if parameter.grad is not None:
                held = self._held.get(parameter)
                self._held[parameter] = parameter.grad if held is None else held + parameter.grad
                parameter.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move the weights by what was held and by the gradients that are there."""
        for group in self.param_groups:
            for parameter in group["params"]:
                self._move(parameter, self._held.pop(parameter, None), group)

    def _move(self, parameter: nn.Parameter, taught: Tensor | None, group: dict[str, Any]) -> None:
        asked, buffers = parameter.grad, []
        delta = group["delta"] if asked is not None and taught is not None else 0.0
        for slot, gradient, momentum in (
            ("labels_buffer", asked, group["momentum"] - delta),
            ("teacher_buffer", taught, group["momentum"] + delta),
        ):
            if gradient is None:
                continue
            if group["weight_decay"] and (gradient is asked or asked is None):
                gradient = gradient + group["weight_decay"] * parameter
            before = self.state[parameter].get(slot)
            self.state[parameter][slot] = gradient.clone() if before is None else before.mul_(momentum).add_(gradient)
            buffers.append(self.state[parameter][slot])
        for buffer in buffers:
            parameter.add_(buffer, alpha=-group["lr"])
