"""Scatter plot of accuracy over the rank of a score, as points or as a density."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, LogNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from diswot.report.charts.axes import add_colorbar, set_log_ticks, set_log_xaxis, slice_colormap
from diswot.report.charts.style import GREY, LIGHT_GREY, MARKERS, PALETTE, TEXT_SIZE, fix_layout, new_figure, to_vector, with_chart_style
from diswot.report.text import single_line
from diswot.statistics.ranked_values import Vector

POINTS = "points"  # the id of the points, which are in the order of what was given
MAX_POINTS = 2000  # more are drawn as a density
_XLABEL = "rank of the score (percent of networks below)"
_COUNT_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000)  # networks in a cell of a density
_CORNERS = ((0.97, 0.06), (0.03, 0.94), (0.03, 0.06), (0.97, 0.94))  # fractions of the axes, the first of equals is taken


@with_chart_style
def rank_scatter(
    score: ArrayLike,
    accuracy: ArrayLike,
    size: ArrayLike | None = None,
    *,
    title: str,
    ylabel: str = "accuracy (%)",
    corner_text: str = "",
    size_label: str = "FLOPs",
) -> Figure:
    """Scatter plot of accuracy over the rank of a proxy's score. Networks without a finite score or accuracy are left out; a note tells.

    More than 2,000 networks are a density; fewer are points, coloured by size where sizes are given. Where a few networks lie so far
    below all others that they would take up a third of the chart, it ends above them, and arrows at its lower edge mark them.

    Args:
        score: (n,), any scale, higher is better.
        accuracy: (n,), in percent.
        size: (n,), positive (FLOPs, parameters).
        corner_text: what stands in the emptiest corner, e.g. "Spearman .71 [.70, .72]".
        size_label: what `size` is, with its unit.

    >>> figure = rank_scatter(range(50), np.linspace(60, 90, 50), title="nwot", corner_text="Spearman 1.0")
    >>> len(figure.axes[0].collections[0].get_offsets()), figure.axes[0].texts[0].get_text()
    (50, 'Spearman 1.0')
    """
    scores, accuracies = to_vector(score), to_vector(accuracy)
    finite = np.isfinite(scores) & np.isfinite(accuracies)
    x, y = _percent_below(scores[finite]), accuracies[finite]
    lower_limit = _lower_limit(y)
    visible = y >= lower_limit
    left_out, below = int((~finite).sum()), int((~visible).sum())
    notes = [f"{left_out:,} of {len(finite):,} without a finite value are not shown"] if left_out else []
    notes += [f"{below:,} between {y.min():.3g} and {y[~visible].max():.3g} are only marked at the foot"] if below else []
    figure, axes = new_figure(3.6, title, _XLABEL, ylabel, notes=notes)
    axes.set_xlim(-2, 102)
    if visible.sum() > MAX_POINTS:
        _draw_density(figure, axes, x[visible], y[visible])
    else:
        _draw_points(figure, axes, x[visible], y[visible], None if size is None else to_vector(size)[finite][visible], size_label)
    _set_ylim(axes, y[visible])
    _mark_below(axes, x[~visible])
    _write_in_corner(axes, x[visible], y[visible], corner_text)
    return fix_layout(figure)


def shown_points(score: ArrayLike, accuracy: ArrayLike) -> NDArray[np.intp]:
    """The numbers of the networks that `rank_scatter` draws a point for, in order; none where it draws a density."""
    scores, accuracies = to_vector(score), to_vector(accuracy)
    finite = np.isfinite(scores) & np.isfinite(accuracies)
    shown = np.flatnonzero(finite & (accuracies >= _lower_limit(accuracies[finite])))
    return shown if len(shown) <= MAX_POINTS else shown[:0]


def _percent_below(scores: Vector) -> Vector:
    """Return the ranks (n,) of values, from 0 to 100."""
    return np.asarray(100 * (rankdata(scores) - 1) / max(len(scores) - 1, 1), np.float64)


def _lower_limit(y: Vector) -> float:
    """Return the least value of the y axis: -inf, or above a few outliers (4 % at most) that would stretch it by half and more."""
    if len(y) < 20:
        return -math.inf
    low, high = np.quantile(y, [0.04, 1])
    return float(low - (high - low) / 4) if low - y.min() > (high - low) / 2 else -math.inf


def _set_ylim(axes: Axes, y: Vector) -> None:
    """Sets the limits of the y axis a twentieth outside the data."""
    if len(y):
        margin = 0.05 * (y.max() - y.min()) or 1.0
        axes.set_ylim(y.min() - margin, y.max() + margin)


def _mark_below(axes: Axes, x: Vector) -> None:
    """Draws an arrow for each half percent that has networks below the axes: they may be thousands, and are told apart no finer."""
    places = np.unique((2 * x).round() / 2)
    axes.plot(places, np.full(len(places), 0.012), marker="v", ms=2.5, ls="", color=GREY, mew=0, transform=axes.get_xaxis_transform())


def _draw_density(figure: Figure, axes: Axes, x: Vector, y: Vector) -> None:
    """Draws hexagonal cells, coloured by the number of networks in each."""
    cells = axes.hexbin(x, y, gridsize=(60, 18), mincnt=1, linewidths=0.2)
    highest = float(np.asarray(cells.get_array()).max())
    edges: list[float] = [step for step in _COUNT_STEPS if step <= highest]
    edges = [*edges, highest + 1] if len(edges) > 1 else [1, 2, 3]
    cells.set(cmap=slice_colormap("Blues", len(edges) - 1, 0.22), norm=BoundaryNorm(edges, len(edges) - 1))
    add_colorbar(figure, cells, axes, "networks per cell", spacing="uniform", ticks=edges[:-1])


def _draw_points(figure: Figure, axes: Axes, x: Vector, y: Vector, size: Vector | None, size_label: str) -> None:
    """Draws points, coloured by size on a logarithmic scale; grey where a point has no positive size."""
    area = 14 if len(x) < 500 else 7
    if size is None or not (size[np.isfinite(size)] > 0).any():
        axes.scatter(x, y, s=area, color=PALETTE[0], alpha=0.6, linewidths=0, gid=POINTS)
        return
    positive = np.where(size > 0, size, np.nan)
    low, high = np.nanmin(positive), np.nanmax(positive)
    colormap = slice_colormap("viridis_r", 40, 0.08).with_extremes(bad=LIGHT_GREY)  # 40: a bar of 50 or more becomes a bitmap
    norm = LogNorm(low, max(high, low * 1.01))
    points = axes.scatter(x, y, s=area, c=positive, cmap=colormap, norm=norm, linewidths=0, plotnonfinite=True, gid=POINTS)
    set_log_ticks(add_colorbar(figure, points, axes, size_label).ax.yaxis)


def _write_in_corner(axes: Axes, x: Vector, y: Vector, text: str) -> None:
    """Writes a text into the corner with the fewest points around it."""
    if not text:
        return
    low, high = axes.get_ylim()
    beside = {0.97: x > 60, 0.03: x < 40}
    near = {0.94: y > high - 0.2 * (high - low), 0.06: y < low + 0.2 * (high - low)}
    across, up = min(_CORNERS, key=lambda corner: int((beside[corner[0]] & near[corner[1]]).sum()))
    sides = {"ha": "left" if across < 0.5 else "right", "va": "bottom" if up < 0.5 else "top"}
    box = {"boxstyle": "square,pad=0.25", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    axes.text(across, up, single_line(text), transform=axes.transAxes, fontsize=TEXT_SIZE + 0.5, bbox=box, **sides)  # type: ignore[arg-type]


@with_chart_style
def cost_scatter(
    cost: ArrayLike, accuracy: ArrayLike, groups: Sequence[str], *, title: str, xlabel: str, ylabel: str = "accuracy (%)"
) -> Figure:
    """Scatter plot of accuracy over a cost, on a logarithmic axis, in a colour for each group; the points of a group have the id
    `points-GROUP`.

    Args:
        cost: (n,) positive.
        accuracy: (n,).
        groups: (n,) names, six different ones at most.

    >>> figure = cost_scatter([1e5, 2e5], [60, 61], ["random", "random"], title="t", xlabel="parameters")
    >>> len(figure.axes[0].collections[0].get_offsets()), figure.axes[0].get_xscale()
    (2, 'log')
    """
    x, y, names = to_vector(cost), to_vector(accuracy), list(dict.fromkeys(groups))
    figure, axes = new_figure(3.4, title, xlabel, ylabel)
    of_group = np.array([names.index(group) for group in groups], np.int64)
    for number, (name, color, marker) in enumerate(zip(names, PALETTE, MARKERS, strict=False)):
        own = of_group == number
        axes.scatter(
            x[own], y[own], s=16, color=color, marker=marker, alpha=0.75, linewidths=0, label=single_line(name), gid=f"{POINTS}-{name}"
        )
    set_log_xaxis(axes, x)
    if len(names) > 1:
        axes.legend(frameon=False, fontsize=TEXT_SIZE, loc="best")
    return fix_layout(figure)
