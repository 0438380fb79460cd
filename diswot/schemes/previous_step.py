"""Students that learn from their own last step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from diswot.config.training import DistillConfig
from diswot.errors import ConfigError
from diswot.observe import Observation
from diswot.schemes.alone import check_ce_weight
from diswot.schemes.base import DistillationLoss, Scheme, StepObservations, Terms

T = TypeVar("T")


class PreviousStep(Scheme):
    """Every student learns from its own logits of the step before, on the half of the batch that both steps have (Shen et al.,
    "Self-Distillation from the Last Mini-Batch for Consistency Regularization", CVPR 2022)."""

    reference_name = "last step"
    repeats_half_batch = True

    def __init__(self) -> None:
        self._previous: dict[int, Observation] = {}

    @classmethod
    def check(cls, config: DistillConfig, loss: DistillationLoss, num_students: int) -> None:
        super().check(config, loss, num_students)
        if config.grad_accum_steps > 1:
            steps = f"--grad-accum-steps {config.grad_accum_steps}"
            raise ConfigError(f"{steps}: the loss {loss.label} repeats half of each batch; a part has no half")
        check_ce_weight(loss)

    def begin_epoch(self) -> None:
        self._previous.clear()

    def references(self, student: int, students: Mapping[int, T], teacher: T | None) -> list[T | None]:
        """Return no reference: `terms` takes it from the step before, and the loss has no adapters that are made from one."""
        return [None]

    def terms(self, student: int, losses: Sequence[DistillationLoss], step: StepObservations) -> Terms:
        seen = step.students[student]
        before = self._previous.get(student) if step.repeated else None
        self._previous[student] = _later_half(seen)
        return losses[0](seen, before, step.target)


def _later_half(seen: Observation) -> Observation:
    """The logits of the images that the next step has again."""
    nothing = seen.logits.new_empty(0)
    return Observation(nothing, nothing, seen.logits.detach()[len(seen.logits) // 2 :], nothing)
