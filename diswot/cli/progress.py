"""Progress and log lines on the terminal. All go to stderr, so that stdout stays for results."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from diswot.errors import readable
from diswot.progress import Clock, NullReporter, PlainLines, Reporter


class LiveLine(PlainLines):
    """A progress bar that is drawn over itself, for a terminal."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        super().__init__(sys.stderr, every=0.1, clock=clock)
        self._console = console
        self._progress: Progress | None = None

    def start(self, total: int, done: int = 0, unit: str = "step") -> None:
        self.stop()
        super().start(total, done, unit)
        columns = BarColumn(bar_width=24), TextColumn("{task.description}")
        self._progress = Progress(*columns, console=self._console, transient=True)
        self._task = self._progress.add_task("", total=total, completed=done)
        self._progress.start()

    def update(self, done: int, detail: Callable[[], str]) -> None:
        now = self.stepped(done)
        if self._progress is not None and (now - self._shown >= self.every or done == self._total):
            self._shown = now
            self._progress.update(self._task, completed=done, description=self.line(done, now, detail()))

    def log(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def make_reporter(quiet: bool) -> Reporter:
    """A bar on a terminal, plain lines elsewhere, nothing if quiet."""
    if quiet:
        return NullReporter()
    console = Console(stderr=True)
    return LiveLine(console) if console.is_terminal else PlainLines(sys.stderr)


class _ToReporter(logging.Handler):
    """Shows log records between the lines of progress."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        self._reporter.log(prefix + readable(record.getMessage()))


@contextlib.contextmanager
def progress_shown(quiet: bool, silent: bool = False) -> Iterator[Reporter]:
    """Inside, progress and what the library logs are shown.

    Args:
        quiet: show no progress; warnings are shown all the same.
        silent: show nothing at all, as for the processes beside the main one.
    """
    reporter = make_reporter(quiet or silent)
    logger, handler = logging.getLogger("diswot"), _ToReporter(PlainLines(sys.stderr) if quiet else reporter)
    before = logger.level, logger.propagate
    logger.setLevel(logging.CRITICAL if silent else logging.WARNING if quiet else logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield reporter
    finally:
        reporter.stop()
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
