"""The figures of a study on one data set: correlations with intervals, by size, and what the rankings' picks lose."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diswot.progress import Reporter
from diswot.runs import RunDir
from diswot.statistics import correlation
from diswot.statistics.bootstrap import Estimate, Resampling, bootstrap, seed_spread
from diswot.statistics.correlation import SizeBand
from diswot.statistics.ranked_values import Vector
from diswot.studies.simulated_search import simulate_searches
from diswot.studies.study import Study


@dataclass(frozen=True)
class DatasetReport:
    """The figures on one data set; the keys of every mapping are the rankings' names.

    Attributes:
        dataset: its name.
        rows: the number of rows that have an accuracy there.
        statistics: by ranking and statistic, a figure, its bootstrap interval (networks that compute one function are drawn together)
            and its standard deviation over the seeds (NaN with one).
        bands: groups of similar FLOPs.
        banded: by ranking, Spearman's correlation inside each band, likewise.
        budgets: FLOPs limits.
        regrets: best accuracy within each budget minus that of the pick, in the table's unit; `random` is the mean over all networks.
        searched: (searches, budgets) the regrets of simulated searches, by ranking, NaN where a search found nothing with a score; empty
            where none were asked for.
        matrix: (rankings, rankings) Spearman's correlation between rankings.
    """

    dataset: str
    rows: int
    statistics: dict[str, dict[str, Estimate]]
    bands: list[SizeBand]
    banded: dict[str, list[Estimate]]
    budgets: Vector
    regrets: dict[str, Vector]
    searched: dict[str, Vector]
    matrix: Vector


def make_statistics(top_k: int, budgets: Vector) -> dict[str, Callable[..., float]]:
    """The statistics by their headings; those `given` something take it as a third column, the regret takes the FLOPs."""
    return {
        "Spearman": correlation.spearman,
        "Kendall": correlation.kendall,
        "Pearson": correlation.pearson,
        "given params": correlation.partial_spearman,
        "given FLOPs": correlation.partial_spearman,
        "nDCG": correlation.ndcg,
        f"precision at {top_k}": functools.partial(correlation.precision_at, k=top_k),
        f"best rank at {top_k}": functools.partial(correlation.best_rank_at, k=top_k),
        f"worst rank at {top_k}": functools.partial(correlation.worst_rank_at, k=top_k),
        "regret": functools.partial(correlation.mean_regret, budgets=budgets),
    }


def dataset_reports(study: Study, run: RunDir | None, reporter: Reporter) -> list[DatasetReport]:
    """The report on each data set of a study. Simulated searches are kept in the run's journal."""
    return [
        _dataset_report(study, dataset, accuracy, simulate_searches(study, ~np.isnan(accuracy), run, reporter))
        for dataset, accuracy in study.accuracies.items()
    ]


def _dataset_report(study: Study, dataset: str, accuracy: Vector, picks: Mapping[str, NDArray[np.int64]]) -> DatasetReport:
    config, known = study.config, ~np.isnan(accuracy)
    reached, flops = accuracy[known], study.size("flops")[known]
    budgets, bands = correlation.budgets_between(flops, config.num_budgets), correlation.size_bands(flops, config.num_bands)
    statistics = make_statistics(min(config.top_k, len(reached)), budgets)
    inside = {f"band {number}": band.spearman for number, band in enumerate(bands)}
    given = {"given params": study.size("params")[known], **dict.fromkeys(["given FLOPs", "regret", *inside], flops)}
    estimates = _estimates(study, known, reached, {**statistics, **inside}, given)
    scores = {result.name: result.fitness[known] for result in study.rankings}
    regrets = {name: correlation.regret(values, reached, flops, budgets) for name, values in scores.items()}
    best = np.array([reached[flops <= budget].max() for budget in budgets])
    return DatasetReport(
        dataset,
        int(known.sum()),
        {name: {heading: found[heading] for heading in statistics} for name, found in estimates.items()},
        bands,
        {name: [found[heading] for heading in inside] for name, found in estimates.items()},
        budgets,
        {**regrets, "random": correlation.random_regret(reached, flops, budgets)},
        {name: np.where(rows >= 0, best - accuracy[rows], np.nan) for name, rows in picks.items()},
        np.array([[correlation.spearman(a, b) for b in scores.values()] for a in scores.values()]),
    )


def _estimates(
    study: Study, known: NDArray[np.bool_], accuracy: Vector, statistics: Mapping[str, Callable[..., float]], given: Mapping[str, Vector]
) -> dict[str, dict[str, Estimate]]:
    """Return the estimates by ranking and statistic, over the `known` rows."""
    rng, scores = np.random.default_rng(study.config.seed), {result.name: result.fitness[known] for result in study.rankings}
    resampling = Resampling(study.groups[known], study.config.bootstrap_resamples)
    found = bootstrap(statistics, scores, accuracy, rng=rng, third_columns=given, resampling=resampling)
    for result in study.rankings:
        spreads = _spreads(result.by_seed[known], accuracy, statistics, given)
        found[result.name] = {name: replace(estimate, spread=spreads[name]) for name, estimate in found[result.name].items()}
    return found


def _spreads(
    by_seed: Vector, accuracy: Vector, statistics: Mapping[str, Callable[..., float]], given: Mapping[str, Vector]
) -> dict[str, float]:
    """The standard deviation of each statistic over the seeds, each taken alone."""
    of_two = {name: functools.partial(_with_third, statistic, given.get(name)) for name, statistic in statistics.items()}
    return {name: seed_spread(statistic, by_seed, accuracy)[1] for name, statistic in of_two.items()}


def _with_third(statistic: Callable[..., float], third: Vector | None, score: ArrayLike, accuracy: ArrayLike) -> float:
    return statistic(score, accuracy) if third is None else statistic(score, accuracy, third)
