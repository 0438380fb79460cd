"""Line charts that compare rankings: correlation by budget band, and regret by budget."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from diswot.report.charts.axes import draw_zero_line, set_log_xaxis
from diswot.report.charts.labels import label_line_ends, missing_value_notes, short_label
from diswot.report.charts.style import LINE_STYLES, PAGE_WIDTH, Look, fix_layout, looks_of, new_figure, to_vector, with_chart_style
from diswot.report.tables import to_estimate
from diswot.statistics.ranked_values import Vector

_MAX_CURVES_WITH_INTERVALS = 3  # more intervals would hide the lines
LineStyle = dict[str, Any]  # arguments of `Axes.plot`


@dataclass(frozen=True)
class _Curve:
    """One line of a chart: its name, its values y, and the intervals (low, high) of these, each (k,); NaN where there is none."""

    name: str
    y: Vector
    low: Vector
    high: Vector

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Return for each point, (k,), whether there is a value."""
        return np.isfinite(self.y)


@with_chart_style
def band_plot(
    names: Sequence[str],
    bands: Mapping[str, Sequence[Any]],
    *,
    title: str,
    xlabel: str = "budget band",
    ylabel: str = "Spearman correlation inside the band",
    looks: Mapping[str, Look] | None = None,
) -> Figure:
    """Line chart of how well each proxy ranks the networks of one budget band, six of them in colour.

    Args:
        names: of the p proxies.
        bands: for each band's label, in order, p correlations in [-1, 1]: numbers or estimates, NaN where there is none. The intervals
            of estimates are drawn where there are at most three proxies; more would hide the lines.
        looks: of the proxies that are in colour; None for the best six on average.

    >>> figure = band_plot(["nwot", "params"], {"to 50M": [0.5, 0.1], "50M to 100M": [0.6, float("nan")]}, title="within budgets")
    >>> [line.get_label() for line in figure.axes[0].lines]
    ['nwot', 'params']
    """
    curves = _merge_equal([_curve_of(name, [band[index] for band in bands.values()]) for index, name in enumerate(names)])
    figure, axes = new_figure(_height(len(curves)), title, xlabel, ylabel, notes=_missing_notes(curves))
    x = np.arange(len(bands), dtype=np.float64)
    _set_band_ticks(axes, x, list(bands), max((len(short_label(curve.name)) for curve in curves), default=0))
    styles = _styles(curves, looks)
    lines = _draw_curves(axes, x, curves, styles)
    if len(curves) <= _MAX_CURVES_WITH_INTERVALS:
        for curve, style in zip(curves, styles, strict=True):
            axes.vlines(x, curve.low, curve.high, color=style["color"], lw=1, alpha=0.6)
    draw_zero_line(axes, np.array([curve.y for curve in curves]))
    label_line_ends(figure, axes, lines)
    return fix_layout(figure)


def _curve_of(name: str, cells: Sequence[Any]) -> _Curve:
    """A curve through numbers or estimates."""
    estimates = [to_estimate(cell) for cell in cells]
    y, low, high = np.array([(e.value, e.low, e.high) for e in estimates], np.float64).reshape(-1, 3).T
    return _Curve(name, y, low, high)


def _set_band_ticks(axes: Axes, x: Vector, labels: Sequence[str], label_length: int) -> None:
    """Labels the bands below the x axis, wrapped to the room that names of `label_length` characters at the right leave."""
    room = (PAGE_WIDTH - 1 - 0.06 * label_length) / max(len(labels), 1)  # inches for each band
    axes.set_xticks(x, [textwrap.fill(short_label(label), max(int(room * 11), 6)) for label in labels])
    axes.set_xlim(-0.2, max(len(labels) - 1, 0) + 0.2)


@with_chart_style
def regret_plot(
    budgets: ArrayLike,
    curves: Mapping[str, ArrayLike],
    baselines: Mapping[str, ArrayLike],
    *,
    title: str,
    xlabel: str = "budget (FLOPs)",
    ylabel: str = "regret (accuracy points)",
    looks: Mapping[str, Look] | None = None,
) -> Figure:
    """Line chart of the accuracy that is lost by taking a proxy's favourite within each budget, instead of the best network there.

    Args:
        budgets: (k,), positive, in FLOPs.
        curves: for each proxy (k,) regrets in accuracy points, 0 is best.
        baselines: the same for what needs no proxy ("most FLOPs", "random"): dashed and grey. Where they lie far above all proxies, the
            chart ends below them; a note says how high they reach.
        looks: of the proxies that are in colour; None for the six lowest on average.

    >>> figure = regret_plot([1e7, 1e8], {"nwot": [1.0, 0.5]}, {"random": [3.0, 2.0]}, title="regret")
    >>> figure.axes[0].get_xscale(), [line.get_label() for line in figure.axes[0].lines]
    ('log', ['random', 'nwot'])
    """
    x = to_vector(budgets)
    order = np.argsort(x)
    dashed, solid = (
        _merge_equal([_curve_of(name, to_vector(y)[order].tolist()) for name, y in group.items()]) for group in (baselines, curves)
    )
    top = _top(dashed, solid)
    notes = [*_missing_notes([*dashed, *solid]), *_notes_above(dashed, top)]
    figure, axes = new_figure(_height(len(dashed) + len(solid)), title, xlabel, ylabel, notes=notes)
    lines = _draw_curves(axes, x[order], dashed, _dashed_styles(len(dashed), marker="_" if len(x) == 1 else ""))
    lines += _draw_curves(axes, x[order], solid, _styles(solid, looks, lower_is_better=True))
    set_log_xaxis(axes, x)
    if lines:
        axes.set_ylim(0, top)
    label_line_ends(figure, axes, lines)
    return fix_layout(figure)


def _merge_equal(curves: Sequence[_Curve]) -> list[_Curve]:
    """Merges curves with the same values, which would hide each other, into one that has all their names.

    >>> [curve.name for curve in _merge_equal([_curve_of("params", [1, 2]), _curve_of("nwot", [0, 0]), _curve_of("flops", [1, 2])])]
    ['params, flops', 'nwot']
    """
    groups: dict[bytes, list[_Curve]] = {}
    for curve in curves:
        groups.setdefault(np.round(curve.y, 12).tobytes(), []).append(curve)
    return [replace(group[0], name=", ".join(curve.name for curve in group)) for group in groups.values()]


def _missing_notes(curves: Sequence[_Curve]) -> list[str]:
    return missing_value_notes([curve.name for curve in curves if not curve.finite.any()])


def _height(count: int) -> float:
    """Inches that leave room for the names of `count` lines, one below the other."""
    return max(3.4, 0.155 * count + 1.2)


def _top(baselines: Sequence[_Curve], curves: Sequence[_Curve]) -> float | None:
    """Where the y axis ends: a little above the proxies, where baselines would take up more than half of the chart; else None."""
    highest = max((float(np.nanmax(curve.y)) for curve in curves if curve.finite.any()), default=0.0)
    above = max((float(np.nanmax(curve.y)) for curve in baselines if curve.finite.any()), default=0.0)
    return 1.25 * highest if above > 2 * highest > 0 else None


def _notes_above(curves: Sequence[_Curve], top: float | None) -> list[str]:
    """The note that says how high the curves reach that leave the chart."""
    if top is None:
        return []
    highest = {short_label(curve.name): float(np.nanmax(curve.y)) for curve in curves if curve.finite.any()}
    reach = [f"{name} reaches {value:.3g}" for name, value in highest.items() if value > top]
    return [f"above the chart: {', '.join(reach)}"] if reach else []


def _styles(curves: Sequence[_Curve], looks: Mapping[str, Look] | None, lower_is_better: bool = False) -> list[LineStyle]:
    """A style for each line: in colour, with a marker of its own, where it has a look; the others thin and grey. Without looks the best six
    on average have one."""
    if looks is None:
        sign = -1 if lower_is_better else 1
        means = [sign * np.mean(curve.y[curve.finite]) if curve.finite.any() else -np.inf for curve in curves]
        looks = looks_of([curves[index].name for index in sorted(range(len(curves)), key=lambda index: -means[index])])
    found = [next((looks[name] for name in (curve.name, *curve.name.split(", ")) if name in looks), None) for curve in curves]
    order = list(looks.values())
    return [
        {"color": "#a8a8a8", "lw": 0.9, "marker": ".", "ms": 3.5, "zorder": 2}
        if look is None
        else {"color": look.color, "lw": 1.6, "marker": look.marker, "ms": 4.2, "mew": 0, "zorder": 4 - 0.1 * order.index(look)}
        for look in found
    ]


def _dashed_styles(count: int, marker: str) -> list[LineStyle]:
    """Styles for `count` lines, dark grey with different dashes first, then light grey."""
    looks = itertools.cycle(itertools.product(("#333333", "#7a7a7a"), LINE_STYLES))
    return [{"color": grey, "ls": ls, "lw": 1.2, "zorder": 3, "marker": marker, "ms": 7} for grey, ls in itertools.islice(looks, count)]


def _draw_curves(axes: Axes, x: Vector, curves: Sequence[_Curve], styles: Sequence[LineStyle]) -> list[Line2D]:
    """Draws the curves that have a value and returns their lines, labelled with their names."""
    return [
        axes.plot(x, np.where(curve.finite, curve.y, np.nan), label=short_label(curve.name), **style)[0]
        for curve, style in zip(curves, styles, strict=True)
        if curve.finite.any()
    ]
