"""Progress as plain lines, for logs and pipes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TextIO

from diswot.progress.pace import Clock, TimeLeft, duration


class PlainLines:
    """Prints a line every few seconds, for logs and pipes: how far the work is, how fast, how long it will take, and details.

    Args:
        stream: where lines go.
        every: seconds between lines about steps.
        silence: seconds after which a line is printed though no step was completed: what goes on inside of it. `tick` sees to that.
        clock: the time; a test gives its own.
    """

    def __init__(self, stream: TextIO, every: float = 10.0, silence: float = 30.0, clock: Clock = time.monotonic) -> None:
        self.stream, self.every, self.silence, self.clock = stream, every, silence, clock
        self._lock = threading.RLock()  # `tick` is called by a thread of its own
        self._total, self.unit = 0, "step"
        self._begun = self._shown = self.clock()
        self._left = TimeLeft(0)
        self._done, self._share = 0, 0.0  # steps, and the share of the one under way
        self._what, self._what_begun = "", self._begun  # what goes on inside the step under way
        self._pending: Callable[[], str] | None = None

    def start(self, total: int, done: int = 0, unit: str = "step") -> None:
        with self._lock:
            self._total, self._done, self._share, self.unit = total, done, 0.0, unit
            self._begun = self._shown = self._what_begun = self.clock()
            self._left, self._what = TimeLeft(total), ""
        if done:
            self.log(f"resumed at {done} of {total} {unit}s")

    def update(self, done: int, detail: Callable[[], str]) -> None:
        with self._lock:
            now = self._stepped(done)

            def line() -> str:
                return self.line(done, now, detail())

            if now - self._shown < self.every and done < self._total:
                self._pending = line
                return
            self._pending = None
            self.log(line())

    def within(self, what: str, share: float | None = None) -> None:
        with self._lock:
            if what.partition(",")[0] != self._what.partition(",")[0]:
                self._what_begun = self.clock()
            self._what = what
            if share is not None:
                self._share = share
                self._left.note(self._done + share, self.clock())
            self.tick()

    def tick(self) -> None:
        """Print what goes on where nothing has been printed for long."""
        with self._lock:
            now = self.clock()
            if now - self._shown >= self.silence and (self._what or self._total):
                self.log(self._under_way(now))

    def _stepped(self, done: int) -> float:
        """Note a step; return its time."""
        now = self.clock()
        self._done, self._share, self._what, self._what_begun = done, 0.0, "", now
        self._left.note(done, now)
        return now

    def line(self, done: int, now: float, detail: str) -> str:
        """The line about a step that was completed at a time."""
        return "; ".join(filter(None, (f"{done}/{self._total} {self.unit}s, {self._pace(done, now)}", detail)))

    def _under_way(self, now: float) -> str:
        """The line about a step that is not completed yet."""
        what = self._what or f"{self.unit} {self._done + 1}"
        if not self._total or self._done >= self._total:
            return f"{what}, for {duration(now - self._what_begun)}"
        left = self._left.text(self._done + self._share, now) if self._share else ""
        since = "" if left else f"for {duration(now - self._what_begun)}"
        return ", ".join(filter(None, (f"{self._done}/{self._total} {self.unit}s", what, since, left)))

    def _pace(self, done: float, now: float) -> str:
        """Return the speed and the time that is left, by the steps after the first: that one also waits for processes to start."""
        rate = self._left.pace(done, now)
        if rate == 0:
            return f"after {duration(now - self._begun)}"
        speed = f"{rate:.1f} {self.unit}s/s" if rate >= 1 else f"{1 / rate:.1f} s per {self.unit}"
        return ", ".join(filter(None, (speed, self._left.text(done, now))))

    def log(self, line: str) -> None:
        with self._lock, contextlib.suppress(BrokenPipeError):  # nobody reads any more; the work goes on
            self._shown = self.clock()
            print(line, file=self.stream, flush=True)

    def stop(self) -> None:
        with self._lock:
            if self._pending is not None:
                self.log(self._pending())
            self._pending, self._total, self._what = None, 0, ""
