"""Several losses in one training, each with a student of its own."""

from __future__ import annotations

from collections.abc import Sequence

from diswot.losses.base import Loss
from diswot.schemes import Alone, Scheme, UnderTeacher


def common_scheme(losses: Sequence[Loss]) -> type[Scheme]:
    """The scheme by which losses are trained side by side: that of the first with a teacher, else of the first.

    >>> from diswot.losses import create
    >>> common_scheme([create("none"), create("kd")]).__name__
    'UnderTeacher'
    """
    return next((loss.scheme for loss in losses if loss.scheme.uses_teacher), losses[0].scheme)


def trained_together(losses: Sequence[Loss]) -> bool:
    """Whether losses can share one pass of the images, and one of the teacher, and each student still ends as if it were alone.

    >>> from diswot.losses import create
    >>> [trained_together([create("kd"), create(other)]) for other in ("none", "rkd", "dml", "ofd")]
    [True, True, False, False]
    """
    alike = {(loss.teacher_batch_statistics, loss.reuses_classifier, "preacts" in loss.needs) for loss in losses}
    return len(losses) == 1 or (all(loss.scheme in (UnderTeacher, Alone) for loss in losses) and len(alike) == 1)
