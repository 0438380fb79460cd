"""The verbs `study` and `convert`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from diswot.cli.flags import flags_of, running, words
from diswot.cli.request import Request
from diswot.config import StudyConfig
from diswot.errors import DataError, brief_repr, first_line
from diswot.progress.terminal import progress_shown
from diswot.report.terminal import show_table

if TYPE_CHECKING:
    from diswot.studies.recipe import StudyPlan


@click.command()
@words("[TABLE.CSV] [KEY=VALUE]...")
@flags_of(StudyConfig)
@running(
    "device",
    "workers",
    "executor",
    "patience",
    "cache",
    "quiet",
    "json",
    "config",
    "name",
    "runs",
    "resume",
    "allow",
    "report",
    "scores-of",
)
def study(words: tuple[str, ...], **flags: Any) -> None:
    """Measure how well proxies rank the networks of a benchmark table, whose accuracies are known.

    TABLE.CSV (or .csv.gz) has a column of architectures and columns of accuracies: the table of NAS-Bench-201, or your own. The report,
    with every table and figure, is left in runs/NAME/report.html.

    [bold]diswot study nasbench201.csv.gz --proxy diswot,nwot,az_nas --sample-rows 500[/]

    [bold]diswot study mine.csv --space mylab.spaces:MobileSpace --accuracy-column top1 --proxy relation[/]

    [bold]diswot study nasbench201.csv.gz rows=odd --scores-of runs/NAME[/]   other rows or rankings, the same scores

    [bold]diswot study --resume runs/NAME[/]
    """
    needed = "study needs a table of architectures and accuracies: diswot study TABLE.csv"
    request = Request("study", StudyConfig, words, flags, needed)
    request.refuse_subjects(1)
    config = request.config()

    def plan() -> StudyPlan:
        from diswot.studies.recipe import StudyPlan

        earlier = Path(flags["scores_of"]) if flags["scores_of"] else None
        return StudyPlan(config, request.subjects[0], earlier)

    outcome = request.carry_out(plan, lambda: ["study", Path(request.subjects[0]).name.partition(".")[0]])
    from diswot.report.html import PAGE
    from diswot.report.tables import to_json, to_rich
    from diswot.studies.report import terminal_table

    tables = [terminal_table(outcome.result.study, report) for report in outcome.result.reports]
    if flags["as_json"]:
        click.echo(json.dumps({"folder": str(outcome.folder), "tables": [json.loads(to_json(table)) for table in tables]}))
        return
    for table in tables:
        show_table(to_rich(table))
    if outcome.folder is not None and (outcome.folder / PAGE).exists():
        click.echo(f"{outcome.folder / PAGE}: all tables and figures")


@click.command()
@click.argument("source", metavar="SOURCE")
@click.argument("table", metavar="TABLE.CSV")
@click.option("--trust", is_flag=True, help="allow a package to unpickle the files, which can run code")
def convert(source: str, table: str, trust: bool) -> None:
    """Convert a benchmark's official files to the table that `diswot study` reads, once.

    SOURCE is a folder of NATS-Bench, the .pth of NAS-Bench-201, or the .tfrecord of NAS-Bench-101.

    [bold]diswot convert NATS-tss-v1_0-3ffb9-simple nasbench201.csv.gz --trust[/]
    """
    try:
        with progress_shown(quiet=False) as reporter:
            reporter.within("converting")
            from diswot.benchmarks import convert as convert_files

            rows = convert_files(Path(source), Path(table), trust=trust)
    except OSError as error:
        raise DataError(f"{brief_repr(table)}: {error.strerror or first_line(error)}") from None
    click.echo(f"{table}: {rows:,} architectures")
