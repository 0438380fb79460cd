"""Tasks in a folder that several machines see, and the worker that takes one after the other out of it."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diswot.executors.tasks import picklable

Task = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]  # a function, its arguments, those with names
_POLL = 0.2  # seconds between two looks for a task
_MARGIN = 120.0  # seconds before its time is over, at most a fifth of it, in which a worker begins nothing: it is told to leave 90 s before
_SUFFIX = ".task"


@dataclass(frozen=True)
class TaskFolder:
    """Tasks that wait, tasks that a worker has, and results, as files. A file moves from one folder to another in one step, so a task is
    taken by one worker alone. A directory is listed anew each time, which network file systems answer with what is there now.

    Attributes:
        path: of the folder.

    >>> import tempfile
    >>> folder = TaskFolder.create(Path(tempfile.mkdtemp()) / "tasks")
    >>> folder.add(7, (pow, (2, 3), {}))
    >>> folder.take("job.0"), folder.take("other.0"), folder.taken_by("job"), folder.taken_by("other")
    (7, None, [7], [])
    >>> folder.carry_out(7, "job.0")
    >>> folder.results(), folder.results()
    ({7: (8, None)}, {})
    """

    path: Path

    @classmethod
    def create(cls, path: Path) -> TaskFolder:
        """Make the folder, empty, for nobody else to write into: what lies in it is run."""
        path.mkdir(parents=True, mode=0o700)
        for name in ("waiting", "taken", "results", "workers"):
            (path / name).mkdir()
        return cls(path)

    def exists(self) -> bool:
        """Whether the run goes on."""
        return self.path.is_dir()

    def add(self, number: int, task: Task) -> None:
        """Let a task wait for a worker."""
        self._write(self._waiting(number), pickle.dumps(task))

    def take(self, worker: str) -> int | None:
        """Take the first task that waits, and return its number; None where there is none.

        Args:
            worker: name of the worker: that of its job, a dot, and its number among the processes of this job.
        """
        for number in map(_number, self._files("waiting")):
            if _move(self._waiting(number), self._taken(number, worker)):
                return number
        return None

    def first_waiting(self) -> int | None:
        """The number of the first task that waits."""
        return next(map(_number, self._files("waiting")), None)

    def taken_by(self, job: str) -> list[int]:
        """The tasks that the workers of a job have."""
        return [_number(file) for file in self._files("taken", f"*.{job}.*{_SUFFIX}")]

    def give_back(self, job: str) -> None:
        """Let the tasks that the workers of a job have wait for others."""
        for file in self._files("taken", f"*.{job}.*{_SUFFIX}"):
            _move(file, self._waiting(_number(file)))

    def forget(self, number: int) -> None:
        """Remove a task, whoever has it."""
        for file in (self._waiting(number), *self._files("taken", f"{number:09}.*{_SUFFIX}")):
            file.unlink(missing_ok=True)

    def carry_out(self, number: int, worker: str) -> None:
        """Do what a worker has taken, and leave the result, or what was raised."""
        try:
            function, args, kwargs = pickle.loads(self._taken(number, worker).read_bytes())  # written by the main process of this run
            answer = pickle.dumps((function(*args, **kwargs), None))
        except Exception as error:
            answer = pickle.dumps((None, picklable(error)))
        self._write(self.path / "results" / f"{number:09}{_SUFFIX}", answer)
        self._taken(number, worker).unlink(missing_ok=True)

    def results(self) -> dict[int, tuple[Any, Exception | None]]:
        """The results that have come since the last call, by the number of their task, each with the exception that came instead."""
        found = {}
        for file in self._files("results"):
            found[_number(file)] = pickle.loads(file.read_bytes())  # written by a worker of this run
            file.unlink()
        return found

    def note_begin(self, worker: str) -> None:
        """Note that a worker has begun."""
        (self.path / "workers" / worker).touch()

    def has_begun(self, job: str) -> bool:
        """Whether a worker of a job has begun."""
        return any((self.path / "workers").glob(f"{job}.*"))

    def _waiting(self, number: int) -> Path:
        return self.path / "waiting" / f"{number:09}{_SUFFIX}"

    def _taken(self, number: int, worker: str) -> Path:
        return self.path / "taken" / f"{number:09}.{worker}{_SUFFIX}"

    def _files(self, folder: str, pattern: str = f"*{_SUFFIX}") -> list[Path]:
        """The files of a folder in the order of their numbers, none that is still being written; nothing where the run has ended."""
        try:
            return sorted((self.path / folder).glob(pattern))
        except FileNotFoundError:
            return []

    @staticmethod
    def _write(file: Path, content: bytes) -> None:
        """Write a file that is there as a whole or not at all."""
        part = file.with_suffix(f".{uuid.uuid4().hex}")
        part.write_bytes(content)
        part.replace(file)


def _number(file: Path) -> int:
    return int(file.name.partition(".")[0])


def _move(file: Path, to: Path) -> bool:
    try:
        file.rename(to)
    except FileNotFoundError:  # another was faster
        return False
    return True


def work(folder: TaskFolder, idle: float, seconds: float) -> None:
    """Be a worker: take tasks until none comes for a while, or too little time is left for another. This is what a job of submitit runs.

    Args:
        folder: of the tasks.
        idle: seconds to wait for a task.
        seconds: after which the job is ended from outside.
    """
    import submitit

    if not folder.exists():
        return
    environment = submitit.JobEnvironment()
    job, begun = str(environment.job_id), time.monotonic()
    worker, longest, last = f"{job}.{environment.global_rank}", 0.0, begun
    folder.note_begin(worker)
    with _leaving_when_told(folder, job):
        end = begun + seconds - min(_MARGIN, seconds / 5)
        while folder.exists() and not (longest and time.monotonic() + 1.5 * longest > end):
            now = time.monotonic()
            if (number := folder.take(worker)) is not None:
                folder.carry_out(number, worker)
                last = time.monotonic()
                longest = max(longest, last - now)
            elif now - last >= idle:
                return
            else:
                time.sleep(_POLL)


@contextlib.contextmanager
def _leaving_when_told(folder: TaskFolder, job: str) -> Iterator[None]:
    """Inside, submitit's signal to a job that is preempted, or whose time is nearly over, ends the process; what it was at is done by
    another."""
    if threading.current_thread() is not threading.main_thread():  # a stand-in for a job, in the main process
        yield
        return
    import submitit

    def leave(signum: int, frame: Any) -> None:
        folder.give_back(job)
        os._exit(0)

    told = submitit.JobEnvironment._usr_sig()
    before = signal.signal(told, leave)
    try:
        yield
    finally:
        signal.signal(told, before)
