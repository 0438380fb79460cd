"""Charts of trainings: curves over the epochs, confusions, gains by class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from diswot.report.charts.axes import add_colorbar
from diswot.report.charts.labels import label_line_ends, short_label
from diswot.report.charts.style import GREY, MARKERS, PAGE_WIDTH, PALETTE, SMALL_SIZE, fix_layout, new_figure, with_chart_style
from diswot.report.text import single_line

_MOST_NAMED_CLASSES = 30  # that have room for their names along an axis
_MOST_MARKED_EPOCHS = 40  # with a marker each
_MOST_GAINS = 20  # classes at each end of a chart of gains


@with_chart_style
def curves_plot(
    epochs: ArrayLike, curves: Mapping[str, ArrayLike], *, title: str, ylabel: str, reference: tuple[str, float] | None = None
) -> Figure:
    """Lines over the epochs of a training.

    Args:
        epochs: (n,).
        curves: by name (n,); NaN where there is no value. A logarithmic axis is taken where positive values span three decades.
        ylabel: what the values are, with their unit.
        reference: the name and the height of a dashed line, as the accuracy of a teacher.

    >>> figure = curves_plot([1, 2], {"ce": [2.0, 1.0], "kd": [0.5, 0.4]}, title="t", ylabel="loss")
    >>> [line.get_label() for line in figure.axes[0].lines]
    ['ce', 'kd']
    """
    x = np.asarray(epochs, np.float64)
    figure, axes = new_figure(max(2.8, 0.155 * len(curves) + 1.2), title, "epoch", ylabel)
    lines = []
    for number, (name, values) in enumerate(curves.items()):
        y = np.asarray(values, np.float64)
        if not np.isfinite(y).any():
            continue
        known = np.isfinite(y)
        place, size = number % len(PALETTE), 3 if len(x) <= _MOST_MARKED_EPOCHS else 0
        line = axes.plot(x[known], y[known], label=short_label(name), color=PALETTE[place], marker=MARKERS[place], lw=1.5, ms=size)
        lines += line
    if reference is not None:
        name, height = reference
        axes.axhline(height, color=GREY, lw=1.0, ls="--", zorder=1)
        where = {"transform": axes.get_yaxis_transform(), "va": "bottom"}
        axes.text(0.01, height, single_line(name), fontsize=SMALL_SIZE, color="#555555", **where)  # type: ignore[arg-type]
    if lines and _spans_decades([np.asarray(line.get_ydata(), np.float64) for line in lines]):
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    label_line_ends(figure, axes, lines)
    return fix_layout(figure)


def _spans_decades(values: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]) -> bool:
    """Whether all values are positive and the largest is a thousand times the smallest."""
    every = np.concatenate(values)
    return bool((every > 0).all() and every.max() >= 1e3 * every.min())


@with_chart_style
def confusion_plot(counts: ArrayLike, names: Sequence[str], *, title: str) -> Figure:
    """Heatmap of how often each class was taken for each other: a row is a class, in percent of its images; its own is on the diagonal.

    Args:
        counts: (n, n) images, by class and by what it was taken for.
        names: of the n classes; written where they have room.

    >>> figure = confusion_plot([[8, 2], [0, 10]], ["cat", "dog"], title="t")
    >>> [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    ['cat', 'dog']
    """
    table = np.asarray(counts, np.float64)
    share = 100 * table / np.maximum(table.sum(1, keepdims=True), 1)
    named = len(names) <= _MOST_NAMED_CLASSES
    figure, axes = new_figure(PAGE_WIDTH * 0.82, title, "taken for", "class", grid=None)
    cells = axes.imshow(share, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    ticks = range(len(names)) if named else []
    axes.set_xticks(
        ticks, [short_label(name) for name in names] if named else [], rotation=45, ha="right", rotation_mode="anchor", fontsize=SMALL_SIZE
    )
    axes.set_yticks(ticks, [short_label(name) for name in names] if named else [], fontsize=SMALL_SIZE)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if len(names) <= _MOST_NAMED_CLASSES / 2:
        for (row, column), value in np.ndenumerate(share):
            if value >= 0.5:
                color = "white" if value > 55 else "#222222"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=SMALL_SIZE, color=color)
    add_colorbar(figure, cells, axes, "percent of the class's images")
    return fix_layout(figure)


@with_chart_style
def gains_plot(names: Sequence[str], gains: ArrayLike, widths: ArrayLike, *, title: str, xlabel: str) -> Figure:
    """Dots for the gain of each class, the largest on top, with 95 % intervals; of many classes those at both ends.

    Args:
        names: of the n classes.
        gains: (n,) in points.
        widths: (n,) half-widths of the intervals; NaN where there is none.

    >>> figure = gains_plot(["cat", "dog"], [1.0, 3.0], [0.5, 0.5], title="t", xlabel="points")
    >>> [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    ['dog', 'cat']
    """
    gained, half = np.asarray(gains, np.float64), np.asarray(widths, np.float64)
    order = np.argsort(-gained, kind="stable")
    left_out = max(len(order) - 2 * _MOST_GAINS, 0)
    shown = np.concatenate([order[:_MOST_GAINS], order[-_MOST_GAINS:]]) if left_out else order
    notes = [f"the {left_out:,} classes between the {_MOST_GAINS} largest and the {_MOST_GAINS} smallest are left out"] if left_out else []
    notes += ["bar: 95 % interval"] if np.isfinite(half).any() else []
    figure, axes = new_figure(0.165 * len(shown) + 1.1, title, xlabel, grid="x", notes=notes)
    rows = np.arange(len(shown))
    colors = [PALETTE[0] if gained[index] >= 0 else PALETTE[1] for index in shown]
    axes.hlines(rows, gained[shown] - half[shown], gained[shown] + half[shown], color=colors, lw=1.0, alpha=0.6)
    axes.scatter(gained[shown], rows, s=16, color=colors, linewidths=0, zorder=3)
    axes.axvline(0, color="#222222", lw=0.7, zorder=1)
    axes.set_yticks(rows, [short_label(names[index]) for index in shown], fontsize=SMALL_SIZE)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    if math.isclose(*axes.get_xlim()):
        axes.set_xlim(-1, 1)
    return fix_layout(figure)
