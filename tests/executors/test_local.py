"""Local processes: one that dies takes its own task with it and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest

from diswot.executors.local import LocalExecutor, WorkerDied
from diswot.executors.tasks import worker_device
from tests.executors.work import die_at_seven, fail_at_seven, square


def test_tasks_are_done_by_as_many_processes_as_asked_for_and_the_end_of_one_is_its_own() -> None:
    with LocalExecutor(2, ("cuda:0", "cuda:1")) as executor:
        squares = [executor.submit(square, None, number) for number in range(20)]
        devices = {executor.submit(worker_device).result() for _ in range(20)}
        doomed, fine = executor.submit(die_at_seven, None, 7), executor.submit(square, None, 5)
        assert [future.result() for future in squares] == [number**2 for number in range(20)]
        with pytest.raises(WorkerDied, match="signal 9"):
            doomed.result()
        assert fine.result() == 25 and executor.submit(square, None, 6).result() == 36
        assert devices <= {"cuda:0", "cuda:1"} and len(executor.pids()) <= 2
        pids = executor.pids()
        failed = executor.submit(fail_at_seven, None, 7)
        with pytest.raises(ValueError, match="seven") as error:
            failed.result()
        assert "fail_at_seven" in str(error.value.__cause__), "the traceback of the other process is told"
        with pytest.raises(AttributeError):  # it cannot be pickled, and the executor goes on
            executor.submit(lambda: 1).result()
        assert executor.submit(square, None, 2).result() == 4
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, None, 1)


def test_a_process_can_be_ended_while_it_runs_and_at_shutdown() -> None:
    executor = LocalExecutor(1)
    asleep, waiting = executor.submit(time.sleep, 600), executor.submit(time.sleep, 600)
    while executor.began(asleep) is None:
        time.sleep(0.01)
    assert executor.began(waiting) is None
    executor.kill(asleep)
    with pytest.raises(WorkerDied):
        asleep.result()
    while executor.began(waiting) is None:
        time.sleep(0.01)
    left = executor.submit(time.sleep, 600)
    executor.shutdown(cancel_futures=True)
    assert left.cancelled()
    with pytest.raises(WorkerDied):
        waiting.result()


def test_workers_do_not_hear_an_interrupt() -> None:
    with LocalExecutor(1) as executor:
        assert executor.submit(square, None, 3).result() == 9
        (pid,) = executor.pids()
        os.kill(pid, signal.SIGINT)
        assert executor.submit(square, None, 4).result() == 16 and executor.pids() == [pid]


def test_an_executor_that_can_start_no_process_is_broken_and_hangs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_process(device: str) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("diswot.executors.local._start", no_process)
    executor = LocalExecutor(2)
    future = executor.submit(max, 3, 4)
    with pytest.raises(BrokenExecutor, match=r"no process can be started: BlockingIOError: .*temporarily unavailable"):
        future.result(60)
    executor.shutdown()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what a process was started with")
@pytest.mark.parametrize("started", ["forkserver", "spawn"])
def test_threads_of_a_worker_sleep_while_they_wait(started: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenMP reads how they wait when it is loaded, so a process must be started with it, be it the helper or the worker itself."""

    def no_helper(_: object) -> None:
        raise OSError

    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if started == "spawn":
        monkeypatch.setattr("diswot.processes._forked", no_helper)
    with LocalExecutor(1) as executor:
        begun_with = executor.submit(Path.read_bytes, Path("/proc/self/environ")).result().split(b"\0")
        assert b"OMP_WAIT_POLICY=PASSIVE" in begun_with and executor.submit(os.getenv, "OMP_WAIT_POLICY").result() == "PASSIVE"
    assert "OMP_WAIT_POLICY" not in os.environ and "PYTHONSAFEPATH" not in os.environ


def test_a_worker_has_the_environment_and_the_folder_of_the_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of the helper that forks it, which may be older."""
    with LocalExecutor(1) as executor:
        executor.submit(square, None, 1).result()
    monkeypatch.setenv("DISWOT_TESTED", "now")
    monkeypatch.chdir(tmp_path)
    with LocalExecutor(1) as executor:
        assert executor.submit(os.getenv, "DISWOT_TESTED").result() == "now" and executor.submit(os.getcwd).result() == str(tmp_path)
        assert executor.submit(os.getenv, "PYTHONSAFEPATH").result() is None


_SHADOWED = """
from diswot.executors.local import LocalExecutor
if __name__ == "__main__":
    import diswot.scoring.engine
    with LocalExecutor(1) as executor:
        print(executor.submit(max, 3, 4).result())
"""


@pytest.mark.slow
@pytest.mark.parametrize("started", ["forkserver", "spawn"])
def test_modules_in_the_working_folder_are_not_imported(tmp_path: Path, started: str) -> None:
    """A user's random.py is no reason for a worker to fail."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "script.py").write_text(_SHADOWED)
    for name in ("random", "torch", "diswot"):
        (tmp_path / f"{name}.py").write_text("raise SystemError('imported from the working folder')\n")
    # without room for the socket of the helper, whose path is too long then, workers are started one by one
    long = tmp_path / ("long" * 30)
    long.mkdir()
    environment = {**os.environ, **({"TMPDIR": str(long)} if started == "spawn" else {})}
    command = [sys.executable, str(tmp_path / "elsewhere" / "script.py")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "4\n"), done.stderr


_PRELOADED = """
import importlib, pkgutil, torch
asked = []
torch._C._cuda_getDeviceCount = lambda: asked.append("devices") or 0
torch._C._cuda_init = lambda: asked.append("init")
import diswot, search_spaces, timm, torch._dynamo
for package in (diswot, search_spaces):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
print(asked)
"""


@pytest.mark.slow
def test_what_the_helper_imports_does_not_touch_a_gpu() -> None:
    """Its forks could not use it any more."""
    done = subprocess.run([sys.executable, "-c", _PRELOADED], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
