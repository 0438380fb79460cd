"""Jobs that live on as workers, and the folder that they take their tasks from."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diswot.executors import jobs, task_folder
from diswot.executors.dispatcher import Dispatcher
from diswot.executors.jobs import JobExecutor, JobLost, job_options
from diswot.executors.named import open_pool
from diswot.executors.task_folder import TaskFolder, work
from tests.executors import fake_slurm
from tests.executors.work import blame, collect, note, pid_once_told, slow_pid

LOCAL = job_options("", "local")


@pytest.fixture
def folder(tmp_path: Path) -> TaskFolder:
    return TaskFolder.create(tmp_path / "tasks")


@pytest.fixture(autouse=True)
def _path_of_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # so that their processes find the tests


def test_every_task_is_taken_once_by_however_many_workers(folder: TaskFolder) -> None:
    for number in range(300):
        folder.add(number, (pow, (number, 2), {}))

    def take_all(worker: str) -> list[int]:
        taken = []
        while (number := folder.take(worker)) is not None:
            folder.carry_out(number, worker)
            taken.append(number)
        return taken

    with ThreadPoolExecutor(8) as threads:
        shares = list(threads.map(take_all, [f"job{number}.0" for number in range(8)]))
    assert sorted(number for share in shares for number in share) == list(range(300))
    assert all(share == sorted(share) for share in shares), "the first comes first"
    assert folder.results() == {number: (number**2, None) for number in range(300)}


def test_a_task_is_given_back_by_the_workers_of_one_job_and_no_other(folder: TaskFolder) -> None:
    for number in range(4):
        folder.add(number, (pow, (number, 2), {}))
    taken = [folder.take(worker) for worker in ("12_1.0", "12_1.1", "12_11.0", "2_1.0")]
    assert taken == [0, 1, 2, 3] and folder.taken_by("12_1") == [0, 1] and folder.first_waiting() is None
    folder.give_back("12_1")
    assert folder.first_waiting() == 0 and folder.taken_by("12_1") == [] and folder.taken_by("12_11") == [2]
    folder.forget(0)
    folder.forget(2)
    assert folder.first_waiting() == 1 and folder.taken_by("12_11") == [] and folder.taken_by("2_1") == [3]


def test_nobody_else_may_write_what_is_run(folder: TaskFolder) -> None:
    assert folder.path.stat().st_mode & 0o777 == 0o700


def test_what_a_task_raises_and_what_cannot_be_pickled_are_results(folder: TaskFolder) -> None:
    folder.add(0, (int, ("x",), {}))
    folder.add(1, (threading.Lock, (), {}))
    for number in (0, 1):
        assert folder.take("job.0") == number
        folder.carry_out(number, "job.0")
    (_, bad), (_, unpicklable) = folder.results().values()
    assert isinstance(bad, ValueError) and isinstance(unpicklable, TypeError | pickle.PicklingError)


def test_a_worker_ends_when_it_is_idle_when_its_time_is_over_and_when_the_run_is(
    folder: TaskFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SUBMITIT_DEBUG_JOB_ID", "DEBUG_1")
    monkeypatch.setattr(task_folder, "_MARGIN", 0.0)
    for number in range(3):
        folder.add(number, (time.sleep, (0.1,), {}))
    work(folder, idle=5, seconds=0.2)
    assert list(folder.results()) == [0], "the second one would not have ended in time"
    work(folder, idle=0, seconds=100)
    assert list(folder.results()) == [1, 2]
    assert folder.has_begun("DEBUG_1") and not folder.has_begun("DEBUG_2")
    began = time.monotonic()
    work(TaskFolder(tmp_path / "gone"), idle=100, seconds=100)
    assert time.monotonic() - began < 10


def test_jobs_live_on_from_one_task_to_the_next(tmp_path: Path) -> None:
    executor = JobExecutor("slurm:local", tmp_path, LOCAL, 2)
    pids = {executor.submit(slow_pid, 0.01).result() for _ in range(5)}
    assert len(pids) == 1 and os.getpid() not in pids
    executor.shutdown(cancel_futures=True)
    assert not list(tmp_path.iterdir()), "the files of the jobs are gone"


def test_a_job_that_is_told_to_leave_gives_its_task_to_another(tmp_path: Path) -> None:
    executor = JobExecutor("slurm:local", tmp_path, LOCAL, 1)
    future, told = executor.submit(pid_once_told, tmp_path / "pid", tmp_path / "go"), tmp_path / "pid"
    while not told.exists() or not told.read_text():
        time.sleep(0.05)
    first = int(told.read_text())
    os.kill(first, signal.SIGUSR2)
    (tmp_path / "go").touch()
    assert future.result() != first
    executor.shutdown(cancel_futures=True)


def test_a_job_that_cannot_begin_fails_a_task_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(jobs, "work", slow_pid)  # of a module that is not found there
    monkeypatch.chdir(tmp_path)
    executor = JobExecutor("slurm:local", tmp_path, LOCAL, 1)
    with pytest.raises(JobLost, match=r"job \d+ ended without a result \(ModuleNotFoundError: No module named 'tests'\)"):
        executor.submit(pow, 2, 3).result()
    executor.shutdown(cancel_futures=True)


@pytest.mark.slow
def test_arrays_of_slurm_with_a_job_killed_and_one_preempted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """submitit's own path to sbatch and sacct, on a Slurm that is pretended."""
    for name, value in fake_slurm.install(tmp_path / "slurm").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(jobs, "_ASK_AGAIN", 0.5)
    done = tmp_path / "done"
    with open_pool("slurm:partition=cpu", 2, folder=tmp_path) as pool, Dispatcher(pool, note, done, blame) as dispatcher:
        found = collect(dispatcher, range(30))
        pids = [int(line.split()[1]) for line in done.read_text().splitlines()]
        assert len(set(pids)) == 2
        for pid, told in zip(set(pids), (signal.SIGKILL, signal.SIGUSR2), strict=True):
            threading.Timer(0.5, os.kill, (pid, told)).start()
        found |= collect(dispatcher, range(30, 330))
    assert found == {number: number**2 for number in range(330)}
    started = {file.stem for file in (tmp_path / "slurm" / "jobs").glob("*.pid")}
    assert {"1000_0", "1000_1"} < started, "an array, and jobs in place of those that ended"
    assert not (tmp_path / "jobs").exists()
