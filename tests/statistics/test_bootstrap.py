"""Bootstrap intervals, the resamples that they are made of, and the spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from diswot.statistics.bootstrap import Resampling, bootstrap, bootstrap_interval, seed_spread
from diswot.statistics.correlation import (
    kendall,
    partial_spearman,
    spearman,
)
from diswot.statistics.ranked_values import RankedValues, Vector
from tests.statistics.samples import STATISTICS, table


@pytest.mark.parametrize(("samples", "fewest"), [(30, 25), pytest.param(120, 106, marks=pytest.mark.slow)])
def test_bootstrap_intervals_cover(samples: int, fewest: int) -> None:
    """95 % intervals of a mean hold the true mean in about 95 of 100 samples."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(samples):
        low, high = bootstrap_interval(lambda x: float(x.mean()), rng.normal(size=60), rng=rng, repeats=100)
        hits += low < 0 < high
    assert fewest <= hits < samples


def test_seed_spread_is_of_each_seed_alone() -> None:
    x, y, z = table(40)
    scores = np.stack([x, z, -x], 1)
    each = [stats.spearmanr(column, y).statistic for column in (x, z, -x)]
    mean, deviation = seed_spread(spearman, scores, y)
    assert mean == pytest.approx(np.mean(each))
    assert deviation == pytest.approx(np.std(each, ddof=1))
    assert math.isnan(seed_spread(spearman, x[:, None], y)[1])


def groups_of(n: int) -> Vector:
    return np.random.default_rng(2).integers(n // 3, size=n).astype(float)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", [*STATISTICS, "partial"])
def test_resampled_values_are_exactly_those_of_the_plain_function(name: str, grouped: bool) -> None:
    statistic: Callable[..., float] = STATISTICS.get(name, partial_spearman)
    seen = set()

    def both(*drawn: RankedValues) -> float:
        value, plain = statistic(*drawn), statistic(*(np.array(column) for column in drawn))
        assert value == plain or (math.isnan(value) and math.isnan(plain))
        seen.add(value)
        return value

    score, accuracy, size = table(400)
    given = {name: size} if name == "partial" else None
    groups = groups_of(400) if grouped else None
    found = bootstrap(
        {name: both}, {"x": score}, accuracy, rng=np.random.default_rng(0), third_columns=given, resampling=Resampling(groups, 30)
    )
    assert found["x"][name].value == statistic(score, accuracy, *(given or {}).values())
    assert len(seen) > 1


def interval_by_hand(statistic: Callable[..., float], *columns: Vector) -> tuple[float, float]:
    """The 90 % interval from 50 resamples, one after another from one generator."""
    rng, count = np.random.default_rng(5), len(columns[0])
    drawn = [rng.integers(count, size=count) for _ in range(50)]
    low, high = np.quantile([statistic(*(column[rows] for column in columns)) for rows in drawn], [0.05, 0.95])
    return float(low), float(high)


def test_bootstrap_has_the_intervals_of_one_statistic_alone() -> None:
    scores = {"one": table(80)[0], "two": table(80, 1)[0]}
    accuracy, size = table(80)[1:]
    statistics = {"tau": kendall, "partial": partial_spearman}
    found = bootstrap(
        statistics, scores, accuracy, rng=np.random.default_rng(5), third_columns={"partial": size}, resampling=Resampling(None, 50, 0.9)
    )
    for name, score in scores.items():

        def tau(x: Vector, y: Vector) -> float:
            return float(stats.kendalltau(x, y).statistic)

        expected = interval_by_hand(tau, score, accuracy)
        assert (found[name]["tau"].low, found[name]["tau"].high) == pytest.approx(expected)
        expected = interval_by_hand(partial_spearman, score, accuracy, size)
        assert (found[name]["partial"].low, found[name]["partial"].high) == pytest.approx(expected)


def test_an_interval_of_columns_draws_their_rows_together() -> None:
    score, accuracy, _ = table(80)
    low, high = bootstrap_interval(lambda x, y: float(np.abs(2 * x - y).max()), score, 2 * score, rng=np.random.default_rng(0), repeats=20)
    assert (low, high) == (0, 0)
    low, high = bootstrap_interval(spearman, score, accuracy, rng=np.random.default_rng(0), level=0.9)
    assert low < spearman(score, accuracy) < high


def test_groups_are_drawn_whole_and_as_many_as_there_are() -> None:
    labels = np.array(["a", "b", "a", "c", "c", "a"])
    drawn: list[Vector] = []

    def record(score: RankedValues, accuracy: RankedValues) -> float:
        drawn.append(np.asarray(score))
        assert (np.asarray(accuracy) == np.asarray(score) * 10).all()
        return 0.0

    rows = np.arange(6.0)
    bootstrap({"": record}, {"": rows}, rows * 10, rng=np.random.default_rng(0), resampling=Resampling(labels, 300))
    assert drawn[0].tolist() == rows.tolist()
    times = []
    for one in drawn[1:]:
        each = {label: {int((one == row).sum()) for row in np.flatnonzero(labels == label)} for label in "abc"}
        assert all(len(counts) == 1 for counts in each.values())
        times.append([next(iter(counts)) for counts in each.values()])
        assert sum(times[-1]) == 3
    assert np.mean(times, axis=0) == pytest.approx([1, 1, 1], abs=0.2)


def test_groups_of_one_row_are_rows() -> None:
    score, accuracy, _ = table(50)
    plain = bootstrap({"": spearman}, {"": score}, accuracy, rng=np.random.default_rng(0), resampling=Resampling(repeats=20))
    assert plain == bootstrap({"": spearman}, {"": score}, accuracy, rng=np.random.default_rng(0), resampling=Resampling(np.arange(50), 20))


def test_copies_of_rows_need_groups() -> None:
    """Each network written down nine times: rows would say that there are nine times as many."""
    score, accuracy, _ = (np.tile(column, 9) for column in table(60))
    widths = []
    for groups in (None, np.tile(np.arange(60), 9)):
        found = bootstrap({"": spearman}, {"": score}, accuracy, rng=np.random.default_rng(0), resampling=Resampling(groups, 300))[""][""]
        widths.append(found.high - found.low)
    assert widths[1] / widths[0] == pytest.approx(3, rel=0.25)


def test_an_undefined_resample_leaves_no_interval() -> None:
    found = bootstrap({"": spearman}, {"": [1, 2, 3]}, [1, 3, 2], rng=np.random.default_rng(0), resampling=Resampling(repeats=100))[""][""]
    assert found.value == 0.5
    assert math.isnan(found.low)
    assert math.isnan(found.high)
