"""Charts of a search: how the best candidate improved, what score costs, and which choices evolution moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike

from diswot.report.charts.axes import add_colorbar, set_log_xaxis
from diswot.report.charts.labels import label_line_ends, label_points, short_label
from diswot.report.charts.style import DASHED, DOTTED, GREY, LIGHT_GREY, PALETTE, SMALL_SIZE, fix_layout, new_figure, with_chart_style
from diswot.statistics.ranked_values import Vector

CANDIDATES = "candidates"  # the id of the points that are candidates
_YLABEL = "rank among all candidates (1 is best)"


@with_chart_style
def progress_plot(
    index: ArrayLike, rank: ArrayLike, is_random: ArrayLike, curves: Mapping[str, tuple[ArrayLike, ArrayLike]], *, title: str
) -> Figure:
    """Every candidate's rank over the search, and how the best rank improved.

    Args:
        index: (n,) numbers of the candidates, from 1.
        rank: (n,) from 1, the best.
        is_random: (n,) whether it was drawn at random; the others were bred from one before them.
        curves: by name, the candidates scored (k,) and the best rank by then (k,); the first in full, the others dashed.

    >>> figure = progress_plot([1, 2, 3], [3, 1, 2], [True, False, False], {"this search": ([1, 2], [3, 1])}, title="t")
    >>> figure.axes[0].get_yscale(), [line.get_label() for line in figure.axes[0].lines]
    ('log', ['this search'])
    """
    x, y, drawn = np.asarray(index, np.float64), np.asarray(rank, np.float64), np.asarray(is_random, bool)
    figure, axes = new_figure(3.6, title, "candidates scored", _YLABEL, notes=["grey: drawn at random; blue: bred from an earlier one"])
    axes.scatter(x, y, s=7, color=np.where(drawn, "#9a9a9a", PALETTE[5]), alpha=0.75, linewidths=0, gid=CANDIDATES)
    lines = []
    for number, (name, (across, up)) in enumerate(curves.items()):
        style = {"color": PALETTE[0], "lw": 1.8} if not number else {"color": "#444444", "lw": 1.4, "ls": DASHED}
        lines.append(axes.step(across, up, where="post", label=short_label(name), zorder=4, **style)[0])  # type: ignore[arg-type]
    _set_rank_axis(axes, y)
    label_line_ends(figure, axes, lines)
    return fix_layout(figure)


def _set_rank_axis(axes: Axes, rank: Vector) -> None:
    """Makes the y axis logarithmic, the best rank on top."""
    axes.set_yscale("log")
    axes.set_ylim(max(float(rank.max(initial=1)), 2) * 1.3, 0.8)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


@dataclass(frozen=True)
class Mark:
    """A network that is named in a chart.

    Attributes:
        name: what is written beside it.
        x, y: its place, in data coordinates.
        stands_out: whether it is drawn large.
    """

    name: str
    x: float
    y: float
    stands_out: bool = False


@with_chart_style
def tradeoff_plot(
    cost: ArrayLike,
    rank: ArrayLike,
    *,
    title: str,
    xlabel: str,
    limits: tuple[float | None, float | None] = (None, None),
    on_front: ArrayLike = (),
    marks: Sequence[Mark] = (),
) -> Figure:
    """Every candidate's rank over one of its costs, with the budget, the front of cost and rank, and networks by name.

    Args:
        cost: (n,) positive.
        rank: (n,) from 1, the best.
        xlabel: what the cost is, with its unit.
        limits: of the budget, lowest and highest; None where there is none.
        on_front: the places of the candidates, among the n, that no cheaper one is ranked before.
        marks: networks to name.

    >>> figure = tradeoff_plot([1e5, 2e5], [2, 1], title="t", xlabel="parameters", limits=(None, 2e5), marks=[Mark("winner", 2e5, 1, True)])
    >>> figure.axes[0].get_xscale(), [text.get_text() for text in figure.axes[0].texts]
    ('log', ['budget', 'winner'])
    """
    x, y, front = np.asarray(cost, np.float64), np.asarray(rank, np.float64), np.asarray(on_front, np.int64)
    figure, axes = new_figure(
        3.4, title, xlabel, _YLABEL, notes=["dotted: of no candidate here is a cheaper one ranked before"] * bool(len(front))
    )
    axes.scatter(x, y, s=7, color=GREY, alpha=0.55, linewidths=0, gid=CANDIDATES)
    order = front[np.argsort(x[front])]
    axes.step(x[order], y[order], where="post", color=PALETTE[2], lw=1.1, ls=DOTTED, zorder=2)
    ends = [limit for limit in limits if limit]
    set_log_xaxis(axes, np.concatenate([x, [mark.x for mark in marks], ends]))
    _set_rank_axis(axes, np.concatenate([y, [mark.y for mark in marks]]))
    for limit in ends:
        axes.axvline(limit, color=PALETTE[1], lw=1.0, ls=DASHED, zorder=1)
    if ends:
        style = {"ha": "center", "va": "bottom", "fontsize": SMALL_SIZE, "color": PALETTE[1]}
        axes.text(ends[-1], 1.01, "budget", transform=axes.get_xaxis_transform(), **style)  # type: ignore[arg-type]
    _draw_marks(figure, axes, marks)
    return fix_layout(figure)


def _draw_marks(figure: Figure, axes: Axes, marks: Sequence[Mark]) -> None:
    """Draws and names the marked networks."""
    colors = [PALETTE[0] if mark.stands_out else "#333333" for mark in marks]
    for mark, color in zip(marks, colors, strict=True):
        marker, size = ("*", 11.0) if mark.stands_out else ("o", 4.5)
        axes.plot(mark.x, mark.y, color=color, marker=marker, ms=size, mec="white", mew=0.5, zorder=5, ls="")
    points = np.array([(mark.x, mark.y) for mark in marks], np.float64).reshape(-1, 2)
    label_points(figure, axes, [mark.name for mark in marks], points, colors, [])


@with_chart_style
def choices_plot(places: Sequence[str], shares: ArrayLike, *, title: str) -> Figure:
    """Heatmap of how the winner's choices spread through the search: for each choice and each part of the search, the share of the
    candidates that have what the winner has.

    Args:
        places: the k choices, each with the winner's value.
        shares: (k, parts) in [0, 1].

    >>> figure = choices_plot(["depth = 3"], [[0.2, 0.9]], title="t")
    >>> [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    ['depth = 3']
    """
    table = np.asarray(shares, np.float64).reshape(len(places), -1)
    figure, axes = new_figure(0.2 * len(places) + 1.1, title, "part of the search, from its beginning to its end", grid=None)
    cells = axes.pcolormesh(100 * table, cmap="Blues", vmin=0, vmax=100, edgecolors="white", linewidth=0.8)
    axes.set_xticks(np.arange(table.shape[1]) + 0.5, [str(number + 1) for number in range(table.shape[1])])
    axes.set_yticks(np.arange(len(places)) + 0.5, [short_label(place) for place in places], fontsize=SMALL_SIZE)
    axes.set_ylim(len(places), 0)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_facecolor(LIGHT_GREY)
    add_colorbar(figure, cells, axes, "share with the winner's choice (%)", ticks=[0, 25, 50, 75, 100])
    return fix_layout(figure)
