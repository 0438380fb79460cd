"""The contract of whatever shows progress, and the one that shows nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class Detail(str):
    """What there is to say of a step on one line; a live view shows the same as rows.

    Attributes:
        rows: labels and texts, one below the other.

    >>> detail = Detail("best 0.3M params, 12 rejected", [("best", "0.3M params"), ("budget", "12 rejected")])
    >>> detail.rows[1], detail[:4]
    (('budget', '12 rejected'), 'best')
    """

    rows: Sequence[tuple[str, str]]

    def __new__(cls, line: str, rows: Sequence[tuple[str, str]] = ()) -> Detail:
        detail = super().__new__(cls, line)
        detail.rows = rows
        return detail


class Reporter(Protocol):
    """Shows progress: `start` is called when a piece of work begins, `update` after every step of it, `stop` at its end; `within` says what
    goes on between two steps, or before the first; `log` shows a line in between.

    `unit` is what a step is: candidate, epoch, ... `detail` makes what there is to say of the step, a `str` or a `Detail`; it is called
    only where that is shown. `what` is a few words, with how far it is after a comma: "testing, 2,000 of 10,000 images". `share` is how
    much of the step under way is done, from 0 to 1; None where that is not known.
    """

    def start(self, total: int, done: int = 0, unit: str = "step") -> None: ...

    def update(self, done: int, detail: Callable[[], str]) -> None: ...

    def within(self, what: str, share: float | None = None) -> None: ...

    def log(self, line: str) -> None: ...

    def stop(self) -> None: ...


class NullReporter:
    """Shows nothing."""

    def start(self, total: int, done: int = 0, unit: str = "step") -> None: ...

    def update(self, done: int, detail: Callable[[], str]) -> None: ...

    def within(self, what: str, share: float | None = None) -> None: ...

    def log(self, line: str) -> None: ...

    def stop(self) -> None: ...
