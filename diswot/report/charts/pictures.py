"""Charts that show images: what a network looks at in them, and how alike it finds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from diswot.report.charts.axes import add_colorbar
from diswot.report.charts.labels import short_label
from diswot.report.charts.style import PAGE_WIDTH, SMALL_SIZE, TITLE_SIZE, fix_layout, new_figure, with_chart_style
from diswot.report.text import single_line


@with_chart_style
def activation_maps_plot(images: NDArray[np.uint8], labels: Sequence[str], maps: Mapping[str, ArrayLike], *, title: str) -> Figure:
    """Images above the class activation maps that networks have of them, laid over the images: red where the class is seen.

    Args:
        images: (k, H, W, 3).
        labels: of the k images.
        maps: for each network (k, h, w), of any scale; each map is stretched to its own range.

    >>> images = np.zeros((2, 8, 8, 3), np.uint8)
    >>> len(activation_maps_plot(images, ["cat", "dog"], {"teacher": np.random.rand(2, 4, 4)}, title="t").axes)
    4
    """
    rows, columns = 1 + len(maps), len(images)
    figure = _grid_figure(rows, columns, title)
    grid = np.asarray(figure.subplots(rows, columns, squeeze=False))
    for column, (image, label) in enumerate(zip(images, labels, strict=True)):
        grid[0, column].imshow(image, interpolation="nearest")
        grid[0, column].set_title(short_label(label)[:12], fontsize=SMALL_SIZE)
        for row, (name, found) in enumerate(maps.items(), 1):
            _draw_map(grid[row, column], image, np.asarray(found, np.float64)[column])
            if not column:
                grid[row, 0].set_ylabel(single_line(name), fontsize=SMALL_SIZE)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return fix_layout(figure)


def _grid_figure(rows: int, columns: int, title: str) -> Figure:
    figure, axes = new_figure(0.45 + rows * (PAGE_WIDTH - 0.4) / columns, title, grid=None)
    axes.remove()
    return figure


def _draw_map(axes: Axes, image: NDArray[np.uint8], found: NDArray[np.float64]) -> None:
    """Draws the grey image under a map that is stretched over it."""
    height, width = image.shape[:2]
    axes.imshow(image.mean(2), cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    span = float(np.ptp(found)) or 1.0
    axes.imshow(
        (found - found.min()) / span, cmap="turbo", vmin=0, vmax=1, alpha=0.55, interpolation="bilinear", extent=(0, width, height, 0)
    )


@with_chart_style
def matrices_plot(matrices: Mapping[str, ArrayLike], *, title: str, xlabel: str, label: str) -> Figure:
    """Matrices of similarity side by side, in the same colours.

    Args:
        matrices: by name, (n, n).
        xlabel: what the rows and columns are.
        label: what the values are.

    >>> figure = matrices_plot({"teacher": np.eye(3), "winner": np.eye(3)}, title="t", xlabel="images", label="similarity")
    >>> [axes.get_title() for axes in figure.axes[:2]]
    ['teacher', 'winner']
    """
    tables = {name: np.asarray(values, np.float64) for name, values in matrices.items()}
    bound = max((float(np.abs(table).max()) for table in tables.values()), default=1.0) or 1.0
    negative = any((table < 0).any() for table in tables.values())
    figure, empty = new_figure(0.8 + (PAGE_WIDTH - 0.9) / max(len(tables), 1), title, grid=None)
    empty.remove()
    grid = np.asarray(figure.subplots(1, len(tables), squeeze=False))[0]
    for axes, (name, table) in zip(grid, tables.items(), strict=True):
        cells = axes.imshow(
            table, cmap="RdBu_r" if negative else "Blues", vmin=-bound if negative else 0, vmax=bound, interpolation="nearest"
        )
        axes.set_title(short_label(name), fontsize=TITLE_SIZE - 1)
        axes.set(xticks=[], yticks=[], xlabel=single_line(xlabel))
        axes.spines[:].set_visible(False)
    add_colorbar(figure, cells, list(grid), label)  # type: ignore[arg-type]
    return fix_layout(figure)
