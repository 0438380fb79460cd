"""A figure with all that belongs to it: its caption, the numbers it shows, and what is read when the pointer rests on a point."""

from __future__ import annotations

import functools
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure

from diswot.report.charts import save_figure, to_svg
from diswot.report.tables import Table, to_csv
from diswot.report.text import single_line
from diswot.runs import write_atomic

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ET.register_namespace("", SVG)
ET.register_namespace("xlink", XLINK)


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure with a caption below it.

    Attributes:
        figure: whose layout is final.
        caption: what a reader must know to read it.
        data: the numbers that it shows.
        hover: for the points of a scatter plot, by the id (`gid`) of its artist: a text for each point, in the order they were given.
        has_photos: whether it shows images, whose colours stay as they are on a dark page.
        name: of its files, without a suffix; none are written where it is empty.
    """

    figure: Figure
    caption: str = ""
    data: Table | None = None
    hover: Mapping[str, Sequence[str]] = field(default_factory=dict)
    has_photos: bool = False
    name: str = ""

    @functools.cached_property
    def svg(self) -> str:
        """The figure as SVG; a browser shows the texts of `hover` while the pointer rests on their points."""
        text = to_svg(self.figure)
        return _with_titles(text, self.hover) if self.hover else text

    @property
    def suffixes(self) -> list[str]:
        """The kinds of files that `save` writes."""
        return [] if not self.name else ["svg", "png", *["csv"] * (self.data is not None)]

    def save(self, folder: Path) -> None:
        """Write the figure as SVG and as PNG, and its data as CSV, each whole or not at all; nothing where the picture has no name."""
        if not self.name:
            return
        save_figure(self.figure, folder / self.name, self.svg)
        if self.data is not None:
            write_atomic(folder / f"{self.name}.csv", to_csv(self.data))


def _with_titles(svg: str, hover: Mapping[str, Sequence[str]]) -> str:
    """The SVG with a `<title>` in each marker of the artists with these ids."""
    root = ET.fromstring(svg)
    for group in root.iter(f"{{{SVG}}}g"):
        texts = hover.get(group.get("id", ""))
        if texts is None:
            continue
        markers = list(group.iter(f"{{{SVG}}}use"))
        for marker, text in zip(markers, texts, strict=len(markers) == len(texts)):
            ET.SubElement(marker, f"{{{SVG}}}title").text = single_line(text)
    return ET.tostring(root, encoding="unicode")
