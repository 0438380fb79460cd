"""Executors by name: local processes, dask, Slurm, and anyone's `concurrent.futures.Executor`."""

from __future__ import annotations

import contextlib
import functools
import inspect
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diswot import plugins
from diswot.devices import cpu_count
from diswot.errors import ConfigError, first_line, suggest
from diswot.executors.local import LocalExecutor

LOCAL, DASK, SLURM = "local", "dask", "slurm"
_ASK_AGAIN = 5.0  # seconds between two questions of how many workers a cluster has
_JOBS = 16  # of Slurm side by side, where nothing else is asked for
_JOB_SECONDS = 5.0  # of work in a chunk for a Slurm job: files carry it there and back
_LOCAL_SECONDS = 0.05  # of work in a chunk for a process on this machine: to hand one out takes a millisecond
_CONNECT = 10.0  # seconds in which a dask scheduler must answer


@dataclass
class Pool:
    """An executor that is open, and how it likes its work.

    Attributes:
        name: as it was asked for.
        executor: the executor.
        slots: returns how many chunks run side by side.
        chunk_seconds: how long a chunk should take, for handing it out to cost little.
        make: makes the executor again where it has broken as a whole; None where it cannot be.
    """

    name: str
    executor: Executor
    slots: Callable[[], int]
    chunk_seconds: float = 2.0
    make: Callable[[], Executor] | None = None

    def close(self) -> None:
        """Shut the executor down, and end what it still does."""
        takes = inspect.signature(self.executor.shutdown).parameters
        self.executor.shutdown(**({"cancel_futures": True} if "cancel_futures" in takes else {"wait": False}))

    def reopen(self) -> bool:
        """Replace a broken executor by a new one; False where that is impossible."""
        if self.make is None:
            return False
        self.close()
        self.executor = self.make()
        return True


@contextlib.contextmanager
def open_pool(executor: str | Executor, workers: int = 0, devices: Sequence[str] = ("cpu",), folder: Path | None = None) -> Iterator[Pool]:
    """Open an executor by its name, and shut it down at the end. One that was given open is left open.

    Args:
        executor: `local`, `dask:ADDRESS`, `slurm`, ... (see `check_name`), or an executor that is open.
        workers: chunks that run side by side; 0 for as many as the executor has workers.
        devices: where the networks of local processes run.
        folder: that all machines see, where Slurm jobs leave their files.

    Raises:
        ConfigError: there is no such executor, or it cannot be opened.

    >>> with open_pool("local", workers=1) as pool:
    ...     pool.executor.submit(max, 3, 4).result()
    4
    """
    if isinstance(executor, Executor):
        yield Pool(type(executor).__name__, executor, lambda: workers or _size_of(executor))
        return
    check_name(executor)
    kind, _, rest = executor.partition(":")
    with contextlib.ExitStack() as stack:
        if kind == LOCAL:
            count = workers or cpu_count()
            pool = Pool(executor, LocalExecutor(count, devices), lambda: count, chunk_seconds=_LOCAL_SECONDS)
        elif kind == DASK:
            pool = stack.enter_context(_dask(executor, rest, workers))
        elif kind == SLURM:
            pool = stack.enter_context(_slurm(executor, rest, workers or _JOBS, folder))
        else:
            pool = _own(executor, workers)
        stack.callback(pool.close)
        yield pool


def check_name(executor: str) -> None:
    """Refuse what names no executor.

    `local` are processes on this machine; `dask:local` likewise, `dask:tcp://HOST:8786` the workers of a scheduler; `slurm` are jobs,
    `slurm:partition=gpu,timeout_min=60,...` with options of submitit, `slurm:local` and `slurm:debug` its stand-ins for a laptop;
    `module:name` is called for a `concurrent.futures.Executor`.

    Raises:
        ConfigError: an unknown name, an extra that is not installed.

    >>> check_name("dask")
    Traceback (most recent call last):
    diswot.errors.ConfigError: --executor dask: say where: dask:local, or dask:tcp://HOST:8786
    """
    kind, _, rest = executor.partition(":")
    if kind == LOCAL and not rest:
        return
    if kind in (DASK, SLURM):
        _require(executor, {DASK: "distributed", SLURM: "submitit"}[kind], kind)
        if kind == DASK and not rest:
            raise ConfigError(f"--executor {executor}: say where: dask:local, or dask:tcp://HOST:8786")
        return
    if not plugins.is_reference(executor):
        known = suggest(executor, [LOCAL, "dask:local", "dask:tcp://HOST:8786", SLURM, "slurm:local", "slurm:debug"])
        raise ConfigError(f"--executor {executor!r:.80}: {known}; module:name for one of your own")


def _require(executor: str, module: str, extra: str) -> None:
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise ConfigError(f"--executor {executor}: {module} is not installed: pip install diswot[{extra}]")


def _size_of(executor: Executor) -> int:
    return getattr(executor, "_max_workers", None) or cpu_count()


def _own(name: str, workers: int) -> Pool:
    """The executor that a class or function of the user's gives."""
    made = plugins.load_object(name, "executor")
    sized = bool(workers) and callable(made) and "max_workers" in inspect.signature(made).parameters
    make = functools.partial(made, max_workers=workers) if sized else made

    def checked() -> Executor:
        try:
            found = make() if callable(make) else make
        except Exception as error:  # it is the user's own code
            raise ConfigError(f"--executor {name}: it cannot be opened ({type(error).__name__}: {first_line(error)})") from None
        if not isinstance(found, Executor):
            raise ConfigError(f"--executor {name}: it gives {type(found).__name__}, which is no concurrent.futures.Executor")
        return found

    executor = checked()
    return Pool(name, executor, lambda: workers or _size_of(executor), make=checked if callable(made) else None)


@contextlib.contextmanager
def _dask(name: str, address: str, workers: int) -> Iterator[Pool]:
    import logging

    import dask
    from distributed import Client, LocalCluster

    from diswot.executors.dask import DaskExecutor

    with contextlib.ExitStack() as stack:
        # the dispatcher hands out again what died with a worker, and knows which items to suspect; dask's profiler costs 5 % of the time
        settings = {"distributed.scheduler.allowed-failures": 0, "distributed.worker.profile.enabled": False}
        stack.enter_context(dask.config.set(settings))
        if address == "local":
            count = workers or cpu_count()
            target: Any = stack.enter_context(
                LocalCluster(
                    n_workers=count, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL
                )  # type: ignore[no-untyped-call]
            )
        else:
            target = address
        try:
            client = stack.enter_context(Client(target, timeout=_CONNECT, set_as_default=False))  # type: ignore[no-untyped-call]
        except (OSError, ValueError, TimeoutError) as error:
            remedy = f"start one with `dask scheduler`, and `dask worker {address}` on each machine"
            raise ConfigError(f"--executor {name}: no scheduler answers there ({first_line(error, 100)}): {remedy}") from None
        yield Pool(name, DaskExecutor(client), _remembered(lambda: workers or sum(client.nthreads().values()) or 1))


def _remembered(count: Callable[[], int]) -> Callable[[], int]:
    """Ask no more often than every few seconds: a cluster grows and shrinks, but slowly."""
    asked, found = -_ASK_AGAIN, 1

    def slots() -> int:
        nonlocal asked, found
        if time.monotonic() - asked > _ASK_AGAIN:
            asked, found = time.monotonic(), count()
        return found

    return slots


@contextlib.contextmanager
def _slurm(name: str, options: str, workers: int, folder: Path | None) -> Iterator[Pool]:
    from diswot.executors.jobs import JobExecutor, job_options

    given = job_options(name, options)
    with contextlib.ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd(), prefix="jobs-")))
        executor = JobExecutor(name, place, given, workers)
        yield Pool(name, executor, lambda: workers, chunk_seconds=_JOB_SECONDS)
