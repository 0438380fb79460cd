from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations, pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy import stats
from scipy.stats import rankdata

from diswot.errors import ConfigError
from diswot.progress import PlainLines
from diswot.proxies.combine import Vector, combine
from diswot.statistics.bootstrap import Resampling, bootstrap, bootstrap_interval, seed_spread
from diswot.statistics.correlation import (
    SizeBand,
    best_rank_at,
    budgets_between,
    kendall,
    ndcg,
    partial_spearman,
    pearson,
    precision_at,
    random_regret,
    regret,
    size_bands,
    spearman,
    worst_rank_at,
)
from diswot.statistics.ranked_values import RankedValues

tables = st.integers(2, 30).flatmap(lambda n: st.lists(st.tuples(*[st.integers(-9, 9)] * 3), min_size=n, max_size=n))
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


@given(tables)
def test_rank_combination_from_the_definition_with_ties(table: list[tuple[int, ...]]) -> None:
    n = len(table)
    expected = []
    for row in table:
        ranks = [sum(o[c] < row[c] for o in table) + (sum(o[c] == row[c] for o in table) + 1) / 2 for c in range(3)]
        expected.append(sum(ranks) / 3 / n)
    assert combine(table) == pytest.approx(expected)


@given(tables)
def test_rank_combination_forgets_scales(table: list[tuple[int, ...]]) -> None:
    scaled = np.asarray(table, float) * [1e-6, 3, 1e9] + [5, -2, 0]
    assert combine(scaled) == pytest.approx(combine(table))


def test_the_plain_sum_does_not() -> None:
    assert combine([[1.0, 1000.0], [2.0, 900.0]], "sum").argmax() == 0
    assert combine([[1.0, 1000.0], [2.0, 900.0]]).tolist() == [0.75, 0.75]


def test_partial_spearman_is_the_correlation_of_residuals() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=300)
    x, y = z + rng.normal(size=300), z**3 + rng.normal(size=300)
    ranks = [rankdata(v) for v in (x, y, z)]
    design = np.stack([ranks[2], np.ones(300)], 1)
    residuals = [r - design @ np.linalg.lstsq(design, r, rcond=None)[0] for r in ranks[:2]]
    assert partial_spearman(x, y, z) == pytest.approx(np.corrcoef(*residuals)[0, 1], abs=1e-9)


def test_bootstrap_intervals_cover() -> None:
    """95 % intervals of a mean hold the true mean in about 95 of 100 samples."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        low, high = bootstrap_interval(lambda x: float(x.mean()), rng.normal(size=60), rng=rng, repeats=300)
        hits += low < 0 < high
    assert 178 <= hits <= 199


def test_log_combination_from_the_definition() -> None:
    """AZ-NAS, equation 12: the sum over the proxies of log(rank / n)."""
    table = [[1.0, 5.0], [2.0, 5.0], [3.0, 1.0]]
    expected = [math.log(1 / 3) + math.log(2.5 / 3), math.log(2 / 3) + math.log(2.5 / 3), math.log(3 / 3) + math.log(1 / 3)]
    assert combine(table, "log") == pytest.approx(expected)


@given(tables)
def test_log_combination_forgets_monotone_transforms(table: list[tuple[int, ...]]) -> None:
    assert combine(np.exp(np.asarray(table, float)) * [1, 5, 9], "log") == pytest.approx(combine(table, "log"))


@given(tables, st.tuples(*[st.integers(0, 3)] * 3), st.sampled_from(["rank", "log", "sum"]))
def test_a_weight_counts_a_part_several_times(table: list[tuple[int, ...]], weights: tuple[int, ...], how: str) -> None:
    repeated = [combine(np.asarray(table)[:, [i]], how) for i in range(3) for _ in range(weights[i])]
    expected = sum(repeated, np.zeros(len(table))) / (3 if how == "rank" else 1)
    assert combine(table, how, weights) == pytest.approx(expected)


def test_an_unknown_combination_is_refused() -> None:
    with pytest.raises(ConfigError, match="'mean': known: rank, log, sum"):
        combine([[1.0]], "mean")


@given(pairs)
def test_correlations_are_scipys_with_ties(rows: list[tuple[int, int]]) -> None:
    x, y = columns(rows)
    if len(set(x)) > 1 and len(set(y)) > 1:
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
        assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
        assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    else:
        assert all(math.isnan(statistic(x, y)) for statistic in CORRELATIONS.values())


@given(pairs)
def test_kendall_from_the_definition(rows: list[tuple[int, int]]) -> None:
    signs = [(np.sign(a[0] - b[0]), np.sign(a[1] - b[1])) for a, b in combinations(rows, 2)]
    untied = [sum(bool(sign[i]) for sign in signs) for i in range(2)]
    expected = sum(a * b for a, b in signs) / math.sqrt(untied[0] * untied[1]) if all(untied) else math.nan
    assert kendall(*columns(rows)) == pytest.approx(expected, nan_ok=True)


def test_correlations_of_many_rows_are_scipys() -> None:
    x, y, _ = table(5000)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
    assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)


def test_pearson_of_scores_whose_squares_overflow() -> None:
    x, y, _ = table(50)
    assert pearson(x * 1e200, y) == pytest.approx(pearson(x, y), abs=1e-12)


@pytest.mark.parametrize("name", STATISTICS)
def test_nan_in_nan_out(name: str) -> None:
    x, y, _ = table(10)
    bad = np.where(np.arange(10) == 4, np.nan, x)
    assert math.isnan(STATISTICS[name](bad, y))
    assert math.isnan(STATISTICS[name](x, bad))
    assert math.isnan(partial_spearman(x, y, bad))


@pytest.mark.parametrize("name", STATISTICS)
def test_of_constants_only_expectations_are_defined(name: str) -> None:
    x, y, _ = table(10)
    same = np.full(10, 0.1)
    assert math.isnan(STATISTICS[name](same, y)) == (name not in ("precision", "ndcg", "whole ndcg", "exponential ndcg"))
    assert math.isnan(STATISTICS[name](x, same)) == (name != "precision")
    assert math.isnan(partial_spearman(x, y, same))


@pytest.mark.parametrize("name", ["spearman", "kendall", "precision"])
def test_infinite_scores_rank(name: str) -> None:
    x, y, _ = table(20)
    assert STATISTICS[name](np.where(x == x.max(), np.inf, x), y) == STATISTICS[name](x, y)
    assert math.isnan(pearson(np.where(x == x.max(), np.inf, x), y))


@pytest.mark.parametrize("name", AT_3)
def test_no_place_is_undefined_and_too_many_are_all(name: str) -> None:
    x, y, _ = table(3)
    at = {"ndcg": ndcg, "exponential ndcg": lambda s, a, k: ndcg(s, a, k, "exponential")}
    statistic = at.get(name) or {"precision": precision_at, "best rank": best_rank_at, "worst rank": worst_rank_at}[name]
    assert math.isnan(statistic(x, y, 0))
    assert statistic(x, y, 3) == statistic(x, y, 9)


@given(small, st.integers(1, 6), st.sampled_from(["linear", "exponential"]))
def test_ndcg_is_the_mean_over_all_orders_of_the_ties(rows: list[tuple[int, int]], k: int, gain: str) -> None:
    score, accuracy = columns(rows)
    lowest = min(accuracy) if gain == "linear" else np.quantile(accuracy, 0.2)
    if max(accuracy) == lowest:
        assert math.isnan(ndcg(score, accuracy, k, gain))
        return

    def gained(i: int) -> float:
        scaled = min(max((accuracy[i] - lowest) / (max(accuracy) - lowest), 0), 1)
        return float(scaled) if gain == "linear" else float(2 ** (20 * scaled) - 1)

    def discounted(order: tuple[int, ...]) -> float:
        return sum(gained(i) / math.log2(place + 1) for place, i in enumerate(order[:k], 1))

    mean = float(np.mean([discounted(order) for order in orders(score)]))
    assert ndcg(score, accuracy, k, gain) == pytest.approx(mean / discounted(orders(accuracy)[0]))


def test_ndcg_of_the_accuracy_itself_is_one() -> None:
    _, y, _ = table(300)
    assert ndcg(y, y) == ndcg(y**3, y, 10) == ndcg(y, y, 10, "exponential") == 1


@given(small, st.integers(1, 6))
def test_precision_is_the_mean_over_all_ways_to_break_ties(rows: list[tuple[int, int]], k: int) -> None:
    score, accuracy = columns(rows)
    k = min(k, len(rows))
    shares = [len({*ours[:k]} & {*best[:k]}) / k for ours in orders(score) for best in orders(accuracy)]
    assert precision_at(score, accuracy, k) == pytest.approx(np.mean(shares))


@given(small, st.integers(1, 8))
def test_best_and_worst_rank_are_the_mean_over_all_ways_to_break_ties(rows: list[tuple[int, int]], k: int) -> None:
    score, accuracy = columns(rows)
    if len(set(score)) == 1 or len(set(accuracy)) == 1:
        assert math.isnan(best_rank_at(score, accuracy, k))
        return
    ranks = [(1 + sum(other > own for other in accuracy)) / len(rows) for own in accuracy]
    chosen = [[ranks[i] for i in order[:k]] for order in orders(score)]
    assert best_rank_at(score, accuracy, k) == pytest.approx(np.mean([min(top) for top in chosen]))
    assert worst_rank_at(score, accuracy, k) == pytest.approx(np.mean([max(top) for top in chosen]))


@pytest.mark.parametrize("name", STATISTICS)
def test_the_order_of_the_rows_does_not_matter(name: str) -> None:
    x, y, z = table(60)
    if "rank" in name:  # which breaks ties by it
        x, y = x + np.arange(60) * 1e-6, y + np.arange(60) * 1e-6
    order = np.random.default_rng(1).permutation(60)
    assert STATISTICS[name](x[order], y[order]) == pytest.approx(STATISTICS[name](x, y), rel=1e-12)
    assert partial_spearman(x[order], y[order], z[order]) == pytest.approx(partial_spearman(x, y, z), rel=1e-12)


@pytest.mark.parametrize("name", [name for name in STATISTICS if name != "pearson"])
def test_rank_statistics_forget_monotone_transforms_of_the_score(name: str) -> None:
    x, y, _ = table(60)
    assert STATISTICS[name](np.exp(x), y) == STATISTICS[name](x, y)
    if "ndcg" not in name:
        assert STATISTICS[name](x, y**3) == STATISTICS[name](x, y)


@given(pairs, st.integers(1, 12))
def test_bands_hold_every_row_once_and_separate_no_size(rows: list[tuple[int, int]], bands: int) -> None:
    score, size = columns(rows)
    accuracy = np.arange(len(rows)) % 3.0
    found = size_bands(size, bands)
    assert sum(band.count for band in found) == len(rows)
    assert all(one.high < other.low for one, other in pairwise(found))
    for band in found:
        rows_of = (size >= band.low) & (size <= band.high)
        assert (min(size[rows_of]), max(size[rows_of]), rows_of.sum()) == (band.low, band.high, band.count)
        assert band.spearman(score, accuracy, size) == pytest.approx(spearman(score[rows_of], accuracy[rows_of]), nan_ok=True)


def test_bands_of_different_sizes_are_equally_filled() -> None:
    size = np.random.default_rng(0).permutation(103)
    counts = [band.count for band in size_bands(size)]
    assert sorted(set(counts)) == [10, 11]
    assert len(counts) == 10
    first, second = size_bands([5, 5, 5, 9], 2)
    assert (first, second) == (SizeBand(5, 5, 3), SizeBand(9, 9, 1))
    assert first.spearman([1, 2, 3, 4], [4, 3, 2, 1], [5, 5, 5, 9]) == -1
    assert math.isnan(second.spearman([1, 2, 3, 4], [4, 3, 2, 1], [5, 5, 5, 9]))


@given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=20), st.integers(0, 5))
def test_regret_from_the_definition(rows: list[tuple[int, ...]], budget: int) -> None:
    score, accuracy, size = columns(rows)
    within = [i for i in range(len(rows)) if size[i] <= budget]
    expected = expected_at_random = math.nan
    if within:
        highest = max(score[i] for i in within)
        best = max(accuracy[i] for i in within)
        expected = best - float(np.mean([accuracy[i] for i in within if score[i] == highest]))
        expected_at_random = best - float(np.mean([accuracy[i] for i in within]))
    assert regret(score, accuracy, size, [budget]) == pytest.approx([expected], nan_ok=True)
    assert random_regret(accuracy, size, [budget]) == pytest.approx([expected_at_random], nan_ok=True)


def test_the_accuracy_itself_is_not_regretted() -> None:
    _, accuracy, size = table(200)
    assert regret(accuracy, accuracy, size, budgets_between(size)).tolist() == [0] * 10
    assert (random_regret(accuracy, size, budgets_between(size)) > 0).all()


def test_random_regret_is_the_mean_regret_of_all_orders() -> None:
    accuracy, size, budgets = np.array([3.0, 7.0, 1.0, 7.0, 2.0]), [1, 2, 2, 3, 4], [1, 2, 3, 4]
    every = [regret(order, accuracy, size, budgets) for order in permutations(range(5))]
    assert random_regret(accuracy, size, budgets) == pytest.approx(np.mean(every, axis=0))


def test_the_regret_of_a_failed_score_is_undefined() -> None:
    assert regret([1, np.nan], [1, 2], [1, 2], [1, 2]) == pytest.approx([0, math.nan], nan_ok=True)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.integers(1, 12))
def test_budgets_from_the_definition(sizes: list[int], count: int) -> None:
    distinct = sorted(set(sizes))
    found = budgets_between(sizes, count)
    assert len(found) == count
    assert found[-1] == max(sizes)
    for i, budget in enumerate(found, 1):
        assert budget in distinct
        assert sum(size <= budget for size in distinct) * count >= i * len(distinct)  # no fewer than i / count of them
        assert sum(size < budget for size in distinct) * count < i * len(distinct)  # and no larger than that needs


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


def test_plain_progress_says_how_far_how_fast_and_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    now = [0.0]
    lines = PlainLines(sys.stderr, every=10, clock=lambda: now[0])
    lines.start(100, 20, "candidate")
    for done in range(21, 61):
        now[0] += 0.5
        lines.update(done, lambda: "best 0.9")
    lines.stop()
    out = capsys.readouterr().err.splitlines()
    assert out[0] == "resumed at 20 of 100 candidates"
    assert out[1] == "40/100 candidates, 2.0 candidates/s, 30 s left; best 0.9"
    assert out[2] == "60/100 candidates, 2.0 candidates/s, 20 s left; best 0.9"
    assert len(out) == 3


def test_progress_does_not_take_the_start_for_the_pace(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    now = [0.0]
    lines = PlainLines(sys.stderr, every=10, clock=lambda: now[0])
    lines.start(100, unit="network")
    for step in (13.0, 13.5, 23.5):
        now[0] = step
        lines.update(round(step - 12) if step < 14 else 21, lambda: "")
    assert capsys.readouterr().err.splitlines() == ["1/100 networks, after 13 s", "21/100 networks, 1.9 networks/s, 41 s left"]


def test_work_goes_on_when_nobody_reads_its_progress() -> None:
    """As under `diswot distill ... 2>&1 | head`."""
    import os

    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        lines = PlainLines(stream, clock=lambda: 0.0)
        lines.start(1)
        lines.update(1, lambda: "")
        lines.stop()
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # what is left in the buffer can be closed
