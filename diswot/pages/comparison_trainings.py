"""The trainings of a comparison: their curves, and what each class gains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diswot.losses import split_expressions
from diswot.pages.confusions import Confusions, gains_picture
from diswot.pages.curves import Curves
from diswot.pages.run_files import RunFiles, with_charts
from diswot.report.charts import curves_plot
from diswot.report.html import Part
from diswot.report.pictures import Picture
from diswot.report.tables import Column, Table
from diswot.statistics.ranked_values import Vector


def labeller(record: Mapping[str, Any]) -> Callable[[str, str], str]:
    """A function that names a student and its loss by what tells them apart."""
    if len(set(record["names"])) == 1:
        return lambda name, loss: loss
    return (lambda name, loss: f"{name}, {loss}") if len(set(record["losses"])) > 1 else (lambda name, loss: name)


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
    label = labeller(record)
    return {student: label(*pair) for student, pair in zip(students, trained, strict=False)}


def _seeds(folder: Path) -> list[Path]:
    """The folders of the seeds, in order."""
    return sorted(folder.glob("seed-*"), key=lambda path: (len(path.name), path.name))


def curve_pictures(folder: Path, records: Sequence[Mapping[str, Any]]) -> list[Picture]:
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
        order = [labeller(record)(*pair) for pair in zip(record["names"], record["losses"], strict=True)]
        means = {name: means[name] for name in sorted(means, key=lambda name: order.index(name) if name in order else len(order))}
    epochs = np.arange(1, longest + 1)
    title = "Accuracy over the epochs" + (", mean over the seeds" if len(records) > 1 else "")
    figure = curves_plot(epochs, means, title=title, ylabel="top-1 (%)")
    columns = [Column("epoch", "epoch", "integer"), *(Column(name, name, "number") for name in means)]
    data = [dict(zip(["epoch", *means], map(float, row), strict=True)) for row in zip(epochs, *means.values(), strict=True)]
    return [Picture(figure, "", Table(title, columns, data), name="curves")]


def gains_pictures(folder: Path, record: Mapping[str, Any]) -> list[Part]:
    """What each class gains from the baseline, the student that learns from the labels alone or else the first, to the others."""
    found = [one for one in (_confusions(seed, record) for seed in _seeds(folder)) if one is not None]
    if not found:
        return []
    label = labeller(record)
    students = [(label(name, loss), loss) for name, loss in zip(record["names"], record["losses"], strict=True)]
    names = [name for name, _ in students if all(name in one.counts for one in found)]
    baseline = next((name for name, loss in students if loss == "none" and name in names), names[0] if names else "")
    others, note = with_charts([name for name in names if name != baseline])
    return [*(gains_picture(found, name, baseline) for name in others), *note]


def _confusions(seed: Path, record: Mapping[str, Any]) -> Confusions | None:
    """The confusions of all trainings of one seed."""
    found = [one for one in (training.confusions() for training in _Training.all_of(seed, record)) if one is not None]
    counts = {name: table for one in found for name, table in one.counts.items()}
    return Confusions(found[0].classes, counts) if found else None
