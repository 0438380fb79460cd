"""How fast work goes, and how long the rest of it will take."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence

Clock = Callable[[], float]
_RISE_TOLD = 1.2  # how much dearer the dearest steps are, from where on it is told
_FEWEST_STEPS, _FEW_STEPS, _MINUTE = 3, 8, 60.0  # that a forecast is made from: a few, or the fewest after a minute
_SETTLING = 2.0  # seconds within which the time that is left follows what is seen
_RECENT = 128  # points of time, from the later half of which the latest pace is taken
_FEWEST_SEEN, _LONG = 8, 30.0  # points of time, or seconds, that a first estimate is made from
_OVERDUE = 1.25  # times the time that is shown, from where on it is called too short
_BARS = "▁▂▃▄▅▆▇█"


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


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """A curve of small bars, each the highest value of one of at most `width` equal parts.

    >>> sparkline([0, 1, 2, 3, 4, 5, 6, 7]), sparkline([1, 1]), sparkline([])
    ('▁▂▃▄▅▆▇█', '▁▁', '')
    """
    count = min(width, len(values))
    shown = [max(values[number * len(values) // count : (number + 1) * len(values) // count]) for number in range(count)]
    if not shown:
        return ""
    low, span = min(shown), max(shown) - min(shown) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in shown)


class TimeLeft:
    """The pace of work, and the time that is left as it is shown: that never grows.

    What comes before the first step (processes start, files are read) does not count. The time that is left is taken from the latest pace,
    with a margin while little has been seen; where work becomes slower all the same, what is shown stands still and is called too short.

    Args:
        total: steps in all.

    >>> left = TimeLeft(100)
    >>> [left.text(done, seconds) for seconds, done in ((9.0, 1), (10.0, 2), (39.0, 31), (59.0, 51), (108.0, 100))]
    ['', '', '1 min 33 s left', '1 min 03 s left', '0 s left']
    """

    def __init__(self, total: float) -> None:
        self.total = total
        self._first: tuple[float, float] | None = None  # time and steps done
        self._seen = 0
        self._recent: deque[tuple[float, float]] = deque(maxlen=_RECENT)
        self._shown = math.inf
        self._last = 0.0
        self.is_overdue = False

    def pace(self, done: float, now: float) -> float:
        """Steps a second; 0 where there is none yet."""
        since, first = self._first or (now, done)
        return (done - first) / (now - since) if done > first and now > since else 0.0

    def note(self, done: float, now: float) -> float:
        """Note how far the work is at a time in seconds; return the seconds that are left, infinity where nothing can be said yet."""
        if self._first is None:
            self._first, self._last = (now, done), now
            self._recent.append((now, done))
            return self._shown
        now = max(now, self._last)  # a line that was kept back tells of an earlier moment
        passed, self._last = now - self._last, now
        if done > self._recent[-1][1]:
            self._recent.append((now, done))
            self._seen += 1
        if done <= self._first[1] or (self._seen < _FEWEST_SEEN and now - self._first[0] < _LONG):
            return self._shown
        begun, before = self._recent[(len(self._recent) - 1) // 2]
        seen = (self.total - done) * (now - begun) / (done - before) * (1 + 0.5 / math.sqrt(self._seen or 1))
        if math.isfinite(self._shown):
            weight = 1 - math.exp(-passed / _SETTLING)
            expected = max(0.0, self._shown - passed)
            self._shown = min(self._shown, expected + weight * (seen - expected))
        else:
            self._shown = seen
        if done >= self.total:
            self._shown = 0.0
        self.is_overdue = seen > _OVERDUE * self._shown + 1
        return self._shown

    def text(self, done: float, now: float) -> str:
        """`3 min 20 s left`, `over 10 s left` where that is too short by now, or "" where nothing can be said yet."""
        left = self.note(done, now)
        return f"{'over ' if self.is_overdue else ''}{duration(left)} left" if math.isfinite(left) else ""


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
        if now - begun < self.after or done - first < (_FEW_STEPS if now - begun < _MINUTE else _FEWEST_STEPS):
            return ""
        self._told = True
        each, left = (now - begun) / (done - first), self.total - done
        if left <= 0:
            return ""
        costs, self._costs = sorted(self._costs), []
        dearest = costs[-max(1, len(costs) // 10) :]
        rise = (sum(dearest) / len(dearest)) / (sum(costs) / len(costs)) if costs else 1.0
        most = f" to {duration(each * left * rise)}" if rise > _RISE_TOLD else ""
        why = ", the more the dearer the candidates become" if most else ""
        return f"{each:.2g} s a {self.unit}: about {duration(each * left)}{most} for the {left:,} that are left{why}"
