"""The contract of a training scheme."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from diswot.config.training import DistillConfig
from diswot.errors import ConfigError
from diswot.observe import Observation

T = TypeVar("T")
Terms = dict[str, Tensor]
"""The terms of a loss by name, each a scalar, its weight multiplied in."""


class DistillationLoss(Protocol):
    """The part of a loss that a scheme knows; see `diswot.losses.Loss`."""

    ce_weight: float
    needs: frozenset[str]

    @property
    def label(self) -> str: ...

    @property
    def uses_labels(self) -> bool: ...

    def plain_supervised(self, student: Observation, target: Tensor) -> Terms: ...

    def __call__(self, student: Observation, reference: Observation | None, target: Tensor) -> Terms: ...


@dataclass(frozen=True)
class StepObservations:
    """The observations of one training step, which the losses compare.

    Attributes:
        students: by the number of the student, its observation of the step's B images; of those that are trained in one backward pass.
        teacher: the teacher's observation of the same images; None without a teacher, and once it no longer teaches.
        target: (B,) classes, or (B, N) shares of classes where images are mixed.
        repeated: how many of the first images were the last ones of the step before (with `repeats_half_batch`).
    """

    students: Mapping[int, Observation]
    teacher: Observation | None
    target: Tensor
    repeated: int = 0


class Scheme(ABC):
    """Base class of the training schemes: what students learn from.

    A loss names its scheme in its class attribute `scheme`; one instance serves one training.

    To write one, subclass it and define `references`; the rest has defaults. It is used in this order:

    1. `check`, before anything is loaded;
    2. `complete_students` and `init_seed`, when the students are built, and `references` on observations of black images, from which the
       losses make their adapters;
    3. `groups` once, then in every epoch `begin_epoch`, and in every step `terms` for each student, which calls `references` again.

    Class attributes:
        reference_name: what an error message calls the other side: teacher, peer, ...
        uses_teacher: whether a teacher is loaded, or trained, before the students.
        independent_students: whether every student ends as if it had been trained alone, so that students can be compared.
        repeats_half_batch: whether the first half of every batch is to be the second half of the batch before it.
    """

    reference_name: ClassVar[str]
    uses_teacher: ClassVar[bool] = False
    independent_students: ClassVar[bool] = True
    repeats_half_batch: ClassVar[bool] = False

    @classmethod
    def check(cls, config: DistillConfig, loss: DistillationLoss, num_students: int) -> None:
        """Refuse options that the scheme cannot be used with. Nothing has been loaded yet.

        Raises:
            ConfigError: names the option and the remedy.
        """
        if loss.uses_labels and config.unlabelled is not None:
            raise ConfigError(f"--unlabelled: the loss {loss.label} looks at labels; use one that does not, as ssld")
        if cls.uses_teacher:
            return
        if config.assistants:
            raise ConfigError(f"--assistants: the loss {loss.label} looks at no teacher; use one that does, as kd")
        if config.distill_fraction < 1:
            fraction = f"--distill-fraction {config.distill_fraction}"
            raise ConfigError(f"{fraction}: it ends what a teacher teaches; {loss.label} looks at none, use kd")

    def complete_students(self, students: Sequence[T]) -> list[T]:
        """The students that are trained, given those that were asked for."""
        return list(students)

    def init_seed(self, seed: int, student: int) -> int:
        """The random seed of a student's initial weights, given the run's seed and the number of the student."""
        return seed

    @abstractmethod
    def references(self, student: int, students: Mapping[int, T], teacher: T | None) -> list[T | None]:
        """Return what a student is compared with: one entry for each of its losses, None for a loss that looks at the labels alone.

        Args:
            student: its number.
            students: by number, the observations of all students that are trained in one backward pass with it, its own included.
            teacher: the teacher's observation, or None.
        """

    def checked_references(self, student: int, students: Mapping[int, T], teacher: T | None) -> list[T | None]:
        """Return what `references` gives, once it is known to be right.

        Raises:
            ConfigError: it is no list, or an empty one; or it holds the teacher, and the scheme does not say that it uses one.
        """
        name, found = type(self).__name__, self.references(student, students, teacher)
        if not isinstance(found, list) or not found:
            raise ConfigError(f"scheme {name}: references must return a list with an entry for each loss (None for the labels alone)")
        if odd := next((type(entry).__name__ for entry in found if not isinstance(entry, type(students[student]) | None)), ""):
            raise ConfigError(f"scheme {name}: references must hold observations, as students[0] is one, or None; it holds {odd}")
        if teacher is not None and not self.uses_teacher and any(entry is teacher for entry in found):
            raise ConfigError(f"scheme {name}: it compares students with the teacher; say uses_teacher = True")
        return found

    def initial_references(self, student: int, students: Mapping[int, T], teacher: T | None) -> list[T | None]:
        """Return what `references` gives of all students, from which the losses of one are made.

        Raises:
            ConfigError: as `checked_references`, whether there is a teacher or not; or in a step, where it sees the students of its group
                alone, it would give another number of entries.
        """
        if teacher is None:
            self.checked_references(student, students, copy.copy(students[student]))  # does it look at one and not say so?
        found = self.checked_references(student, students, teacher)
        group = next(group for group in self.checked_groups(len(students)) if student in group)
        in_step = self.references(student, {number: students[number] for number in group}, teacher)
        if len(in_step) != len(found):
            raise ConfigError(
                f"scheme {type(self).__name__}: references gives {len(found)} entries of all students and {len(in_step)} of those in one "
                f"backward pass, {group}: override groups where students look at one another"
            )
        return found

    def checked_groups(self, num_students: int) -> list[list[int]]:
        """Return what `groups` gives, once it is known to be right.

        Raises:
            ConfigError: it leaves a student out or has one twice; or students that share a backward pass are said to be independent.
        """
        name, found = type(self).__name__, self.groups(num_students)
        try:
            numbers = sorted(number for group in found for number in group)
        except TypeError:
            numbers = []
        if numbers != list(range(num_students)):
            raise ConfigError(
                f"scheme {name}: groups must hold every student once, in lists of numbers, as [[0], [1]]; it gave {found!r:.80}"
            )
        if self.independent_students and any(len(group) > 1 for group in found):
            raise ConfigError(f"scheme {name}: students that share a backward pass are not independent; say independent_students = False")
        return found

    def checked_init_seed(self, seed: int, student: int) -> int:
        """Return what `init_seed` gives.

        Raises:
            ConfigError: it is no whole number.
        """
        found = self.init_seed(seed, student)
        if not isinstance(found, int):
            raise ConfigError(f"scheme {type(self).__name__}: init_seed must return a whole number, not {found!r:.80}")
        return found

    def groups(self, num_students: int) -> list[list[int]]:
        """The numbers of the students that share a backward pass; each by itself unless gradients flow from one to another."""
        return [[student] for student in range(num_students)]

    def begin_epoch(self) -> None:  # noqa: B027 - most schemes have nothing to forget
        """Forget what must not be carried from one epoch to the next, so that a resumed training is the same."""

    def terms(self, student: int, losses: Sequence[DistillationLoss], step: StepObservations) -> Terms:
        """The weighted terms of a student's losses in one step, each a scalar; the mean over its losses where it has several."""
        references = self.checked_references(student, step.students, step.teacher)
        each = [loss(step.students[student], reference, step.target) for loss, reference in zip(losses, references, strict=True)]
        return each[0] if len(each) == 1 else {name: torch.stack([terms[name] for terms in each]).mean() for name in each[0]}
