"""Ctrl-C and SIGTERM: the first stops the work and lets it be put away, and no further one disturbs that."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from diswot.progress import Clock

IMPATIENT = 1.0
"""Seconds after the first signal within which others are taken for the same one: putting things away mostly takes half of it."""
GRACE = 10.0
"""Seconds that putting things away may take. Whatever a run has is on the disk already, so the process may end at any time."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """What this process does with SIGINT and SIGTERM.

    The first is a KeyboardInterrupt. A second one in the middle of putting things away would leave workers and locks half closed, and the
    process waiting for them forever; so it is ignored if it comes quickly, and ends the process at once if it comes later. After `GRACE`
    seconds the process is ended anyway.

    Args:
        clock: the time in seconds; a test gives its own.

    Attributes:
        last_words: what a process that is ended at once says, on stderr; "" once it was said.
        number: the first signal that came, or None.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock, self.last_words = clock, "stopped"
        self.number: int | None = None
        self._came = 0.0
        self._timer: threading.Timer | None = None

    @property
    def exit_code(self) -> int:
        """The exit code of a program that a signal has stopped."""
        return 128 + (self.number or signal.SIGINT)

    def receive(self, number: int, _frame: FrameType | None = None) -> None:
        """The handler of both signals."""
        from diswot.runs import interrupted

        if self.number is None:
            self.number, self._came = number, self.clock()
            interrupted.set()
            self._timer = threading.Timer(GRACE, self.end_at_once)
            self._timer.daemon = True
            self._timer.start()
            raise KeyboardInterrupt
        if self.clock() - self._came > IMPATIENT:
            self.end_at_once()

    def end_at_once(self) -> None:
        """End the process without putting anything away; workers follow it."""
        self.say_last_words()
        os._exit(self.exit_code)

    def say_last_words(self) -> None:
        """Print `last_words`, once."""
        said, self.last_words = self.last_words, ""
        if said:
            with contextlib.suppress(OSError):  # past Python's streams, whose locks may be held
                os.write(2, f"{said}\n".encode())

    def ignore(self) -> None:
        """Ignore what may still come: Python gives signals their old meaning, to kill, while it closes down."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    @contextlib.contextmanager
    def handling(self) -> Iterator[None]:
        """Inside, signals come here; afterwards to whom they came before. In other threads than the main one nothing is changed."""
        from diswot.runs import interrupted

        ours = threading.current_thread() is threading.main_thread()
        before = {number: signal.signal(number, self.receive) for number in _SIGNALS} if ours else {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._timer is not None:
                self._timer.cancel()
            interrupted.clear()


_of_process: StopSignals | None = None


def own_signals() -> StopSignals:
    """Take the signals of this process, for as long as it lives; for the command itself, not where `main` is called from Python."""
    global _of_process
    _of_process = StopSignals()
    for number in _SIGNALS:
        signal.signal(number, _of_process.receive)
    return _of_process


@contextlib.contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Inside, SIGINT and SIGTERM are handled as `StopSignals` says."""
    if _of_process is not None:
        yield _of_process
        return
    found = StopSignals()
    with found.handling():
        yield found
