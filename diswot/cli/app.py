"""The `diswot` command: the group of its verbs, and what becomes of their errors."""

from __future__ import annotations

import os
import time

import rich_click as click
from click.exceptions import Exit

from diswot.cli import cache, completion, latency, listing, network, reporting, runs, searching, studying, tabulating, training
from diswot.errors import DiswotError, readable, speaking_flags
from diswot.plugins import part_at_fault

WAIT_FOR_FIRST = 10.0
"""Seconds that the second and further processes of a training wait for the first to print an error."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(package_name="diswot")
@click.pass_context
def cli(context: click.Context) -> None:
    """Find the student network that will distil best for a teacher and a budget, without training any candidate.

    [bold]diswot search --teacher resnet56 --params 1M[/]   scores a thousand networks, leaves the best in arch.json

    [bold]diswot distill arch.json --data cifar100 --download[/]   trains it under the teacher
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (
    *(searching.search, training.distill, training.train, training.compare),
    *(network.evaluate, network.predict, network.export, searching.score),
    *(studying.study, tabulating.tabulate, network.show, network.diff, latency.latency),
    *(studying.convert, reporting.report, listing.list_, runs.runs_, cache.cache, completion.completion),
):
    cli.add_command(_command)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; every mistake of the user's is one line on stderr and code 2."""
    with speaking_flags():
        return _run(arguments)


def _run(arguments: list[str] | None) -> int:
    try:
        code = cli.main(arguments, prog_name="diswot", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        return _fail(_one_line(error))
    except (click.Abort, KeyboardInterrupt):
        return 130
    except DiswotError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename or 'output'}: {error.strerror or error}")
    except Exception as error:
        if os.environ.get("DISWOT_TRACEBACK"):
            raise
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if part := part_at_fault(error):
            return _fail(f"the {part} failed with {what:.300}; DISWOT_TRACEBACK=1 shows where")
        _fail(f"{what}; this is a fault of diswot's, please report it; DISWOT_TRACEBACK=1 shows where it is")
        return 1


def _one_line(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split())
    command = getattr(getattr(error, "ctx", None), "command_path", "diswot")
    return f"{message} See `{command} --help`."


def _fail(message: str) -> int:
    """Print the error once, of however many processes torchrun has started.

    Mostly all of them meet the same error, and the first prints it. torchrun ends the others as soon as one has failed, so they leave
    the first the time to print; one that is still there after it is alone with its error.
    """
    if (rank := os.environ.get("RANK", "0")) != "0":
        time.sleep(WAIT_FOR_FIRST)
        message = f"process {rank}: {message}"
    click.echo(f"diswot: {readable(message)}", err=True)
    return 2
