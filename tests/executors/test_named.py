"""Executors by name, and what becomes of their work when workers are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from diswot.errors import ConfigError
from diswot.executors import dispatcher as dispatcher_module
from diswot.executors.dispatcher import Dispatcher
from diswot.executors.named import Pool, check_name, open_pool
from tests.executors.work import Interrupter, ScriptedExecutor, blame, collect, lose_result, note, square

SQUARES = {number: number**2 for number in range(60)}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lokal", "--executor 'lokal': did you mean local?"),
        ("dask", "say where: dask:local, or dask:tcp://HOST:8786"),
        ("dask:tcp://127.0.0.1:1", "no scheduler answers there"),
        ("slurm:partition", "'partition' is not key=value, as partition=gpu or timeout_min=60"),
        ("slurm", "--executor slurm: "),  # there is none on this machine
        ("slurm:local,no_such_option=1", "no_such_option"),
        ("slurm:local,timeout_min=abc", "timeout_min=abc: a whole number of minutes, 1 or more, is needed"),
        ("slurm:local,timeout_min=-5", "timeout_min=-5: a whole number of minutes, 1 or more, is needed"),
        ("no_such_module:Pool", "the executor 'no_such_module:Pool' cannot be imported"),
        ("builtins:dict", "it gives dict, which is no concurrent.futures.Executor"),
        ("tests.executors.test_named:fail", "it cannot be opened (ValueError: no licence)"),
    ],
)
def test_what_cannot_be_opened_is_one_line(name: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("diswot.executors.named._CONNECT", 0.5)
    with pytest.raises(ConfigError) as error, open_pool(name):
        pass
    assert words in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def fail() -> Executor:
    raise ValueError("no licence")


def test_an_extra_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"submitit is not installed: pip install diswot\[slurm\]"):
        check_name("slurm")


def test_an_executor_of_ones_own_is_called_with_the_number_of_workers_and_shut_down() -> None:
    with open_pool("concurrent.futures:ThreadPoolExecutor", 3) as pool:
        assert pool.slots() == 3 and pool.executor._max_workers == 3  # type: ignore[attr-defined]
        assert pool.reopen(), "it can be made again"
    with pytest.raises(RuntimeError):
        pool.executor.submit(square, 1, 2)
    with ThreadPoolExecutor(5) as given:
        with open_pool(given) as pool:
            assert pool.slots() == 5 and not pool.reopen()
        assert given.submit(square, None, 3).result() == 9, "what was given open stays open"


def make_scripted() -> ScriptedExecutor:
    return ScriptedExecutor()


def test_a_function_may_give_the_executor() -> None:
    with open_pool("tests.executors.test_named:make_scripted", 2) as pool, Dispatcher(pool, square, None, blame) as dispatcher:
        assert collect(dispatcher, SQUARES) == SQUARES


def test_the_stand_in_for_slurm_in_this_process(tmp_path: Path) -> None:
    with open_pool("slurm:debug", 2, folder=tmp_path) as pool, Dispatcher(pool, square, None, blame) as dispatcher:
        assert collect(dispatcher, SQUARES) == SQUARES
        assert list((tmp_path / "jobs").iterdir())
    assert not list(tmp_path.iterdir()), "the files of the jobs are gone"


@pytest.mark.slow
def test_a_cluster_of_dask_needs_no_port_of_its_own() -> None:
    with socket.socket() as taken:
        with contextlib.suppress(OSError):  # another program has it already
            taken.bind(("127.0.0.1", 8787))  # dask's own choice for its page
            taken.listen()
        with open_pool("dask:local", 1) as pool:
            assert pool.executor.submit(square, None, 3).result() == 9


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what dask warns of when its workers die
def test_a_result_of_dask_that_is_lost_on_its_way_is_an_error_and_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    with open_pool("dask:local", 1) as pool:
        with pytest.raises(Exception, match="all those workers died"):
            pool.executor.submit(lose_result, tmp_path / "runs").result(60)
        assert pool.executor.submit(square, None, 3).result(60) == 9
        until = time.monotonic() + 60  # no result is kept on a worker: it is released a moment after it is there
        while pool.executor._client.futures and time.monotonic() < until:  # type: ignore[attr-defined]
            time.sleep(0.01)
        assert not pool.executor._client.futures  # type: ignore[attr-defined]


def _pids_of_dask(pool: Pool) -> list[int]:
    scheduler: dict[str, Any] = pool.executor._client.run(os.getpid)  # type: ignore[attr-defined]
    return list(scheduler.values())


def _pids_of_jobs(pool: Pool) -> list[int]:
    """The processes that submitit's local controllers have started."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True).stdout.splitlines()[1:]
    rows = [line.split(None, 2) for line in listed]
    mine = {int(pid) for pid, ppid, args in rows if int(ppid) == os.getpid() and "submitit" in args}
    return [int(pid) for pid, ppid, args in rows if int(ppid) in mine]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "pids", "every"), [("dask:local", _pids_of_dask, 0.5), ("slurm:local", _pids_of_jobs, 1.5)])
@pytest.mark.filterwarnings("ignore")  # what dask and submitit warn of when their workers die
def test_workers_of_a_cluster_killed_again_and_again_leave_every_outcome_once(
    name: str, pids: Callable[[Pool], list[int]], every: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # submitit's processes find the tests
    for bound in ("FEWEST_DEATHS", "_MOST_DEATHS"):  # one item may be hit again and again by so many kills of two workers
        monkeypatch.setattr(dispatcher_module, bound, 50)
    with open_pool(name, 2, folder=tmp_path) as pool:

        def alive() -> list[int]:
            try:
                return pids(pool)
            except Exception:  # dask tells of workers that are just gone
                return []

        killer = Interrupter(alive, 5, every)
        with Dispatcher(pool, note, tmp_path / "done", blame) as dispatcher:
            found: dict[int, int] = {}
            killer.start()
            while killer.is_alive() or len(found) < 100:
                more = collect(dispatcher, range(len(found), len(found) + 50))
                assert not found.keys() & more.keys()
                found |= more
    assert killer.killed == 5 and found == {number: number**2 for number in range(len(found))}


def test_signals_are_as_they_were() -> None:
    before = signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with open_pool("local", 1) as pool:
        assert pool.executor.submit(square, None, 3).result() == 9
    assert (signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, ())) == before
