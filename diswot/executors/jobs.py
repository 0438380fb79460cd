"""Slurm jobs, and submitit's stand-ins for them on a laptop, as an executor of `concurrent.futures`.

A job is a worker: it takes one task after the other out of a folder that all machines see, until none comes for a while or its time is
nearly over. So Slurm's queue, Python and torch are waited for once, and not with every task.
"""

from __future__ import annotations

import itertools
import shutil
import threading
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, TypeVar

from diswot.errors import ConfigError, first_line
from diswot.executors.task_folder import Task, TaskFolder, work

T = TypeVar("T")
CLUSTERS = ("slurm", "local", "debug")
_POLL = 0.2  # seconds between two looks at the results
_LOOK = 1.0  # seconds between two looks at the jobs, which take some operations on the disk for each
_TIMEOUT_MIN = 240  # of a job, where nothing else is asked for
_IDLE = 60.0  # seconds without a task after which a job ends
_LEAVE = 3.0  # seconds that jobs are given to end at the end of a run
_ASK_AGAIN = 30.0  # seconds between two questions to Slurm: what became of the jobs; and for jobs, where it gave none
_TO_START = ("PENDING", "REQUEUED")  # states of a job that Slurm starts again, after its node was lost


class JobLost(Exception):
    """A job ended without a result."""


def job_options(name: str, text: str) -> dict[str, Any]:
    """Read the options behind `slurm:`, submitit's own; `local` or `debug` in front of them for its stand-ins.

    >>> job_options("", "partition=gpu,gpus_per_node=1")
    {'cluster': 'slurm', 'slurm_partition': 'gpu', 'gpus_per_node': 1, 'timeout_min': 240}
    >>> job_options("", "local")
    {'cluster': 'local', 'timeout_min': 240}

    Raises:
        ConfigError: something that is not key=value, a time that is none.
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
    minutes = options.setdefault("timeout_min", _TIMEOUT_MIN)
    if not isinstance(minutes, int) or minutes < 1:
        raise ConfigError(f"--executor {name}: timeout_min={minutes}: a whole number of minutes, 1 or more, is needed")
    return options


class JobExecutor(Executor):
    """Tasks that are carried out by jobs. Jobs that are needed at the same time are one job array.

    Args:
        name: as the executor was asked for.
        folder: that all machines see; the jobs' files are kept in it until the end.
        options: from `job_options`.
        workers: jobs side by side, at most.

    Raises:
        ConfigError: Slurm is not there, or an option is unknown.
    """

    def __init__(self, name: str, folder: Path, options: Mapping[str, Any], workers: int) -> None:
        import submitit

        self._folder, self._workers, given = folder / "jobs", workers, {"name": "diswot", **options}
        cluster = given.pop("cluster")
        self._idle, self._look_every = (0.0, 0.0) if cluster == "debug" else (_IDLE, _LOOK)
        self._seconds = 60.0 * given["timeout_min"]
        try:
            self._jobs_of = submitit.AutoExecutor(self._folder, cluster=cluster)
            self._jobs_of.update_parameters(**given)
        except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
            raise ConfigError(f"--executor {name}: {first_line(error, 200)}") from None
        self._tasks = TaskFolder.create(self._folder / uuid.uuid4().hex)  # jobs of a run that was killed look into their own
        self._added: deque[tuple[Future[Any], Task]] = deque()
        self._futures: dict[int, Future[Any]] = {}  # of tasks that are in the folder
        self._jobs: dict[str, Any] = {}  # that have not ended, by their names
        self._numbers = itertools.count()
        self._look_at = self._ask_at = self._start_at = 0.0  # when it is looked at the jobs, Slurm is asked, and jobs are started again
        self._changed, self._closing, self._cancelling = threading.Event(), False, False
        self._thread = threading.Thread(target=self._manage, name="jobs", daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        if self._closing:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[T] = Future()
        self._added.append((future, (fn, args, kwargs)))
        self._changed.set()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._closing, self._cancelling = True, cancel_futures
        self._changed.set()
        if wait or cancel_futures:
            self._thread.join()

    def _manage(self) -> None:
        while not self._cancelling and not (self._closing and not self._futures and not self._added):
            self._changed.wait(_POLL)
            self._changed.clear()
            try:
                self._add_tasks()
                self._start_jobs()
                ended = self._ended_jobs() if time.monotonic() >= self._look_at else {}  # before their last results are read
                self._take_results()
                for name, job in ended.items():
                    self._give_up_lost(name, job)
            except Exception as error:  # sbatch's, a full disk's, or of whatever else keeps the files from being written
                self._fail_all(error)
        for future in self._futures.values():
            future.cancel()
        for future, _ in self._added:
            future.cancel()
        self._end_jobs()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end_jobs(self) -> None:
        """End the jobs. Those that wait for a task do so by themselves, once the tasks' folder is gone."""
        at_work = [name for name in self._jobs if self._tasks.taken_by(name) or not self._tasks.has_begun(name)]
        shutil.rmtree(self._tasks.path, ignore_errors=True)
        for name in at_work:
            self._jobs[name].cancel(check=False)
        until = time.monotonic() + _LEAVE
        while self._jobs and time.monotonic() < until:
            self._ended_jobs()
            time.sleep(_POLL / 4)
        for job in self._jobs.values():
            job.cancel(check=False)

    def _add_tasks(self) -> None:
        while self._added:
            future, task = self._added.popleft()
            if future.set_running_or_notify_cancel():
                number = next(self._numbers)
                self._futures[number] = future
                self._tasks.add(number, task)

    def _start_jobs(self) -> None:
        """Start as many jobs as there is work for, as one array. Where Slurm refuses, and others are at work, it is asked again later."""
        wanted = min(len(self._futures), self._workers) - len(self._jobs)
        if wanted <= 0 or time.monotonic() < self._start_at or self._tasks.first_waiting() is None:
            return
        try:
            with self._jobs_of.batch():
                jobs = [self._jobs_of.submit(work, self._tasks, self._idle, self._seconds) for _ in range(wanted)]
        except Exception:
            self._start_at = time.monotonic() + _ASK_AGAIN
            if not self._jobs:
                raise
            return
        self._jobs |= {job.job_id: job for job in jobs}

    def _ended_jobs(self) -> dict[str, Any]:
        """Remove the jobs that have ended, and return them by their names."""
        ended = {}
        if self._jobs and time.monotonic() >= self._ask_at:
            next(iter(self._jobs.values())).get_info(mode="force")  # of all; submitit itself asks every ten minutes
            self._ask_at = time.monotonic() + _ASK_AGAIN
        for name, job in list(self._jobs.items()):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if job.done():
                    ended[name] = self._jobs.pop(name)
                elif job.state in _TO_START:
                    self._tasks.give_back(name)
        self._look_at = time.monotonic() + self._look_every
        return ended

    def _take_results(self) -> None:
        for number, (result, error) in self._tasks.results().items():
            if (future := self._futures.pop(number, None)) is None:
                continue  # it had been given back, and was done twice
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

    def _give_up_lost(self, name: str, job: Any) -> None:
        """Give up the tasks that a job had when it ended. One that could not even begin takes the first that waits with it, or it would be
        started again and again."""
        lost = self._tasks.taken_by(name)
        if not lost and not self._tasks.has_begun(name) and (first := self._tasks.first_waiting()) is not None:
            lost = [first]
        for number in lost:
            self._fail(number, JobLost(_reason(job)))

    def _fail_all(self, error: Exception) -> None:
        for number in list(self._futures):
            self._fail(number, error)

    def _fail(self, number: int, error: Exception) -> None:
        self._tasks.forget(number)
        if (future := self._futures.pop(number, None)) is not None:
            future.set_exception(error)


def _reason(job: Any) -> str:
    """Why a job has ended, as far as it says."""
    last = (job.stderr() or "").strip().rpartition("\n")[2]
    return f"job {job.job_id} ended without a result ({last or job.state})"
