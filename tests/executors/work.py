"""Work for the executors of the tests: functions that workers find by their names, and executors that die as they are told to."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from pathlib import Path
from typing import Any

from diswot.executors.dispatcher import Dispatcher
from diswot.executors.named import Pool
from diswot.executors.tasks import Chunk, run_chunk


def square(context: Any, item: int) -> int:
    return item * item


def note(context: Path, item: int) -> int:
    """Square, and leave a line in a file for it."""
    with open(context, "a") as file:
        file.write(f"{item} {os.getpid()}\n")
    time.sleep(0.01)
    return item * item


def fail_at_seven(context: Any, item: int) -> int:
    if item == 7:
        raise ValueError("seven")
    return item


def die_at_seven(context: Any, item: int) -> int:
    if item == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return item * item


def hang_at_seven(context: Any, item: int) -> int:
    while item == 7:
        time.sleep(0.1)
    return item * item


def blame(item: Any, reason: str) -> str:
    return f"{item}: {reason}"


def collect(dispatcher: Dispatcher, items: Any) -> dict[Any, Any]:
    """The outcome of every item; each must come once."""
    numbers = {dispatcher.add(item): item for item in items}
    found: list[tuple[int, Any]] = []
    while len(dispatcher):
        found += dispatcher.completed()
    assert len(found) == len(numbers) == len(dict(found))
    return {numbers[number]: outcome for number, outcome in found}


class ScriptedExecutor(Executor):
    """Runs every task at once in this process, in a context of its own for each of its workers; `lose` says with what it fails instead."""

    def __init__(self, lose: Callable[[Chunk], Exception | None] = lambda chunk: None) -> None:
        self.lose, self.chunks, self.broken = lose, list[Chunk](), False

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.broken:
            raise BrokenExecutor("it is broken")
        future: Future[Any] = Future()
        if fn is not run_chunk:
            future.set_result(fn(*args))
            return future
        self.chunks.append(args[0])
        error = self.lose(args[0])
        self.broken = isinstance(error, BrokenExecutor)
        if error is None:
            future.set_result(fn(*args))
        else:
            future.set_exception(error)
        return future


def pool_of(executor: Executor, slots: int = 2, **options: Any) -> Pool:
    return Pool("scripted", executor, lambda: slots, **options)


class Interrupter(threading.Thread):
    """Kills a worker process now and then with -9."""

    def __init__(self, pids: Callable[[], list[int]], kills: int, every: float) -> None:
        super().__init__(daemon=True)
        self.pids, self.kills, self.every, self.killed = pids, kills, every, 0

    def run(self) -> None:
        while self.killed < self.kills:
            time.sleep(self.every)
            if pids := self.pids():
                os.kill(pids[self.killed % len(pids)], signal.SIGKILL)
                self.killed += 1


def slow_pid(seconds: float) -> int:
    """The process that this runs in."""
    time.sleep(seconds)
    return os.getpid()


def pid_once_told(note: Path, go: Path) -> int:
    """Note the process that this runs in, wait until a file is there, and return it."""
    note.write_text(str(os.getpid()))
    while not go.exists():
        time.sleep(0.05)
    return os.getpid()


def lose_result(runs: Path) -> bytes:
    """A result that is lost with its worker while it is fetched; the second run does not live to the end."""
    if runs.exists():
        os.kill(os.getpid(), signal.SIGKILL)
    runs.touch()
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return bytes(500_000_000)
