"""Ranks: how scores are combined, and how far a ranking can be trusted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata, spearmanr

Vector = NDArray[np.float64]


def combine(scores: ArrayLike, how: str = "rank") -> Vector:
    """One score for each candidate from its scores in several proxies.

    Args:
        scores: (n, parts), higher is better.
        how: `rank`: the mean over the parts of the rank among the n, scaled to (0, 1], ties sharing theirs; the parts' scales then do
            not matter. `sum`: the plain sum.

    Returns:
        (n,), higher is better.

    >>> combine([[1.0, 10.0], [2.0, 30.0], [3.0, 20.0]]).round(3).tolist()
    [0.333, 0.833, 0.833]
    """
    table = np.asarray(scores, np.float64)
    if how == "sum":
        return table.sum(1)
    return np.asarray(rankdata(table, axis=0).mean(1) / max(len(table), 1), np.float64)


def partial_spearman(x: ArrayLike, y: ArrayLike, given: ArrayLike) -> float:
    """Spearman correlation of x and y with `given` held fixed: the correlation of what is left of their ranks once the rank of `given`
    has been fitted to each by least squares. NaN where nothing is left: one of the two orders as `given` does.

    >>> size, noise = np.arange(500), np.random.default_rng(0).normal(0, 50, (2, 500))
    >>> round(float(spearmanr(size + noise[0], size + noise[1]).statistic), 1)
    0.9
    >>> abs(partial_spearman(size + noise[0], size + noise[1], size)) < 0.1
    True
    """
    r_xy, r_xz, r_yz = (
        float(spearmanr(np.asarray(a, np.float64), np.asarray(b, np.float64)).statistic) for a, b in ((x, y), (x, given), (y, given))
    )
    left = (1 - r_xz**2) * (1 - r_yz**2)
    return (r_xy - r_xz * r_yz) / left**0.5 if left > 1e-12 else float("nan")


def bootstrap_interval(
    statistic: Callable[..., float], *columns: ArrayLike, rng: np.random.Generator, repeats: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of a statistic of paired columns, resampling the pairs with replacement.

    >>> x = np.arange(30.0)
    >>> low, high = bootstrap_interval(lambda a: float(a.mean()), x, rng=np.random.default_rng(0))
    >>> low < 14.5 < high
    True
    """
    arrays = [np.asarray(column) for column in columns]
    count = len(arrays[0])
    values = []
    for _ in range(repeats):
        rows = rng.integers(count, size=count)
        values.append(statistic(*(array[rows] for array in arrays)))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
