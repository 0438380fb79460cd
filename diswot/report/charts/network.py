"""A network drawn from input to output."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from diswot.report.charts.style import PALETTE, SMALL_SIZE, fix_layout, new_figure, with_chart_style

Shape = tuple[int, int, int]


@with_chart_style
def network_plot(blocks: Sequence[Shape], classes: int, *, title: str) -> Figure:
    """A network as a row of boxes, one for each block: as high as its map is large, as wide as it has channels, both on a root scale.

    Args:
        blocks: the shape (C, H, W) of the map after the stem and after every block, in order.
        classes: outputs of the classifier.

    >>> figure = network_plot([(16, 32, 32), (16, 32, 32), (32, 16, 16)], 10, title="t")
    >>> [text.get_text() for text in figure.axes[0].texts][:2]
    ['2 blocks\\n16 channels\\n32 x 32', '1 block\\n32 channels\\n16 x 16']
    """
    figure, axes = new_figure(2.5, title, grid=None)
    axes.set_axis_off()
    widest, largest = max(block[0] for block in blocks), max(block[1] for block in blocks)
    stages = [list(group) for _, group in itertools.groupby(blocks, key=lambda block: block[1:])]
    left, gap = 0.0, 0.12
    for number, stage in enumerate(stages):
        begin, color = left, PALETTE[number % len(PALETTE)]
        for channels, side, _ in stage:
            width, height = 0.12 + 0.5 * np.sqrt(channels / widest), 0.15 + 0.85 * np.sqrt(side / largest)
            axes.add_patch(Rectangle((left, 0.5 - height / 2), width, height, facecolor=color, alpha=0.75, edgecolor="white", lw=0.8))
            left += width
        _name(axes, (begin + left) / 2, _stage_text(stage))
        left += gap
    axes.add_patch(Rectangle((left, 0.3), 0.12, 0.4, facecolor="#444444", edgecolor="white", lw=0.8))
    _name(axes, left + 0.06, f"{classes:,}\nclasses")
    axes.set_xlim(-0.1, left + 0.5)
    axes.set_ylim(-0.55, 1.05)
    return fix_layout(figure)


def _stage_text(stage: Sequence[Shape]) -> str:
    """How many blocks a stage has, of how many channels, on maps of which size."""
    widths = list(dict.fromkeys(channels for channels, *_ in stage))
    channels = str(widths[0]) if len(widths) == 1 else f"{min(widths)} to {max(widths)}"
    _, height, width = stage[0]
    return f"{len(stage)} block{'s' * (len(stage) > 1)}\n{channels} channels\n{height} x {width}"


def _name(axes: Axes, x: float, text: str) -> None:
    axes.text(x, -0.06, text, ha="center", va="top", fontsize=SMALL_SIZE, linespacing=1.3)
