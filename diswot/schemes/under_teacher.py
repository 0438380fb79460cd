"""Students under one teacher: each is trained as if the others were not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from diswot.config.training import DistillConfig
from diswot.errors import ConfigError, TeacherError
from diswot.schemes.base import DistillationLoss, Scheme, StepObservations, Terms

T = TypeVar("T")
SELF = "self"
"""The name of a teacher that is a twin of the student."""


class UnderTeacher(Scheme):
    """Students learn from a frozen teacher, and, once it no longer teaches (`--distill-fraction`), from the labels alone."""

    reference_name = "teacher"
    uses_teacher = True

    @classmethod
    def check(cls, config: DistillConfig, loss: DistillationLoss, num_students: int) -> None:
        super().check(config, loss, num_students)
        if config.teacher_weights == "random":
            remedy = "give --teacher-weights, or leave it out and the teacher is trained first"
            raise TeacherError(f"--teacher-weights random: a random teacher has nothing to teach; {remedy}")
        if config.teacher == SELF and config.teacher_weights is not None:
            raise ConfigError("--teacher self is trained first, from nothing: leave --teacher-weights out")
        if config.teacher_weights is None and config.teacher_norm != "data":
            norm = f"--teacher-norm {config.teacher_norm}"
            raise TeacherError(f"{norm}: a teacher that is trained first sees its images as the student does; leave it out")
        if config.teacher == SELF and num_students > 1:
            raise ConfigError(
                f"--teacher self is a twin of the student, and there are {num_students}: distil them one by one, or name a teacher"
            )
        if config.teacher_classes is not None and config.teacher_weights is None:
            raise ConfigError("--teacher-classes: a teacher that is trained first knows the data's classes: leave it out, or give weights")
        _check_ensemble(config, loss)
        if config.distill_fraction < 1 and config.unlabelled is not None:
            fraction = f"--distill-fraction {config.distill_fraction}"
            raise ConfigError(f"{fraction}: the labels alone are left then, and --unlabelled images have none; leave one out")

    def references(self, student: int, students: Mapping[int, T], teacher: T | None) -> list[T | None]:
        return [teacher]

    def terms(self, student: int, losses: Sequence[DistillationLoss], step: StepObservations) -> Terms:
        if step.teacher is None:  # it no longer teaches: the labels count in full
            return losses[0].plain_supervised(step.students[student], step.target)
        return super().terms(student, losses, step)


def _check_ensemble(config: DistillConfig, loss: DistillationLoss) -> None:
    if len(config.teacher_members) == 1:
        return
    if config.teacher_weights is None:
        raise ConfigError(f"--teacher {config.teacher}: an ensemble is not trained first: give --teacher-weights a.pt+b.pt, or pretrained")
    if unseen := sorted(loss.needs - {"logits"}):
        what = f"an ensemble shows logits alone, {loss.label} looks at {' and '.join(unseen)}"
        raise ConfigError(f"--teacher {config.teacher}: {what}: use a loss of logits, as kd, or one teacher")
