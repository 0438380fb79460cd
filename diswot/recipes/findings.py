"""What a study says of each ranking on one data set: correlations with intervals, by size, and what its picks lose."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diswot import ranking, runs
from diswot.errors import RunError
from diswot.progress import Reporter, Silent
from diswot.ranking import Band, Estimate
from diswot.recipes.simulate import SearchTable
from diswot.recipes.study import Study, Vector
from diswot.space import load_space

SEARCHES = "searches.jsonl"


@dataclass(frozen=True)
class Findings:
    """One data set's figures; every mapping's keys are the contenders' names.

    Attributes:
        dataset: its name.
        rows: how many rows have an accuracy there.
        statistics: by contender and statistic, a figure, its bootstrap interval (networks that compute one function are drawn together)
            and its standard deviation over the seeds (NaN with one).
        bands: groups of like FLOPs.
        banded: by contender, Spearman's correlation inside each band, likewise.
        budgets: FLOPs limits.
        regrets: best accuracy within each budget minus that of the pick, in the table's unit; `random` is the mean over all networks.
        searched: (searches, budgets) the regrets of simulated searches, by contender, NaN where a search found nothing with a score; empty
            where none were asked for.
        matrix: (contenders, contenders) Spearman between rankings.
    """

    dataset: str
    rows: int
    statistics: dict[str, dict[str, Estimate]]
    bands: list[Band]
    banded: dict[str, list[Estimate]]
    budgets: Vector
    regrets: dict[str, Vector]
    searched: dict[str, Vector]
    matrix: Vector


def statistics_of(top: int, budgets: Vector) -> dict[str, Callable[..., float]]:
    """The statistics by their headings; those `given` something take it as a third column, the regret takes the FLOPs."""
    return {
        "Spearman": ranking.spearman,
        "Kendall": ranking.kendall,
        "Pearson": ranking.pearson,
        "given params": ranking.partial_spearman,
        "given FLOPs": ranking.partial_spearman,
        "nDCG": ranking.ndcg,
        f"precision at {top}": functools.partial(ranking.precision_at, k=top),
        f"best rank at {top}": functools.partial(ranking.best_rank_at, k=top),
        f"worst rank at {top}": functools.partial(ranking.worst_rank_at, k=top),
        "regret": functools.partial(ranking.mean_regret, budgets=budgets),
    }


def find(study: Study, run: runs.RunDir | None = None, reporter: Reporter | None = None) -> list[Findings]:
    """The findings on each data set of a study. Simulated searches are kept in the run's journal."""
    reporter, found = reporter or Silent(), []
    for dataset, accuracy in study.accuracies.items():
        picks = simulate(study, ~np.isnan(accuracy), run, reporter)
        found.append(_on(study, dataset, accuracy, picks))
    return found


def _on(study: Study, dataset: str, accuracy: Vector, picks: Mapping[str, NDArray[np.int64]]) -> Findings:
    config, known = study.config, ~np.isnan(accuracy)
    truth, flops = accuracy[known], study.size("flops")[known]
    budgets, bands = ranking.budgets_between(flops, config.budgets), ranking.size_bands(flops, config.bands)
    statistics = statistics_of(min(config.top, len(truth)), budgets)
    inside = {f"band {place}": band.spearman for place, band in enumerate(bands)}
    given = {"given params": study.size("params")[known], **dict.fromkeys(["given FLOPs", "regret", *inside], flops)}
    estimates = _estimates(study, known, truth, {**statistics, **inside}, given)
    scores = {c.name: c.fitness[known] for c in study.contenders}
    regrets = {name: ranking.regret(values, truth, flops, budgets) for name, values in scores.items()}
    best = _best_within(truth, flops, budgets)
    return Findings(
        dataset,
        int(known.sum()),
        {name: {heading: found[heading] for heading in statistics} for name, found in estimates.items()},
        bands,
        {name: [found[heading] for heading in inside] for name, found in estimates.items()},
        budgets,
        {**regrets, "random": ranking.random_regret(truth, flops, budgets)},
        {name: np.where(rows >= 0, best - accuracy[rows], np.nan) for name, rows in picks.items()},
        np.array([[ranking.spearman(a, b) for b in scores.values()] for a in scores.values()]),
    )


def _estimates(
    study: Study, known: NDArray[np.bool_], truth: Vector, statistics: Mapping[str, Callable[..., float]], given: Mapping[str, Vector]
) -> dict[str, dict[str, Estimate]]:
    """By contender and statistic, over the `known` rows."""
    rng, scores = np.random.default_rng(study.config.seed), {c.name: c.fitness[known] for c in study.contenders}
    groups, repeats = study.groups[known], study.config.resamples
    found = ranking.bootstrap(statistics, scores, truth, rng=rng, given=given, groups=groups, repeats=repeats)
    for contender in study.contenders:
        spreads = _spreads(contender.by_seed[known], truth, statistics, given)
        found[contender.name] = {name: replace(one, spread=spreads[name]) for name, one in found[contender.name].items()}
    return found


def _spreads(
    by_seed: Vector, truth: Vector, statistics: Mapping[str, Callable[..., float]], given: Mapping[str, Vector]
) -> dict[str, float]:
    """Of each statistic over the seeds, each taken alone."""
    whole = {name: functools.partial(_with_third, statistic, given.get(name)) for name, statistic in statistics.items()}
    return {name: ranking.seed_spread(statistic, by_seed, truth)[1] for name, statistic in whole.items()}


def _with_third(statistic: Callable[..., float], third: Vector | None, score: ArrayLike, accuracy: ArrayLike) -> float:
    return statistic(score, accuracy) if third is None else statistic(score, accuracy, third)


def _best_within(accuracy: Vector, flops: Vector, budgets: Vector) -> Vector:
    return np.array([accuracy[flops <= budget].max() for budget in budgets])


def simulate(study: Study, known: NDArray[np.bool_], run: runs.RunDir | None, reporter: Reporter) -> dict[str, NDArray[np.int64]]:
    """For each contender (searches, budgets) the row that a search by it picks; nothing where no searches were asked for.

    Args:
        known: (n,) the rows that have an accuracy, and may be picked. Data sets with the same ones share their searches.
    """
    config = study.config
    if not config.searches:
        return {}
    space = load_space(study.benchmark.space, trusted=True)
    flops = study.size("flops")
    budgets = ranking.budgets_between(flops[known], config.budgets)
    among = hashlib.sha256(known.tobytes()).hexdigest()[:8]
    done = _replay(run, among, len(study.rows))
    picks = {c.name: np.full((config.searches, len(budgets)), -1) for c in study.contenders}
    reporter.start(len(picks) * config.searches * len(budgets), len(done))
    for contender in study.contenders:
        table = SearchTable(space, study.archs, contender.parts, contender.complete, contender.ranking)
        for number in range(config.searches):
            for place, budget in enumerate(budgets):
                key = (contender.name, number, place)
                if key not in done:
                    done[key] = table.search(known & (flops <= budget), config.evaluations, config.seed * 1_000_003 + number)
                    if run is not None:
                        run.append(
                            SEARCHES, {"contender": contender.name, "search": number, "budget": place, "row": done[key], "among": among}
                        )
                picks[contender.name][number, place] = done[key]
                reporter.update(len(done), lambda name=contender.name: f"simulated searches by {name}")  # type: ignore[misc]
    reporter.stop()
    return picks


def _replay(run: runs.RunDir | None, among: str, rows: int) -> dict[tuple[str, int, int], int]:
    done: dict[tuple[str, int, int], int] = {}
    for number, record in enumerate(run.read(SEARCHES, repair=True) if run is not None else []):
        row: Any = record.get("row")
        try:
            key = (str(record["contender"]), int(record["search"]), int(record["budget"]))
        except (KeyError, TypeError, ValueError):
            row = None
        if not isinstance(row, int) or not -1 <= row < rows:
            raise RunError(f"{SEARCHES}, line {number + 1}: damaged: remove the file, then --resume")
        if record.get("among") == among:
            done[key] = row
    return done
