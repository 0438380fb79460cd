"""Figures of a study, for print and for the page: matplotlib's objects alone, so that nothing outside a figure is changed by it.

Every function returns a `Figure` whose layout is final; `save` and `svg` write it, the same bytes for the same values. Where many
lines share a figure, the best are in colour and told apart by their marks too; the others are grey, and all carry their name.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
import textwrap
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
import matplotlib.style
import numpy as np
import textalloc
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap, LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.optimize import isotonic_regression
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

from diswot.ranking import Estimate
from diswot.report.tables import clean, estimate_of, estimate_text
from diswot.runs import write_atomic

Vector = NDArray[np.float64]
P = ParamSpec("P")
T = TypeVar("T")

WIDTH = 6.3  # inches: the text of an A4 page
DENSE = 2000  # more points than this are shown as a density
_INK, _GREY, _FAINT = "#222222", "#767676", "#e2e2e2"
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's, told apart by the colour-blind
_MARKS = "osD^vP"
_DASHES: tuple[Any, ...] = ((0, (5, 2)), (0, (1, 1.3)), (0, (5, 1.5, 1, 1.5)), (0, (2, 2)))
_SMALL, _TEXT, _TITLE = 7.5, 8.5, 10  # points
_LONGEST = 30  # characters of a name
_STYLE = {
    "figure.facecolor": "white",
    "figure.dpi": 300,  # laid out at the size of the pixels of the PNG, or its text would be measured wrongly
    "text.hinting": "none",
    "font.size": _TEXT,
    "text.color": _INK,
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "svg.fonttype": "path",  # a reader without the font sees the same figure
    "svg.hashsalt": "diswot",
}


def _styled(function: Callable[P, T]) -> Callable[P, T]:
    """Runs a function under the same settings, whatever a user's matplotlibrc says."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with matplotlib.style.context(["default", _STYLE]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from")  # a box for a foreign letter is no reason to complain
            return function(*args, **kwargs)

    return run


def svg(figure: Figure) -> str:
    """A figure as SVG, its text as outlines; no date and no version in it."""
    return _drawn(figure, "svg").decode()


def save(figure: Figure, path: Path) -> list[Path]:
    """Writes `<path>.svg` and `<path>.png` (300 dots per inch), each whole or not at all, and says where."""
    paths = [path.with_name(f"{path.name}.{kind}") for kind in ("svg", "png")]
    for target in paths:
        write_atomic(target, _drawn(figure, target.suffix[1:]))
    return paths


@_styled
def _drawn(figure: Figure, kind: str) -> bytes:
    nothing = {"svg": ("Date", "Creator", "Format", "Type"), "png": ("Software",)}[kind]
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=300, metadata=dict.fromkeys(nothing))  # None leaves a key out
    return out.getvalue()


@_styled
def scatter(
    score: ArrayLike,
    accuracy: ArrayLike,
    size: ArrayLike | None = None,
    *,
    title: str,
    xlabel: str = "rank of the score (percent of networks below)",
    ylabel: str = "accuracy (%)",
    corner: str = "",
    size_label: str = "FLOPs",
) -> Figure:
    """The rank of a proxy's score against accuracy. Networks without a finite score or accuracy are left out, and said to be.

    More than 2,000 networks are a density; fewer are points, coloured by size where sizes are given. Where a few networks lie so far
    below all others that they would take up a third of the figure, it ends above them, and arrows at its foot mark them.

    Args:
        score: (n,), any scale, higher is better.
        accuracy: (n,), in percent.
        size: (n,), positive (FLOPs, parameters).
        corner: what stands in the emptiest corner, e.g. "Spearman .71 [.70, .72]".
        size_label: what `size` is, with its unit.

    >>> found = scatter(range(50), np.linspace(60, 90, 50), title="nwot", corner="Spearman 1.0")
    >>> len(found.axes[0].collections[0].get_offsets()), found.axes[0].texts[0].get_text()
    (50, 'Spearman 1.0')
    """
    scores, accuracies = _vector(score), _vector(accuracy)
    whole = np.isfinite(scores) & np.isfinite(accuracies)
    x, y = _percent_below(scores[whole]), accuracies[whole]
    foot = _foot(y)
    shown, hidden = y >= foot, int((y < foot).sum())
    notes = [f"{_count(~whole)} without a finite value are not shown"] * bool((~whole).any())
    figure, axes = _canvas(
        3.6, title, xlabel, ylabel, notes=[*notes, *[f"{hidden:,} below {foot:.3g} are only marked at the foot"] * (hidden > 0)]
    )
    axes.set_xlim(-2, 102)
    if shown.sum() > DENSE:
        _density(figure, axes, x[shown], y[shown])
    else:
        _points(figure, axes, x[shown], y[shown], None if size is None else _vector(size)[whole][shown], size_label)
    _limit(axes, y[shown])
    _mark_hidden(axes, x[~shown])
    _write_in_corner(axes, x[shown], y[shown], corner)
    return _finished(figure)


def _mark_hidden(axes: Axes, x: Vector) -> None:
    """An arrow for each half percent that has networks below the foot: they are told apart no finer, and may be thousands."""
    places = np.unique((2 * x).round() / 2)
    axes.plot(places, np.full(len(places), 0.012), marker="v", ms=2.5, ls="", color=_GREY, mew=0, transform=axes.get_xaxis_transform())


def _percent_below(scores: Vector) -> Vector:
    return np.asarray(100 * (rankdata(scores) - 1) / max(len(scores) - 1, 1), np.float64)


def _foot(y: Vector) -> float:
    """Where the axis may begin: anywhere, or above a few (4 % of all at most) that would stretch it by half and more."""
    if len(y) < 20:
        return -math.inf
    low, high = np.quantile(y, [0.04, 1])
    return float(low - (high - low) / 4) if low - y.min() > (high - low) / 2 else -math.inf


def _limit(axes: Axes, y: Vector) -> None:
    if len(y):
        margin = 0.05 * (y.max() - y.min()) or 1.0
        axes.set_ylim(y.min() - margin, y.max() + margin)


def _density(figure: Figure, axes: Axes, x: Vector, y: Vector) -> None:
    cells = axes.hexbin(x, y, gridsize=(60, 18), mincnt=1, linewidths=0.2)
    highest = float(np.asarray(cells.get_array()).max())
    edges: list[float] = [edge for edge in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000) if edge <= highest]
    edges = [*edges, highest + 1] if len(edges) > 1 else [1, 2, 3]
    cells.set(cmap=_shades("Blues", len(edges) - 1, 0.22), norm=BoundaryNorm(edges, len(edges) - 1))
    bar = figure.colorbar(cells, ax=axes, label="networks per cell", aspect=30, pad=0.02, spacing="uniform", ticks=edges[:-1])
    _plain_bar(bar)


def _shades(name: str, count: int, start: float, end: float = 1.0) -> ListedColormap:
    return ListedColormap(matplotlib.colormaps[name](np.linspace(start, end, count)))


def _points(figure: Figure, axes: Axes, x: Vector, y: Vector, size: Vector | None, label: str) -> None:
    area = 14 if len(x) < 500 else 7
    if size is None or not (size[np.isfinite(size)] > 0).any():
        axes.scatter(x, y, s=area, color=_COLOURS[0], alpha=0.6, linewidths=0)
        return
    fair = np.where(size > 0, size, np.nan)
    low, high = np.nanmin(fair), np.nanmax(fair)
    shades = _shades("viridis_r", 40, 0.08).with_extremes(bad=_FAINT)  # 40: a bar of 50 or more becomes a bitmap
    marks = axes.scatter(x, y, s=area, c=fair, cmap=shades, norm=LogNorm(low, max(high, low * 1.01)), linewidths=0, plotnonfinite=True)
    bar = figure.colorbar(marks, ax=axes, label=_plain(label, longest=None), aspect=30, pad=0.02)
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(_short_number))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    _plain_bar(bar)


def _plain_bar(bar: Any) -> None:
    bar.outline.set_visible(False)
    bar.ax.minorticks_off()
    bar.ax.tick_params(length=0, labelsize=_SMALL)


def _write_in_corner(axes: Axes, x: Vector, y: Vector, text: str) -> None:
    """Into the corner with the fewest points around it."""
    low, high = axes.get_ylim()
    right, top = x > 60, y > high - 0.2 * (high - low)
    left, bottom = x < 40, y < low + 0.2 * (high - low)
    counts = {(0.97, 0.06): right & bottom, (0.03, 0.94): left & top, (0.03, 0.06): left & bottom, (0.97, 0.94): right & top}
    across, up = min(counts, key=lambda place: int(counts[place].sum()))
    sides = {"ha": "left" if across < 0.5 else "right", "va": "bottom" if up < 0.5 else "top"}
    box = {"boxstyle": "square,pad=0.25", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    if text:
        axes.text(across, up, _plain(text, longest=None), transform=axes.transAxes, fontsize=_TEXT + 0.5, bbox=box, **sides)  # type: ignore[arg-type]


@_styled
def bands(
    names: Sequence[str],
    bands: Mapping[str, Sequence[Any]],
    *,
    title: str,
    xlabel: str = "budget band",
    ylabel: str = "Spearman correlation inside the band",
) -> Figure:
    """How well each proxy ranks the networks of one budget band: a line for each proxy, the best six on average in colour.

    Args:
        names: of the p proxies.
        bands: for each band's label, in order, p correlations in [-1, 1]: numbers or estimates, NaN where there is none. The bounds of
            estimates are drawn where there are at most three proxies; more would hide the lines.

    >>> found = bands(["nwot", "params"], {"to 50M": [0.5, 0.1], "50M to 100M": [0.6, float("nan")]}, title="within budgets")
    >>> [line.get_label() for line in found.axes[0].lines]
    ['nwot', 'params']
    """
    estimates = [[estimate_of(cell) for cell in band] for band in bands.values()]
    values = np.array([[e.value for e in band] for band in estimates], np.float64).reshape(len(bands), len(names)).T
    names, first = _named_together(names, list(values))
    values, estimates = values[first], [[band[row] for row in first] for band in estimates]
    notes = _without_value([name for name, line in zip(names, values, strict=True) if not np.isfinite(line).any()])
    figure, axes = _canvas(max(3.4, 0.155 * len(names) + 1.2), title, xlabel, ylabel, notes=notes)
    x = np.arange(len(bands), dtype=np.float64)
    room = (WIDTH - 1 - 0.06 * max((len(_plain(name)) for name in names), default=0)) / max(len(bands), 1)
    axes.set_xticks(x, [textwrap.fill(_plain(label), max(int(room * 11), 6)) for label in bands])
    axes.set_xlim(-0.2, max(len(bands) - 1, 0) + 0.2)
    looks = _looks(values.tolist())
    lines = _lines(axes, x, list(zip(names, values, strict=True)), looks)
    if len(names) <= 3:
        _whiskers(axes, x, estimates, looks)
    _mark_zero(axes, values)
    _name_ends(figure, axes, lines)
    return _finished(figure)


def _whiskers(axes: Axes, x: Vector, estimates: Sequence[Sequence[Estimate]], looks: Sequence[Mapping[str, Any]]) -> None:
    for row, look in enumerate(looks):
        axes.vlines(x, [band[row].low for band in estimates], [band[row].high for band in estimates], color=look["color"], lw=1, alpha=0.6)


def _named_together(names: Sequence[str], curves: Sequence[Vector]) -> tuple[list[str], list[int]]:
    """One name for all the curves that are the same, which would hide each other, and where the first of each is.

    >>> _named_together(["params", "nwot", "flops"], [np.ones(2), np.zeros(2), np.ones(2)])
    (['params, flops', 'nwot'], [0, 1])
    """
    alike: dict[bytes, list[int]] = {}
    for index, curve in enumerate(curves):
        alike.setdefault(np.round(curve, 12).tobytes(), []).append(index)
    return [", ".join(names[index] for index in group) for group in alike.values()], [group[0] for group in alike.values()]


def _looks(curves: Sequence[Sequence[float]], sign: int = 1) -> list[dict[str, Any]]:
    """How each line is drawn: the best six on average in colour, with a mark of their own, the rest thin and grey."""
    means = [np.mean([x for x in curve if math.isfinite(x)] or [-math.inf * sign]) * sign for curve in curves]
    order = sorted(range(len(curves)), key=lambda index: -means[index])
    looks: list[dict[str, Any]] = [{"color": "#a8a8a8", "lw": 0.9, "marker": ".", "ms": 3.5, "zorder": 2} for _ in curves]
    for place, index in enumerate(order[: len(_COLOURS)]):
        looks[index] = {"color": _COLOURS[place], "lw": 1.6, "marker": _MARKS[place], "ms": 4.2, "mew": 0, "zorder": 4 - 0.1 * place}
    return looks


def _lines(axes: Axes, x: Vector, curves: Sequence[tuple[str, Vector]], looks: Sequence[Mapping[str, Any]]) -> list[tuple[str, Line2D]]:
    """Draws the curves that have a value, and says which line is whose."""
    drawn = [
        (name, np.where(np.isfinite(y), y, np.nan), look) for (name, y), look in zip(curves, looks, strict=True) if np.isfinite(y).any()
    ]
    return [(name, axes.plot(x, y, label=_plain(name), **look)[0]) for name, y, look in drawn]


def _name_ends(figure: Figure, axes: Axes, lines: Sequence[tuple[str, Line2D]]) -> None:
    """Writes each line's name to the right of its last point, in its colour, moved up or down as little as keeps names apart."""
    if not lines:
        return
    _freeze(figure, axes)
    height = axes.get_window_extent().height / figure.dpi * 72
    ends = [_last_point(line.get_xdata(), line.get_ydata()) for _, line in lines]
    places = axes.transAxes.inverted().transform(axes.transData.transform(ends))
    right = float(places[:, 0].max()) + 0.035
    for (name, line), end, place in zip(lines, ends, _apart(places[:, 1], 1.22 * _SMALL / height), strict=True):
        arrow = {"arrowstyle": "-", "color": line.get_color(), "lw": 0.5, "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 3}
        style: dict[str, Any] = {"fontsize": _SMALL, "color": _darker(line.get_color()), "va": "center", "arrowprops": arrow}
        axes.annotate(_plain(name), end, xytext=(right, float(place)), textcoords="axes fraction", **style)


def _freeze(figure: Figure, axes: Axes) -> None:
    """Fixes the limits and places the axes, so that data can be turned into pixels."""
    axes.autoscale_view()
    axes.set_autoscale_on(False)
    figure.draw_without_rendering()


def _last_point(x: Any, y: Any) -> tuple[float, float]:
    last = np.flatnonzero(np.isfinite(np.asarray(y, np.float64)))[-1]
    return float(x[last]), float(y[last])


def _apart(wanted: ArrayLike, gap: float, low: float = 0.0, high: float = 1.0) -> Vector:
    """Places at least `gap` apart, inside [low, high] where they fit, as near as can be to those wanted: least squares under an order.

    >>> _apart([0.5, 0.5, 0.9], 0.25).round(3).tolist()
    [0.375, 0.625, 0.9]
    """
    places = _vector(wanted)
    order = np.argsort(places, kind="stable")
    steps = gap * np.arange(len(places))
    free = isotonic_regression(places[order] - steps).x
    room = max(high - low - steps[-1], 0.0) if len(places) else 0.0
    result = np.empty(len(places))
    result[order] = np.clip(free, low, low + room) + steps
    return result


@_styled
def regret_curve(
    budgets: ArrayLike,
    curves: Mapping[str, ArrayLike],
    baselines: Mapping[str, ArrayLike],
    *,
    title: str,
    xlabel: str = "budget (FLOPs)",
    ylabel: str = "regret (accuracy points)",
) -> Figure:
    """How much accuracy is lost by taking a proxy's favourite inside each budget, instead of the best network there.

    Args:
        budgets: (k,), positive, in FLOPs.
        curves: for each proxy (k,) regrets in accuracy points, 0 is best; the six lowest on average are in colour.
        baselines: the same for what needs no proxy ("most FLOPs", "random"): dashed and grey.

    >>> found = regret_curve([1e7, 1e8], {"nwot": [1.0, 0.5]}, {"random": [3.0, 2.0]}, title="regret")
    >>> found.axes[0].get_xscale(), [line.get_label() for line in found.axes[0].lines]
    ('log', ['random', 'nwot'])
    """
    x = _vector(budgets)
    order = np.argsort(x)
    plain, proxies = (_drawn_once({name: _vector(y)[order] for name, y in group.items()}) for group in (baselines, curves))
    notes = _without_value([name for name, y in {**plain, **proxies}.items() if not np.isfinite(y).any()])
    count = len(plain) + len(proxies)
    figure, axes = _canvas(max(3.4, 0.155 * count + 1.2), title, xlabel, ylabel, notes=notes)
    lines = _lines(axes, x[order], list(plain.items()), _dashed(len(plain), "_" if len(x) == 1 else ""))
    lines += _lines(axes, x[order], list(proxies.items()), _looks([y.tolist() for y in proxies.values()], sign=-1))
    _log_axis(axes, x)
    if lines:
        axes.set_ylim(bottom=0)
    _name_ends(figure, axes, lines)
    return _finished(figure)


def _drawn_once(curves: Mapping[str, Vector]) -> dict[str, Vector]:
    lines = list(curves.values())
    names, first = _named_together(list(curves), lines)
    return {name: lines[index] for name, index in zip(names, first, strict=True)}


def _dashed(count: int, mark: str) -> list[dict[str, Any]]:
    looks = [
        {"color": grey, "ls": dashes, "lw": 1.2, "zorder": 3, "marker": mark, "ms": 7}
        for grey in ("#333333", "#7a7a7a")
        for dashes in _DASHES
    ]
    return list(itertools.islice(itertools.cycle(looks), count))


def _log_axis(axes: Axes, x: Vector) -> None:
    """A logarithmic x axis with plain numbers at 1, 2 and 5."""
    axes.set_xscale("log")
    found = x[np.isfinite(x) & (x > 0)]
    low, high = (found.min(), found.max()) if len(found) else (1.0, 10.0)
    margin = max((high / low) ** 0.04, 1.05 if high > low else 2.0)
    axes.set_xlim(low / margin, high * margin)
    decades = math.log10(axes.get_xlim()[1] / axes.get_xlim()[0])
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(_short_number))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _short_number(number: float, _place: object = None) -> str:
    """
    >>> _short_number(2e7), _short_number(1.5e9), _short_number(0.05)
    ('20M', '1.5G', '0.05')
    """
    for unit, sign in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= unit * (1 - 1e-9):
            return f"{number / unit:.4g}{sign}"
    return f"{number:.4g}"


@_styled
def matrix(names: Sequence[str], correlations: ArrayLike, *, title: str, label: str = "Spearman correlation") -> Figure:
    """Correlations between proxies, with numbers, ordered so that proxies which rank alike stand together.

    Args:
        names: of the p proxies.
        correlations: (p, p), symmetric, in [-1, 1]; NaN is grey.

    >>> found = matrix(["a", "b", "c"], [[1, 0, 0.9], [0, 1, 0], [0.9, 0, 1]], title="alike")
    >>> [tick.get_text() for tick in found.axes[0].get_yticklabels()]
    ['a', 'c', 'b']
    """
    table = np.asarray(correlations, np.float64).reshape(len(names), len(names))
    order = alike(table)
    table, shown = table[np.ix_(order, order)], [_plain(names[index]) for index in order]
    count, longest = max(len(names), 1), max(map(len, shown), default=0)
    side = count * min(max(5.2 / count, 0.235), 0.42)
    size = min(_SMALL, 72 * side / count / 2.9)
    figure, axes = _canvas(side + 0.6 + 0.045 * longest, title, "", "", grid=None, width=max(side + 0.9 + 0.065 * longest, 3.6))
    colours = matplotlib.colormaps["RdBu_r"].resampled(20).with_extremes(bad=_FAINT)
    own = np.eye(len(names), dtype=bool)
    axes.pcolormesh(np.ma.masked_where(~own, own), cmap=ListedColormap(["white"]), zorder=2)  # with itself says nothing
    cells = axes.pcolormesh(np.ma.masked_invalid(table), cmap=colours, vmin=-1, vmax=1, edgecolors="white", linewidth=0.8)
    axes.set(aspect="equal", xlim=(0, count), ylim=(count, 0))
    _write_numbers(axes, table, colours, size)
    axes.set_xticks(np.arange(len(names)) + 0.5, shown, rotation=45, ha="right", rotation_mode="anchor", fontsize=_SMALL)
    axes.set_yticks(np.arange(len(names)) + 0.5, shown, fontsize=_SMALL)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(cells, ax=axes, label=_plain(label, longest=None), aspect=30, shrink=0.8, pad=0.02, ticks=[-1, -0.5, 0, 0.5, 1])
    _plain_bar(bar)
    return _finished(figure)


def alike(correlations: ArrayLike) -> list[int]:
    """An order of p things in which those that correlate stand together: the leaves of average linkage, neighbours brought near.

    Args:
        correlations: (p, p); what is not finite counts as 0.

    >>> alike([[1, 0, 0.9], [0, 1, 0], [0.9, 0, 1]])
    [0, 2, 1]
    """
    table = np.nan_to_num(np.asarray(correlations, np.float64), posinf=0, neginf=0)
    if len(table) < 3:
        return list(range(len(table)))
    distances = np.clip(1 - (table + table.T) / 2, 0, 2)
    np.fill_diagonal(distances, 0)
    order = [int(leaf) for leaf in leaves_list(linkage(squareform(distances, checks=False), "average", optimal_ordering=True))]
    return order if order[0] < order[-1] else order[::-1]


def _write_numbers(axes: Axes, table: Vector, colours: Colormap, size: float) -> None:
    for (row, column), value in np.ndenumerate(table):
        if row != column:
            dark = math.isfinite(value) and _brightness(colours((value + 1) / 2)) < 0.55
            axes.text(column + 0.5, row + 0.5, _shown(value, 2), ha="center", va="center", fontsize=size, color="white" if dark else _INK)


def _brightness(colour: Any) -> float:
    red, green, blue = to_rgb(colour)
    return 0.299 * red + 0.587 * green + 0.114 * blue


@_styled
def cost(
    names: Sequence[str],
    milliseconds: ArrayLike,
    correlation: ArrayLike,
    interval: ArrayLike | None = None,
    *,
    title: str,
    xlabel: str = "cost (milliseconds per network)",
    ylabel: str = "Spearman correlation with accuracy",
) -> Figure:
    """What a proxy's correlation costs. Those in colour, joined by steps, are the ones than which none is both cheaper and better.

    Args:
        names: of the p proxies.
        milliseconds: (p,), positive, per network; proxies without a cost or a correlation are named below the figure.
        correlation: (p,) in [-1, 1].
        interval: (p, 2) bounds of each correlation.

    >>> found = cost(["params", "nwot"], [0.1, 12.0], [0.72, 0.78], title="cost")
    >>> sorted(text.get_text() for text in found.axes[0].texts)
    ['nwot', 'params']
    """
    x, y = _vector(milliseconds), _vector(correlation)
    bounds = np.full((len(x), 2), np.nan) if interval is None else np.asarray(interval, np.float64).reshape(len(x), 2)
    fair = np.isfinite(x) & (x > 0) & np.isfinite(y)
    notes = _without_value([name for name, known in zip(names, fair, strict=True) if not known])
    figure, axes = _canvas(4.0 + 0.05 * max(len(names) - 12, 0), title, xlabel, ylabel, notes=notes)
    x, y, bounds, kept = x[fair], y[fair], bounds[fair], [name for name, known in zip(names, fair, strict=True) if known]
    front = _front(x, y)
    colours = np.where(front, _COLOURS[0], _GREY)
    axes.vlines(x, bounds[:, 0], bounds[:, 1], color=colours, lw=0.9, alpha=0.55)
    best = np.flatnonzero(front)[np.argsort(x[front])]
    axes.step(x[best], y[best], where="post", color=_GREY, lw=0.8, ls=_DASHES[1], zorder=1)
    axes.scatter(x, y, s=18, color=colours, linewidths=0, zorder=3)
    _log_axis(axes, np.concatenate([x / 1.3, x * 1.3]))
    _mark_zero(axes, y)
    _name_points(figure, axes, kept, np.column_stack([x, y]), bounds, np.column_stack([x[best], y[best]]), colours.tolist())
    return _finished(figure)


def _front(x: Vector, y: Vector) -> NDArray[np.bool_]:
    """Which points none other beats in both: no dearer and better, or cheaper and no worse.

    >>> _front(np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.4, 0.6])).tolist()
    [True, False, True]
    """
    no_worse = (x[None] <= x[:, None]) & (y[None] >= y[:, None])
    better = (x[None] < x[:, None]) | (y[None] > y[:, None])
    return np.asarray(~(no_worse & better).any(1), np.bool_)


def _name_points(
    figure: Figure, axes: Axes, names: Sequence[str], points: Vector, bounds: Vector, steps: Vector, colours: Sequence[str]
) -> None:
    """Writes each name near its point, where it covers no other name, no mark and no line, if there is such a place."""
    _freeze(figure, axes)
    if not names:
        return
    (x, y), lines = points.T, _lines_between(axes, points, bounds, steps)
    textalloc.allocate(
        axes,
        x,
        y,
        [_plain(name) for name in names],
        x_scatter=x,
        y_scatter=y,
        x_lines=[line[:, 0] for line in lines],
        y_lines=[line[:, 1] for line in lines],
        textsize=_SMALL,
        textcolor=[_darker(colour) for colour in colours],
        linecolor=list(colours),
        linewidth=0.45,
        max_distance=0.4,
        avoid_label_lines_overlap=True,
        avoid_crossing_label_lines=True,
    )


def _lines_between(axes: Axes, points: Vector, bounds: Vector, steps: Vector) -> list[Vector]:
    """The whiskers, the steps and the line at zero, each (n, 2) in data."""
    whiskers = [np.array([(x, low), (x, high)]) for (x, _), (low, high) in zip(points, bounds, strict=True) if np.isfinite(low + high)]
    corners = np.column_stack([steps[1:, 0], steps[:-1, 1]])
    staircase = np.concatenate([steps[:1], np.stack([corners, steps[1:]], 1).reshape(-1, 2)])
    return [*whiskers, staircase, np.array([(edge, 0.0) for edge in axes.get_xlim()])]


@_styled
def intervals(
    names: Sequence[str],
    estimates: Sequence[Any],
    *,
    title: str,
    baselines: Collection[str] = (),
    xlabel: str = "Spearman correlation with accuracy (bar: 95 % interval)",
    digits: int = 2,
) -> Figure:
    """Each proxy's correlation with its interval, the best on top, the numbers beside; a thick bar is ± one deviation over seeds.

    Args:
        names: of the p proxies.
        estimates: p numbers or estimates in [-1, 1]; those without a value come last.
        baselines: names that need no proxy (params, FLOPs): drawn hollow, a dashed line at the best of them.

    >>> found = intervals(["nwot", "params"], [0.78, {"value": 0.72, "low": 0.71, "high": 0.73}], title="t", baselines=["params"])
    >>> [tick.get_text() for tick in found.axes[0].get_yticklabels()]
    ['nwot', 'params']
    """
    pairs = [(name, estimate_of(cell)) for name, cell in zip(names, estimates, strict=True)]
    pairs.sort(key=lambda pair: (math.isnan(pair[1].value), -pair[1].value))
    known = [found.value for name, found in pairs if name in baselines and not math.isnan(found.value)]
    notes = ["thick: ± one standard deviation over seeds"] * any(found.spread is not None for _, found in pairs)
    notes += ["hollow: baselines; dashed: the best of them"] * bool(known)
    figure, axes = _canvas(0.205 * len(pairs) + 1.05 + 0.15 * bool(notes), title, xlabel, "", grid="x", notes=notes)
    for row, (name, found) in enumerate(pairs):
        colour = _GREY if name in baselines else _COLOURS[0]
        axes.hlines(row, found.low, found.high, color=colour, lw=1.1)
        if found.spread is not None:
            axes.hlines(row, found.value - found.spread, found.value + found.spread, color=colour, lw=3.2, alpha=0.45)
        axes.plot(
            found.value, row, marker="o", ms=4.5, color=colour, mfc="white" if name in baselines else colour, label=_plain(name), ls=""
        )
        axes.text(1.02, row, _shown(found, digits), transform=axes.get_yaxis_transform(), va="center", fontsize=_SMALL)
    axes.set_yticks(range(len(pairs)), [_plain(name) for name, _ in pairs])
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    if known:
        axes.axvline(max(known), color=_GREY, lw=0.8, ls=_DASHES[0], zorder=1, label="_best baseline")
    if axes.get_xlim()[0] < 0 < axes.get_xlim()[1]:
        axes.axvline(0, color=_INK, lw=0.7, zorder=1, label="_zero")
    return _finished(figure)


def _canvas(
    height: float, title: str, xlabel: str, ylabel: str, *, grid: str | None = "y", width: float = WIDTH, notes: Sequence[str] = ()
) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05))
    axes = figure.add_subplot()
    shown = textwrap.fill(_plain(title, longest=None), int(width * 13))
    figure.suptitle(shown, x=0.012, ha="left", fontsize=_TITLE, fontweight="bold")
    axes.set_xlabel(_plain(xlabel, longest=None))
    axes.set_ylabel(_plain(ylabel, longest=None))
    if grid:
        axes.grid(axis=grid)  # type: ignore[arg-type]
    if notes:
        text = textwrap.fill(_plain("; ".join(notes), longest=None), int(width * 18))
        figure.supxlabel(text, x=0.012, ha="left", fontsize=_SMALL - 0.5, color=_GREY)
    return figure, axes


@_styled
def _finished(figure: Figure) -> Figure:
    """Lays the figure out once and for all, so that every writing of it is the same."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def _plain(text: str, longest: int | None = _LONGEST) -> str:
    """A text that is drawn as it is written (no formula between dollars), a long name without its middle."""
    line = clean(text)
    if longest and len(line) > longest:
        line = line[: longest // 2] + "…" + line[-(longest - longest // 2 - 1) :]
    return line.replace("$", r"\$")


def _shown(cell: Any, digits: int) -> str:
    """An estimate with the signs of a printed text.

    >>> _shown(-0.5, 1), _shown(None, 1)
    ('−.5', '–')
    """
    text = str(estimate_text(cell, digits))
    return "–" if text == "-" else text.replace("-", "−")


def _mark_zero(axes: Axes, values: Vector) -> None:
    if (values < 0).any():
        axes.axhline(0, color=_INK, lw=0.7, zorder=1, label="_zero")


def _without_value(names: Sequence[str]) -> list[str]:
    return [f"no value: {', '.join(clean(name) for name in names)}"] if names else []


def _count(which: NDArray[np.bool_]) -> str:
    return f"{int(which.sum()):,} of {len(which):,}"


def _darker(colour: Any) -> tuple[float, float, float]:
    """For text, which needs more contrast than a line."""
    red, green, blue = to_rgb(colour)
    return 0.72 * red, 0.72 * green, 0.72 * blue


def _vector(values: ArrayLike) -> Vector:
    return np.asarray(values, np.float64).reshape(-1)
