"""The figures of a study's report. A ranking keeps its colour in all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from diswot.architecture import choices_text
from diswot.report import charts, tables
from diswot.report.charts.scatter import POINTS
from diswot.report.charts.style import Look, looks_of
from diswot.report.pictures import Picture
from diswot.report.tables import Column, Table
from diswot.report.text import file_name
from diswot.statistics.bootstrap import Estimate
from diswot.studies.study import BASELINES

if TYPE_CHECKING:
    from diswot.architecture import Architecture
    from diswot.space import Cost
    from diswot.studies.dataset_report import DatasetReport
    from diswot.studies.ranking_result import RankingResult
    from diswot.studies.study import Study

_REFERENCES = (*BASELINES, "random")  # what a ranking's regret is compared with
_MAX_SCATTER_PLOTS = 6  # of the best rankings
_MAX_POINTS = 20_000  # of all scatter plots of a page, which stays below 5 MB
_MAX_HOVER = 9_000  # of them that say which network they are
Looks = Mapping[str, Look]


def looks_of_rankings(study: Study, reports: Sequence[DatasetReport]) -> Looks:
    """The look of each of the rankings that are best on all data sets together; none of the baselines."""
    names = [result.name for result in study.rankings if result.name not in BASELINES]
    means = {name: float(np.nan_to_num(np.mean([_spearman(report, name).value for report in reports]), nan=-2)) for name in names}
    return looks_of(sorted(names, key=lambda name: -means[name]))


def dataset_charts(study: Study, report: DatasetReport, looks: Looks) -> dict[str, Picture]:
    """All charts of one data set, by what they show.

    Args:
        study, report: the figures.
        looks: of the rankings that are in colour.
    """
    names, dataset = [result.name for result in study.rankings], report.dataset
    spearman = {name: _spearman(report, name) for name in names}
    pictures = {
        "intervals": Picture(
            charts.forest_plot(names, list(spearman.values()), title=f"Rank correlation on {dataset}", baselines=BASELINES, looks=looks),
            data=_by_ranking("Rank correlation", "spearman", spearman),
        ),
        "regret": _regret_picture(report, looks),
        "bands": _bands_picture(report, names, looks),
        "matrix": _matrix_picture(report, names),
    }
    timed = [result for result in study.rankings if result.milliseconds > 0]
    if timed:
        pictures["cost"] = _cost_picture(timed, report, looks)
    pictures |= _scatter_pictures(study, report)
    return {name: replace(picture, name=file_name(f"{dataset}_{name}")) for name, picture in pictures.items()}


def _spearman(report: DatasetReport, name: str) -> Estimate:
    return report.statistics[name]["Spearman"]


def _by_ranking(title: str, key: str, values: Mapping[str, Estimate]) -> Table:
    """A table of one figure of every ranking."""
    columns = [Column("ranking", "ranking"), Column(key, key, "estimate")]
    return Table(title, columns, [{"ranking": name, key: value} for name, value in values.items()])


def _bands_picture(report: DatasetReport, names: Sequence[str], looks: Looks) -> Picture:
    bands = band_names(report)
    by_band = {band: [report.banded[name][index] for name in names] for index, band in enumerate(bands)}
    title = f"Rank correlation among networks of one size, {report.dataset}"
    columns = [Column("ranking", "ranking"), *(Column(f"band_{number}", band, "estimate") for number, band in enumerate(bands, 1))]
    rows = [{"ranking": name, **{f"band_{number}": value for number, value in enumerate(report.banded[name], 1)}} for name in names]
    return Picture(charts.band_plot(names, by_band, title=title, xlabel="FLOPs", looks=looks), data=Table(title, columns, rows))


def band_names(report: DatasetReport) -> list[str]:
    """The bands of FLOPs, as headings."""
    return [f"{band.low / 1e6:.3g} to {band.high / 1e6:.3g}M" for band in report.bands]


def _matrix_picture(report: DatasetReport, names: Sequence[str]) -> Picture:
    title = "How alike the rankings are"
    columns = [Column("ranking", "ranking"), *(Column(f"with_{name}", name, "number") for name in names)]
    rows = [
        {"ranking": name, **{f"with_{other}": float(value) for other, value in zip(names, row, strict=True)}}
        for name, row in zip(names, report.matrix, strict=True)
    ]
    return Picture(charts.correlation_heatmap(names, report.matrix, title=title), data=Table(title, columns, rows))


def _regret_picture(report: DatasetReport, looks: Looks) -> Picture:
    figure = charts.regret_plot(
        report.budgets,
        {name: regrets for name, regrets in report.regrets.items() if name not in _REFERENCES},
        {name: report.regrets[name] for name in _REFERENCES if name in report.regrets},
        title=f"What the pick loses on {report.dataset}",
        looks=looks,
    )
    columns = [Column("budget", "FLOPs", "integer"), *(Column(f"by_{name}", name, "number") for name in report.regrets)]
    rows = [
        {"budget": float(budget), **{f"by_{name}": float(values[index]) for name, values in report.regrets.items()}}
        for index, budget in enumerate(report.budgets)
    ]
    caption = "Accuracy of the best network within the budget minus that of the pick; params and flops pick the largest."
    return Picture(figure, caption, Table("regret", columns, rows))


def _cost_picture(timed: Sequence[RankingResult], report: DatasetReport, looks: Looks) -> Picture:
    names, milliseconds = [result.name for result in timed], [result.milliseconds for result in timed]
    estimates = [_spearman(report, name) for name in names]
    figure = charts.cost_plot(
        names,
        milliseconds,
        [estimate.value for estimate in estimates],
        [(estimate.low, estimate.high) for estimate in estimates],
        title=f"What a correlation costs, {report.dataset}",
        looks=looks,
    )
    columns = [Column("ranking", "ranking"), Column("milliseconds", "ms", "number"), Column("spearman", "Spearman", "estimate")]
    values = zip(names, milliseconds, estimates, strict=True)
    return Picture(
        figure, data=Table("cost", columns, [{"ranking": name, "milliseconds": ms, "spearman": rho} for name, ms, rho in values])
    )


def _scatter_pictures(study: Study, report: DatasetReport) -> dict[str, Picture]:
    """Scatter plots of the best rankings, over the rows whose accuracy is known."""
    known = ~np.isnan(study.accuracies[report.dataset])
    accuracy, flops = study.accuracies[report.dataset][known], study.size("flops")[known]
    archs = [arch for arch, is_known in zip(study.archs, known, strict=True) if is_known]
    costs = [cost for cost, is_known in zip(study.costs, known, strict=True) if is_known]
    best = sorted(study.rankings, key=lambda result: -float(np.nan_to_num(_spearman(report, result.name).value, nan=-2)))
    points = max(len(study.accuracies) * len(accuracy), 1) if len(accuracy) <= charts.MAX_POINTS else 1
    best = best[: min(_MAX_SCATTER_PLOTS, max(_MAX_POINTS // points, 1))]
    pictures = {}
    for result in best:
        corner_text = f"Spearman {tables.format_estimate(_spearman(report, result.name))}"
        title, fitness = f"{result.name} on {report.dataset}", result.fitness[known]
        figure = charts.rank_scatter(fitness, accuracy, flops, title=title, corner_text=corner_text)
        shown = charts.shown_points(fitness, accuracy).tolist() if points * len(best) <= _MAX_HOVER else []
        hover = {POINTS: [_describe(archs[index], costs[index], accuracy[index]) for index in shown]} if len(shown) else {}
        columns = [
            Column("network", "network"),
            Column("score", "score", "number"),
            Column("accuracy", "accuracy", "number"),
            Column("flops", "FLOPs", "integer"),
        ]
        values = zip(archs, fitness, accuracy, flops, strict=True)
        rows = [
            {"network": choices_text(arch.choices), "score": float(s), "accuracy": float(a), "flops": float(f)} for arch, s, a, f in values
        ]
        pictures[f"scatter_{result.name}"] = Picture(figure, data=Table(title, columns, rows), hover=hover)
    return pictures


def _describe(arch: Architecture, cost: Cost, accuracy: float) -> str:
    """What is read when the pointer rests on a network."""
    return f"{accuracy:.2f} %, {cost.params / 1e6:.3g}M, {cost.flops / 1e6:.3g}M FLOPs: {choices_text(arch.choices)}"
