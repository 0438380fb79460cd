"""A report as one HTML file that needs nothing beside it: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diswot.report.tables import Cell, Column, Table, clean, printed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
# A figure is drawn on white. In the dark its lightness is turned round and its hues are turned back: white becomes the page's own grey.
_CSS = """
:root { color-scheme: light dark; --paper: #fff; --ink: #222; --quiet: #666; --line: #ddd; --shade: #f6f6f6; --link: #005b94; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #1a1a1a; --ink: #e4e4e4; --quiet: #a0a0a0; --line: #3a3a3a; --shade: #222; --link: #7cc0ee; }
  figure svg { filter: invert(0.9) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 54rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.5rem 0 1rem; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 2.5rem 0 0.75rem; padding-top: 0.75rem; border-top: 1px solid var(--line); }
p { margin: 0.75rem 0; max-width: 44rem; }
a { color: var(--link); }
nav ul { display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; margin: 0; padding: 0; list-style: none; }
figure { margin: 1.25rem 0 1.75rem; }
figcaption { margin: 0.25rem 0; color: var(--quiet); font-size: 0.9rem; max-width: 44rem; }
figcaption.title { color: var(--ink); font-weight: 600; }
.scroll { overflow-x: auto; }
figure svg { display: block; width: 100%; min-width: 28rem; height: auto; }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.9rem 0.3rem 0; text-align: left; white-space: nowrap; font-weight: 400; }
th.n, td.n { text-align: right; }
thead th { min-width: 4.5rem; white-space: normal; border-bottom: 1px solid var(--quiet); color: var(--quiet); vertical-align: bottom; }
tbody tr:hover > * { background: var(--shade); }
tbody th { position: sticky; left: 0; max-width: min(24rem, 45vw); overflow: hidden; text-overflow: ellipsis;
  background: var(--paper); }
td small { color: var(--quiet); }
pre { margin: 0.5rem 0; padding: 0.75rem 1rem; overflow-x: auto; background: var(--shade); font: 0.85rem/1.45 ui-monospace, monospace; }
@media print { body { max-width: none; } figure, tr { break-inside: avoid; } h2 { break-after: avoid; } nav { display: none; } }
"""

ET.register_namespace("", _SVG)
ET.register_namespace("xlink", _XLINK)


@dataclass(frozen=True)
class Picture:
    """A figure with a line below it."""

    figure: Figure
    caption: str = ""


@dataclass(frozen=True)
class Listing:
    """A text that keeps its lines: a configuration, an environment, a command."""

    text: str
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading (none where empty) and what follows it; a text is a paragraph."""

    heading: str
    parts: Sequence[str | Table | Figure | Picture | Listing]


def page(title: str, sections: Sequence[Section]) -> str:
    """The whole report as one HTML document.

    Args:
        title: of the document, and its first heading.
        sections: in order; three headings and more are listed at the top.

    Returns:
        HTML, the same for the same values. Whatever a text holds is shown, never run.

    >>> text = page("a <b>", [Section("One", ["x < y", Listing("seeds: 3")])])
    >>> "<h1>a &lt;b&gt;</h1>" in text, "<p>x &lt; y</p>" in text, "<pre>seeds: 3</pre>" in text, "<script" in text
    (True, True, True, False)
    """
    figures = iter(range(1, 1 + sum(len(section.parts) for section in sections)))
    body = "\n".join(
        f'<section id="s{number}">\n{_heading(section)}{"".join(_part(part, next(figures)) for part in section.parts)}</section>'
        for number, section in enumerate(sections, 1)
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{_text(title)}</title>
<style>{_CSS}</style>
</head>
<body>
<header><h1>{_text(title)}</h1></header>
{_contents(sections)}<main>
{body}
</main>
</body>
</html>
"""


def _text(text: str) -> str:
    return html.escape(clean(text))


def _heading(section: Section) -> str:
    return f"<h2>{_text(section.heading)}</h2>\n" if section.heading else ""


def _contents(sections: Sequence[Section]) -> str:
    named = [(number, section.heading) for number, section in enumerate(sections, 1) if section.heading]
    items = "".join(f'<li><a href="#s{number}">{_text(heading)}</a></li>' for number, heading in named)
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>\n' if len(named) >= 3 else ""


def _part(part: str | Table | Figure | Picture | Listing, number: int) -> str:
    """`number` tells the parts of a page apart."""
    if isinstance(part, str):
        return f"<p>{_text(part)}</p>\n"
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Listing):
        lines = "\n".join(_line(line) for line in part.text.splitlines())
        return f"<figure>{_caption(part.caption)}<pre>{html.escape(lines)}</pre></figure>\n"
    picture = part if isinstance(part, Picture) else Picture(part)
    return f'<figure><div class="scroll">{_inline_svg(picture.figure, f"f{number}-")}</div>{_caption(picture.caption)}</figure>\n'


def _line(line: str) -> str:
    """A line as it is, with its blanks, without what HTML cannot hold.

    >>> _line("  a:\\t1\\x00")
    '  a:\\t1'
    """
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]", "", line.encode("utf-8", "replace").decode())


def _caption(text: str, kind: str = "") -> str:
    return f"<figcaption{kind}>{_text(text)}</figcaption>\n" if clean(text) else ""


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col"{_kind(column)}>{_text(column.heading)}</th>' for column in table.columns)
    rows = "".join(f"<tr>{''.join(map(_cell, table.columns, row, range(len(row))))}</tr>\n" for row in printed(table))
    title = _caption(table.title, ' class="title"')
    region = f'<div class="scroll" role="region" tabindex="0" aria-label="{_text(table.title)}">'
    return f"<figure>{title}{region}<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div></figure>\n"


def _kind(column: Column) -> str:
    return "" if column.kind == "text" else ' class="n"'


def _cell(column: Column, cell: Cell, place: int) -> str:
    """The first text of a row is its heading, and stays in view."""
    if column.kind == "text":
        text = _text(cell.text)
        return f'<th scope="row" title="{text}">{text}</th>' if place == 0 else f"<td>{text}</td>"
    value, rest = (re.sub(r"-(?=[\d.])", "−", html.escape(text)) for text in (cell.text, cell.rest))
    bold = f"<b>{value}</b>" if cell.best else value
    return f'<td class="n">{bold}{f" <small>{rest}</small>" if rest else ""}</td>'


def _inline_svg(figure: Figure, prefix: str) -> str:
    """A figure as an element: its ids are given a prefix, so that no two figures of a page share one, and its rules are the page's."""
    from diswot.report.figures import svg

    root = ET.fromstring(svg(figure))
    for element in root.iter():
        for child in [child for child in element if child.tag == f"{{{_SVG}}}style"]:
            element.remove(child)
        for key, value in element.attrib.items():
            element.set(key, _prefixed(key, value, prefix))
    for key in ("width", "height"):
        root.attrib.pop(key)
    root.set("style", f"max-width: {1.25 * figure.get_figwidth():g}in")  # a screen is read from farther away than paper
    root.set("role", "img")
    root.set("aria-label", clean(figure.get_suptitle()).replace(r"\$", "$"))
    return ET.tostring(root, encoding="unicode")


def _prefixed(key: str, value: str, prefix: str) -> str:
    """
    >>> [_prefixed(key, value, "f1-") for key, value in {"id": "a", "clip-path": "url(#a)", "{x}href": "#a", "d": "M 0"}.items()]
    ['f1-a', 'url(#f1-a)', '#f1-a', 'M 0']
    """
    if key == "id":
        return prefix + value
    if key.endswith("href") and value.startswith("#"):
        return f"#{prefix}{value[1:]}"
    return value.replace("url(#", f"url(#{prefix}")
