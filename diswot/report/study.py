"""The report of a study: its tables in every format, its figures, and one HTML page that holds them all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from matplotlib.figure import Figure

from diswot.config import to_dict
from diswot.ranking import Estimate
from diswot.recipes.study import BASELINES, Vector
from diswot.report import figures, tables
from diswot.report.html import Listing, Picture, Section, page
from diswot.report.tables import Column, Table
from diswot.runs import write_atomic

if TYPE_CHECKING:
    from diswot.recipes.findings import Findings
    from diswot.recipes.study import Study

PAGE = "report.html"
_SHOWN = ("Spearman", "Kendall", "given params", "given FLOPs", "regret")  # on the terminal; the files have all
_LOW_IS_GOOD = ("best rank", "worst rank", "regret")
_SCATTERED = 6
_COLUMN_KEYS = re.compile(r"[^a-z0-9]+")


def write_report(study: Study, findings: Sequence[Findings], folder: Path) -> Path:
    """Writes every table and figure below `folder / "report"` and the page `PAGE`; returns the page's path."""
    out = folder / "report"
    out.mkdir(exist_ok=True)
    sections = [_about(study)]
    for found in findings:
        listed = {"correlations": correlations(study, found), "regret": regret_table(found), "bands": band_table(found)}
        if found.searched:
            listed["searches"] = search_table(found)
        drawn = drawings(study, found)
        for name, table in listed.items():
            tables.write(table, out, file_stem(found.dataset, name))
        for name, (figure, _) in drawn.items():
            figures.save(figure, out / file_stem(found.dataset, name))
        sections.append(Section(found.dataset, [*listed.values(), *(Picture(*both) for both in drawn.values())]))
    sections.append(Section("Configuration", [Listing(yaml.safe_dump(to_dict(study.config), sort_keys=False))]))
    write_atomic(out / "scores.csv", tables.to_csv(score_table(study)))
    path = folder / PAGE
    write_atomic(path, page(f"How {len(study.contenders)} rankings order {study.benchmark.name}", sections))
    return path


def _about(study: Study) -> Section:
    config = study.config
    failed = [f"{c.name} ({c.failed}, the first because {c.reason})" for c in study.contenders if c.failed]
    networks = f"{len(study.rows):,} rows of {study.benchmark.name}, {len(np.unique(study.groups)):,} different networks"
    lines = [
        f"{networks}; {study.measured}. Scores: {study.seeds} seeds x {study.batch} images ({config.data}), "
        f"initialisation {config.init}, teacher {config.teacher} ({config.teacher_weights} weights).",
        "In brackets 95 % bootstrap intervals that resample networks; ± is the standard deviation over seeds, each taken alone. "
        "Regret is the accuracy that a ranking's pick loses against the best network within a FLOPs budget, mean over the budgets. "
        "Parameters and FLOPs stand beside every ranking; 'given' columns are partial correlations with them held fixed. "
        "FLOPs are multiply-accumulates. Networks that a ranking has no score for rank last.",
    ]
    return Section("", [*lines, *([f"Rows without a score: {', '.join(failed)}."] if failed else [])])


def file_stem(dataset: str, name: str) -> str:
    """A file's name of what a table or the user named, which may hold anything.

    >>> file_stem("../x", "scatter_loss:kd")
    '.._x_scatter_loss_kd'
    """
    return re.sub(r"[^\w.+-]", "_", f"{dataset}_{name}")[:120]


def key_of(heading: str) -> str:
    """A heading as the key of a column.

    >>> key_of("given FLOPs")
    'given_flops'
    """
    return _COLUMN_KEYS.sub("_", heading.lower()).strip("_")


def correlations(study: Study, found: Findings, only: Sequence[str] | None = None) -> Table:
    """Every statistic of every ranking, the highest Spearman first."""
    headings = only or list(next(iter(found.statistics.values())))
    columns = [Column("ranking", "ranking")]
    columns += [
        Column(key_of(h), h, "estimate", 2 if h == "regret" else 3, "low" if h.startswith(_LOW_IS_GOOD) else "high") for h in headings
    ]
    rows: list[dict[str, Any]] = [
        {"ranking": name, **{key_of(heading): statistics[heading] for heading in headings}} for name, statistics in found.statistics.items()
    ]
    rows.sort(key=lambda row: -np.nan_to_num(row["spearman"].value, nan=-2))
    return Table(f"{found.dataset}, {study.measured}: {found.rows:,} rows", columns, rows)


def terminal_table(study: Study, found: Findings) -> Table:
    """What fits on a terminal."""
    return correlations(study, found, _SHOWN)


def regret_table(found: Findings) -> Table:
    """What each ranking's pick loses within each budget."""
    means = {
        name: found.statistics[name]["regret"] if name in found.statistics else values.mean() for name, values in found.regrets.items()
    }
    return _budget_table(found, "the pick within a FLOPs budget, the whole table ranked", means, found.regrets)


def search_table(found: Findings) -> Table:
    """The same of simulated searches, the mean over them; ± is the standard deviation of a search's mean over the budgets."""
    count = len(next(iter(found.searched.values())))
    means = {name: _over_searches(regrets.mean(1)) for name, regrets in found.searched.items()}
    title = f"the pick of a search within a FLOPs budget, mean of {count} (± over searches)"
    return _budget_table(found, title, means, {name: regrets.mean(0) for name, regrets in found.searched.items()})


def _over_searches(regrets: Vector) -> Estimate:
    return Estimate(float(regrets.mean()), spread=float(regrets.std(ddof=1)) if len(regrets) > 1 else None)


def _budget_table(found: Findings, picked: str, means: Mapping[str, Any], regrets: Mapping[str, Vector]) -> Table:
    budgets = [f"{budget / 1e6:.4g}M" for budget in found.budgets]
    columns = [Column("ranking", "pick by"), Column("mean", "mean", "estimate", 2, "low")]
    columns += [Column(f"within_{budget}", budget, "number", 2, "low") for budget in dict.fromkeys(budgets)]
    rows: list[dict[str, Any]] = [
        {"ranking": name, "mean": means[name], **{f"within_{b}": float(v) for b, v in zip(budgets, values, strict=True)}}
        for name, values in regrets.items()
    ]
    rows.sort(key=lambda row: np.nan_to_num(tables.estimate_of(row["mean"]).value, nan=np.inf))
    return Table(f"{found.dataset}: accuracy lost by {picked}", columns, rows)


def band_table(found: Findings) -> Table:
    """Spearman inside groups of like FLOPs."""
    columns = [Column("ranking", "ranking")]
    columns += [Column(f"band_{i + 1}", heading, "estimate", 2, "high") for i, heading in enumerate(_band_names(found))]
    rows = [{"ranking": name, **{f"band_{i + 1}": one for i, one in enumerate(banded)}} for name, banded in found.banded.items()]
    counts = ", ".join(f"{band.count:,}" for band in found.bands)
    return Table(f"{found.dataset}: Spearman inside bands of FLOPs ({counts} rows)", columns, rows)


def _band_names(found: Findings) -> list[str]:
    return [f"{band.low / 1e6:.3g} to {band.high / 1e6:.3g}M" for band in found.bands]


def score_table(study: Study) -> Table:
    """One row for each row of the table: its fitness by every ranking, the scores that these are made of, and its accuracies."""
    columns = [Column("row", "row", "integer"), Column("choices", "choices"), Column("params", "params", "integer")]
    columns += [Column("flops", "FLOPs", "integer")]
    columns += [Column(f"fitness_{c.name}", c.name, "number") for c in study.contenders]
    scores = {part: np.where(c.complete, c.parts[:, place], np.nan) for c in study.contenders for place, part in enumerate(c.ranking.parts)}
    columns += [Column(f"score_{part}", f"{part}, mean over the seeds", "number") for part in scores]
    columns += [Column(f"accuracy_{name}", name, "number") for name in study.accuracies]
    rows = []
    for index, (row, arch) in enumerate(zip(study.rows, study.archs, strict=True)):
        cost = study.costs[index]
        line = {"row": int(row), "choices": str(arch.choices), "params": cost.params, "flops": cost.flops}
        line |= {f"fitness_{c.name}": float(c.fitness[index]) for c in study.contenders}
        line |= {f"score_{part}": float(values[index]) for part, values in scores.items()}
        rows.append(line | {f"accuracy_{name}": float(values[index]) for name, values in study.accuracies.items()})
    return Table("scores", columns, rows)


def drawings(study: Study, found: Findings) -> dict[str, tuple[Figure, str]]:
    """The figures of one data set, each with the line below it."""
    names = [c.name for c in study.contenders]
    spearman = [found.statistics[name]["Spearman"] for name in names]
    known = ~np.isnan(study.accuracies[found.dataset])
    truth, flops = study.accuracies[found.dataset][known], study.size("flops")[known]
    data = found.dataset
    by_band = {band: [found.banded[name][place] for name in names] for place, band in enumerate(_band_names(found))}
    drawn = {
        "intervals": (figures.intervals(names, spearman, title=f"Rank correlation on {data}", baselines=BASELINES), ""),
        "regret": (
            figures.regret_curve(
                found.budgets,
                {name: values for name, values in found.regrets.items() if name not in (*BASELINES, "random")},
                {name: found.regrets[name] for name in (*BASELINES, "random") if name in found.regrets},
                title=f"What the pick loses on {data}",
            ),
            "Accuracy of the best network within the budget minus that of the pick; params and flops pick the largest.",
        ),
        "bands": (
            figures.bands(names, by_band, title=f"Rank correlation among networks of one size, {data}", xlabel="FLOPs"),
            "",
        ),
        "matrix": (figures.matrix(names, found.matrix, title="How alike the rankings are"), ""),
    }
    measured = [c for c in study.contenders if c.milliseconds > 0]
    if measured:
        shown = [found.statistics[c.name]["Spearman"] for c in measured]
        bounds = np.array([(estimate.low, estimate.high) for estimate in shown])
        values = [estimate.value for estimate in shown]
        times = [c.milliseconds for c in measured]
        drawn["cost"] = (figures.cost([c.name for c in measured], times, values, bounds, title=f"What a correlation costs, {data}"), "")
    best = sorted(study.contenders, key=lambda c: -np.nan_to_num(found.statistics[c.name]["Spearman"].value, nan=-2))[:_SCATTERED]
    for contender in best:
        corner = f"Spearman {tables.estimate_text(found.statistics[contender.name]['Spearman'])}"
        title = f"{contender.name} on {data}"
        drawn[f"scatter_{contender.name}"] = (figures.scatter(contender.fitness[known], truth, flops, title=title, corner=corner), "")
    return drawn
