"""The report of a study: its tables in every format, its charts, and one HTML page that holds them all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from diswot.config.fields import to_dict
from diswot.report import tables
from diswot.report.html import FILES, Listing, Section, Verdict, write_page
from diswot.report.tables import Column, Table
from diswot.report.text import file_name
from diswot.runs import write_atomic
from diswot.statistics.bootstrap import Estimate
from diswot.studies.figures import band_names, dataset_charts, looks_of_rankings
from diswot.studies.verdict import pick_table, verdict

if TYPE_CHECKING:
    from diswot.statistics.ranked_values import Vector
    from diswot.studies.dataset_report import DatasetReport
    from diswot.studies.ranking_result import RankingResult
    from diswot.studies.study import Study

_TERMINAL_COLUMNS = ("Spearman", "Kendall", "given params", "given FLOPs", "regret")  # the files have all
_LOWER_IS_BETTER = ("best rank", "worst rank", "regret")  # how the headings of such columns begin
_METHODS = (
    "In brackets 95 % bootstrap intervals that resample networks; ± is the standard deviation over seeds, each taken alone. "
    "Regret is the accuracy that a ranking's pick loses against the best network within a FLOPs budget, mean over the budgets. "
    "Parameters and FLOPs stand beside every ranking; 'given' columns are partial correlations with them held fixed. "
    "FLOPs are multiply-accumulates. Networks that a ranking has no score for rank last."
)


def write_report(study: Study, reports: Sequence[DatasetReport], folder: Path, with_page: bool = True) -> None:
    """Write the report of a study.

    Args:
        study, reports: the figures.
        folder: of the run. Every table goes into `folder / "report"`, and the scores of every network.
        with_page: whether the charts are drawn too, and `report.html` is written.
    """
    out = folder / FILES
    out.mkdir(exist_ok=True)
    listed = [dataset_tables(study, report) for report in reports]
    for report, of_dataset in zip(reports, listed, strict=True):
        for name, table in of_dataset.items():
            tables.write_table(table, out, file_name(f"{report.dataset}_{name}"))
    write_atomic(out / "scores.csv", tables.to_csv(score_table(study)))
    if with_page:
        write_page(folder, f"How {len(study.rankings)} rankings order {study.benchmark.name}", _sections(study, reports, listed))


def _sections(study: Study, reports: Sequence[DatasetReport], listed: Sequence[Mapping[str, Table]]) -> list[Section]:
    """The sections of the page: the verdict, the tables (`listed`, of each data set) and charts, the options."""
    looks = looks_of_rankings(study, reports)
    of_datasets = [
        Section(report.dataset, [*of_dataset.values(), *dataset_charts(study, report, looks).values()])
        for report, of_dataset in zip(reports, listed, strict=True)
    ]
    options = Listing(yaml.safe_dump(to_dict(study.config), sort_keys=False), "The options")
    return [_introduction(study, reports), *of_datasets, Section("Configuration", [options])]


def _introduction(study: Study, reports: Sequence[DatasetReport]) -> Section:
    """The first section: what it comes to, what was scored and how, how to read the numbers, and which rankings failed where."""
    config = study.config
    networks = f"{len(study.rows):,} rows of {study.benchmark.name}, {len(np.unique(study.groups)):,} different networks"
    classes = f", {config.num_classes} classes" if config.num_classes else ""
    setting = (
        f"{networks}; {study.measured}. Scores: {study.seeds} seeds x {study.batch_size} images ({config.data}{classes}), "
        f"initialisation {config.init}, teacher {config.teacher} ({config.teacher_weights} weights)."
    )
    failures = [f"{result.name} ({result.failed}, the first because {result.reason})" for result in study.rankings if result.failed]
    verdicts = [Verdict(verdict(study, report)) for report in reports]
    return Section("", [*verdicts, setting, _METHODS, *([f"Rows without a score: {', '.join(failures)}."] if failures else [])])


def column_key(heading: str) -> str:
    """The key of a column with this heading.

    >>> column_key("given FLOPs")
    'given_flops'
    """
    return re.sub(r"[^a-z0-9]+", "_", heading.lower()).strip("_")


def dataset_tables(study: Study, report: DatasetReport) -> dict[str, Table]:
    """All tables of one data set, by the names of their files."""
    listed = {"correlations": correlation_table(study, report), "regret": regret_table(report), "picks": pick_table(study, report)}
    return listed | {"bands": band_table(report)} | ({"searches": search_table(report)} if report.searched else {})


def correlation_table(study: Study, report: DatasetReport, headings: Sequence[str] = ()) -> Table:
    """Every statistic of every ranking, the highest Spearman first.

    Args:
        headings: of the statistics that are listed; all where empty.
    """
    headings = headings or list(next(iter(report.statistics.values())))
    columns = [Column("ranking", "ranking"), *map(_statistic_column, headings)]
    rows: list[dict[str, Any]] = [
        {"ranking": name, **{column_key(heading): statistics[heading] for heading in headings}}
        for name, statistics in report.statistics.items()
    ]
    rows.sort(key=lambda row: _descending(row["spearman"]))
    return Table(f"{report.dataset}, {study.measured}: {report.rows:,} rows", columns, rows)


def _statistic_column(heading: str) -> Column:
    best, digits = "low" if heading.startswith(_LOWER_IS_BETTER) else "high", 2 if heading == "regret" else 3
    return Column(column_key(heading), heading, "estimate", digits, best)  # type: ignore[arg-type]


def _descending(correlation: Estimate) -> float:
    """A sort key that puts the highest correlation first and what has none last."""
    return -float(np.nan_to_num(correlation.value, nan=-2))


def terminal_table(study: Study, report: DatasetReport) -> Table:
    """The correlation table with only as many columns as fit on a terminal."""
    return correlation_table(study, report, _TERMINAL_COLUMNS)


def regret_table(report: DatasetReport) -> Table:
    """The accuracy that each ranking's pick loses within each budget."""
    means = {
        name: report.statistics[name]["regret"] if name in report.statistics else regrets.mean() for name, regrets in report.regrets.items()
    }
    return _budget_table(report, "the pick within a FLOPs budget, the whole table ranked", means, report.regrets)


def search_table(report: DatasetReport) -> Table:
    """The accuracy that simulated searches lose within each budget, mean over searches; ± is the deviation of a search's mean."""
    count = len(next(iter(report.searched.values())))
    means = {name: _mean_estimate(regrets.mean(1)) for name, regrets in report.searched.items()}
    title = f"the pick of a search within a FLOPs budget, mean of {count} (± over searches)"
    return _budget_table(report, title, means, {name: regrets.mean(0) for name, regrets in report.searched.items()})


def _mean_estimate(values: Vector) -> Estimate:
    """The mean of some values with their standard deviation as spread; no spread of a single value."""
    return Estimate(float(values.mean()), spread=float(values.std(ddof=1)) if len(values) > 1 else None)


def _budget_table(report: DatasetReport, picked: str, means: Mapping[str, Any], regrets: Mapping[str, Vector]) -> Table:
    """A row for each ranking with its regret in each budget, the lowest mean first.

    Args:
        picked: what loses the accuracy, for the title.
        means: for each ranking a number or an estimate.
        regrets: for each ranking (budgets,).
    """
    budgets = [f"{budget / 1e6:.4g}M" for budget in report.budgets]
    columns = [Column("ranking", "pick by"), Column("mean", "mean", "estimate", 2, "low")]
    columns += [Column(f"within_{budget}", budget, "number", 2, "low") for budget in dict.fromkeys(budgets)]
    rows: list[dict[str, Any]] = [
        {"ranking": name, "mean": means[name], **{f"within_{b}": float(v) for b, v in zip(budgets, values, strict=True)}}
        for name, values in regrets.items()
    ]
    rows.sort(key=lambda row: np.nan_to_num(tables.to_estimate(row["mean"]).value, nan=np.inf))
    return Table(f"{report.dataset}: accuracy lost by {picked}", columns, rows)


def band_table(report: DatasetReport) -> Table:
    """Spearman's correlation inside bands of about equal FLOPs."""
    columns = [Column("ranking", "ranking")]
    columns += [Column(f"band_{number}", heading, "estimate", 2, "high") for number, heading in enumerate(band_names(report), 1)]
    rows = [
        {"ranking": name, **{f"band_{number}": estimate for number, estimate in enumerate(banded, 1)}}
        for name, banded in report.banded.items()
    ]
    counts = ", ".join(f"{band.count:,}" for band in report.bands)
    return Table(f"{report.dataset}: Spearman inside bands of FLOPs ({counts} rows)", columns, rows)


def score_table(study: Study) -> Table:
    """A row for each network of the study: its fitness by every ranking, the scores that these are made of, and its accuracies."""
    columns = [Column("row", "row", "integer"), Column("choices", "choices")]
    columns += [Column("params", "params", "integer"), Column("flops", "FLOPs", "integer")]
    columns += [Column(f"fitness_{result.name}", result.name, "number") for result in study.rankings]
    scores = _mean_scores(study.rankings)
    columns += [Column(f"score_{part}", f"{part}, mean over the seeds", "number") for part in scores]
    columns += [Column(f"accuracy_{name}", name, "number") for name in study.accuracies]
    values = {f"fitness_{result.name}": result.fitness for result in study.rankings}
    values |= {f"score_{part}": means for part, means in scores.items()}
    values |= {f"accuracy_{name}": accuracies for name, accuracies in study.accuracies.items()}
    rows = [
        {"row": int(row), "choices": str(arch.choices), "params": cost.params, "flops": cost.flops}
        | {key: float(numbers[index]) for key, numbers in values.items()}
        for index, (row, arch, cost) in enumerate(zip(study.rows, study.archs, study.costs, strict=True))
    ]
    return Table("scores", columns, rows)


def _mean_scores(results: Iterable[RankingResult]) -> dict[str, Vector]:
    """Return the scores (n,) of each part of a ranking, NaN where the ranking lacks one."""
    return {
        part: np.where(result.complete, result.parts[:, index], np.nan)
        for result in results
        for index, part in enumerate(result.ranking.parts)
    }
