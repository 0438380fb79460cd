"""The figures of a study, each from its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from diswot.statistics.bootstrap import _resamples
from diswot.studies.recipe import StudyResult
from tests.studies.samples import QUICK, only_report


def test_the_rankings_and_the_baselines_are_there(result: StudyResult) -> None:
    rankings = result.study.rankings
    assert [ranking.name for ranking in rankings] == ["relation", "az_nas", "params", "flops"]
    assert all(ranking.fitness.shape == (40,) and ranking.by_seed.shape == (40, 2) for ranking in rankings)
    assert list(result.study.accuracies) == ["toy"] and result.folder is None
    assert list(only_report(result).statistics) == ["relation", "az_nas", "params", "flops"]


def test_correlations_are_scipys(result: StudyResult) -> None:
    report, truth = only_report(result), result.study.accuracies["toy"]
    for ranking in result.study.rankings:
        figures = report.statistics[ranking.name]
        assert figures["Spearman"].value == pytest.approx(spearmanr(ranking.fitness, truth).statistic, abs=1e-12)
        assert figures["Kendall"].value == pytest.approx(kendalltau(ranking.fitness, truth).statistic, abs=1e-12)
        assert figures["Spearman"].low <= figures["Spearman"].value <= figures["Spearman"].high
        alone = [spearmanr(ranking.by_seed[:, seed], truth).statistic for seed in range(2)]
        assert figures["Spearman"].spread == pytest.approx(np.std(alone, ddof=1), abs=1e-12)
    assert np.isnan(report.statistics["flops"]["given FLOPs"].value)


def test_rankings_are_compared_with_each_other(result: StudyResult) -> None:
    fitness = [ranking.fitness for ranking in result.study.rankings]
    expected = [[spearmanr(a, b).statistic for b in fitness] for a in fitness]
    assert np.allclose(only_report(result).matrix, expected, atol=1e-12)


def test_regret_is_what_the_best_within_a_budget_has_more(result: StudyResult) -> None:
    report, truth, flops = only_report(result), result.study.accuracies["toy"], result.study.size("flops")
    assert len(report.budgets) == 3
    for ranking in result.study.rankings:
        for place, budget in enumerate(report.budgets):
            within = np.flatnonzero(flops <= budget)
            top = within[ranking.fitness[within] == ranking.fitness[within].max()]
            assert report.regrets[ranking.name][place] == pytest.approx(truth[within].max() - truth[top].mean(), abs=1e-9)
        assert report.statistics[ranking.name]["regret"].value == pytest.approx(report.regrets[ranking.name].mean())
    assert report.regrets["random"][-1] == pytest.approx(truth.max() - truth.mean())


def test_regret_and_bands_have_intervals_over_resampled_networks(result: StudyResult) -> None:
    """From the definitions, on the rows that the bootstrap draws, with the budgets and bands of the whole table."""
    study, report = result.study, only_report(result)
    ranking, truth, flops = study.rankings[0], study.accuracies["toy"], study.size("flops")
    band, lost, inside = report.bands[1], [], []
    for rows in _resamples(40, study.groups, QUICK["bootstrap_resamples"], np.random.default_rng(study.config.seed)):
        drawn = [(ranking.fitness[row], truth[row], flops[row]) for row in rows]
        each: list[Any] = []
        for budget in report.budgets:
            within = [(score, accuracy) for score, accuracy, size in drawn if size <= budget]
            picks = [accuracy for score, accuracy in within if score == max(within)[0]]
            each.append(max(accuracy for _, accuracy in within) - np.mean(picks))
        lost.append(np.mean(each))
        inside.append(spearmanr([(score, accuracy) for score, accuracy, size in drawn if band.low <= size <= band.high]).statistic)
    for estimate, values in ((report.statistics["relation"]["regret"], lost), (report.banded["relation"][1], inside)):
        assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-9)
        assert estimate.spread is not None and estimate.spread > 0
