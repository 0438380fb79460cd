"""What runs in a worker: the items of a chunk, by a function and a context that the worker keeps from one chunk to the next."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from diswot.processes import peak_memory, reuse_freed_memory

THIS_PROCESS = uuid.uuid4().hex
_contexts: dict[str, Any] = {}  # of this process, by digest
_one_at_a_time = threading.Lock()  # in a worker of several threads: torch's global generator is seeded on the way
_device: str | None = None


class RemoteTraceback(Exception):
    """The traceback of an error in a worker, as text; it stands as the cause of that error in the main process."""


@dataclass(frozen=True)
class Chunk:
    """Items that travel to a worker together.

    Attributes:
        function: (context, item) -> outcome; found by its name in the worker.
        digest: of the context.
        context: the context pickled, or None where the worker is expected to have it.
        items: what the function is called with.
        limit: seconds after which the worker ends its own process, or None.
        sender: `THIS_PROCESS` of the process that sent it, which is never ended.
    """

    function: Callable[[Any, Any], Any]
    digest: str
    context: bytes | None
    items: tuple[Any, ...]
    limit: float | None
    sender: str


@dataclass(frozen=True)
class ChunkResult:
    """What came of a chunk.

    Attributes:
        outcomes: one for each item; None where the worker has no such context, and did nothing.
        error: what the function raised, which ends the run.
        trace: the traceback of that error, as text.
        seconds: how long the items took.
        memory: the most that the process has held so far, in bytes.
    """

    outcomes: list[Any] | None = None
    error: Exception | None = None
    trace: str = ""
    seconds: float = 0.0
    memory: int = 0


def run_chunk(chunk: Chunk) -> ChunkResult:
    """Run a chunk. It raises nothing of the function's, so that whatever an executor raises is the executor's or a worker's fault."""
    with _one_at_a_time:
        if chunk.digest not in _contexts:
            if chunk.context is None:
                return ChunkResult()
            _contexts.clear()
            reuse_freed_memory()
            _contexts[chunk.digest] = pickle.loads(chunk.context)  # bytes that this program's own main process made
        context, start = _contexts[chunk.digest], time.perf_counter()
        try:
            with _ended_after(None if chunk.sender == THIS_PROCESS else chunk.limit):
                outcomes = [chunk.function(context, item) for item in chunk.items]
        except Exception as error:
            return ChunkResult(error=picklable(error), trace=traceback.format_exc())
        return ChunkResult(outcomes, seconds=time.perf_counter() - start, memory=peak_memory())


def ping() -> None:
    """Do nothing, to see whether a worker can run what is in this package."""


def use_device(device: str) -> None:
    """Make this process a worker for one device."""
    global _device
    _device = device


def worker_device() -> str | None:
    """The device that this worker process was started for; None where it was started by others."""
    return _device


@contextlib.contextmanager
def _ended_after(seconds: float | None) -> Iterator[None]:
    """Inside, the process ends once the time has passed, even if it never comes back to Python."""
    if seconds is None:
        yield
        return
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def picklable(error: Exception) -> Exception:
    """The error, or one that says the same where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an exception class of anyone's
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
