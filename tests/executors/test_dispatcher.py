"""Every item has one outcome in the end, whatever becomes of the workers."""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
import time
from concurrent.futures import BrokenExecutor, Future
from pathlib import Path
from typing import Any

import pytest

from diswot.errors import RunError
from diswot.executors import dispatcher as module
from diswot.executors import tasks
from diswot.executors.dispatcher import Dispatcher
from diswot.executors.local import LocalExecutor
from diswot.executors.named import Pool, open_pool
from diswot.executors.tasks import Chunk
from tests.executors.work import (
    Interrupter,
    ScriptedExecutor,
    blame,
    collect,
    die_at_seven,
    fail_at_seven,
    hang_at_seven,
    note,
    pool_of,
    square,
)

SQUARES = {number: number**2 for number in range(40)}


def test_the_context_travels_once_to_every_worker_and_chunks_grow_with_what_is_known() -> None:
    executor = ScriptedExecutor()
    with Dispatcher(pool_of(executor), square, b"x" * 1000, blame) as dispatcher:
        assert dispatcher.has_room() and dispatcher.seconds_per_item is None
        assert collect(dispatcher, SQUARES) == SQUARES
        assert dispatcher.seconds_per_item is not None
        assert [chunk.context is not None for chunk in executor.chunks] == [True, True] + [False] * (len(executor.chunks) - 2)
        assert [len(chunk.items) for chunk in executor.chunks][:3] == [1, 1, 10], "a quarter of what is left, to end together"
        tasks._contexts.clear()  # as in a worker that came later
        count = len(executor.chunks)
        assert collect(dispatcher, range(3)) == {0: 0, 1: 1, 2: 4}
        later = [(chunk.items, chunk.context is not None) for chunk in executor.chunks[count:]]
        assert later[-1][1] and later[0] == ((0,), False) and ((0,), True) in later


def test_what_a_function_raises_ends_the_run_with_its_traceback() -> None:
    with (
        Dispatcher(pool_of(ScriptedExecutor()), fail_at_seven, None, blame) as dispatcher,
        pytest.raises(ValueError, match="seven") as error,
    ):
        collect(dispatcher, SQUARES)
    assert "fail_at_seven" in str(error.value.__cause__)


def test_nothing_is_lost_or_done_twice_however_workers_die(caplog: pytest.LogCaptureFixture) -> None:
    """Every fifth chunk is lost."""
    rng = random.Random(0)
    executor = ScriptedExecutor(lambda chunk: OSError("the node is gone") if rng.random() < 0.2 else None)
    with Dispatcher(pool_of(executor), square, 2, blame) as dispatcher:
        found = collect(dispatcher, range(2000))
    assert found == {number: number**2 for number in range(2000)}, "none is blamed where workers die anyway"
    assert [record.message for record in caplog.records] == ["the node is gone; its work is done by another"]


def test_an_item_that_takes_three_workers_with_it_is_blamed_and_no_other() -> None:
    def lose(chunk: Chunk) -> Exception | None:
        return OSError("out of memory") if 7 in chunk.items else None

    executor = ScriptedExecutor(lose)
    with Dispatcher(pool_of(executor), square, 3, blame) as dispatcher:
        assert collect(dispatcher, SQUARES) == {**SQUARES, 7: "7: 3 workers died with it: out of memory"}
    assert sum(7 in chunk.items for chunk in executor.chunks) == 3


def test_an_executor_that_breaks_as_a_whole_is_opened_again() -> None:
    left = [BrokenExecutor("one of its processes died")] * 2

    def lose(chunk: Chunk) -> Exception | None:
        return left.pop() if left and len(chunk.items) and chunk.items[0] > 2 else None

    executors: list[ScriptedExecutor] = []

    def make() -> ScriptedExecutor:
        executors.append(ScriptedExecutor(lose))
        return executors[-1]

    with Dispatcher(Pool("mine:pool", make(), lambda: 2, make=make), square, 4, blame) as dispatcher:
        assert collect(dispatcher, SQUARES) == SQUARES
    assert len(executors) == 3
    broken = ScriptedExecutor(lambda chunk: BrokenExecutor("gone"))
    with (
        Dispatcher(pool_of(broken), square, 5, blame) as dispatcher,
        pytest.raises(RunError, match=r"scripted is broken .*: start it again"),
    ):
        collect(dispatcher, SQUARES)


def test_workers_that_can_do_nothing_are_told_apart_from_items_that_kill() -> None:
    class Elsewhere(ScriptedExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(ModuleNotFoundError("No module named 'diswot'"))
            return future

    elsewhere = Elsewhere()
    with (
        Dispatcher(pool_of(elsewhere), square, 6, blame) as dispatcher,
        pytest.raises(RunError, match=r"its workers cannot run diswot \(ModuleNotFoundError: No module named 'diswot'\): install"),
    ):
        collect(dispatcher, SQUARES)
    deadly = ScriptedExecutor(lambda chunk: OSError("killed"))
    with Dispatcher(pool_of(deadly), square, 7, blame) as dispatcher, pytest.raises(RunError, match=r"first 3 \(killed\): out of memory\?"):
        collect(dispatcher, SQUARES)


@pytest.mark.slow
def test_processes_killed_again_and_again_leave_every_outcome_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times -9, whenever it comes: the outcomes are those of an undisturbed run, and at most what was in the killed chunks was done
    twice."""
    for bound in ("FEWEST_DEATHS", "_MOST_DEATHS"):  # one item may be hit again and again by so many kills of two workers
        monkeypatch.setattr(module, bound, 50)
    with open_pool("local", 2) as pool:
        assert isinstance(pool.executor, LocalExecutor)
        killer = Interrupter(pool.executor.pids, kills=10, every=0.3)
        killer.start()
        with Dispatcher(pool, note, tmp_path / "done", blame) as dispatcher:
            found: dict[int, int] = {}
            while killer.is_alive() or len(found) < 100:
                more = collect(dispatcher, range(len(found), len(found) + 50))
                assert not found.keys() & more.keys()
                found |= more
    assert killer.killed == 10 and found == {number: number**2 for number in range(len(found))}
    lines = (tmp_path / "done").read_text().splitlines()
    assert len(found) <= len(lines) <= len(found) + 10 * 50


def test_an_item_that_kills_its_processes_is_blamed(caplog: pytest.LogCaptureFixture) -> None:
    with open_pool("local", 2) as pool, Dispatcher(pool, die_at_seven, None, blame) as dispatcher:
        found = collect(dispatcher, SQUARES)
    reason = "a worker process ended (signal 9, out of memory?)"
    assert found == {**SQUARES, 7: f"7: 3 workers died with it: {reason}"}
    assert caplog.records[-1].message == f"given up: 3 workers died with it: {reason}"


def test_a_worker_that_hangs_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    with open_pool("local", 2) as pool, Dispatcher(pool, hang_at_seven, None, blame, patience=0.3) as dispatcher:
        found = collect(dispatcher, range(12))
    assert found == {**{number: number**2 for number in range(12)}, 7: "7: 3 workers died with it: no result within 0.3 s (--patience)"}


def test_a_worker_that_is_stopped_is_ended_from_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_GRACE", 0.2)
    monkeypatch.setattr(module, "_POLL", 0.1)
    with open_pool("local", 1) as pool:
        assert isinstance(pool.executor, LocalExecutor)
        executor = pool.executor
        with Dispatcher(pool, note, tmp_path / "done", blame, patience=0.5) as dispatcher:
            assert collect(dispatcher, range(3)) == {0: 0, 1: 1, 2: 4}
            (pid,) = executor.pids()
            os.kill(pid, signal.SIGSTOP)
            assert collect(dispatcher, range(3, 5)) == {3: 9, 4: 16}
            assert pid not in executor.pids()


def test_what_runs_in_this_process_is_never_ended_and_one_at_a_time() -> None:
    """A pool of threads: its workers are this process."""
    threads = "concurrent.futures:ThreadPoolExecutor"
    with open_pool(threads, 2) as pool, Dispatcher(pool, _one_at_a_time, None, blame, patience=0.05) as dispatcher:
        assert collect(dispatcher, range(4)) == dict.fromkeys(range(4), True)


_inside = threading.Lock()


def _one_at_a_time(context: None, item: int) -> bool:
    alone = _inside.acquire(blocking=False)
    time.sleep(0.1)
    _inside.release()
    return alone


def test_leaving_the_block_cancels_what_has_not_begun(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), open_pool("local", 1) as pool, Dispatcher(pool, hang_at_seven, None, blame) as dispatcher:
        for _ in range(5):
            dispatcher.add(7)
        assert dispatcher.completed(0.1) == [] and len(dispatcher) == 5
