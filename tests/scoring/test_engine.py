"""The engine: the same scores in any order and any number of processes."""

from __future__ import annotations

import dataclasses
import os
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from diswot.architecture import Architecture
from diswot.devices import single_thread
from diswot.errors import ConfigError, RunError, TeacherError
from diswot.scoring.candidates import ScoreResult
from diswot.scoring.engine import Engine
from diswot.space import Cost, load_space
from tests.scoring.samples import SMALL, count_cost, make_context, score


@pytest.mark.slow
def test_scores_of_cells_do_not_depend_on_order_or_processes() -> None:
    """And an error of the user's comes back from another process as it is."""
    space, rng = load_space("nasbench201"), np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(200)]
    shuffled = archs.copy()
    random.Random(1).shuffle(shuffled)
    context = make_context(seeds=1, batch_size=2)
    with Engine(context, workers=1) as engine:
        alone = dict(zip(shuffled, engine.score(shuffled, count_cost), strict=True))
    with Engine(context, workers=2) as engine:
        together = dict(zip(archs, engine.score(archs, count_cost), strict=True))
        with pytest.raises(ConfigError, match="unknown space 'nowhere'"):
            list(engine.score([Architecture("nowhere", 1)], lambda _: Cost(1, 1, 1)))
    assert shuffled != archs and len(together) > 100
    for arch in archs:
        assert alone[arch].scores == together[arch].scores, arch


def test_more_candidates_than_are_handed_out_at_once_come_back_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diswot.scoring.engine._AHEAD", 3)
    archs = list(load_space("s0").enumerate() or ())[:11]
    counted: list[Architecture] = []

    def noted(arch: Architecture) -> Cost:
        counted.append(arch)
        return count_cost(arch)

    with ThreadPoolExecutor(2) as pool, Engine(make_context(("params",)), executor=pool) as engine:
        found = engine.score(iter(archs), noted)
        first = next(found)
        assert counted == archs[:3], "the rest is not handed out before the first is back"
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
def test_a_process_that_dies_ends_the_run_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the next process is being started."""
    monkeypatch.setattr("diswot.scoring.engine._score_in_worker", _die)
    with Engine(make_context(("params",)), workers=2) as engine, pytest.raises(RunError, match=r"process died .*fewer --workers"):
        list(engine.score([SMALL], count_cost))


def _die(*_: Any) -> ScoreResult:
    os._exit(1)


def test_workers_must_be_positive_and_an_accelerator_is_not_shared() -> None:
    context = make_context(("params",))
    for workers in (-1, 0):
        with pytest.raises(ConfigError, match=f"--workers {workers}: at least 1 is needed"):
            Engine(context, workers=workers)
    assert Engine(context, workers=3).workers == 3
    assert Engine(dataclasses.replace(context, device="cuda"), workers=3).workers == 1
