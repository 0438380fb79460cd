"""Ranks: how scores are combined, how well they order networks by accuracy, and how far such a figure can be trusted.

The statistics of a score and an accuracy take arrays (n,), higher is better in both, and give NaN where they are undefined: a value is
NaN, or (where the docstring does not say otherwise) all are equal. For rank statistics infinite values are values as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau, rankdata

from diswot.errors import ConfigError

Vector = NDArray[np.float64]
Rows = NDArray[np.intp]
Gain = Literal["linear", "exponential"]

COMBINE = ("rank", "log", "sum")
_NAN = float("nan")


def combine(scores: ArrayLike, how: str = "rank", weights: Sequence[float] | None = None) -> Vector:
    """One score for each candidate from its scores in several proxies.

    Args:
        scores: (n, parts), higher is better.
        how: `rank`: the mean over the parts of the rank among the n, scaled to (0, 1], ties sharing theirs; the parts' scales then do
            not matter. `log`: the sum over the parts of the logarithm of that rank, in which a bad rank weighs more than a good one
            (Lee and Ham, "AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search", CVPR 2024). `sum`: the plain sum.
        weights: (parts,), what each part is multiplied by; 1 without.

    Returns:
        (n,), higher is better.

    Raises:
        ConfigError: `how` is none of these.

    >>> combine([[1.0, 10.0], [2.0, 30.0], [3.0, 20.0]]).round(3).tolist()
    [0.333, 0.833, 0.833]
    >>> combine([[1.0, 10.0], [2.0, 30.0], [3.0, 20.0]], "log", weights=[2, 1]).round(3).tolist()
    [-3.296, -0.811, -0.405]
    """
    table = np.asarray(scores, np.float64)
    count = max(len(table), 1)
    scale = 1.0 if weights is None else np.asarray(weights, np.float64)
    if how == "sum":
        return np.asarray((table * scale).sum(1), np.float64)
    ranks = np.asarray(rankdata(table, axis=0), np.float64)
    if how == "rank":
        return np.asarray((ranks * scale).mean(1) / count, np.float64)
    if how == "log":
        return np.asarray((np.log(ranks / count) * scale).sum(1), np.float64)
    raise ConfigError(f"scores cannot be combined by {how!r}: known: {', '.join(COMBINE)}")


@dataclass(frozen=True, eq=False)
class Column:
    """Values that know their order, so that rows drawn from them are ranked by counting, in O(n), and not sorted again.

    The statistics take a column wherever they take an array and give the same number, bit for bit; `np.asarray` gives its values.

    Attributes:
        values: (n,).
        codes: (n,), integers from 0 in the order of the values, equal for equal values; some may be unused.

    >>> drawn = Column.of([0.5, 0.1, 0.9]).take(np.array([2, 2, 0]))
    >>> np.asarray(drawn).tolist(), drawn.codes.tolist(), drawn.ranks.tolist()
    ([0.9, 0.9, 0.5], [2, 2, 1], [1.0, 1.0, -2.0])
    """

    values: Vector
    codes: Rows

    @classmethod
    def of(cls, values: ArrayLike) -> Column:
        if isinstance(values, Column):
            return values
        array = np.asarray(values, np.float64)
        return cls(array, np.unique(array, return_inverse=True)[1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.values, dtype) if copy else np.asarray(self.values, dtype)  # numpy 1 knows no copy=None

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Rows) -> Column:
        return Column(self.values[rows], self.codes[rows])

    @cached_property
    def missing(self) -> bool:
        """Whether a value is NaN."""
        return bool(np.isnan(self.values).any())

    @cached_property
    def counts(self) -> Rows:
        """(codes,): how many rows have each code."""
        return np.bincount(self.codes)

    @cached_property
    def above(self) -> Rows:
        """(codes,): how many rows have a higher code."""
        return len(self) - np.cumsum(self.counts)

    @cached_property
    def varies(self) -> bool:
        """Whether there is an order: no value is NaN and two differ."""
        return not self.missing and int(np.count_nonzero(self.counts)) > 1

    @cached_property
    def ranks(self) -> Vector:
        """(n,): how many rows are lower less how many are higher, which is twice the rank (ties share their mean) less its mean.

        Integers, so that sums of their products are exact in any order.
        """
        return (len(self) - self.counts - 2 * self.above)[self.codes].astype(np.float64)

    @cached_property
    def centred(self) -> Vector:
        """(n,): the values less their mean, divided by the largest magnitude so that no square overflows."""
        with np.errstate(invalid="ignore", over="ignore"):
            centred = self.values - self.values.mean()
            return np.asarray(centred / np.abs(centred).max(), np.float64)


def spearman(score: ArrayLike, accuracy: ArrayLike) -> float:
    """Spearman's rank correlation, ties sharing their mean rank, in [-1, 1].

    >>> spearman([1, 2, 3, 4], [10, 30, 20, 40])
    0.8
    """
    x, y = Column.of(score), Column.of(accuracy)
    if not (x.varies and y.varies):
        return _NAN
    return float((x.ranks @ y.ranks) / np.sqrt((x.ranks @ x.ranks) * (y.ranks @ y.ranks)))


def kendall(score: ArrayLike, accuracy: ArrayLike) -> float:
    """Kendall's tau-b: pairs in the same order less pairs in the opposite one, over the root of the pairs not tied in the one times
    those not tied in the other, in [-1, 1].

    >>> round(kendall([1, 2, 3, 4], [10, 30, 20, 40]), 6)
    0.666667
    """
    x, y = Column.of(score), Column.of(accuracy)
    return float(kendalltau(x.codes, y.codes).statistic) if x.varies and y.varies else _NAN


def pearson(score: ArrayLike, accuracy: ArrayLike) -> float:
    """Pearson's linear correlation, in [-1, 1]; NaN also where a value is infinite.

    >>> round(pearson([1, 2, 3], [1, 2, 4]), 6)
    0.981981
    """
    x, y = Column.of(score), Column.of(accuracy)
    if not (x.varies and y.varies):
        return _NAN
    return float(np.clip((x.centred @ y.centred) / np.sqrt((x.centred @ x.centred) * (y.centred @ y.centred)), -1, 1))


def partial_spearman(x: ArrayLike, y: ArrayLike, given: ArrayLike) -> float:
    """Spearman correlation of x and y with `given` held fixed: the correlation of what is left of their ranks once the rank of `given`
    has been fitted to each by least squares. NaN where nothing is left: one of the two orders as `given` does.

    >>> size, noise = np.arange(500), np.random.default_rng(0).normal(0, 50, (2, 500))
    >>> round(spearman(size + noise[0], size + noise[1]), 1)
    0.9
    >>> abs(partial_spearman(size + noise[0], size + noise[1], size)) < 0.1
    True
    """
    a, b, c = Column.of(x), Column.of(y), Column.of(given)
    r_xy, r_xz, r_yz = spearman(a, b), spearman(a, c), spearman(b, c)
    left = (1 - r_xz**2) * (1 - r_yz**2)
    return (r_xy - r_xz * r_yz) / left**0.5 if left > 1e-12 else _NAN


def ndcg(score: ArrayLike, accuracy: ArrayLike, k: int | None = None, gain: Gain = "linear") -> float:
    """Normalised discounted cumulative gain of the first k rows in the score's order: the sum of gain / log2(1 + place), over that of
    the best order. Rows with the same score have the mean gain of these, the mean over all ways to order them, as in scikit-learn's
    `ndcg_score`; a constant score is thus not undefined.

    Args:
        k: places that count; all without, or where there are fewer rows.
        gain: `linear`: the accuracy scaled to [0, 1] between the lowest and the highest of the rows, as Mills et al., "GENNAPE:
            Towards Generalized Neural Architecture Performance Estimators", AAAI 2023 (their code). It is near 1 for any order of a
            table in which most networks are good. `exponential`: 2^r - 1 with r the accuracy scaled to [0, 20] between its 20 %
            quantile, below which r is 0, and the highest, as the code of Zhang et al., "Learning to Rank Ace Neural Architectures via
            Normalized Discounted Cumulative Gain", arXiv 2108.03001, which brought the metric to architecture search.

    Returns:
        In [0, 1]. NaN where k is below 1, or where all gains are 0.

    >>> ndcg([4, 3, 2, 1], [90, 80, 70, 10])
    1.0
    >>> round(ndcg([1, 2, 3, 4], [90, 80, 70, 10]), 3), round(ndcg([1, 2, 3, 4], [90, 80, 70, 10], gain="exponential"), 3)
    (0.696, 0.441)
    """
    x, y = Column.of(score), Column.of(accuracy)
    places = len(y) if k is None else min(k, len(y))
    if x.missing or not y.varies or places < 1:
        return _NAN
    lowest = y.values.min() if gain == "linear" else np.quantile(y.values, 0.2)
    spread = y.values.max() - lowest
    if not spread > 0:
        return _NAN
    scaled = np.clip((y.values - lowest) / spread, 0, 1)
    gains = scaled if gain == "linear" else np.exp2(20 * scaled) - 1
    return min(1.0, _discounted(x, gains, places) / _discounted(y, gains, places))


def _discounted(order: Column, gains: Vector, k: int) -> float:
    # Unused codes are left out: a sum with their zeros in between could round otherwise than the sum of a column without them.
    seen = (order.counts > 0) & (order.above < k)
    mean = np.bincount(order.codes, gains)[seen] / order.counts[seen]
    discounts, first = _discounts(k), order.above[seen]
    return float((mean * (discounts[np.minimum(first + order.counts[seen], k)] - discounts[first])).sum())


@lru_cache(maxsize=8)
def _discounts(k: int) -> Vector:
    """(k + 1,): the sum of the discounts of the first 0 to k places."""
    return np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2.0, k + 2)))])


def precision_at(score: ArrayLike, accuracy: ArrayLike, k: int) -> float:
    """Share of the k rows with the highest score that are among the k with the highest accuracy, in [0, 1].

    Ties at either border count by expectation, the mean over all ways to break them in each of the two orders: a constant column is
    thus not undefined, but has what a random one has on average, k / n. With fewer than k rows all count; NaN where k is below 1.

    >>> precision_at([4, 3, 2, 1], [90, 70, 80, 10], 2), precision_at([1, 1, 1, 1], [90, 70, 80, 10], 2)
    (0.5, 0.5)
    """
    x, y = Column.of(score), Column.of(accuracy)
    places = min(k, len(x))
    if x.missing or y.missing or places < 1:
        return _NAN
    return float(_chance_of_top(x, places) @ _chance_of_top(y, places) / places)


def _chance_of_top(column: Column, k: int) -> Vector:
    """(n,): probability of each row to be among the k highest when ties are broken at random."""
    chance = np.clip((k - column.above) / np.maximum(column.counts, 1), 0, 1)
    return np.asarray(chance[column.codes], np.float64)


def best_rank_at(score: ArrayLike, accuracy: ArrayLike, k: int) -> float:
    """BR@K: the best rank by accuracy (1 is the highest) among the k rows with the highest score, divided by the number of rows.

    The source is Ning et al., "Evaluating Efficient Performance Estimators of Neural Architectures", NeurIPS 2021. Equal scores at the
    border count by expectation, the mean over all ways to break the tie, so that the order of the rows does not matter; equal accuracies
    share the best of their ranks. With fewer than k rows all count; NaN where k is below 1.

    Returns:
        In (0, 1], lower is better.

    >>> best_rank_at([4, 3, 2, 1], [70, 80, 10, 90], 2), worst_rank_at([4, 3, 2, 1], [70, 80, 10, 90], 2)
    (0.5, 0.75)
    >>> best_rank_at([2, 1, 1], [70, 90, 80], 2)  # 1 / 3 or 2 / 3
    0.5
    """
    return _rank_at(score, accuracy, k, np.minimum)


def worst_rank_at(score: ArrayLike, accuracy: ArrayLike, k: int) -> float:
    """WR@K: the worst rank by accuracy among the k rows with the highest score, else as `best_rank_at`."""
    return _rank_at(score, accuracy, k, np.maximum)


def _rank_at(score: ArrayLike, accuracy: ArrayLike, k: int, extreme: np.ufunc) -> float:
    """The expected `extreme` of the ranks by accuracy of the k rows with the highest score."""
    x, y = Column.of(score), Column.of(accuracy)
    if k < 1 or not (x.varies and y.varies):
        return _NAN
    ranks = (1 + y.above[y.codes]) / len(y)
    before = x.above[x.codes]
    certain = before + x.counts[x.codes] <= k
    tied = np.sort(ranks[(before < k) & ~certain])  # some of these are among the k
    known = [extreme.reduce(ranks[certain])] if certain.any() else []
    if not len(tied):
        return float(known[0])
    tied = tied if extreme is np.minimum else tied[::-1]
    drawn, place = k - int(certain.sum()), np.arange(1, len(tied))
    # The chance that the i-th is the extreme of those drawn; each follows from the one before it.
    left = len(tied) - place
    chance = np.cumprod([drawn / len(tied), *((left - drawn + 1) / left)])
    return float(chance @ (extreme(tied, known[0]) if known else tied))


@dataclass(frozen=True)
class Band:
    """Networks of about the same size: the `count` whose size is in [low, high]."""

    low: float
    high: float
    count: int

    def spearman(self, score: ArrayLike, accuracy: ArrayLike, size: ArrayLike) -> float:
        """Spearman's correlation among the rows of the band alone.

        >>> Band(10, 20, 3).spearman([1, 3, 2, 0], [1, 2, 3, 4], [10, 15, 20, 30])
        0.5
        """
        sizes = np.asarray(size, np.float64)
        rows = np.flatnonzero((sizes >= self.low) & (sizes <= self.high))
        return spearman(Column.of(score).take(rows), Column.of(accuracy).take(rows))


def size_bands(size: ArrayLike, bands: int = 10) -> list[Band]:
    """Networks in bands of about the same size.

    Args:
        size: (n,), say FLOPs.
        bands: into how many equally filled groups the rows are cut by size. Equal sizes stay together, in the band where the middle
            of them falls: bands may be unequal then, and where a size has many rows there are fewer.

    Returns:
        From the smallest sizes to the largest.

    >>> size_bands([10, 10, 11, 20, 21, 22], bands=2)
    [Band(low=10.0, high=11.0, count=3), Band(low=20.0, high=22.0, count=3)]
    """
    sizes = Column.of(size)
    middle = 2 * (len(sizes) - sizes.above) - sizes.counts  # twice the number of rows before the middle of the equal sizes
    band = (bands * middle // max(2 * len(sizes), 1))[sizes.codes]
    members = [sizes.values[band == one] for one in np.unique(band)]
    return [Band(float(within.min()), float(within.max()), len(within)) for within in members]


def regret(score: ArrayLike, accuracy: ArrayLike, size: ArrayLike, budgets: ArrayLike) -> Vector:
    """What choosing by the score costs: the best accuracy within each budget less that of the row with the highest score within it.

    Args:
        size: (n,), what the budgets limit.
        budgets: (m,); a row is within one if its size is not above it.

    Returns:
        (m,), in the accuracy's unit and not below 0; the mean over the rows where several share the highest score, NaN where no row is
        within the budget or a score there is NaN.

    >>> regret([1, 3, 2], [70, 80, 90], [10, 20, 30], [5, 10, 20, 30]).tolist()
    [nan, 0.0, 0.0, 10.0]
    """
    s, a, z = (np.asarray(column, np.float64) for column in (score, accuracy, size))
    lost = []
    for budget in np.atleast_1d(np.asarray(budgets, np.float64)):
        within, scores = a[z <= budget], s[z <= budget]
        known = len(within) > 0 and not np.isnan(scores).any()
        # The mean of differences, for the mean of equal accuracies can differ from them in the last bit.
        lost.append((within.max() - within[scores == scores.max()]).mean() if known else _NAN)
    return np.asarray(lost, np.float64)


def mean_regret(score: ArrayLike, accuracy: ArrayLike, size: ArrayLike, budgets: ArrayLike) -> float:
    """The mean of `regret` over the budgets.

    >>> mean_regret([1, 3, 2], [70, 80, 90], [10, 20, 30], [20, 30])
    5.0
    """
    return float(regret(score, accuracy, size, budgets).mean())


def random_regret(accuracy: ArrayLike, size: ArrayLike, budgets: ArrayLike) -> Vector:
    """The `regret` of choosing at random: the best less the mean accuracy within each budget.

    >>> random_regret([70, 80, 90], [10, 20, 30], [5, 10, 30]).tolist()
    [nan, 0.0, 10.0]
    """
    values = np.asarray(accuracy, np.float64)
    return regret(np.zeros_like(values), values, size, budgets)


def budgets_between(size: ArrayLike, count: int = 10) -> Vector:
    """(count,): sizes that 1 / count, 2 / count, ... of the distinct sizes do not exceed, the last the largest of all.

    >>> budgets_between([10, 10, 10, 20, 30, 40], 2).tolist()
    [20.0, 40.0]
    """
    distinct = np.unique(np.asarray(size, np.float64))
    return distinct[-(-len(distinct) * np.arange(1, count + 1) // count) - 1]


def seed_spread(statistic: Callable[[ArrayLike, ArrayLike], float], scores: ArrayLike, accuracy: ArrayLike) -> tuple[float, float]:
    """Mean and standard deviation of a statistic over the seeds of a score, each seed taken alone.

    Args:
        scores: (n, seeds).

    Returns:
        The mean, and the deviation of a sample (over seeds - 1), NaN with one seed.

    >>> mean, deviation = seed_spread(spearman, [[1, 3], [2, 2], [3, 1]], [1, 2, 3])
    >>> round(mean, 6), round(deviation, 6)
    (0.0, 1.414214)
    """
    values = [statistic(column, accuracy) for column in np.asarray(scores, np.float64).T]
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else _NAN


@dataclass(frozen=True)
class Estimate:
    """A figure, the ends of its interval (NaN without one), and its standard deviation over seeds (None or NaN without)."""

    value: float
    low: float = _NAN
    high: float = _NAN
    spread: float | None = None


def bootstrap(
    statistics: Mapping[str, Callable[..., float]],
    scores: Mapping[str, ArrayLike],
    accuracy: ArrayLike,
    *,
    rng: np.random.Generator,
    given: Mapping[str, ArrayLike] | None = None,
    groups: ArrayLike | None = None,
    repeats: int = 1000,
    level: float = 0.95,
) -> dict[str, dict[str, Estimate]]:
    """Percentile intervals of several statistics of several scores, all from the same resampled rows.

    Args:
        statistics: by name, functions of (score, accuracy) as those above. They are called with a `Column` each, which for their own
            arithmetic they turn into an array first.
        scores: by name, (n,) each.
        given: by the statistic's name, a third column (n,) that this statistic is called with.
        groups: (n,) labels of any kind: whole groups are drawn, as many as there are, where rows of one group are not independent,
            such as several encodings of one network. Without, rows are drawn.

    Returns:
        By score, by statistic. An interval is NaN where the statistic is undefined for one of the resamples.

    >>> x = np.arange(50.0)
    >>> noisy = x + np.random.default_rng(0).normal(0, 10, 50)
    >>> statistics = {"tau": kendall, "top 5": lambda score, accuracy: precision_at(score, accuracy, 5), "partial": partial_spearman}
    >>> table = bootstrap(statistics, {"noisy": noisy}, x, given={"partial": x**2 % 7}, rng=np.random.default_rng(0), repeats=100)
    >>> tau = table["noisy"]["tau"]
    >>> tau.value == kendall(noisy, x) and tau.low < tau.value < tau.high
    True
    """
    columns = [Column.of(score) for score in scores.values()]
    truth = Column.of(accuracy)
    others = {name: Column.of(column) for name, column in (given or {}).items()}

    def measured(rows: Rows) -> list[list[float]]:
        target, third = truth.take(rows), {name: (column.take(rows),) for name, column in others.items()}
        drawn = (column.take(rows) for column in columns)
        return [[statistic(score, target, *third.get(name, ())) for name, statistic in statistics.items()] for score in drawn]

    values = measured(np.arange(len(truth)))
    resampled = np.array([measured(rows) for rows in _resamples(len(truth), groups, repeats, rng)])
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {
        score: {name: Estimate(values[i][j], float(low[i, j]), float(high[i, j])) for j, name in enumerate(statistics)}
        for i, score in enumerate(scores)
    }


def _resamples(count: int, groups: ArrayLike | None, repeats: int, rng: np.random.Generator) -> Iterator[Rows]:
    """Rows drawn with replacement, or all rows of groups drawn with replacement."""
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
