"""Forest plot: estimates with their intervals, one below the other."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diswot.report.charts.labels import estimate_label, short_label
from diswot.report.charts.style import DASHED, GREY, PALETTE, SMALL_SIZE, TEXT_COLOR, Look, fix_layout, new_figure, with_chart_style
from diswot.report.tables import to_estimate
from diswot.statistics.bootstrap import Estimate


@with_chart_style
def forest_plot(
    names: Sequence[str],
    estimates: Sequence[Any],
    *,
    title: str,
    baselines: Collection[str] = (),
    xlabel: str = "Spearman correlation with accuracy (bar: 95 % interval)",
    digits: int = 2,
    looks: Mapping[str, Look] | None = None,
) -> Figure:
    """Forest plot of each proxy's correlation, the best on top, the numbers beside; a thick bar is ± one deviation over seeds.

    Args:
        names: of the p proxies.
        estimates: p numbers or estimates in [-1, 1]; those without a value come last.
        baselines: names that need no proxy (params, FLOPs): drawn hollow, a dashed line at the best of them.
        looks: of the proxies that have a colour of their own; None for one colour for all.

    >>> figure = forest_plot(["nwot", "params"], [0.78, {"value": 0.72, "low": 0.71, "high": 0.73}], title="t", baselines=["params"])
    >>> [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    ['nwot', 'params']
    """
    rows = [(name, to_estimate(cell)) for name, cell in zip(names, estimates, strict=True)]
    rows.sort(key=lambda row: (math.isnan(row[1].value), -row[1].value))
    baseline_values = [estimate.value for name, estimate in rows if name in baselines and not math.isnan(estimate.value)]
    notes = ["thick: ± one standard deviation over seeds"] if any(estimate.spread is not None for _, estimate in rows) else []
    notes += ["hollow: baselines; dashed: the best of them"] if baseline_values else []
    figure, axes = new_figure(0.205 * len(rows) + 1.05 + 0.15 * bool(notes), title, xlabel, grid="x", notes=notes)
    for row, (name, estimate) in enumerate(rows):
        _draw_row(axes, row, name, estimate, _row_color(name, baselines, looks), is_baseline=name in baselines)
        axes.text(1.02, row, estimate_label(estimate, digits), transform=axes.get_yaxis_transform(), va="center", fontsize=SMALL_SIZE)
    axes.set_yticks(range(len(rows)), [short_label(name) for name, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    _draw_reference_lines(axes, max(baseline_values, default=None))
    return fix_layout(figure)


def _row_color(name: str, baselines: Collection[str], looks: Mapping[str, Look] | None) -> str:
    if name in baselines:
        return GREY
    if looks is None:
        return PALETTE[0]
    return looks[name].color if name in looks else "#8a8a8a"


def _draw_row(axes: Axes, row: int, name: str, estimate: Estimate, color: str, is_baseline: bool) -> None:
    """Draws the interval, the deviation over seeds and the value of one estimate."""
    axes.hlines(row, estimate.low, estimate.high, color=color, lw=1.1)
    if estimate.spread is not None:
        axes.hlines(row, estimate.value - estimate.spread, estimate.value + estimate.spread, color=color, lw=3.2, alpha=0.45)
    fill = "white" if is_baseline else color
    axes.plot(estimate.value, row, marker="o", ms=4.5, color=color, mfc=fill, label=short_label(name), ls="")


def _draw_reference_lines(axes: Axes, best_baseline: float | None) -> None:
    """Draws a dashed line at the best baseline, and a line at zero where the axis reaches to both sides of it."""
    if best_baseline is not None:
        axes.axvline(best_baseline, color=GREY, lw=0.8, ls=DASHED, zorder=1, label="_best baseline")
    low, high = axes.get_xlim()
    if low < 0 < high:
        axes.axvline(0, color=TEXT_COLOR, lw=0.7, zorder=1, label="_zero")
