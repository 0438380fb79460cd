"""The result of a ranking: the rank of every row of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diswot.proxies import Ranking, get_proxy
from diswot.scoring.candidates import ScoreResult
from diswot.space import Cost
from diswot.statistics.ranked_values import Vector


@dataclass(frozen=True)
class RankingResult:
    """A ranking under study.

    Attributes:
        name: the name it was asked for by.
        ranking: its parts and how they are combined.
        parts: (n, parts) scores averaged over the seeds.
        complete: (n,) whether a row has all of them; a row that has not ranks below all others.
        fitness: (n,) the combined scores, higher is better.
        by_seed: (n, seeds) the same from each seed's scores alone.
        reason: why the first of the rows that are not complete is not; empty where all are.
        milliseconds: median time for one network and seed; 0 for what is only counted.
    """

    name: str
    ranking: Ranking
    parts: Vector
    complete: NDArray[np.bool_]
    fitness: Vector
    by_seed: Vector
    reason: str
    milliseconds: float

    @property
    def failed(self) -> int:
        """The number of rows that it has no score for."""
        return int((~self.complete).sum())


def rank_rows(name: str, ranking: Ranking, results: Sequence[ScoreResult], costs: Sequence[Cost], milliseconds: float) -> RankingResult:
    """Rank all rows.

    Args:
        name: the name that the ranking was asked for by.
        ranking: its parts, and how they are combined.
        results: (n,) the outcome for the function that each row's network computes: what is measured.
        costs: (n,) the cost of each row's own network: what is counted.
        milliseconds: time that the ranking takes for one network and seed.
    """
    seeds = max((len(values) for result in results for values in result.scores.values()), default=1)
    parts = np.stack([_part(part, results, costs, seeds) for part in ranking.parts], 2)  # (n, seeds, parts)
    complete = np.asarray(np.isfinite(parts).all((1, 2)), np.bool_)
    means = _worst_for_failed(parts.mean(1))
    fitness = _rank_last(ranking.fitness(means), ~complete)
    by_seed = np.stack([_rank_last(ranking.fitness(_worst_for_failed(parts[:, seed])), ~complete) for seed in range(seeds)], 1)
    reasons = (result.failed[part] for result in results for part in ranking.parts if part in result.failed)
    return RankingResult(name, ranking, means, complete, fitness, by_seed, next(reasons, ""), milliseconds)


def _part(name: str, results: Sequence[ScoreResult], costs: Sequence[Cost], seeds: int) -> Vector:
    """Return the scores (n, seeds) of a proxy, NaN for networks that it has no score for."""
    proxy = get_proxy(name)
    if not proxy.runs_network:
        return np.array([[float(proxy.score(None, None, cost))] * seeds for cost in costs])  # type: ignore[arg-type]  # it needs neither
    return np.array([result.scores.get(name, [float("nan")] * seeds) for result in results])


def _rank_last(fitness: Vector, failed: NDArray[np.bool_]) -> Vector:
    """Return the fitness (n,), with the `failed` just below all others, whatever their other parts say."""
    if not failed.any() or failed.all():
        return fitness
    lowest = fitness[~failed].min()
    return np.where(failed, lowest - max(abs(float(lowest)), 1.0) * 1e-3, fitness)


def _worst_for_failed(scores: Vector) -> Vector:
    """Return the scores (n, parts), with a value just below all others where there is none."""
    filled = scores.copy()
    for column in filled.T:
        missing = np.isnan(column)
        if missing.any():
            known = column[~missing]
            column[missing] = known.min() - max(float(np.ptp(known)), 1.0) * 1e-3 if len(known) else 0.0
    return filled
