"""Slurm jobs, and submitit's stand-ins for them on a laptop, as an executor of `concurrent.futures`."""

from __future__ import annotations

import shutil
import threading
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from diswot.errors import ConfigError, first_line

T = TypeVar("T")
CLUSTERS = ("slurm", "local", "debug")
_POLL = 0.2  # seconds between two looks at the jobs; submitit itself asks Slurm less often
_READERS = 8  # threads that take over results, for which they may have to wait
_TIMEOUT_MIN = 240  # of a job, where nothing else is asked for


class JobLost(Exception):
    """A job ended without a result."""


def job_options(name: str, text: str) -> dict[str, Any]:
    """Read the options behind `slurm:`, submitit's own; `local` or `debug` in front of them for its stand-ins.

    >>> job_options("", "partition=gpu,gpus_per_node=1")
    {'cluster': 'slurm', 'slurm_partition': 'gpu', 'gpus_per_node': 1}
    >>> job_options("", "local")
    {'cluster': 'local'}

    Raises:
        ConfigError: something that is not key=value.
    """
    options: dict[str, Any] = {"cluster": CLUSTERS[0]}
    for number, word in enumerate(filter(None, text.split(","))):
        key, equals, value = (part.strip() for part in word.partition("="))
        if number == 0 and not equals and key in CLUSTERS:
            options["cluster"] = key
            continue
        if not equals or not key or not value:
            raise ConfigError(f"--executor {name}: {word!r:.60} is not key=value, as partition=gpu or timeout_min=60")
        shared = key.startswith("slurm_") or key in ("timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node")
        options[key if shared else f"slurm_{key}"] = int(value) if value.lstrip("-").isdigit() else value
    return options


class JobExecutor(Executor):
    """Every task a job. Those that are submitted at about the same time are one job array.

    Args:
        name: as the executor was asked for.
        folder: that all machines see; the jobs' files are kept in it until the end.
        options: from `job_options`.

    Raises:
        ConfigError: Slurm is not there, or an option is unknown.
    """

    def __init__(self, name: str, folder: Path, options: Mapping[str, Any]) -> None:
        import submitit

        self._folder, given = folder / "jobs", dict(options)
        try:
            self._jobs_of = submitit.AutoExecutor(self._folder, cluster=given.pop("cluster"))
            self._jobs_of.update_parameters(**{"timeout_min": _TIMEOUT_MIN, "name": "diswot", **given})
        except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
            raise ConfigError(f"--executor {name}: {first_line(error, 200)}") from None
        self._waiting: deque[tuple[Future[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = deque()
        self._jobs: dict[Future[Any], Any] = {}
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="jobs")
        self._changed, self._closing, self._cancelling = threading.Event(), False, False
        self._thread = threading.Thread(target=self._manage, name="jobs", daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        if self._closing:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[T] = Future()
        self._waiting.append((future, fn, args, kwargs))
        self._changed.set()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._closing, self._cancelling = True, cancel_futures
        self._changed.set()
        if wait or cancel_futures:
            self._thread.join()
            self._readers.shutdown(cancel_futures=cancel_futures)
            shutil.rmtree(self._folder, ignore_errors=True)

    def _manage(self) -> None:
        while True:
            self._changed.wait(_POLL)
            self._changed.clear()
            if self._cancelling:
                break
            self._hand_in()
            for future, job in list(self._jobs.items()):
                self._look_at(future, job)
            if self._closing and not self._jobs and not self._waiting:
                return
        for future, job in self._jobs.items():
            future.cancel()
            job.cancel(check=False)
        for future, *_ in self._waiting:
            future.cancel()

    def _hand_in(self) -> None:
        """Submit what has come together as one array."""
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        taken = [one for one in taken if one[0].set_running_or_notify_cancel()]
        if not taken:
            return
        try:
            with self._jobs_of.batch():
                jobs = [self._jobs_of.submit(function, *args, **kwargs) for _, function, args, kwargs in taken]
        except Exception as error:  # sbatch's, or whatever keeps the files from being written
            for future, *_ in taken:
                future.set_exception(error)
            return
        self._jobs.update(zip((future for future, *_ in taken), jobs, strict=True))

    def _look_at(self, future: Future[Any], job: Any) -> None:
        """Take the result of a job that has ended."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not job.done():
                return
        del self._jobs[future]
        self._readers.submit(_read, future, job)


def _read(future: Future[Any], job: Any) -> None:
    """Take over what a job left. Where it left nothing, submitit waits for a while: the file may be late on a network's disk."""
    try:
        result = job.result()
    except Exception as error:
        future.set_exception(JobLost(" ".join(str(error).split())))
        return
    future.set_result(result)
