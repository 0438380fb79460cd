"""The look that all charts share: sizes, colours, an empty figure with its texts, and how a figure is written to a file."""

from __future__ import annotations

import functools
import io
import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike

from diswot.report.text import single_line
from diswot.runs import write_atomic
from diswot.statistics.ranked_values import Vector

P = ParamSpec("P")
T = TypeVar("T")

PAGE_WIDTH = 6.3  # inches: the text of an A4 page
DPI = 300
SMALL_SIZE, TEXT_SIZE, TITLE_SIZE = 7.5, 8.5, 10  # points
TEXT_COLOR, GREY, LIGHT_GREY = "#222222", "#767676", "#e2e2e2"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's, told apart by the colour-blind
MARKERS = "osD^vP"  # one for each colour of the palette
LINE_STYLES = ((0, (5, 2)), (0, (1, 1.3)), (0, (5, 1.5, 1, 1.5)), (0, (2, 2)))  # lengths of dashes and gaps in points
DASHED, DOTTED = LINE_STYLES[:2]
RC_PARAMS = {
    "figure.facecolor": "white",
    "figure.dpi": DPI,  # laid out at the size of the pixels of the PNG, or its text would be measured wrongly
    "text.hinting": "none",
    "text.parse_math": False,  # a name with two dollar signs is no formula
    "font.size": TEXT_SIZE,
    "text.color": TEXT_COLOR,
    "axes.edgecolor": GREY,
    "axes.labelcolor": TEXT_COLOR,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "grid.color": LIGHT_GREY,
    "grid.linewidth": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": TEXT_COLOR,
    "ytick.labelcolor": TEXT_COLOR,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "svg.fonttype": "path",  # a reader without the font sees the same figure
    "svg.hashsalt": "diswot",
}


@dataclass(frozen=True)
class Look:
    """How one ranking or network looks in every chart of a page."""

    color: str
    marker: str


def looks_of(names: Sequence[str]) -> dict[str, Look]:
    """A look for each of the first six names, the most important first; the others are drawn grey.

    >>> list(looks_of(["a", "b"])), looks_of(["a"])["a"].marker
    (['a', 'b'], 'o')
    """
    return {name: Look(color, marker) for name, color, marker in zip(names, PALETTE, MARKERS, strict=False)}


def with_chart_style(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator that runs a function under `RC_PARAMS`, whatever a user's matplotlibrc says, and leaves matplotlib as it was."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with matplotlib.style.context(["default", RC_PARAMS]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from")  # a box for a foreign letter is no reason to complain
            return function(*args, **kwargs)

    return run


def new_figure(
    height: float,
    title: str,
    xlabel: str = "",
    ylabel: str = "",
    *,
    grid: str | None = "y",
    width: float = PAGE_WIDTH,
    notes: Sequence[str] = (),
) -> tuple[Figure, Axes]:
    """Creates a figure with one pair of axes, a title above and small notes below.

    Args:
        height, width: in inches.
        grid: the axis that has grid lines, `x` or `y`, or None.
        notes: joined by semicolons.
    """
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05))
    axes = figure.add_subplot()
    figure.suptitle(textwrap.fill(single_line(title), int(width * 13)), x=0.012, ha="left", fontsize=TITLE_SIZE, fontweight="bold")
    axes.set_xlabel(single_line(xlabel))
    axes.set_ylabel(single_line(ylabel))
    if grid:
        axes.grid(axis=grid)  # type: ignore[arg-type]
    if notes:
        text = textwrap.fill(single_line("; ".join(notes)), int(width * 18))
        figure.supxlabel(text, x=0.012, ha="left", fontsize=SMALL_SIZE - 0.5, color=GREY)
    return figure, axes


@with_chart_style
def fix_layout(figure: Figure) -> Figure:
    """Lays a figure out once and for all, so that every file of it is the same, and returns it."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def fix_limits(figure: Figure, axes: Axes) -> None:
    """Fixes the limits and the place of the axes, so that data can be converted to pixels."""
    axes.autoscale_view()
    axes.set_autoscale_on(False)
    figure.draw_without_rendering()


def to_svg(figure: Figure) -> str:
    """Returns a figure as SVG, its text as outlines, without date or version."""
    return _encode(figure, "svg").decode()


def save_figure(figure: Figure, path: Path, svg: str | None = None) -> list[Path]:
    """Writes `<path>.svg` and `<path>.png` (300 dots per inch), each whole or not at all, and returns their paths.

    Args:
        svg: the figure as SVG, where it is known.
    """
    paths = [path.with_name(f"{path.name}.{kind}") for kind in ("svg", "png")]
    write_atomic(paths[0], to_svg(figure) if svg is None else svg)
    write_atomic(paths[1], _encode(figure, "png"))
    return paths


@with_chart_style
def _encode(figure: Figure, kind: str) -> bytes:
    """Returns the bytes of an SVG or PNG file, the same for the same figure."""
    omitted = {"svg": ("Date", "Creator", "Format", "Type"), "png": ("Software",)}[kind]
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=DPI, metadata=dict.fromkeys(omitted))  # None leaves a key out
    return out.getvalue()


def to_vector(values: ArrayLike) -> Vector:
    """Any numbers as an array of one dimension."""
    return np.asarray(values, np.float64).reshape(-1)
