"""The scored networks of a table, and how every ranking ranks them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diswot.architecture import Architecture
from diswot.benchmarks import Benchmark
from diswot.config import StudyConfig
from diswot.space import Cost
from diswot.statistics.ranked_values import Vector
from diswot.studies.ranking_result import RankingResult

BASELINES = ("params", "flops")


@dataclass(frozen=True)
class Study:
    """All that a report needs.

    Attributes:
        config: what was asked for.
        benchmark: the table.
        rows: (n,) the rows under study.
        seeds, batch_size: initialisations that scores are averaged over, and images for each.
        groups: (n,) equal for networks that compute the same function.
        costs: (n,) of each row's own network, for the classes and the image size that scores were computed with.
        rankings: how each ranking, and the two baselines, rank the rows.
        accuracies: for each data set (n,), NaN where the table has none.
    """

    config: StudyConfig
    benchmark: Benchmark
    rows: NDArray[np.int64]
    seeds: int
    batch_size: int
    groups: NDArray[np.int64]
    costs: list[Cost]
    rankings: list[RankingResult]
    accuracies: dict[str, Vector]

    @property
    def archs(self) -> list[Architecture]:
        """The architecture of each row, (n,)."""
        return [self.benchmark.archs[row] for row in self.rows]

    @property
    def measured(self) -> str:
        """The kind of the accuracies, in words."""
        return self.config.accuracy_column or f"{self.config.split} accuracy"

    def size(self, what: str) -> Vector:
        """Return the `params` or the `flops` of each row, (n,)."""
        return np.array([getattr(cost, what) for cost in self.costs], np.float64)
