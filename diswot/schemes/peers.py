"""Students that learn from each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from diswot.config.training import DistillConfig
from diswot.errors import ConfigError
from diswot.schemes.base import DistillationLoss, Scheme

T = TypeVar("T")


class Peers(Scheme):
    """Every student learns from all others, by a loss for each of them (Zhang et al., "Deep Mutual Learning", CVPR 2018)."""

    reference_name = "peer"
    independent_students = False

    @classmethod
    def check(cls, config: DistillConfig, loss: DistillationLoss, num_students: int) -> None:
        super().check(config, loss, num_students)
        if num_students == 1 and config.weights is not None:
            raise ConfigError(f"--weights: the peers of {loss.label} would begin as one; name a second network, or leave the weights out")

    def complete_students(self, students: Sequence[T]) -> list[T]:
        """A single student gets a twin with other initial weights."""
        return list(students) * 2 if len(students) == 1 else list(students)

    def init_seed(self, seed: int, student: int) -> int:
        return seed + student

    def references(self, student: int, students: Mapping[int, T], teacher: T | None) -> list[T | None]:
        return [other for number, other in students.items() if number != student]

    def groups(self, num_students: int) -> list[list[int]]:
        return [list(range(num_students))]
