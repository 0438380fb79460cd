"""The page of a comparison: accuracy with intervals, what it costs, and which classes gain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diswot.distillation.compare import RESULTS, paired_difference
from diswot.losses import split_expressions
from diswot.pages.confusions import Confusions, gains_picture
from diswot.pages.curves import Curves
from diswot.pages.run_files import RunFiles, millions
from diswot.report.charts import cost_plot, curves_plot, forest_plot
from diswot.report.charts.style import looks_of
from diswot.report.html import Facts, Part, Section, Verdict
from diswot.report.pictures import Picture
from diswot.report.tables import Column, Table
from diswot.statistics.ranked_values import Vector

_MOST_GAINS = 4  # students whose gains by class are drawn
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
        Section("Over the epochs", _curve_pictures(run.path, records)),
        Section("Class by class", _gains(run.path, records[0])),
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
    label = _labeller(records[0])
    costs = {(row["name"], row["loss"]): row for row in result.get("students", [])}
    rows = []
    for number, (name, loss) in enumerate(zip(records[0]["names"], records[0]["losses"], strict=True)):
        top1 = [float(record["top1"][number]) for record in records]
        known = costs.get((name, loss), {})
        cost = {key: known.get(key) for key in ("params", "flops", "latency_ms")}
        rows.append({"label": label(name, loss), "name": name, "loss": loss, "top1": top1, **cost})
    return rows


def _labeller(record: Mapping[str, Any]) -> Callable[[str, str], str]:
    """A function that names a student and its loss by what tells them apart."""
    if len(set(record["names"])) == 1:
        return lambda name, loss: loss
    return (lambda name, loss: f"{name}, {loss}") if len(set(record["losses"])) > 1 else (lambda name, loss: name)


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
    else:
        certainty = "That is more than chance would give." if ahead > width else "That cannot be told from chance."
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


def _cost_pictures(rows: Sequence[Row]) -> list[Part]:
    """Accuracy over each cost in which the students differ."""
    pictures: list[Part] = []
    for key, label in (("params", "parameters"), ("flops", "FLOPs"), ("latency_ms", "latency (ms, one thread on a CPU)")):
        values = [row[key] for row in rows]
        if None in values or len({millions(value) for value in values}) < 2:
            continue
        means, labels = [_mean(row) for row in rows], [row["label"] for row in rows]
        bounds = [(mean - _half_width(row), mean + _half_width(row)) for mean, row in zip(means, rows, strict=True)]
        title = f"Accuracy over {label.partition(' (')[0]}"
        figure = cost_plot(labels, values, means, bounds, title=title, xlabel=label, ylabel="top-1 (%)", looks=looks_of(labels))
        columns = [Column("label", "student"), Column(key, label, "number"), Column("top1", "top-1", "number")]
        data = [{"label": name, key: float(value), "top1": mean} for name, value, mean in zip(labels, values, means, strict=True)]
        pictures.append(Picture(figure, "", Table(title, columns, data), name=f"accuracy_over_{key}"))
    return pictures


@dataclass(frozen=True)
class _Training:
    """A training of the comparison: the students of one seed, by one loss or by several.

    Attributes:
        folder: of the training.
        labels: what its students are called on the page, by their names in the training.
    """

    folder: Path
    labels: Mapping[str, str]

    @classmethod
    def all_of(cls, seed: Path, record: Mapping[str, Any] | None) -> list[_Training]:
        """The trainings of a seed's folder, in order.

        Args:
            seed: the folder.
            record: names and losses of the comparison; None before the first seed is done.
        """
        inside = [path for path in sorted(seed.glob("losses-*")) or [seed] if (path / "config.yaml").exists()]
        return [cls(path, _labels(RunFiles(path), record)) for path in inside]

    def confusions(self) -> Confusions | None:
        """What its networks took each class for."""
        found = Confusions.read(self.folder)
        return found and Confusions(found.classes, {self.labels.get(name, name): counts for name, counts in found.counts.items()})

    def accuracies(self) -> dict[str, Vector]:
        """The accuracy of each student over the epochs."""
        curves = Curves.read(self.folder)
        names = [name for name in curves.names() if name.endswith("_top1")]
        found = {name.rpartition("/")[0] or next(iter(self.labels), "student"): curves.values(name) for name in names}
        return {self.labels.get(name, name): values for name, values in found.items()}


def _labels(training: RunFiles, record: Mapping[str, Any] | None) -> dict[str, str]:
    """What the students of a training are called: it has them in order, for each of its losses in turn."""
    students = list(training.result.get("students", []))
    if record is None or not students:
        return {}
    names = list(dict.fromkeys(record["names"]))
    trained = [(name, loss) for loss in split_expressions(str(training.config["loss"])) for name in names]
    label = _labeller(record)
    return {student: label(*pair) for student, pair in zip(students, trained, strict=False)}


def _seeds(folder: Path) -> list[Path]:
    """The folders of the seeds, in order."""
    return sorted(folder.glob("seed-*"), key=lambda path: (len(path.name), path.name))


def _under_way(run: RunFiles) -> list[Section]:
    """The curves of the first seed while it is trained."""
    return [section for section in [Section("Over the epochs", _curve_pictures(run.path, []))] if section.parts]


def _curve_pictures(folder: Path, records: Sequence[Mapping[str, Any]]) -> list[Part]:
    """The accuracies over the epochs, mean over the seeds that are as far as the first."""
    by_name: dict[str, list[Vector]] = {}
    record = records[0] if records else None
    for training in (training for seed in _seeds(folder) for training in _Training.all_of(seed, record)):
        for name, values in training.accuracies().items():
            by_name.setdefault(name, []).append(values)
    if not by_name:
        return []
    longest = max(len(several[0]) for several in by_name.values())
    complete = {name: [values for values in several if len(values) == longest] for name, several in by_name.items()}
    means = {name: np.mean(several, axis=0) for name, several in complete.items() if several}
    if record is not None:  # in the order of the table, so that each keeps its colour
        order = [_labeller(record)(*pair) for pair in zip(record["names"], record["losses"], strict=True)]
        means = {name: means[name] for name in sorted(means, key=lambda name: order.index(name) if name in order else len(order))}
    epochs = np.arange(1, longest + 1)
    title = "Accuracy over the epochs" + (", mean over the seeds" if len(records) > 1 else "")
    figure = curves_plot(epochs, means, title=title, ylabel="top-1 (%)")
    columns = [Column("epoch", "epoch", "integer"), *(Column(name, name, "number") for name in means)]
    data = [dict(zip(["epoch", *means], map(float, row), strict=True)) for row in zip(epochs, *means.values(), strict=True)]
    return [Picture(figure, "", Table(title, columns, data), name="curves")]


def _gains(folder: Path, record: Mapping[str, Any]) -> list[Part]:
    """What each class gains from the baseline, the student that learns from the labels alone or else the first, to the others."""
    found = [one for one in (_confusions(seed, record) for seed in _seeds(folder)) if one is not None]
    if not found:
        return []
    label = _labeller(record)
    students = [(label(name, loss), loss) for name, loss in zip(record["names"], record["losses"], strict=True)]
    names = [name for name, _ in students if all(name in one.counts for one in found)]
    baseline = next((name for name, loss in students if loss == "none" and name in names), names[0] if names else "")
    others = [name for name in names if name != baseline][:_MOST_GAINS]
    return [gains_picture(found, name, baseline) for name in others]


def _confusions(seed: Path, record: Mapping[str, Any]) -> Confusions | None:
    """The confusions of all trainings of one seed."""
    found = [one for one in (training.confusions() for training in _Training.all_of(seed, record)) if one is not None]
    counts = {name: table for one in found for name, table in one.counts.items()}
    return Confusions(found[0].classes, counts) if found else None
