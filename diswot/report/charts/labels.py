"""Names and numbers inside charts: how they are written, and where they cover nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import textalloc
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from diswot.report.charts.style import SMALL_SIZE, fix_limits, to_vector
from diswot.report.tables import format_estimate
from diswot.report.text import replace_minus, single_line
from diswot.statistics.ranked_values import Vector

_MAX_LABEL_LENGTH = 30  # characters


def short_label(name: str) -> str:
    """A name on one line, the middle of a long one left out.

    >>> short_label("a_name_of_more_than_thirty_characters")
    'a_name_of_more_…rty_characters'
    """
    line = single_line(name)
    half = _MAX_LABEL_LENGTH // 2
    return line if len(line) <= _MAX_LABEL_LENGTH else line[:half] + "…" + line[-(_MAX_LABEL_LENGTH - half - 1) :]


def estimate_label(cell: Any, digits: int) -> str:
    """An estimate as the text of a chart, with a true minus sign, a dash where there is no value.

    >>> estimate_label(-0.5, 1), estimate_label(None, 1)
    ('−.5', '–')
    """
    text = str(format_estimate(cell, digits))
    return "–" if text == "-" else replace_minus(text)


def missing_value_notes(names: Sequence[str]) -> list[str]:
    """The note that lists the names which have no value; no note where there are no names."""
    return [f"no value: {', '.join(map(single_line, names))}"] if names else []


def text_color(color: Any) -> tuple[float, float, float]:
    """A darker shade of a line's colour, since text needs more contrast than a line."""
    red, green, blue = to_rgb(color)
    return 0.72 * red, 0.72 * green, 0.72 * blue


def label_line_ends(figure: Figure, axes: Axes, lines: Sequence[Line2D]) -> None:
    """Writes each line's label to the right of its last point, in its colour, moved up or down as little as keeps labels apart."""
    if not lines:
        return
    fix_limits(figure, axes)
    axes_height = axes.get_window_extent().height / figure.dpi * 72  # points
    low, high = sorted(axes.get_ylim())
    ends = [(x, min(max(y, low), high)) for x, y in map(_last_point, lines)]  # of a line that leaves the chart, where it does
    fractions = axes.transAxes.inverted().transform(axes.transData.transform(ends))
    right = float(fractions[:, 0].max()) + 0.035
    heights = spread_apart(fractions[:, 1], 1.22 * SMALL_SIZE / axes_height)
    for line, end, height in zip(lines, ends, heights, strict=True):
        arrow = {"arrowstyle": "-", "color": line.get_color(), "lw": 0.5, "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 3}
        style: dict[str, Any] = {"fontsize": SMALL_SIZE, "color": text_color(line.get_color()), "va": "center", "arrowprops": arrow}
        axes.annotate(str(line.get_label()), end, xytext=(right, float(height)), textcoords="axes fraction", **style)


def _last_point(line: Line2D) -> tuple[float, float]:
    """The coordinates of the last point of a line that is not NaN."""
    x, y = (np.asarray(values, np.float64) for values in line.get_data())
    last = np.flatnonzero(np.isfinite(y))[-1]
    return float(x[last]), float(y[last])


def spread_apart(positions: ArrayLike, gap: float) -> Vector:
    """The positions moved as little as possible (least squares) so that they lie `gap` apart, inside [0, 1] where they fit.

    >>> spread_apart([0.5, 0.5, 0.9], 0.25).round(3).tolist()
    [0.375, 0.625, 0.9]
    """
    wanted = to_vector(positions)
    if not len(wanted):
        return wanted
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(wanted))
    # Less the steps, positions that are `gap` apart are a sequence that never falls: isotonic regression finds the nearest one.
    rising = isotonic_regression(wanted[order] - steps).x
    result = np.empty(len(wanted))
    result[order] = np.clip(rising, 0, max(1 - steps[-1], 0)) + steps
    return result


def label_points(
    figure: Figure, axes: Axes, names: Sequence[str], points: Vector, colors: Sequence[str], obstacles: Sequence[Vector]
) -> None:
    """Writes each name near its point, where it covers no other name, no point and no obstacle, if there is such a place.

    Args:
        points: (n, 2), in data coordinates.
        colors: (n,) of the points.
        obstacles: lines, each (k, 2) in data coordinates.
    """
    fix_limits(figure, axes)
    if not names:
        return
    x, y = points.T
    textalloc.allocate(
        axes,
        x,
        y,
        [short_label(name) for name in names],
        x_scatter=x,
        y_scatter=y,
        x_lines=[line[:, 0] for line in obstacles],
        y_lines=[line[:, 1] for line in obstacles],
        textsize=SMALL_SIZE,
        textcolor=[text_color(color) for color in colors],
        linecolor=list(colors),
        linewidth=0.45,
        max_distance=0.4,
        avoid_label_lines_overlap=True,
        avoid_crossing_label_lines=True,
    )
