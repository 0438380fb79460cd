"""The page of a comparison: accuracy with intervals, what it costs, and which classes gain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from diswot.distillation.compare import RESULTS, paired_difference
from diswot.pages.comparison_trainings import curve_pictures, gains_pictures, labeller
from diswot.pages.run_files import RunFiles
from diswot.report.charts import cost_plot, forest_plot
from diswot.report.charts.style import looks_of
from diswot.report.html import Facts, Part, Section, Verdict
from diswot.report.pictures import Picture
from diswot.report.tables import Column, Table
from diswot.report.text import millions

Row = dict[str, Any]


def comparison_sections(run: RunFiles) -> tuple[str, list[Section]]:
    """The title and the sections of the page of `compare`."""
    records = run.journal(RESULTS)
    rows = _rows(records, run.result)
    if not rows:
        waiting = f"No seed is done yet, of {run.config['seeds']}."
        return f"Comparison {run.name}", [Section("", [Verdict(waiting)]), *_under_way(run), run.made_with()]
    sections = [
        Section("", [Verdict(_verdict(run, rows, len(records))), Facts(_facts(run, rows, records)), _METHOD]),
        Section("Accuracy", [_table(rows), _accuracy_picture(rows, records)]),
        Section("What accuracy costs", _cost_pictures(rows)),
        Section("Over the epochs", curve_pictures(run.path, records)),
        Section("Class by class", gains_pictures(run.path, records[0])),
        run.made_with(),
    ]
    return f"Comparison of {len(rows)} students", [section for section in sections if section.parts]


_METHOD = (
    "All students have the same recipe, seeds, teacher and order of images, and nothing was chosen by the images that they are measured "
    "on. ± is the standard deviation over the seeds. 'Ahead' is the first student's accuracy minus this one's, seed by seed, with its 95 % "
    "interval (Student's t): where that holds 0, the two cannot be told apart."
)


def _rows(records: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> list[Row]:
    """A row for each student and loss, over the seeds that are done."""
    if not records:
        return []
    label = labeller(records[0])
    costs = {(row["name"], row["loss"]): row for row in result.get("students", [])}
    rows = []
    for number, (name, loss) in enumerate(zip(records[0]["names"], records[0]["losses"], strict=True)):
        top1 = [float(record["top1"][number]) for record in records]
        known = costs.get((name, loss), {})
        cost = {key: known.get(key) for key in ("params", "flops", "latency_ms")}
        rows.append({"label": label(name, loss), "name": name, "loss": loss, "top1": top1, **cost})
    return rows


def _mean(row: Row) -> float:
    return float(np.mean(row["top1"]))


def _half_width(row: Row) -> float:
    """Half the 95 % interval of a row's mean over the seeds; NaN for one seed."""
    return paired_difference(row["top1"], [0.0] * len(row["top1"]))[1]


def _verdict(run: RunFiles, rows: Sequence[Row], seeds: int) -> str:
    """Who is ahead, and whether that can be told from chance."""
    done = "" if seeds == run.config["seeds"] else f"{seeds} of {run.config['seeds']} seeds are done. "
    best = max(rows, key=_mean)
    rival = rows[0] if best is not rows[0] else max(rows[1:], key=_mean)
    ahead, width = paired_difference(best["top1"], rival["top1"])
    by = f"{ahead:.2f} points" + (f" (± {width:.2f})" if np.isfinite(width) else "")
    which = "the first" if rival is rows[0] else "the best of the others"
    if not np.isfinite(width):
        certainty = "One seed cannot tell this from chance."
    elif ahead <= width:
        certainty = "That cannot be told from chance."
    elif len(rows) == 2:
        certainty = "That is more than chance would give."
    else:  # the interval is that of one pair named beforehand
        certainty = f"The interval leaves 0 out; but the best of {len(rows)} is often that far ahead by chance: train it with more seeds."
    return f"{done}{best['label']} is best, {by} ahead of {rival['label']}, {which}. {certainty}"


def _facts(run: RunFiles, rows: Sequence[Row], records: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    best = max(rows, key=_mean)
    facts = [("best", best["label"]), ("its top-1", f"{_mean(best):.2f} %"), ("seeds", str(len(records)))]
    teachers = [record["teacher"] for record in records if record.get("teacher") is not None]
    if teachers:
        facts.append(("teacher", f"{np.mean(teachers):.2f} %"))
    return [*facts, ("images", f"{records[0]['images']:,} of {records[0]['measured_on']}"), ("data", run.data_name)]


def _table(rows: Sequence[Row]) -> Table:
    first = rows[0]
    columns = [Column("label", "student"), Column("top1", "top-1 (%)", "estimate", 2, "high"), Column("ahead", "ahead", "estimate", 2)]
    columns += [
        Column("params", "parameters", "integer"),
        Column("flops", "FLOPs", "integer"),
        Column("latency_ms", "latency (ms)", "number", 2),
    ]
    found = []
    for row in rows:
        spread = float(np.std(row["top1"], ddof=1)) if len(row["top1"]) > 1 else None
        ahead, width = paired_difference(first["top1"], row["top1"])
        difference = None if row is first else {"value": ahead, "low": ahead - width, "high": ahead + width}
        found.append({**row, "top1": {"value": _mean(row), "spread": spread}, "ahead": difference})
    return Table("Top-1 after the last epoch", columns, found)


def _accuracy_picture(rows: Sequence[Row], records: Sequence[Mapping[str, Any]]) -> Picture:
    estimates = [{"value": _mean(row), "low": _mean(row) - _half_width(row), "high": _mean(row) + _half_width(row)} for row in rows]
    interval = " (bar: 95 % interval over the seeds)" if len(records) > 1 else ""
    title, labels = "Accuracy", [row["label"] for row in rows]
    figure = forest_plot(labels, estimates, title=title, xlabel=f"top-1 (%){interval}", looks=looks_of(labels))
    columns = [Column("label", "student"), Column("top1", "top-1", "estimate", 2)]
    data = [{"label": label, "top1": estimate} for label, estimate in zip(labels, estimates, strict=True)]
    return Picture(figure, "", Table(title, columns, data), name="accuracy")


_COSTS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("params", "parameters", millions),
    ("flops", "FLOPs", millions),
    ("latency_ms", "latency (ms)", "{:.2f}".format),
)


def _cost_pictures(rows: Sequence[Row]) -> list[Part]:
    """Accuracy over each cost in which the students differ."""
    pictures: list[Part] = []
    for key, label, written in _COSTS:
        values = [row[key] for row in rows]
        if None in values or len(set(map(written, values))) < 2:
            continue
        means, labels = [_mean(row) for row in rows], [row["label"] for row in rows]
        bounds = [(mean - _half_width(row), mean + _half_width(row)) for mean, row in zip(means, rows, strict=True)]
        title = f"Accuracy over {label.partition(' (')[0]}"
        figure = cost_plot(labels, values, means, bounds, title=title, xlabel=label, ylabel="top-1 (%)", looks=looks_of(labels))
        columns = [Column("label", "student"), Column(key, label, "number"), Column("top1", "top-1", "number")]
        data = [{"label": name, key: float(value), "top1": mean} for name, value, mean in zip(labels, values, means, strict=True)]
        pictures.append(Picture(figure, "", Table(title, columns, data), name=f"accuracy_over_{key}"))
    return pictures


def _under_way(run: RunFiles) -> list[Section]:
    """The curves of the first seed while it is trained."""
    return [section for section in [Section("Over the epochs", curve_pictures(run.path, []))] if section.parts]
