"""Statistics of scores and accuracies, each against scipy or its definition."""

from __future__ import annotations

import math
from itertools import combinations, pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import rankdata

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
from tests.statistics.samples import AT_3, CORRELATIONS, STATISTICS, columns, orders, pairs, small, table


def test_partial_spearman_is_the_correlation_of_residuals() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=300)
    x, y = z + rng.normal(size=300), z**3 + rng.normal(size=300)
    ranks = [rankdata(v) for v in (x, y, z)]
    design = np.stack([ranks[2], np.ones(300)], 1)
    residuals = [r - design @ np.linalg.lstsq(design, r, rcond=None)[0] for r in ranks[:2]]
    assert partial_spearman(x, y, z) == pytest.approx(np.corrcoef(*residuals)[0, 1], abs=1e-9)


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
