"""A report as one HTML file that needs nothing beside it: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from diswot.report.pictures import SVG, Picture
from diswot.report.tables import Table, format_rows
from diswot.report.text import remove_control_characters, replace_minus, single_line
from diswot.runs import write_atomic

PAGE, FILES = "report.html", "report"
_MOST_OPEN_LINES = 12  # of a listing; a longer one is opened by its reader
_FINER_THAN_SEEN = re.compile(r"(?<=\d)(\.\d\d)\d+")  # decimals of a coordinate in points: a hundredth is enough, and half the page
_MOVE = re.compile(r"translate\([^)]*\)")  # the coordinates of a transform; its factors need all their decimals
_SCREEN_SCALE = 1.25  # a screen is read from farther away than paper

_TEMPLATES = Environment(
    loader=PackageLoader("diswot.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_TEMPLATES.filters.update(single_line=single_line, replace_minus=replace_minus, remove_control_characters=remove_control_characters)


@dataclass(frozen=True)
class Facts:
    """What a reader wants to know first: short values with their names, such as `("top-1", "71.3 %")`."""

    values: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Verdict:
    """What the page comes to, in a sentence or two."""

    text: str


@dataclass(frozen=True)
class Listing:
    """Preformatted text with a caption above it: a configuration, an environment, a command."""

    text: str
    caption: str = ""


@dataclass(frozen=True)
class Points:
    """Sentences, each a point of its own."""

    texts: Sequence[str]


Part = str | Table | Figure | Picture | Listing | Facts | Verdict | Points


@dataclass(frozen=True)
class Section:
    """A part of the page: a heading (none where empty) and what follows it, where a plain text is a paragraph."""

    heading: str
    parts: Sequence[Part]


def write_page(folder: Path, title: str, sections: Sequence[Section]) -> Path:
    """Writes a report into a run's folder: `PAGE`, and beside it the files of its pictures in the folder `FILES`; returns the page's path.

    Args:
        folder: of the run.
        title, sections: see `page`.
    """
    (folder / FILES).mkdir(exist_ok=True)
    for section in sections:
        for part in section.parts:
            if isinstance(part, Picture):
                part.save(folder / FILES)
    write_atomic(folder / PAGE, page(title, sections, FILES))
    return folder / PAGE


def page(title: str, sections: Sequence[Section], files_in: str = "") -> str:
    """Renders a whole report as one HTML document.

    Args:
        title: of the document, and its first heading.
        sections: in order; three headings and more are listed at the top.
        files_in: the folder beside the page that holds the files of its pictures, to which it links; no links where empty.

    Returns:
        HTML, the same for the same values. Whatever a text holds is shown, never run.

    >>> text = page("a <b>", [Section("One", ["x < y", Listing("seeds: 3")])])
    >>> "<h1>a &lt;b&gt;</h1>" in text, "<p>x &lt; y</p>" in text, "<pre>seeds: 3</pre>" in text, "<script" in text
    (True, True, True, False)
    """
    rendered, part_number = [], 0
    for section_number, section in enumerate(sections, 1):
        parts = [_render_part(part, part_number + offset, files_in) for offset, part in enumerate(section.parts, 1)]
        part_number += len(parts)
        rendered.append({"id": f"s{section_number}", "heading": section.heading, "parts": parts})
    return _render("page.html", title=title, sections=rendered) + "\n"


def _render(template: str, **values: Any) -> Markup:
    """Fills a template; every value that is not Markup is escaped."""
    return Markup(_TEMPLATES.get_template(template).render(**values))


def _render_part(part: Part, number: int, files_in: str) -> Markup:
    """Renders one part of the page, the `number`-th; links to the files of pictures in `files_in`, where that is not empty."""
    if isinstance(part, str):
        return _render("paragraph.html", text=part)
    if isinstance(part, Table):
        return _render("table.html", title=part.title, columns=part.columns, rows=format_rows(part))
    if isinstance(part, Facts):
        return _render("facts.html", values=part.values)
    if isinstance(part, Points):
        return _render("points.html", texts=part.texts)
    if isinstance(part, Verdict):
        return _render("verdict.html", text=part.text)
    if isinstance(part, Listing):
        lines = part.text.splitlines()
        folded = bool(part.caption) and len(lines) > _MOST_OPEN_LINES
        return _render("listing.html", text="\n".join(lines), caption=part.caption, folded=folded)
    picture = part if isinstance(part, Picture) else Picture(part)
    files = [(suffix.upper(), f"{quote(files_in)}/{quote(picture.name)}.{suffix}") for suffix in picture.suffixes if files_in]
    svg = _inline_svg(picture, f"f{number}-")
    return _render("figure.html", svg=svg, caption=picture.caption, photos=picture.has_photos, files=files)


def _inline_svg(picture: Picture, prefix: str) -> Markup:
    """A figure as an SVG element inside a page: its ids get a prefix, so that no two figures share one, and the page's style applies."""
    figure, root = picture.figure, ET.fromstring(picture.svg)
    for element in root.iter():
        for style in element.findall(f"{{{SVG}}}style"):
            element.remove(style)
        for name, value in element.attrib.items():
            element.set(name, _add_id_prefix(name, _round_coordinates(name, value), prefix))
    for name in ("width", "height"):
        root.attrib.pop(name)
    root.set("style", f"max-width: {_SCREEN_SCALE * figure.get_figwidth():g}in")
    root.set("role", "img")
    root.set("aria-label", single_line(figure.get_suptitle()))
    return Markup(ET.tostring(root, encoding="unicode"))


def _round_coordinates(name: str, value: str) -> str:
    """The value of an attribute with two decimals of each coordinate in it, and nothing else changed.

    >>> _round_coordinates("x", "1.23456"), _round_coordinates("transform", "translate(1.23456 2) scale(0.015625)")
    ('1.23', 'translate(1.23 2) scale(0.015625)')
    """
    if name == "transform":
        return _MOVE.sub(lambda move: _FINER_THAN_SEEN.sub(r"\1", move[0]), value)
    return _FINER_THAN_SEEN.sub(r"\1", value) if name in ("d", "x", "y") else value


def _add_id_prefix(name: str, value: str, prefix: str) -> str:
    """The value of an attribute with a prefix before each id in it.

    >>> attributes = {"id": "a", "clip-path": "url(#a)", "{x}href": "#a", "d": "M 0"}
    >>> [_add_id_prefix(name, value, "f1-") for name, value in attributes.items()]
    ['f1-a', 'url(#f1-a)', '#f1-a', 'M 0']
    """
    if name == "id":
        return prefix + value
    if name.endswith("href") and value.startswith("#"):
        return f"#{prefix}{value[1:]}"
    return value.replace("url(#", f"url(#{prefix}")
