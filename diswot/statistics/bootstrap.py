"""Bootstrap intervals of statistics, and their spread over seeds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from diswot.statistics.ranked_values import RankedValues, Rows

_NAN = float("nan")


def seed_spread(statistic: Callable[[ArrayLike, ArrayLike], float], scores: ArrayLike, accuracy: ArrayLike) -> tuple[float, float]:
    """Return the mean and the standard deviation of a statistic over the seeds of a score.

    The statistic is computed for the scores of each seed alone.

    Args:
        statistic: a function of a score (n,) and an accuracy (n,).
        scores: (n, seeds) scores.
        accuracy: (n,) accuracies.

    Returns:
        The mean and the sample standard deviation (with divisor seeds - 1), which is NaN for a single seed.

    >>> from diswot.statistics.correlation import spearman
    >>> mean, deviation = seed_spread(spearman, [[1, 3], [2, 2], [3, 1]], [1, 2, 3])
    >>> round(mean, 6), round(deviation, 6)
    (0.0, 1.414214)
    """
    values = [statistic(column, accuracy) for column in np.asarray(scores, np.float64).T]
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else _NAN


@dataclass(frozen=True)
class Estimate:
    """An estimate of a statistic.

    Attributes:
        value: value of the statistic for all rows.
        low, high: ends of its bootstrap interval; NaN if there is none.
        spread: its standard deviation over seeds; None or NaN if there is none.
    """

    value: float
    low: float = _NAN
    high: float = _NAN
    spread: float | None = None


@dataclass(frozen=True)
class Resampling:
    """The settings that rows are resampled by.

    Attributes:
        groups: (n,) labels of any kind, for rows that are not independent, such as several encodings of one network. Then whole groups of
            rows with equal labels are drawn, as many as there are. By default, single rows are drawn.
        repeats: number of resamples.
        level: confidence level of the intervals.
    """

    groups: ArrayLike | None = None
    repeats: int = 1000
    level: float = 0.95


def bootstrap(
    statistics: Mapping[str, Callable[..., float]],
    scores: Mapping[str, ArrayLike],
    accuracy: ArrayLike,
    *,
    rng: np.random.Generator,
    third_columns: Mapping[str, ArrayLike] | None = None,
    resampling: Resampling | None = None,
) -> dict[str, dict[str, Estimate]]:
    """Estimate several statistics of several scores, with percentile bootstrap intervals from the same resampled rows.

    Args:
        statistics: the statistics by name, which are functions of a score and an accuracy. They are called with `RankedValues`; those of
            `diswot.statistics.correlation` accept these, others can convert them with `np.asarray`.
        scores: the scores by name, (n,) each.
        accuracy: (n,) accuracies.
        rng: generator of the resamples.
        third_columns: by the name of a statistic, an (n,) array that this statistic is called with as a third argument.
        resampling: how often, and from which groups, rows are drawn.

    Returns:
        The estimates by score and by statistic. An interval is NaN if the statistic is undefined for one of the resamples.

    >>> from diswot.statistics.correlation import kendall, partial_spearman, precision_at
    >>> x = np.arange(50.0)
    >>> noisy = x + np.random.default_rng(0).normal(0, 10, 50)
    >>> statistics = {"tau": kendall, "top 5": lambda score, accuracy: precision_at(score, accuracy, 5), "partial": partial_spearman}
    >>> table = bootstrap(statistics, {"noisy": noisy}, x, third_columns={"partial": x**2 % 7}, rng=np.random.default_rng(0))
    >>> tau = table["noisy"]["tau"]
    >>> tau.value == kendall(noisy, x) and tau.low < tau.value < tau.high
    True
    """
    columns = [RankedValues.of(score) for score in scores.values()]
    truth = RankedValues.of(accuracy)
    thirds = {name: RankedValues.of(column) for name, column in (third_columns or {}).items()}
    how = resampling or Resampling()

    def evaluate(rows: Rows) -> list[list[float]]:
        target, third = truth.take(rows), {name: (column.take(rows),) for name, column in thirds.items()}
        drawn = (column.take(rows) for column in columns)
        return [[statistic(score, target, *third.get(name, ())) for name, statistic in statistics.items()] for score in drawn]

    values = evaluate(np.arange(len(truth)))
    resampled = np.array([evaluate(rows) for rows in _resamples(len(truth), how.groups, how.repeats, rng)])
    low, high = np.quantile(resampled, [(1 - how.level) / 2, (1 + how.level) / 2], axis=0)
    return {
        score: {name: Estimate(values[i][j], float(low[i, j]), float(high[i, j])) for j, name in enumerate(statistics)}
        for i, score in enumerate(scores)
    }


def _resamples(count: int, groups: ArrayLike | None, repeats: int, rng: np.random.Generator) -> Iterator[Rows]:
    """Yield for each repeat the rows of a resample: rows drawn with replacement, or all rows of groups drawn with replacement."""
    if groups is None:
        for _ in range(repeats):
            yield rng.integers(count, size=count)
        return
    labels = np.unique(np.asarray(groups), return_inverse=True)[1]
    order, sizes = np.argsort(labels, kind="stable"), np.bincount(labels)
    starts = np.cumsum(sizes) - sizes
    for _ in range(repeats):
        drawn = rng.integers(len(sizes), size=len(sizes))
        lengths = sizes[drawn]
        shifts = starts[drawn] - (np.cumsum(lengths) - lengths)
        yield order[np.repeat(shifts, lengths) + np.arange(lengths.sum())]


def bootstrap_interval(
    statistic: Callable[..., float], *columns: ArrayLike, rng: np.random.Generator, repeats: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a statistic of one array, or of paired arrays whose rows are drawn together.

    It is that of `scipy.stats.bootstrap`: NaN if the statistic is undefined for one of the resamples.

    Args:
        statistic: a function of as many (n,) arrays as there are columns.
        columns: (n,) arrays.
        rng: generator of the resamples.
        repeats: number of resamples.
        level: confidence level of the interval.

    >>> x = np.arange(30.0)
    >>> low, high = bootstrap_interval(lambda a: float(a.mean()), x, rng=np.random.default_rng(0))
    >>> low < 14.5 < high
    True
    """
    from scipy import stats  # it takes a second, and most verbs need none of it

    generator = "rng" if "rng" in signature(stats.bootstrap).parameters else "random_state"  # its name before scipy 1.15
    options: dict[str, Any] = {"n_resamples": repeats, "confidence_level": level, "method": "percentile", generator: rng}
    arrays = [np.asarray(column) for column in columns]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # it says no more than the NaN
        # batch=1: one resample is in memory at a time
        interval = stats.bootstrap(arrays, statistic, paired=True, vectorized=False, batch=1, **options).confidence_interval
    return float(interval.low), float(interval.high)
