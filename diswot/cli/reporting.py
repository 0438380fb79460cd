"""The verb `report`."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from diswot import runs
from diswot.cli.flags import running
from diswot.progress.terminal import progress_shown


@click.command()
@click.argument("folder", metavar="RUN")
@running("allow")
def report(folder: str, allow: tuple[str, ...]) -> None:
    """Write the page of a run, runs/NAME/report.html, also while the run is under way.

    A run writes it at its end by itself, unless --no-report was given. The page needs nothing beside it; every figure is left as SVG and
    PNG, and its numbers as CSV, in runs/NAME/report.

    [bold]diswot report runs/NAME[/]
    """
    runs.kind_of(Path(folder))  # a mistake here is told before torch is loaded
    with progress_shown(quiet=False) as reporter:
        reporter.within("drawing the figures")
        from diswot.pages import write_page

        path = write_page(folder, allow)
    click.echo(str(path))
