"""Fronts: what dominates what, by brute force; and the searches that look for them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from diswot.architecture import read_arch_json
from diswot.budget import CostCounter
from diswot.errors import ArchitectureError, ConfigError
from diswot.models.named import expand_folders
from diswot.searching.history import History
from diswot.searching.pareto import ParetoEvolution, draw_limits, knee, non_dominated
from diswot.searching.recipe import SearchPlan
from diswot.searching.strategies import SearchState
from diswot.space import ImageSpec, load_space
from tests.searching.samples import Stop, StopAt, begin_search, resume_search, search, search_config

POINTS = arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.integers(0, 4).map(float))


def dominates(one: Any, other: Any) -> bool:
    return bool((one <= other).all() and (one < other).any())


@given(POINTS)
@settings(deadline=None)
def test_a_front_is_what_no_other_point_dominates(values: Any) -> None:
    expected = [n for n, point in enumerate(values) if not any(dominates(other, point) for other in values)]
    assert non_dominated(values).tolist() == expected


@given(POINTS, st.integers(0, 99))
@settings(deadline=None)
def test_limits_admit_a_member_and_are_not_below_a_tenth_of_the_dearest(values: Any, seed: int) -> None:
    costs = values + 1
    limits = draw_limits(costs, np.random.default_rng(seed))
    assert any((member <= limits).all() for member in costs)
    assert (limits <= costs.max(0)).all() and (limits >= np.maximum(costs.max(0) / 10, costs.min(0)) * (1 - 1e-12)).all()


def test_every_order_of_size_is_as_likely() -> None:
    costs = np.geomspace(1, 1000, 400)[:, None]
    drawn = [draw_limits(costs, np.random.default_rng(seed))[0] for seed in range(400)]
    assert scipy.stats.kstest(np.log10(drawn), scipy.stats.uniform(2, 1).cdf).pvalue > 0.01


def test_candidates_are_bred_from_the_fittest_within_limits_and_are_within_them_too() -> None:
    """By loops: all that is given out is held against the limits that the same generator draws first."""
    space, rng = load_space("s1"), np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(200)]
    count = CostCounter(space, ImageSpec(10, 3, 32))
    costs = np.array([[count(arch).params, count(arch).flops] for arch in archs], float)
    history = History(archs.__getitem__, rng.random(200), costs)
    strategy = ParetoEvolution(lambda arch, name: float(getattr(count(arch), name)), ("params", "flops"))
    for seed in range(20):
        limits = draw_limits(costs, np.random.default_rng(seed))
        within = [number for number in range(200) if costs[number][0] <= limits[0] and costs[number][1] <= limits[1]]
        fittest = {archs[number] for number in sorted(within, key=lambda number: -history.fitness[number])[:5]}
        pairs = list(strategy.candidates(SearchState(space, history, np.random.default_rng(seed), top_k=5)))
        assert {parent for _, parent in pairs} <= fittest
        assert all(count(child).params <= limits[0] and count(child).flops <= limits[1] for child, _ in pairs)


def test_the_knee_does_not_depend_on_units() -> None:
    values = np.array([[0.0, 10.0], [1.0, 2.0], [3.0, 1.0], [4.0, 0.0]])
    assert knee(values) == knee(values * [1000, 0.001] + [5, -3]) == 1


OPTIONS: dict[str, Any] = {"space": "s0", "params": "none", "proxy": "depth,relation", "iterations": 40}


@pytest.mark.parametrize("costs", ["flops", "params,flops"])
def test_the_front_of_a_search_is_that_of_its_trials_and_is_left_as_files(tmp_path: Path, costs: str) -> None:
    result = begin_search(tmp_path / "run", search_config(**OPTIONS, pareto=costs))
    points = {m.trial.arch: np.array([-m.score, *(getattr(m.trial.cost, name) for name in costs.split(","))]) for m in result.front}
    assert len(points) == len(result.front) >= 3
    assert not any(dominates(one, other) for one in points.values() for other in points.values())
    (middle,) = [m for m in result.front if m.is_knee]
    assert result.winner == middle.trial.arch == read_arch_json(tmp_path / "run" / "arch.json")[0]
    with open(tmp_path / "run" / "front.csv") as file:
        rows = list(csv.DictReader(file))
    files = [tmp_path / "run" / "front" / row["file"] for row in rows]
    assert [str(path) for path in files] == expand_folders([str(tmp_path / "run" / "front")])
    assert [read_arch_json(path)[0] for path in files] == [m.trial.arch for m in result.front]
    assert [int(row["flops"]) for row in rows] == [m.trial.cost.flops for m in result.front]
    assert [int(row["params"]) for row in rows] == sorted(int(row["params"]) for row in rows) or costs == "flops"
    assert [row["knee"] for row in rows].count("1") == 1


@pytest.mark.slow
def test_it_is_resumed_to_the_same(tmp_path: Path) -> None:
    config = search_config(**OPTIONS, pareto="params")
    whole = begin_search(tmp_path / "whole", config)
    with pytest.raises(Stop):
        begin_search(tmp_path / "cut", config, reporter=StopAt(21))
    assert resume_search(tmp_path / "cut").front == whole.front
    for name in ("trials.jsonl", "arch.json", "front.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_a_front_goes_further_along_its_costs_than_a_search_for_one_network() -> None:
    """S1 by the sum of two counts: the front holds cheap networks that a single-point search never breeds."""
    options = {"proxy": "depth,flops", "params": "1M", "iterations": 200, "generation_size": 16, "population_size": 32}
    front = search(search_config(**options, pareto="flops"))
    point = search(search_config(**options))
    cheap, dear = (sorted(trial.cost.flops for trial in result.trials) for result in (front, point))
    assert cheap[100] < dear[100] / 2


def test_latency_is_measured_for_a_front_of_it_although_nothing_limits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diswot.searching.feasibility.measure_latency", lambda model, *_: float(len(list(model.modules()))))
    result = search(search_config(**{**OPTIONS, "iterations": 12}, pareto="latency"))
    assert all(trial.latency is not None for trial in result.trials) and result.front


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pareto": "accuracy"}, "one or more of params, flops, latency"),
        ({"pareto": "flops,flops"}, "each once"),
        ({"pareto": " , "}, "--pareto ' , '"),
        ({"pareto": "flops", "strategy": "aging"}, "--pareto has a strategy of its own"),
    ],
)
def test_what_cannot_be_a_front_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SearchPlan(search_config(**options))


def test_a_folder_without_architectures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match=r"a folder without a \.json file"):
        expand_folders([str(tmp_path)])
