"""Progress and log lines on the terminal. All go to stderr, so that stdout stays for results."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from diswot.errors import readable
from diswot.progress import Clock, Detail, NullReporter, PlainLines, Reporter, duration

_BAR = 20  # characters
_EVERY = 0.25  # seconds between two looks at the details of a step
_TICK = 1.0  # seconds


class LiveView(PlainLines):
    """A few lines that are drawn over themselves, for a terminal: a bar with the pace and the time that is left, details, and what goes on.

    The cursor stays visible, so that nothing has to be restored where the process is killed. Nothing is printed while the lock is held: the
    thread that draws has rich's lock first, and then asks for this one.

    Args:
        console: a terminal.
        clock: the time; a test gives its own.
        animate: whether a thread draws it anew four times a second; a test draws it itself, by `render`.
    """

    def __init__(self, console: Console, clock: Clock = time.monotonic, animate: bool = True) -> None:
        super().__init__(sys.stderr, every=_EVERY, clock=clock)
        self._console, self._animate = console, animate
        self._live: Live | None = None
        self._spinner = Spinner("dots")
        self._detail = Detail("")

    def start(self, total: int, done: int = 0, unit: str = "step") -> None:
        self._detail = Detail("")
        self._show()
        super().start(total, done, unit)

    def update(self, done: int, detail: Callable[[], str]) -> None:
        with self._lock:
            now = self._stepped(done)
        if now - self._shown >= self.every or done >= self._total:
            self._shown, made = now, detail()
            self._detail = made if isinstance(made, Detail) else Detail(made)

    def within(self, what: str, share: float | None = None) -> None:
        self._show()
        super().within(what, share)

    def tick(self) -> None:
        """Nothing: the view is drawn again and again."""

    def log(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def stop(self) -> None:
        if self._live is not None:
            self._live.stop()
        with self._lock:
            self._live, self._total, self._what, self._detail = None, 0, "", Detail("")

    def _show(self) -> None:
        if self._live is None:
            self._live = Live(
                console=self._console, get_renderable=self.render, transient=True, auto_refresh=self._animate, vertical_overflow="crop"
            )
            self._live.start()
            self._console.show_cursor(True)

    def render(self) -> RenderableType:
        """The view as it is now."""
        with self._lock:
            now = self.clock()
            view = Table.grid()
            view.add_column(no_wrap=True, overflow="ellipsis")
            if self._total:
                view.add_row(self._bar(now))
            for label, text in self._detail.rows or ([("", self._detail)] if self._detail else []):
                view.add_row(Text.assemble((f"{label:8}" if label else "", "dim"), text))
            if self._what or not self._total:
                line = Table.grid(padding=(0, 1))
                line.add_column()
                line.add_column(no_wrap=True, overflow="ellipsis")
                line.add_row(self._spinner, Text(f"{self._what or 'finishing'}, {duration(now - self._what_begun)}", "dim"))
                view.add_row(line)
            return view

    def _bar(self, now: float) -> RenderableType:
        done = self._done + self._share
        rate = self._left.pace(done, now)
        pace = "" if rate == 0 else f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.3g} s each"
        left = self._left.text(done, now) or duration(now - self._begun)
        counts = f"{self._done:,}/{self._total:,} {self.unit}s"
        line = Table.grid(padding=(0, 1))
        line.add_column(width=_BAR)
        line.add_column(no_wrap=True, overflow="ellipsis")
        line.add_row(ProgressBar(self._total, done, width=_BAR), Text(", ".join(filter(None, (counts, pace, left)))))
        return line


def make_reporter(quiet: bool) -> Reporter:
    """A live view on a terminal, plain lines elsewhere, nothing if quiet."""
    if quiet:
        return NullReporter()
    console = Console(stderr=True)
    return LiveView(console) if console.is_terminal and not console.is_dumb_terminal else PlainLines(sys.stderr)


@contextlib.contextmanager
def _ticking(lines: PlainLines) -> Iterator[None]:
    """Inside, a thread looks every second whether nothing has been printed for long."""
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(_TICK):
            lines.tick()

    thread = threading.Thread(target=tick, daemon=True, name="diswot progress")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class _ToReporter(logging.Handler):
    """Shows log records between the lines of progress."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        self._reporter.log(prefix + readable(record.getMessage()))


@contextlib.contextmanager
def progress_shown(quiet: bool = False, silent: bool = False) -> Iterator[Reporter]:
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
    ticking = _ticking(reporter) if type(reporter) is PlainLines else contextlib.nullcontext()
    try:
        with ticking:
            yield reporter
    finally:
        reporter.stop()
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
