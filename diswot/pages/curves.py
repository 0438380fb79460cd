"""The curves of a training, read from its journals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diswot import runs
from diswot.pages.run_files import with_charts
from diswot.report.charts import curves_plot
from diswot.report.html import Part
from diswot.report.pictures import Picture
from diswot.report.tables import Column, Table
from diswot.runs import RunDir
from diswot.statistics.ranked_values import Vector
from diswot.training.loop import METRICS, TIMINGS

_TOP1 = "_top1"


@dataclass(frozen=True)
class Curves:
    """The lines of metrics.jsonl, and the images per second of each epoch.

    Attributes:
        history: the lines.
        speed: by epoch, from 1.
    """

    history: Sequence[Mapping[str, Any]]
    speed: Mapping[int, float]

    @classmethod
    def read(cls, folder: Path) -> Curves:
        """Read the journals of a training's folder, which may be under way."""
        run = RunDir.open(folder, runs.kind_of(folder), lock=False)[0]
        timings = {int(line["epoch"]): float(line["images_per_second"]) for line in run.read(TIMINGS)}
        return cls(run.read(METRICS), timings)

    @property
    def epochs_done(self) -> int:
        """How many epochs are done."""
        return len(self.history)

    @property
    def epochs(self) -> Vector:
        """(n,) the epochs, from 1."""
        return np.array([line["epoch"] for line in self.history], np.float64)

    def values(self, name: str) -> Vector:
        """(n,) a value of every epoch; NaN where an epoch has none."""
        return np.array([line.get(name, np.nan) for line in self.history], np.float64)

    def names(self) -> list[str]:
        """The names of all values but the epoch and the learning rate."""
        return list(dict.fromkeys(name for line in self.history for name in line if name not in ("epoch", "lr")))

    def speeds(self) -> list[float]:
        """The images per second of the epochs in which anything was measured."""
        return [speed for speed in self.speed.values() if speed > 0]

    def accuracy_pictures(self, reference: tuple[str, float] | None = None) -> list[Picture]:
        """The accuracies over the epochs."""
        names = [name for name in self.names() if name.endswith(_TOP1)]
        curves = {name.removesuffix(_TOP1): self.values(name) for name in names}
        return self._picture("accuracy", curves, "Accuracy over the epochs", "top-1 (%)", reference)

    def term_pictures(self) -> list[Part]:
        """The terms of the loss, with their weights, over the epochs: a chart for each student."""
        by_student: dict[str, dict[str, Vector]] = {}
        for name in self.names():
            if not name.endswith(_TOP1):
                student, _, term = name.rpartition("/")
                by_student.setdefault(student, {})[term] = self.values(name)
        drawn, note = with_charts(list(by_student))
        parts: list[Part] = []
        for number, student in enumerate(drawn, 1):
            title, name = (f"Terms of the loss, {student}", f"terms_{number}") if student else ("Terms of the loss", "terms")
            parts += self._picture(name, by_student[student], title, "mean over the epoch, weighted")
        return [*parts, *note]

    def rate_picture(self) -> list[Picture]:
        """The learning rate over the epochs."""
        return self._picture("learning_rate", {"lr": self.values("lr")}, "Learning rate", "learning rate")

    def speed_picture(self) -> list[Picture]:
        """The images per second over the epochs."""
        speeds = np.array([self.speed.get(int(epoch), np.nan) for epoch in self.epochs], np.float64)
        return self._picture("speed", {"images a second": speeds}, "Images a second, testing not counted", "images a second")

    def _picture(
        self, name: str, curves: Mapping[str, Vector], title: str, ylabel: str, reference: tuple[str, float] | None = None
    ) -> list[Picture]:
        if not any(np.isfinite(values).any() for values in curves.values()):
            return []
        figure = curves_plot(self.epochs, curves, title=title, ylabel=ylabel, reference=reference)
        columns = [Column("epoch", "epoch", "integer"), *(Column(curve, curve, "number") for curve in curves)]
        values = [self.epochs, *curves.values()]
        rows = [dict(zip(["epoch", *curves], map(float, row), strict=True)) for row in zip(*values, strict=True)]
        return [Picture(figure, "", Table(title, columns, rows), name=name)]
