"""Statistics of how well a score orders networks by their accuracy.

The functions of a score and an accuracy take (n,) arrays, of which higher values are better. They return NaN if any value is NaN and,
unless the docstring says otherwise, if all values of one array are equal. Statistics of ranks accept infinite values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import kendalltau

from diswot.statistics.ranked_values import RankedValues, Vector

Gain = Literal["linear", "exponential"]
_NAN = float("nan")


def spearman(score: ArrayLike, accuracy: ArrayLike) -> float:
    """Return Spearman's rank correlation, in [-1, 1]; ties share their mean rank.

    >>> spearman([1, 2, 3, 4], [10, 30, 20, 40])
    0.8
    """
    x, y = RankedValues.of(score), RankedValues.of(accuracy)
    if not (x.can_be_ranked and y.can_be_ranked):
        return _NAN
    return float((x.ranks @ y.ranks) / np.sqrt((x.ranks @ x.ranks) * (y.ranks @ y.ranks)))


def kendall(score: ArrayLike, accuracy: ArrayLike) -> float:
    """Return Kendall's tau-b, in [-1, 1].

    It is the number of pairs in the same order minus that of pairs in the opposite order, divided by the square root of the product of
    the number of pairs that are not tied in the score and the number of pairs that are not tied in the accuracy.

    >>> round(kendall([1, 2, 3, 4], [10, 30, 20, 40]), 6)
    0.666667
    """
    x, y = RankedValues.of(score), RankedValues.of(accuracy)
    return float(kendalltau(x.order_codes, y.order_codes).statistic) if x.can_be_ranked and y.can_be_ranked else _NAN


def pearson(score: ArrayLike, accuracy: ArrayLike) -> float:
    """Return Pearson's linear correlation, in [-1, 1], or NaN if any value is infinite.

    >>> round(pearson([1, 2, 3], [1, 2, 4]), 6)
    0.981981
    """
    x, y = RankedValues.of(score), RankedValues.of(accuracy)
    if not (x.can_be_ranked and y.can_be_ranked):
        return _NAN
    return float(np.clip((x.centred @ y.centred) / np.sqrt((x.centred @ x.centred) * (y.centred @ y.centred)), -1, 1))


def partial_spearman(x: ArrayLike, y: ArrayLike, given: ArrayLike) -> float:
    """Return Spearman's correlation of x and y with `given` held fixed, in [-1, 1].

    It is the correlation of the residuals of their ranks, after a linear least-squares fit of each to the ranks of `given`. It is NaN if
    x or y orders the rows exactly as `given` does, or exactly the other way round, since no residuals remain then.

    >>> size, noise = np.arange(500), np.random.default_rng(0).normal(0, 50, (2, 500))
    >>> round(spearman(size + noise[0], size + noise[1]), 1)
    0.9
    >>> abs(partial_spearman(size + noise[0], size + noise[1], size)) < 0.1
    True
    """
    a, b, c = RankedValues.of(x), RankedValues.of(y), RankedValues.of(given)
    r_xy, r_xz, r_yz = spearman(a, b), spearman(a, c), spearman(b, c)
    unexplained = (1 - r_xz**2) * (1 - r_yz**2)
    return (r_xy - r_xz * r_yz) / unexplained**0.5 if unexplained > 1e-12 else _NAN


def ndcg(score: ArrayLike, accuracy: ArrayLike, k: int | None = None, gain: Gain = "linear") -> float:
    """Return the normalised discounted cumulative gain (NDCG) of the k rows with the highest scores, in [0, 1].

    It is the sum of gain / log2(1 + position) over the first k rows in the order of the score, divided by the same sum in the order of the
    accuracy. Rows with equal scores each count with their mean gain, which is the mean over all orders of these rows, as in
    scikit-learn's `ndcg_score`. So the statistic is defined for a constant score, too.

    Args:
        score: (n,) scores.
        accuracy: (n,) accuracies.
        k: number of rows that count. By default, or if there are fewer rows, all count.
        gain: how a gain follows from an accuracy. `linear`: the accuracy is scaled to [0, 1] between the lowest and the highest of all
            rows, as in the code of Mills et al., "GENNAPE: Towards Generalized Neural Architecture Performance Estimators", AAAI 2023.
            The result is near 1 for any order of a table in which most networks are good. `exponential`: 2^r - 1, where r is the accuracy
            scaled to [0, 20] between its 20 % quantile, below which r is 0, and the highest, as in the code of Zhang et al., "Learning
            to Rank Ace Neural Architectures via Normalized Discounted Cumulative Gain", arXiv 2108.03001, which introduced the metric to
            architecture search.

    Returns:
        The NDCG, or NaN if k is below 1 or all gains are 0.

    >>> ndcg([4, 3, 2, 1], [90, 80, 70, 10])
    1.0
    >>> round(ndcg([1, 2, 3, 4], [90, 80, 70, 10]), 3), round(ndcg([1, 2, 3, 4], [90, 80, 70, 10], gain="exponential"), 3)
    (0.696, 0.441)
    """
    x, y = RankedValues.of(score), RankedValues.of(accuracy)
    places = len(y) if k is None else min(k, len(y))
    if x.has_nan or not y.can_be_ranked or places < 1:
        return _NAN
    lowest = y.values.min() if gain == "linear" else np.quantile(y.values, 0.2)
    spread = y.values.max() - lowest
    if not spread > 0:
        return _NAN
    scaled = np.clip((y.values - lowest) / spread, 0, 1)
    gains = scaled if gain == "linear" else np.exp2(20 * scaled) - 1
    return min(1.0, _discounted(x, gains, places) / _discounted(y, gains, places))


def _discounted(order: RankedValues, gains: Vector, k: int) -> float:
    # Unused codes are left out, since their zeros could change how the sum is rounded.
    used = (order.counts > 0) & (order.num_above < k)
    mean = np.bincount(order.order_codes, gains)[used] / order.counts[used]
    discounts, first = _discounts(k), order.num_above[used]
    return float((mean * (discounts[np.minimum(first + order.counts[used], k)] - discounts[first])).sum())


@lru_cache(maxsize=8)
def _discounts(k: int) -> Vector:
    """Return the sums of the discounts of the first 0, 1, ..., k positions, as a (k + 1,) array."""
    return np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2.0, k + 2)))])


def precision_at(score: ArrayLike, accuracy: ArrayLike, k: int) -> float:
    """Return the share of the k rows with the highest scores that are among the k rows with the highest accuracies, in [0, 1].

    If it depends on ties which rows are among the k, the result is the mean over all ways to break them, for the score and for the
    accuracy. So the statistic is defined for constant values, too, and has then the expected value of random ones, k / n. With fewer
    than k rows all count. The result is NaN if k is below 1.

    >>> precision_at([4, 3, 2, 1], [90, 70, 80, 10], 2), precision_at([1, 1, 1, 1], [90, 70, 80, 10], 2)
    (0.5, 0.5)
    """
    x, y = RankedValues.of(score), RankedValues.of(accuracy)
    places = min(k, len(x))
    if x.has_nan or y.has_nan or places < 1:
        return _NAN
    return float(_chance_of_top(x, places) @ _chance_of_top(y, places) / places)


def _chance_of_top(column: RankedValues, k: int) -> Vector:
    """Return the (n,) probabilities that each row is among the k highest, if ties are broken at random."""
    chance = np.clip((k - column.num_above) / np.maximum(column.counts, 1), 0, 1)
    return np.asarray(chance[column.order_codes], np.float64)


def best_rank_at(score: ArrayLike, accuracy: ArrayLike, k: int) -> float:
    """Return BR@K, the best rank by accuracy among the k rows with the highest scores, divided by the number of rows.

    The source is Ning et al., "Evaluating Efficient Performance Estimators of Neural Architectures", NeurIPS 2021. Rank 1 is the highest
    accuracy, and equal accuracies share the best of their ranks. If it depends on equal scores which rows are among the k, the result is
    the mean over all ways to break the tie, so that the order of the rows does not matter. With fewer than k rows all count.

    Returns:
        A value in (0, 1], of which lower is better, or NaN if k is below 1.

    >>> best_rank_at([4, 3, 2, 1], [70, 80, 10, 90], 2), worst_rank_at([4, 3, 2, 1], [70, 80, 10, 90], 2)
    (0.5, 0.75)
    >>> best_rank_at([2, 1, 1], [70, 90, 80], 2)  # 1 / 3 or 2 / 3
    0.5
    """
    return _rank_at(score, accuracy, k, np.minimum)


def worst_rank_at(score: ArrayLike, accuracy: ArrayLike, k: int) -> float:
    """Return WR@K, the worst rank by accuracy among the k rows with the highest scores, otherwise as `best_rank_at`."""
    return _rank_at(score, accuracy, k, np.maximum)


def _rank_at(score: ArrayLike, accuracy: ArrayLike, k: int, extreme: np.ufunc) -> float:
    """Return the expected minimum or maximum of the relative ranks by accuracy of the k rows with the highest scores."""
    x, y = RankedValues.of(score), RankedValues.of(accuracy)
    if k < 1 or not (x.can_be_ranked and y.can_be_ranked):
        return _NAN
    ranks = (1 + y.num_above[y.order_codes]) / len(y)
    before = x.num_above[x.order_codes]
    certain = before + x.counts[x.order_codes] <= k
    tied = np.sort(ranks[(before < k) & ~certain])  # only some of these rows are among the k
    certain_extreme = [extreme.reduce(ranks[certain])] if certain.any() else []
    if not len(tied):
        return float(certain_extreme[0])
    tied = tied if extreme is np.minimum else tied[::-1]
    num_drawn, index = k - int(certain.sum()), np.arange(1, len(tied))
    # The chance that the i-th of the tied rows is the extreme of those drawn follows from the chance of the row before it.
    remaining = len(tied) - index
    chance = np.cumprod([num_drawn / len(tied), *((remaining - num_drawn + 1) / remaining)])
    return float(chance @ (extreme(tied, certain_extreme[0]) if certain_extreme else tied))


@dataclass(frozen=True)
class SizeBand:
    """A group of networks of about the same size.

    Attributes:
        low, high: smallest and largest size in the group.
        count: number of networks in the group.
    """

    low: float
    high: float
    count: int

    def spearman(self, score: ArrayLike, accuracy: ArrayLike, size: ArrayLike) -> float:
        """Return Spearman's correlation among the rows whose size is within the band.

        >>> SizeBand(10, 20, 3).spearman([1, 3, 2, 0], [1, 2, 3, 4], [10, 15, 20, 30])
        0.5
        """
        sizes = np.asarray(size, np.float64)
        rows = np.flatnonzero((sizes >= self.low) & (sizes <= self.high))
        return spearman(RankedValues.of(score).take(rows), RankedValues.of(accuracy).take(rows))


def size_bands(size: ArrayLike, bands: int = 10) -> list[SizeBand]:
    """Divide networks into groups of about the same size.

    Args:
        size: (n,) sizes, for example FLOPs.
        bands: number of groups, which have about the same number of rows. Rows of equal size stay together, in the group in which the
            middle one of them falls. So groups may be unequally filled, and there may be fewer if many rows have the same size.

    Returns:
        The groups, from the smallest sizes to the largest.

    >>> size_bands([10, 10, 11, 20, 21, 22], bands=2)
    [SizeBand(low=10.0, high=11.0, count=3), SizeBand(low=20.0, high=22.0, count=3)]
    """
    sizes = RankedValues.of(size)
    middle = 2 * (len(sizes) - sizes.num_above) - sizes.counts  # twice the number of rows before the middle one of equal size
    band = (bands * middle // max(2 * len(sizes), 1))[sizes.order_codes]
    groups = [sizes.values[band == number] for number in np.unique(band)]
    return [SizeBand(float(group.min()), float(group.max()), len(group)) for group in groups]


def regret(score: ArrayLike, accuracy: ArrayLike, size: ArrayLike, budgets: ArrayLike) -> Vector:
    """Return the accuracy lost by choosing networks by the score: the best accuracy minus that of the row with the highest score.

    Args:
        score: (n,) scores.
        accuracy: (n,) accuracies.
        size: (n,) sizes, for example FLOPs.
        budgets: (m,) limits of the size. For each, only the rows whose size does not exceed it are considered.

    Returns:
        (m,) regrets, in the unit of the accuracy and never below 0. If several rows share the highest score, it is the mean over them. A
        regret is NaN if no row is within the budget or if a score there is NaN.

    >>> regret([1, 3, 2], [70, 80, 90], [10, 20, 30], [5, 10, 20, 30]).tolist()
    [nan, 0.0, 0.0, 10.0]
    """
    s, a, z = (np.asarray(column, np.float64) for column in (score, accuracy, size))
    regrets = []
    for budget in np.atleast_1d(np.asarray(budgets, np.float64)):
        accuracies, scores = a[z <= budget], s[z <= budget]
        defined = len(accuracies) > 0 and not np.isnan(scores).any()
        # The differences are averaged and not the accuracies, since the mean of equal accuracies can differ from them in the last bit.
        regrets.append((accuracies.max() - accuracies[scores == scores.max()]).mean() if defined else _NAN)
    return np.asarray(regrets, np.float64)


def mean_regret(score: ArrayLike, accuracy: ArrayLike, size: ArrayLike, budgets: ArrayLike) -> float:
    """Return the mean of `regret` over the budgets.

    >>> mean_regret([1, 3, 2], [70, 80, 90], [10, 20, 30], [20, 30])
    5.0
    """
    return float(regret(score, accuracy, size, budgets).mean())


def random_regret(accuracy: ArrayLike, size: ArrayLike, budgets: ArrayLike) -> Vector:
    """Return the expected `regret` of a random choice: the best minus the mean accuracy within each budget.

    >>> random_regret([70, 80, 90], [10, 20, 30], [5, 10, 30]).tolist()
    [nan, 0.0, 10.0]
    """
    values = np.asarray(accuracy, np.float64)
    return regret(np.zeros_like(values), values, size, budgets)


def budgets_between(size: ArrayLike, count: int = 10) -> Vector:
    """Return (count,) budgets that admit 1 / count, 2 / count, ... of the distinct sizes; the last one is the largest size.

    >>> budgets_between([10, 10, 10, 20, 30, 40], 2).tolist()
    [20.0, 40.0]
    """
    distinct = np.unique(np.asarray(size, np.float64))
    return distinct[-(-len(distinct) * np.arange(1, count + 1) // count) - 1]
