"""Local processes as an executor: one that dies takes its own task with it and nothing else."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from diswot.errors import first_line
from diswot.executors.tasks import RemoteTraceback, use_device
from diswot.processes import start_process

T = TypeVar("T")


class WorkerDied(Exception):
    """A worker ended, or was ended, before it gave a result."""


@dataclass(eq=False)
class _Task:
    future: Future[Any]
    call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
    began: float = 0.0


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: _Task | None = None


class LocalExecutor(Executor):
    """Processes on this machine, each with a pipe of its own.

    A process is started when there is work for it, and again after one has died. The future of the task that died with it raises
    `WorkerDied`; those of all others are not touched.

    Args:
        workers: number of processes.
        devices: where networks run; the processes take turns.

    >>> with LocalExecutor(2) as executor:
    ...     executor.submit(max, 3, 4).result()
    4
    """

    def __init__(self, workers: int, devices: Sequence[str] = ("cpu",)) -> None:
        self._most, self._devices = workers, itertools.cycle(devices)
        self._waiting: deque[_Task] = deque()
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()
        self._woken, self._wake = multiprocessing.Pipe(duplex=False)
        self._closing = False
        self._thread = threading.Thread(target=self._manage, name="local workers", daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        task = _Task(Future(), (fn, args, kwargs))
        with self._lock:
            if self._closing:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._waiting.append(task)
        self._notify()
        return task.future

    def began(self, future: Future[Any]) -> float | None:
        """The `time.monotonic()` at which a task was handed to a process; None where it is not running."""
        with self._lock:
            return next((one.task.began for one in self._workers if one.task is not None and one.task.future is future), None)

    def kill(self, future: Future[Any]) -> None:
        """End the process that runs a task; its future raises `WorkerDied`."""
        with self._lock:
            for worker in self._workers:
                if worker.task is not None and worker.task.future is future:
                    worker.process.kill()

    def pids(self) -> list[int]:
        """The process ids of the workers."""
        with self._lock:
            return [worker.process.pid for worker in self._workers if worker.process.pid is not None]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._lock:
            self._closing = True
            if cancel_futures:
                for task in self._waiting:
                    task.future.cancel()
                self._waiting.clear()
                for worker in self._workers:
                    worker.process.kill()
        self._notify()
        if wait:
            self._thread.join()

    def _notify(self) -> None:
        """Wake the thread that manages the processes, unless it has ended."""
        with contextlib.suppress(OSError):
            self._wake.send_bytes(b".")

    def _manage(self) -> None:
        """Hand out tasks and take their results, until all is done after `shutdown`."""
        while True:
            self._hand_out()
            with self._lock:
                busy = [worker for worker in self._workers if worker.task is not None]
                if self._closing and not busy and not self._waiting:
                    break
                watched = [self._woken, *(worker.pipe for worker in self._workers)]
            ready = connection.wait(watched)
            if self._woken in ready:
                self._woken.recv_bytes()
            for worker in [worker for worker in self._workers if worker.pipe in ready]:
                self._take(worker)
        for worker in self._workers:
            worker.pipe.close()  # an idle process ends when it reads the end of its pipe
        for worker in self._workers:
            worker.process.join()
        self._wake.close()
        self._woken.close()

    def _hand_out(self) -> None:
        while self._waiting:
            worker = next((worker for worker in self._workers if worker.task is None), None)
            if worker is None:
                if len(self._workers) == self._most:
                    return
                try:  # it may take seconds, in which others may ask this executor for something
                    worker = _start(next(self._devices))
                except Exception as error:  # too many processes or too little memory, or a script without a guard
                    self._break(error)
                    return
            with self._lock:
                if worker not in self._workers:
                    self._workers.append(worker)
                if self._waiting:
                    self._give(worker, self._waiting.popleft())

    def _give(self, worker: _Worker, task: _Task) -> None:
        """Send a task to an idle process, unless it was cancelled."""
        if not task.future.set_running_or_notify_cancel():
            return
        worker.task, task.began = task, time.monotonic()
        try:
            worker.pipe.send(task.call)
        except OSError:  # it has died; its pipe is readable then, and `_take` sees to it
            pass
        except Exception as error:  # what cannot be pickled is the fault of the task
            worker.task = None
            task.future.set_exception(error)

    def _break(self, error: Exception) -> None:
        """Give up what waits: no process can be started any more. What runs ends as it may."""
        with self._lock:
            self._closing = True
            given_up = list(self._waiting)
            self._waiting.clear()
        for task in given_up:
            if task.future.set_running_or_notify_cancel():
                broken = BrokenExecutor(f"no process can be started: {type(error).__name__}: {first_line(error)}")
                task.future.set_exception(broken)

    def _take(self, worker: _Worker) -> None:
        """Take a result, or what a death leaves."""
        try:
            succeeded, value, trace = worker.pipe.recv()
        except (EOFError, OSError):
            self._remove_dead(worker)
            return
        except Exception as error:  # a result that cannot be unpickled
            succeeded, value, trace = False, error, ""
        with self._lock:
            task, worker.task = worker.task, None
        assert task is not None
        if succeeded:
            task.future.set_result(value)
        else:
            value.__cause__ = RemoteTraceback(trace)
            task.future.set_exception(value)

    def _remove_dead(self, worker: _Worker) -> None:
        worker.process.join()
        worker.pipe.close()
        with self._lock:
            self._workers.remove(worker)
        if worker.task is not None:
            code = worker.process.exitcode
            cause = f"signal {-code}" + (", out of memory?" if code == -9 else "") if code is not None and code < 0 else f"exit code {code}"
            worker.task.future.set_exception(WorkerDied(f"a worker process ended ({cause})"))


def _start(device: str) -> _Worker:
    """Start a process that waits for tasks."""
    ours, theirs = multiprocessing.Pipe()
    process = start_process(_serve, theirs, device)
    theirs.close()
    return _Worker(process, ours)


def _serve(pipe: Connection, device: str) -> None:
    """Run tasks one after the other; the main function of a worker process."""
    use_device(device)
    while True:
        try:
            function, args, kwargs = pipe.recv()
        except (EOFError, OSError):
            return
        except Exception as error:  # a task that cannot be unpickled, as where its module is not found
            pipe.send((False, error, traceback.format_exc()))
            continue
        outcome: tuple[bool, Any, str]
        try:
            outcome = True, function(*args, **kwargs), ""
        except Exception as error:
            outcome = False, error, traceback.format_exc()
        try:
            pipe.send(outcome)
        except Exception as error:  # it could not be pickled, and nothing was sent
            pipe.send((False, RuntimeError(f"{type(error).__name__}: {error}"), traceback.format_exc()))
