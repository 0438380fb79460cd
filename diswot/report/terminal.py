"""The look of tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table


def plain_table(title: str, headings: Sequence[str], left: int) -> Table:
    """A table without walls, so that the usual columns fit into 80 characters; the first `left` columns are text."""
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, heading in enumerate(headings):
        table.add_column(heading.replace("_", " "), justify="left" if index < left else "right", overflow="fold")
    return table


_UNBOUNDED = 400  # characters of a line where the output is no terminal


def screen_width() -> int:
    """The characters of a line of stdout: as many as a table can need where it is no terminal."""
    console = Console()
    return console.width if console.is_terminal else _UNBOUNDED


def show_table(table: Table) -> None:
    """A table on stdout under its title, never cut off: as wide as it needs where the output is no terminal."""
    console = Console(width=screen_width())
    if table.title:
        console.print(table.title, highlight=False, markup=False, soft_wrap=True)
    table.title = None
    console.print(table)
