"""An asynchronous search: no worker waits, and what was bred follows from the journal."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from diswot.errors import RunError
from diswot.runs import RunDir
from diswot.searching.recipe import SearchResult
from diswot.searching.trial import JOURNAL, Trial
from tests.processes import count_lines
from tests.searching.samples import Stop, StopAt, begin_search, resume_search, search, search_config

SIZE = 6
OPTIONS: dict[str, Any] = {
    "space": "nasbench201",
    "params": "1M",
    "proxy": "params,flops",
    "data": "noise",
    "iterations": 40,
    "generation_size": SIZE,
    "asynchronous": True,
}


class Shuffled(Executor):
    """Workers of different speeds: of the tasks that were submitted, any is the next to end. Some fail, as when a node is lost."""

    def __init__(self, seed: int, failures: float = 0.0) -> None:
        self._rng, self._failures = random.Random(seed), failures
        self._waiting: list[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = []
        self._lock, self._max_workers = threading.Lock(), SIZE
        self._open = True
        threading.Thread(target=self._run, daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            self._waiting.append((future, fn, args))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._open = False

    def _run(self) -> None:
        while self._open:
            time.sleep(0.001)
            with self._lock:
                if not self._waiting:
                    continue
                future, fn, args = self._waiting.pop(self._rng.randrange(len(self._waiting)))
            if self._rng.random() < self._failures:
                future.set_exception(OSError("a node is lost"))
            else:
                future.set_result(fn(*args))


def by_index(trials: list[Trial]) -> dict[int, tuple[Any, str | None]]:
    return {trial.index: (trial.arch, trial.parent) for trial in trials}


def shuffled(seed: int, failures: float = 0.0, run: RunDir | None = None, **options: Any) -> SearchResult:
    executor = Shuffled(seed, failures)
    try:
        return search(search_config(**{**OPTIONS, **options}), run, executor=executor, workers=SIZE)
    finally:
        executor.shutdown()


@pytest.mark.slow
def test_the_order_of_the_journal_is_that_of_the_workers_and_all_else_follows_from_it(tmp_path: Path) -> None:
    """The same lines are bred again from the journal alone, although workers, and failures, are others."""
    found = shuffled(0, failures=0.1)
    order = [trial.index for trial in found.trials]
    assert sorted(order) == list(range(40)) and order != sorted(order)
    assert all(trial.index < line + SIZE for line, trial in enumerate(found.trials)), "no more than a window is under way"
    for cut in (1, 30):
        folder = tmp_path / f"cut{cut}"
        with RunDir.create(folder, "search", {}, {}) as run:
            run.append(JOURNAL, *(trial.record() for trial in found.trials[:cut]))
            again = shuffled(cut, run=run)
        assert again.trials[:cut] == found.trials[:cut]
        under_way = set(range(min(40, cut + SIZE)))
        assert {index: by_index(again.trials)[index] for index in under_way} == {
            index: by_index(found.trials)[index] for index in under_way
        }


def test_alone_it_is_the_same_each_time_and_resumes_to_the_same(tmp_path: Path) -> None:
    config = search_config(**OPTIONS)
    whole = begin_search(tmp_path / "whole", config)
    assert [trial.index for trial in whole.trials] == list(range(40))
    for stop in (1, 20):
        with pytest.raises(Stop):
            begin_search(tmp_path / f"{stop}", config, reporter=StopAt(stop))
        assert count_lines(tmp_path / f"{stop}" / JOURNAL) == stop
        assert resume_search(tmp_path / f"{stop}").winner == whole.winner
        assert (tmp_path / f"{stop}" / JOURNAL).read_bytes() == (tmp_path / "whole" / JOURNAL).read_bytes()


def test_a_window_of_one_is_a_generation_of_one() -> None:
    config = {**OPTIONS, "generation_size": 1, "iterations": 20}
    one_by_one = search(search_config(**{**config, "asynchronous": False}))
    assert search(search_config(**config)).trials == one_by_one.trials


def test_a_line_of_a_candidate_that_was_not_under_way_is_refused(tmp_path: Path) -> None:
    trials = search(search_config(**OPTIONS)).trials
    for lines in ([trials[0], trials[0]], [trials[0], trials[SIZE + 1]]):
        with RunDir.create(tmp_path / f"{lines[1].index}", "search", {}, {}) as run:
            run.append(JOURNAL, *(trial.record() for trial in lines))
            with pytest.raises(RunError, match=r"line 2: trial .* which was not under way"):
                search(search_config(**OPTIONS), run)


def test_a_space_that_is_walked_whole_ends_the_search(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "diswot")
    found = shuffled(1, space="s0", params="none", iterations=100)
    assert len({trial.arch for trial in found.trials}) == len(found.trials) == 64
    assert "the space is exhausted: all 64 different networks" in caplog.text


def test_workers_that_a_generation_cannot_keep_busy_are_told(caplog: pytest.LogCaptureFixture) -> None:
    executor = Shuffled(0)
    search(search_config(**{**OPTIONS, "iterations": 8}), executor=executor, workers=50)
    executor.shutdown()
    assert "at most 6 of 50 workers have work at a time" in caplog.text
