"""Heatmap of the correlations between rankings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap, ListedColormap, to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from diswot.report.charts.axes import add_colorbar
from diswot.report.charts.labels import estimate_label, short_label
from diswot.report.charts.style import LIGHT_GREY, SMALL_SIZE, TEXT_COLOR, fix_layout, new_figure, with_chart_style
from diswot.statistics.ranked_values import Vector

_LUMA = (0.299, 0.587, 0.114)  # how bright red, green and blue look, ITU-R BT.601
_LINES_PER_CELL = 2.9  # as many lines of its numbers' size as a cell has room for


@with_chart_style
def correlation_heatmap(names: Sequence[str], correlations: ArrayLike, *, title: str, label: str = "Spearman correlation") -> Figure:
    """Heatmap of correlations between proxies, with numbers, ordered so that proxies which rank alike stand together.

    Args:
        names: of the p proxies.
        correlations: (p, p), symmetric, in [-1, 1]; NaN is grey.

    >>> figure = correlation_heatmap(["a", "b", "c"], [[1, 0, 0.9], [0, 1, 0], [0.9, 0, 1]], title="alike")
    >>> [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    ['a', 'c', 'b']
    """
    table = np.asarray(correlations, np.float64).reshape(len(names), len(names))
    order = cluster_order(table)
    table, labels = table[np.ix_(order, order)], [short_label(names[index]) for index in order]
    count, longest = max(len(names), 1), max(map(len, labels), default=0)
    side = count * min(max(5.2 / count, 0.235), 0.42)  # inches
    width = max(side + 0.9 + 0.065 * longest, 3.6)
    figure, axes = new_figure(side + 0.6 + 0.045 * longest, title, grid=None, width=width)
    colormap = matplotlib.colormaps["RdBu_r"].resampled(20).with_extremes(bad=LIGHT_GREY)
    cells = _draw_cells(axes, table, colormap)
    axes.set(aspect="equal", xlim=(0, count), ylim=(count, 0))
    _write_numbers(axes, table, colormap, min(SMALL_SIZE, 72 * side / count / _LINES_PER_CELL))
    _set_ticks(axes, labels)
    add_colorbar(figure, cells, axes, label, shrink=0.8, ticks=[-1, -0.5, 0, 0.5, 1])
    return fix_layout(figure)


def cluster_order(correlations: ArrayLike) -> list[int]:
    """An order of p variables in which correlated ones are neighbours: the leaves of a hierarchical clustering, average linkage.

    Args:
        correlations: (p, p); what is not finite counts as 0.

    >>> cluster_order([[1, 0, 0.9], [0, 1, 0], [0.9, 0, 1]])
    [0, 2, 1]
    """
    table = np.nan_to_num(np.asarray(correlations, np.float64), posinf=0, neginf=0)
    if len(table) < 3:
        return list(range(len(table)))
    distances = np.clip(1 - (table + table.T) / 2, 0, 2)
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances, checks=False), "average", optimal_ordering=True)
    order = [int(leaf) for leaf in leaves_list(tree)]
    return order if order[0] < order[-1] else order[::-1]


def _draw_cells(axes: Axes, table: Vector, colormap: Colormap) -> QuadMesh:
    """Draws a coloured cell for each correlation; the diagonal is white, for a ranking's correlation with itself says nothing."""
    diagonal = np.eye(len(table), dtype=bool)
    axes.pcolormesh(np.ma.masked_where(~diagonal, diagonal), cmap=ListedColormap(["white"]), zorder=2)
    return axes.pcolormesh(np.ma.masked_invalid(table), cmap=colormap, vmin=-1, vmax=1, edgecolors="white", linewidth=0.8)


def _set_ticks(axes: Axes, labels: Sequence[str]) -> None:
    """Labels rows and columns, without tick marks and frame."""
    centers = np.arange(len(labels)) + 0.5
    axes.set_xticks(centers, labels, rotation=45, ha="right", rotation_mode="anchor", fontsize=SMALL_SIZE)
    axes.set_yticks(centers, labels, fontsize=SMALL_SIZE)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _write_numbers(axes: Axes, table: Vector, colormap: Colormap, size: float) -> None:
    """Writes each correlation into its cell, in white where the cell is dark."""
    for (row, column), value in np.ndenumerate(table):
        if row != column:
            dark = math.isfinite(value) and np.dot(to_rgb(colormap((value + 1) / 2)), _LUMA) < 0.55
            color = "white" if dark else TEXT_COLOR
            axes.text(column + 0.5, row + 0.5, estimate_label(value, 2), ha="center", va="center", fontsize=size, color=color)
