"""Tables of scores and accuracies, and the statistics of them by name."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, permutations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from diswot.statistics.correlation import (
    best_rank_at,
    kendall,
    ndcg,
    pearson,
    precision_at,
    spearman,
    worst_rank_at,
)
from diswot.statistics.ranked_values import Vector

pairs = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=1, max_size=30)
small = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=5)
CORRELATIONS = {"spearman": spearman, "kendall": kendall, "pearson": pearson}
AT_3 = {
    "ndcg": lambda s, a: ndcg(s, a, 3),
    "exponential ndcg": lambda s, a: ndcg(s, a, 3, "exponential"),
    "precision": lambda s, a: precision_at(s, a, 3),
    "best rank": lambda s, a: best_rank_at(s, a, 3),
    "worst rank": lambda s, a: worst_rank_at(s, a, 3),
}
STATISTICS: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {**CORRELATIONS, "whole ndcg": ndcg, **AT_3}


def columns(rows: list[tuple[int, ...]]) -> tuple[Vector, ...]:
    return tuple(np.asarray(rows, np.float64).T)


def table(n: int, seed: int = 0) -> tuple[Vector, Vector, Vector]:
    """A score, an accuracy and a size that go together, each with ties."""
    rng = np.random.default_rng(seed)
    size = rng.lognormal(size=n).round(1)
    return (size + rng.normal(size=n)).round(1), (np.log(size + 0.1) + rng.normal(size=n)).round(1) * 7 + 60, size


def orders(column: Vector) -> list[tuple[int, ...]]:
    """All orders of the rows from the highest value to the lowest."""
    return [order for order in permutations(range(len(column))) if all(column[i] >= column[j] for i, j in pairwise(order))]
