"""The verb `runs`: all runs, each in a line."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from diswot.cli.flags import running
from diswot.run_summaries import DAMAGED, FINISHED, RunSummary, summarise_runs

if TYPE_CHECKING:
    from rich.table import Table

_AGES = ((86400, "d"), (3600, "h"), (60, "min"))
_SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


@click.command(name="runs")
@running("runs", "json")
def runs_(runs_folder: str, as_json: bool) -> None:
    """List the runs, the latest first: what they are, how far they came, what came of them, and what they take of the disk.

    A run that was interrupted is gone on with by `diswot VERB --resume runs/NAME`; one that is damaged is named with the reason.

    [bold]diswot runs[/]   [bold]diswot runs --runs /data/runs --json[/]
    """
    found = summarise_runs(Path(runs_folder))
    if as_json:
        click.echo(json.dumps([run.as_json() for run in found]))
        return
    if not found:
        click.echo(f"no runs are in {runs_folder} yet")
        return
    from diswot.report.terminal import show_table

    show_table(runs_table(found, runs_folder, time.time()))
    for run in found:
        if run.fault:
            click.echo(f"{run.name} is damaged: {run.fault}")


def runs_table(found: list[RunSummary], folder: str, now: float) -> Table:
    """The table of the runs at a time in seconds since 1970."""
    from diswot.report.terminal import plain_table

    total = amount(sum(run.size for run in found), _SIZES, "B")
    title = f"{len(found)} run{'s' if len(found) > 1 else ''} in {folder}, {total}"
    table = plain_table(title, ["run", "verb", "state", "best", "age", "size"], left=4)
    for run in found:
        style = {FINISHED: None, DAMAGED: "red"}.get(run.state, "bold")
        cells = amount(now - run.changed, _AGES, "s"), amount(run.size, _SIZES, "B")
        table.add_row(run.name, run.verb, _state(run), run.best, *cells, style=style)
    return table


def _state(run: RunSummary) -> str:
    """The state, and how far a run is that has not ended."""
    if run.state in (FINISHED, DAMAGED):
        return run.state
    return f"{run.state}, {run.done:,}/{run.total:,}" if run.total is not None else f"{run.state}, {run.done:,} {run.unit}"


def amount(value: float, units: tuple[tuple[float, str], ...], smallest: str) -> str:
    """A number in the largest unit that it is one of.

    >>> amount(4000, _AGES, "s"), amount(59, _AGES, "s"), amount(2_500_000, _SIZES, "B")
    ('1 h', '59 s', '2.5 MB')
    """
    for size, name in units:
        if value >= size:
            whole = value / size
            return f"{whole:.1f} {name}" if units is _SIZES and whole < 10 else f"{whole:.0f} {name}"
    return f"{max(0, value):.0f} {smallest}"
