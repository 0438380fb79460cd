"""The engine: the same scores in any order and any number of processes."""

from __future__ import annotations

import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from diswot.architecture import Architecture
from diswot.devices import single_thread
from diswot.errors import ConfigError, TeacherError
from diswot.scoring import engine as engine_module
from diswot.scoring.candidates import ScoreResult
from diswot.scoring.engine import Engine
from diswot.space import Cost, load_space
from tests.scoring.samples import SMALL, count_cost, make_context, score


@pytest.mark.slow
def test_scores_of_cells_do_not_depend_on_order_or_processes() -> None:
    """And an error of the user's comes back from another process as it is."""
    space, rng = load_space("nasbench201"), np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(60)]
    shuffled = archs.copy()
    random.Random(1).shuffle(shuffled)
    context = make_context(seeds=1, batch_size=2)
    with Engine(context, workers=1) as engine:
        alone = dict(zip(shuffled, engine.score(shuffled, count_cost), strict=True))
    with Engine(context, workers=2) as engine:
        together = dict(zip(archs, engine.score(archs, count_cost), strict=True))
        with pytest.raises(ConfigError, match="unknown space 'nowhere'"):
            list(engine.score([Architecture("nowhere", 1)], lambda _: Cost(1, 1, 1)))
    assert shuffled != archs and len(together) > 40
    for arch in archs:
        assert alone[arch].scores == together[arch].scores, arch


def test_candidates_are_taken_as_workers_can_use_them_and_come_back_in_their_order() -> None:
    archs = list(load_space("s0").enumerate() or ())
    counted: list[Architecture] = []

    def noted(arch: Architecture) -> Cost:
        counted.append(arch)
        return count_cost(arch)

    with ThreadPoolExecutor(2) as pool, Engine(make_context(("params",)), 2, pool) as engine:
        found = engine.score(iter(archs), noted)
        first = next(found)
        assert counted == archs[: len(counted)] and len(counted) <= 8, "memory does not grow with their number"
        results = [first, *found]
    assert [result.cost for result in results] == [count_cost(arch) for arch in archs]
    assert counted == archs


def test_any_executor_scores_and_is_left_open() -> None:
    context = make_context(("relation",), seeds=1)
    archs = [Architecture("zoo", "resnet8"), Architecture("zoo", "resnet14")]
    with single_thread(), ThreadPoolExecutor(1) as pool:
        with Engine(context, executor=pool) as engine:
            foreign = list(engine.score(archs, count_cost))
        assert pool.submit(int, "3").result() == 3
    with single_thread():
        assert [result.scores for result in foreign] == [score(context, arch).scores for arch in archs]


@pytest.mark.slow
def test_a_teacher_that_does_not_fit_is_told_by_other_processes() -> None:
    context = make_context(("semantic_outer",), seeds=1, teacher="resnet8x4")
    with Engine(context, workers=2) as engine, pytest.raises(TeacherError, match="256"):
        list(engine.score([Architecture("zoo", "resnet8")], count_cost))


@pytest.mark.slow
def test_a_candidate_that_kills_its_processes_has_no_score_and_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_score_in_worker", die_with_small)
    other = Architecture("resnet_depth", {"depths": [1, 1, 3]})
    with Engine(make_context(("params",)), workers=2) as engine:
        scored, killed, again = list(engine.score([other, SMALL, other], count_cost))
    assert scored.scores == again.scores == {"params": [float(count_cost(other).params)]}
    assert killed.cost == count_cost(SMALL) and killed.failed == {"params": killed.reason}
    assert "3 workers died with it: a worker process ended (signal 9" in str(killed.reason)


def die_with_small(context: Any, item: tuple[Architecture, Cost]) -> tuple[ScoreResult, str]:
    if item[0] == SMALL:
        os.kill(os.getpid(), signal.SIGKILL)
    return ScoreResult(item[1], {"params": [float(item[1].params)]}), ""


def test_workers_must_be_positive() -> None:
    context = make_context(("params",))
    for workers in (-1, 0):
        with pytest.raises(ConfigError, match=f"--workers {workers}: at least 1 is needed"):
            Engine(context, workers=workers)
