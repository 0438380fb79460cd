"""The verb `report`."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from diswot import runs


@click.command()
@click.argument("folder", metavar="RUN")
def report(folder: str) -> None:
    """Write the page of a run, runs/NAME/report.html, also while the run is under way.

    A run writes it at its end by itself, unless --no-report was given. The page needs nothing beside it; every figure is left as SVG and
    PNG, and its numbers as CSV, in runs/NAME/report.

    [bold]diswot report runs/NAME[/]
    """
    path = Path(folder)
    with runs.disk_errors(path):
        runs.kind_of(path)
        from diswot.pages import write_page

        click.echo(str(write_page(path)))
