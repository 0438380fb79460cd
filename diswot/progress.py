"""Progress reports: how far long work is, and where that is shown.

What happens once (a teacher is trained first, a checkpoint is damaged) is logged through `logging.getLogger("diswot")` instead.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Protocol, TextIO

Clock = Callable[[], float]
_RISE_TOLD = 1.2  # how much dearer the dearest steps are, from where on it is told
_FEWEST_STEPS = 3  # that a forecast is made from


class Reporter(Protocol):
    """Shows progress: `start` is called when a piece of work begins, `update` after every step of it, `stop` at its end; `log` shows a line
    in between.

    `unit` is what a step is: candidate, epoch, ...
    """

    def start(self, total: int, done: int = 0, unit: str = "step") -> None: ...

    def update(self, done: int, detail: Callable[[], str]) -> None: ...

    def log(self, line: str) -> None: ...

    def stop(self) -> None: ...


class NullReporter:
    """Shows nothing."""

    def start(self, total: int, done: int = 0, unit: str = "step") -> None: ...

    def update(self, done: int, detail: Callable[[], str]) -> None: ...

    def log(self, line: str) -> None: ...

    def stop(self) -> None: ...


def duration(seconds: float) -> str:
    """A time for a reader.

    >>> duration(7), duration(65), duration(7300)
    ('7 s', '1 min 05 s', '2 h 01 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Forecast:
    """What long work will take, told once after its first seconds.

    Args:
        total: steps in all.
        unit: what a step is.
        after: seconds, from the first step on, that the forecast is made from; the first step waits for processes to start.
        clock: the time; a test gives its own.

    >>> times = iter([100.0, 102.0, 106.0])
    >>> forecast = Forecast(1000, "candidate", clock=lambda: next(times))
    >>> [forecast.line(done) for done in (1, 2, 21)]
    ['', '', '0.3 s a candidate: about 4 min 54 s for the 979 that are left']
    """

    def __init__(self, total: int, unit: str, after: float = 5.0, clock: Clock = time.monotonic) -> None:
        self.total, self.unit, self.after, self.clock = total, unit, after, clock
        self._first: tuple[float, int] | None = None
        self._told = False
        self._costs: list[float] = []

    def note_cost(self, seconds: float) -> None:
        """Note what a step took by itself, for work whose steps may all become as dear as its dearest."""
        if not self._told and seconds > 0:
            self._costs.append(seconds)

    def line(self, done: int) -> str:
        """The forecast, once it can be made, and "" before and ever after.

        Args:
            done: steps that are done.
        """
        if self._told:
            return ""
        now = self.clock()
        begun, first = self._first = self._first or (now, done)
        if now - begun < self.after or done - first < _FEWEST_STEPS:
            return ""
        self._told = True
        each, left = (now - begun) / (done - first), self.total - done
        if left <= 0:
            return ""
        costs, self._costs = sorted(self._costs), []
        dearest = costs[-max(1, len(costs) // 10) :]
        rise = (sum(dearest) / len(dearest)) / (sum(costs) / len(costs)) if costs else 1.0
        worse = f", {duration(each * left * rise)} once all are as dear as the dearest tenth so far" if rise > _RISE_TOLD else ""
        return f"{each:.2g} s a {self.unit}: about {duration(each * left)} for the {left:,} that are left{worse}"


class PlainLines:
    """Prints a line every few seconds, for logs and pipes: how far the work is, how fast, how long it will take, and details.

    Args:
        stream: where lines go.
        every: seconds between lines.
        clock: the time; a test gives its own.
    """

    def __init__(self, stream: TextIO, every: float = 10.0, clock: Clock = time.monotonic) -> None:
        self.stream, self.every, self.clock = stream, every, clock
        self._total, self.unit = 0, "step"
        self._begun = self._shown = 0.0
        self._paced_from: tuple[float, int] | None = None  # time and count of the first step: what comes before it is starting up
        self._pending: Callable[[], str] | None = None

    def start(self, total: int, done: int = 0, unit: str = "step") -> None:
        self._total, self.unit = total, unit
        self._begun = self._shown = self.clock()
        self._paced_from = None
        if done:
            self.log(f"resumed at {done} of {total} {self.unit}s")

    def update(self, done: int, detail: Callable[[], str]) -> None:
        now = self.stepped(done)

        def line() -> str:
            return self.line(done, now, detail())

        if now - self._shown < self.every and done < self._total:
            self._pending = line
            return
        self._shown, self._pending = now, None
        self.log(line())

    def stepped(self, done: int) -> float:
        """The time of a step."""
        now = self.clock()
        self._paced_from = self._paced_from or (now, done)
        return now

    def line(self, done: int, now: float, detail: str) -> str:
        return "; ".join(filter(None, (f"{done}/{self._total} {self.unit}s, {self._pace(done, now)}", detail)))

    def _pace(self, done: int, now: float) -> str:
        """Return the speed and the time that is left, by the steps after the first: that one also waits for processes to start."""
        since, first = self._paced_from or (self._begun, 0)
        if done <= first:
            return f"after {duration(now - self._begun)}"
        rate = (done - first) / max(now - since, 1e-9)
        speed = f"{rate:.1f} {self.unit}s/s" if rate >= 1 else f"{1 / rate:.1f} s per {self.unit}"
        return f"{speed}, {duration((self._total - done) / rate)} left"

    def log(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # nobody reads any more; the work goes on
            print(line, file=self.stream, flush=True)

    def stop(self) -> None:
        if self._pending is not None:
            self.log(self._pending())
            self._pending = None
