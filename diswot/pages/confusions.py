"""What a network takes the images of each class for, and what each class gains from one network to another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from diswot.distillation.recipe import CONFUSIONS
from diswot.report.charts import confusion_plot, gains_plot
from diswot.report.pictures import Picture
from diswot.report.tables import Column, Table
from diswot.report.text import file_name
from diswot.runs import read_arrays
from diswot.statistics.ranked_values import Vector

TEACHER = "teacher"  # what the teacher is called among the networks
_MOST_PAIRS = 10  # of classes, in the table of what is confused most


@dataclass(frozen=True)
class Confusions:
    """For each network, by its name, how many images of each class (a row) it took for each class (a column).

    Attributes:
        classes: names of the n classes.
        counts: (n, n) by network.
    """

    classes: Sequence[str]
    counts: Mapping[str, NDArray[np.int64]]

    @classmethod
    def read(cls, folder: Path) -> Confusions | None:
        """Read those of a training's folder; None where there are none that can be read."""
        found = read_arrays(folder / CONFUSIONS)
        if found is None or not {"networks", "classes"} <= set(found):
            return None
        classes = [str(name) for name in found["classes"]]
        counts = {str(name): np.asarray(found.get(f"network{number}", [])) for number, name in enumerate(found["networks"])}
        counts = {name: table for name, table in counts.items() if table.shape == (len(classes), len(classes))}
        return cls(classes, counts) if counts else None

    def right(self, name: str) -> Vector:
        """(n,) the share of each class's images that a network knows; NaN of a class without images."""
        table = self.counts[name]
        images = table.sum(1)
        return np.asarray(np.where(images > 0, table.diagonal() / np.maximum(images, 1), np.nan), np.float64)


def confusion_picture(confusions: Confusions, name: str) -> Picture:
    """The confusions of one network."""
    counts, classes = confusions.counts[name], confusions.classes
    title = f"What {name} takes each class for"
    columns = [Column("class", "class"), *(Column(f"as_{number}", label, "integer") for number, label in enumerate(classes))]
    rows: list[dict[str, Any]] = [
        {"class": label, **{f"as_{number}": int(count) for number, count in enumerate(row)}}
        for label, row in zip(classes, counts, strict=True)
    ]
    return Picture(confusion_plot(counts, classes, title=title), "", Table(title, columns, rows), name=file_name(f"confusion_{name}"))


def most_confused(confusions: Confusions, name: str) -> Table:
    """The pairs of classes of which one is taken for the other most often."""
    off = confusions.counts[name].copy()
    images = off.sum(1)
    np.fill_diagonal(off, 0)
    order = np.argsort(-off, axis=None, kind="stable")[:_MOST_PAIRS]
    pairs = [divmod(int(place), len(off)) for place in order if off.flat[place] > 0]
    columns = [
        Column("class", "class"),
        Column("taken_for", "taken for"),
        Column("images", "images", "integer"),
        Column("share", "% of its images", "number", 1),
    ]
    rows = [
        {"class": confusions.classes[a], "taken_for": confusions.classes[b], "images": int(off[a, b]), "share": 100 * off[a, b] / images[a]}
        for a, b in pairs
    ]
    return Table(f"What {name} confuses most", columns, rows)


def gains_picture(seeds: Sequence[Confusions], name: str, baseline: str) -> Picture:
    """What each class gains from the baseline to a network, in points, mean over the seeds.

    Args:
        seeds: the confusions of each seed; each has both networks.
        name, baseline: of the two networks.
    """
    gains = 100 * np.array([one.right(name) - one.right(baseline) for one in seeds])
    widths = _seed_widths(gains) if len(seeds) > 1 else _image_widths(seeds[0], name, baseline)
    mean, classes = gains.mean(0), seeds[0].classes
    known = np.isfinite(mean)
    title = f"What each class gains from {baseline} to {name}"
    figure = gains_plot(
        [label for label, is_known in zip(classes, known, strict=True) if is_known],
        mean[known],
        widths[known],
        title=title,
        xlabel="accuracy points",
    )
    origin = f"over {len(seeds)} seeds" if len(seeds) > 1 else "by the number of its images, as if they were different ones for both"
    columns = [Column("class", "class"), Column("gain", "gain", "estimate", 2)]
    rows = [
        {"class": label, "gain": {"value": float(gain), "low": float(gain - width), "high": float(gain + width)}}
        for label, gain, width in zip(classes, mean, widths, strict=True)
    ]
    return Picture(figure, f"Intervals {origin}.", Table(title, columns, rows), name=file_name(f"gains_{name}_over_{baseline}"))


def _seed_widths(gains: Vector) -> Vector:
    """Half-widths (n,) of 95 % intervals over the seeds (Student's t), of gains (seeds, n)."""
    count = len(gains)
    return np.asarray(special.stdtrit(count - 1, 0.975) * gains.std(0, ddof=1) / math.sqrt(count), np.float64)


def _image_widths(one: Confusions, name: str, baseline: str) -> Vector:
    """Half-widths (n,) of 95 % intervals, in points, of the difference of two shares of independent images."""
    variance = np.zeros(len(one.classes))
    for network in (name, baseline):
        share, images = one.right(network), np.maximum(one.counts[network].sum(1), 1)
        variance += share * (1 - share) / images
    return np.asarray(100 * special.ndtri(0.975) * np.sqrt(variance), np.float64)
