"""A training scheme of one's own, and a loss that is trained by it: every student learns from the mean of all students' logits.

diswot distill resnet20 resnet14 --loss scheme:Consensus --data images.npz
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from diswot.config import option
from diswot.losses import Loss, Terms, kd
from diswot.observe import Observation
from diswot.schemes import Scheme, StepObservations

T = TypeVar("T")


class TogetherWithTheMean(Scheme):
    """All students share a backward pass; the reference of each is the mean of all."""

    reference_name = "mean of the students"
    independent_students = False

    def references(self, student: int, students: Mapping[int, T], teacher: T | None) -> list[T | None]:
        return [students[student]]  # what the mean has the shape of

    def groups(self, num_students: int) -> list[list[int]]:
        return [list(range(num_students))]

    def terms(self, student: int, losses: Sequence[Loss], step: StepObservations) -> Terms:  # type: ignore[override]
        logits = torch.stack([seen.logits for seen in step.students.values()]).mean(0)
        mean = replace(step.students[student], logits=logits.detach())
        return losses[0](step.students[student], mean, step.target)


class Consensus(Loss):
    summary = "softened logits of the mean of all students"
    scheme = TogetherWithTheMean

    kd_weight: float = option(1.0, ge=0)
    temperature: float = option(3.0, gt=0)

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        return {"consensus": self.kd_weight * kd(student.logits, reference.logits, self.temperature)}
