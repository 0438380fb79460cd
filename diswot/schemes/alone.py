"""Students that learn from the labels alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from diswot.config.training import DistillConfig
from diswot.errors import ConfigError
from diswot.schemes.base import DistillationLoss, Scheme

T = TypeVar("T")


def check_ce_weight(loss: DistillationLoss) -> None:
    """Refuse a loss that leaves steps without anything to learn from.

    Raises:
        ConfigError: the cross-entropy has no weight.
    """
    if not loss.ce_weight:
        raise ConfigError(f"loss {loss.label}: with ce_weight 0 there are steps without anything to learn from; more than 0 is needed")


class Alone(Scheme):
    """Students learn from nothing but the labels, as a teacher or a baseline is trained."""

    reference_name = "reference"

    @classmethod
    def check(cls, config: DistillConfig, loss: DistillationLoss, num_students: int) -> None:
        super().check(config, loss, num_students)
        check_ce_weight(loss)

    def references(self, student: int, students: Mapping[int, T], teacher: T | None) -> list[T | None]:
        return [None]
