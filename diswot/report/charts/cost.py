"""Chart of what a ranking costs and how good it is, with its Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from diswot.report.charts.axes import draw_zero_line, set_log_xaxis
from diswot.report.charts.labels import label_points, missing_value_notes
from diswot.report.charts.style import DOTTED, GREY, PALETTE, Look, fix_layout, new_figure, to_vector, with_chart_style
from diswot.statistics.ranked_values import Vector


@with_chart_style
def cost_plot(
    names: Sequence[str],
    cost: ArrayLike,
    value: ArrayLike,
    interval: ArrayLike | None = None,
    *,
    title: str,
    xlabel: str = "cost (milliseconds per network)",
    ylabel: str = "Spearman correlation with accuracy",
    looks: Mapping[str, Look] | None = None,
) -> Figure:
    """Scatter plot of a value over its cost: a proxy's correlation, or a student's accuracy; the Pareto front is joined by steps.

    Args:
        names: of the p proxies or students.
        cost: (p,), positive; those without a cost or a value are named below the figure.
        value: (p,) higher is better.
        interval: (p, 2) bounds of each value.
        looks: of the names that have a colour of their own; None for a colour for those on the front.

    >>> figure = cost_plot(["params", "nwot"], [0.1, 12.0], [0.72, 0.78], title="cost")
    >>> sorted(text.get_text() for text in figure.axes[0].texts)
    ['nwot', 'params']
    """
    points = np.column_stack([to_vector(cost), to_vector(value)])
    bounds = np.full((len(points), 2), np.nan) if interval is None else np.asarray(interval, np.float64).reshape(len(points), 2)
    known = np.isfinite(points).all(1) & (points[:, 0] > 0)
    notes = missing_value_notes([name for name, is_known in zip(names, known, strict=True) if not is_known])
    figure, axes = new_figure(4.0 + 0.05 * max(len(names) - 12, 0), title, xlabel, ylabel, notes=notes)
    points, bounds = points[known], bounds[known]
    x, y = points.T
    is_best = pareto_front(x, y)
    known_names = [name for name, is_known in zip(names, known, strict=True) if is_known]
    colors = np.where(is_best, PALETTE[0], GREY)
    if looks is not None:
        colors = np.array([looks[name].color if name in looks else GREY for name in known_names], dtype=object)
    front = points[is_best][np.argsort(x[is_best])]
    axes.vlines(x, bounds[:, 0], bounds[:, 1], color=colors, lw=0.9, alpha=0.55)
    axes.step(front[:, 0], front[:, 1], where="post", color=GREY, lw=0.8, ls=DOTTED, zorder=1)
    axes.scatter(x, y, s=18, color=colors, linewidths=0, zorder=3)
    set_log_xaxis(axes, np.concatenate([x / 1.3, x * 1.3]))
    draw_zero_line(axes, y)
    label_points(figure, axes, known_names, points, colors.tolist(), _lines_to_avoid(axes, points, bounds, front))
    return fix_layout(figure)


def pareto_front(cost: Vector, quality: Vector) -> NDArray[np.bool_]:
    """Return for each point, (n,), whether no other point is both as cheap and as good, and better in one of the two.

    >>> pareto_front(np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.4, 0.6])).tolist()
    [True, False, True]
    """
    no_worse = (cost[None] <= cost[:, None]) & (quality[None] >= quality[:, None])
    better = (cost[None] < cost[:, None]) | (quality[None] > quality[:, None])
    return np.asarray(~(no_worse & better).any(1), np.bool_)


def _lines_to_avoid(axes: Axes, points: Vector, bounds: Vector, front: Vector) -> list[Vector]:
    """The lines that a name may not cover, each (k, 2) in data coordinates: the intervals, the steps and the line at zero."""
    intervals = [np.array([(x, low), (x, high)]) for (x, _), (low, high) in zip(points, bounds, strict=True) if np.isfinite(low + high)]
    corners = np.column_stack([front[1:, 0], front[:-1, 1]])
    steps = np.concatenate([front[:1], np.stack([corners, front[1:]], 1).reshape(-1, 2)])
    return [*intervals, steps, np.array([(edge, 0.0) for edge in axes.get_xlim()])]
