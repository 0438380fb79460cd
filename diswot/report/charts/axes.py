"""Parts of axes that several charts share: logarithmic axes, the line at zero, colour bars."""

from __future__ import annotations

import math
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from diswot.report.charts.style import SMALL_SIZE, TEXT_COLOR
from diswot.report.text import single_line
from diswot.statistics.ranked_values import Vector


class LargeNumberFormatter(EngFormatter):
    """Formats ticks with k, M, G and T for thousands and more; numbers below one have no prefix.

    >>> [LargeNumberFormatter()(number) for number in (2e7, 1.5e9, 0.05)]
    ['20M', '1.5G', '0.05']
    """

    def __init__(self) -> None:
        super().__init__(sep="")
        self.ENG_PREFIXES = {0: "", 3: "k", 6: "M", 9: "G", 12: "T"}


def set_log_ticks(axis: Axis, subs: tuple[int, ...] = (1, 2, 5)) -> None:
    """Labels a logarithmic axis at `subs` of each decade, with plain numbers."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(LargeNumberFormatter())
    axis.set_minor_formatter(NullFormatter())


def set_log_xaxis(axes: Axes, x: Vector) -> None:
    """Makes the x axis logarithmic, with limits a little outside the positive values of `x`."""
    axes.set_xscale("log")
    positive = x[np.isfinite(x) & (x > 0)]
    low, high = (positive.min(), positive.max()) if len(positive) else (1.0, 10.0)
    margin = max((high / low) ** 0.04, 1.05 if high > low else 2.0)
    left, right = low / margin, high * margin
    axes.set_xlim(left, right)
    set_log_ticks(axes.xaxis, (1, 2, 5) if math.log10(right / left) < 3 else (1,))


def draw_zero_line(axes: Axes, values: Vector) -> None:
    """Draws a horizontal line at zero where a value is negative."""
    if (values < 0).any():
        axes.axhline(0, color=TEXT_COLOR, lw=0.7, zorder=1, label="_zero")


def add_colorbar(figure: Figure, mappable: ScalarMappable, axes: Axes, label: str, **options: Any) -> Colorbar:
    """Adds a thin colour bar without frame and tick marks; `options` go to `Figure.colorbar`."""
    bar = figure.colorbar(mappable, ax=axes, label=single_line(label), aspect=30, pad=0.02, **options)
    bar.outline.set_visible(False)
    bar.ax.minorticks_off()
    bar.ax.tick_params(length=0, labelsize=SMALL_SIZE)
    return bar


def slice_colormap(name: str, count: int, start: float) -> ListedColormap:
    """`count` colours of the part of a matplotlib colour map that begins at `start`, in [0, 1]."""
    return ListedColormap(matplotlib.colormaps[name](np.linspace(start, 1, count)))
