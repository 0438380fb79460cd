"""Searches within budgets: nothing outside is scored, and what cannot be met is said."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from diswot.architecture import Architecture
from diswot.budget import parse_range
from diswot.errors import BudgetError, ConfigError, DataError, RunError
from diswot.runs import RunDir
from diswot.scoring import engine
from diswot.searching import finalists, latencies
from diswot.space import Cost, load_space
from tests.searching.samples import Stop, StopAt, begin_search, resume_search, search, search_config


def test_infeasible_candidates_cost_no_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[Architecture] = []
    real = engine.score_one

    def noted(context: Any, arch: Architecture, cost: Cost) -> Any:
        scored.append(arch)
        return real(context, arch, cost)

    monkeypatch.setattr(engine, "score_one", noted)
    result = search(search_config(params="0.1M..0.2M", iterations=10))
    space = load_space("s1")
    of_the_space = [arch for arch in scored if arch.space == "resnet_width"]
    assert all(100_000 <= space.count(arch, 10, 3, 32).params <= 200_000 for arch in of_the_space)
    peers = finalists.PEERS
    assert len(of_the_space) == 10 + 1 + peers + (1 + peers)  # also the largest, and random ones, with the winner under a second seed
    assert len(result.trials) == 10


@pytest.mark.parametrize("limits", [{"depth": "12"}, {"flops": "20M"}, {"params": "0.1M..0.2M", "flops": "10M..60M", "depth": "8..30"}])
@pytest.mark.slow
def test_every_kind_of_budget_holds(limits: dict[str, str]) -> None:
    result = search(search_config(**{"params": "none", "iterations": 12, "proxy": "params", **limits}))
    assert len(result.trials) == 12
    for what, text in limits.items():
        allowed = parse_range(what, text)
        assert all(getattr(trial.cost, what) in allowed for trial in result.trials), what


@pytest.mark.slow
def test_latency_is_measured_once_for_each_network_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def by_size(model: nn.Module, *_: object) -> float:
        measured.append(str(model))
        return sum(p.numel() for p in model.parameters()) / 1e5

    monkeypatch.setattr("diswot.searching.feasibility.measure_latency", by_size)
    result = search(search_config(params="none", latency="1.5ms", iterations=12))
    assert all(trial.latency is not None and trial.latency <= 1.5 for trial in result.trials)
    assert all(trial.cost.params <= 150_000 for trial in result.trials)
    assert all(trial.record()["latency_ms"] == trial.cost.params / 1e5 for trial in result.trials)
    assert len(measured) == len(set(measured)) > 12
    assert {row.role: row.latency for row in result.table} == {row.role: row.cost.params / 1e5 for row in result.table}
    assert result.teacher_latency == result.teacher.params / 1e5


def test_a_resume_measures_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what was admitted nor what was too slow, so that another load of the machine decides nothing otherwise."""
    measured: list[str] = []

    def by_size(model: nn.Module, *_: object) -> float:
        measured.append(str(model))
        return sum(p.numel() for p in model.parameters()) / 1e5

    monkeypatch.setattr("diswot.searching.feasibility.measure_latency", by_size)
    config = search_config(params="none", latency="1.5ms", iterations=6, generation_size=3, proxy="params")
    whole = search(config)
    measured.clear()
    with pytest.raises(Stop):
        begin_search(tmp_path / "r", config, reporter=StopAt(3))
    before = set(measured)
    times = [json.loads(line)["ms"] for line in (tmp_path / "r" / "latencies.jsonl").read_text().splitlines()]
    assert len(times) == len(measured) and max(times) > 1.5 >= min(times)
    measured.clear()
    assert resume_search(tmp_path / "r").trials == whole.trials
    assert measured and not before & set(measured)


@pytest.mark.parametrize(
    "line", ['{"choices": "a"}', '{"ms": 1.0}', '{"choices": "a", "ms": "1"}', '{"choices": "a", "ms": -1}', '{"choices": "a", "ms": true}']
)
def test_a_damaged_journal_of_latencies_is_named(tmp_path: Path, line: str) -> None:
    with RunDir.create(tmp_path / "r", "search", {}, {}) as run:
        (run.path / latencies.JOURNAL).write_text(f'{{"choices": "a", "ms": 2}}\n{line}\n{{"cut')
        with pytest.raises(RunError, match=r"latencies.jsonl, line 2: damaged: delete the file"):
            latencies.read_latencies(run, "zoo")
        (run.path / latencies.JOURNAL).write_text('{"choices": "a", "ms": 2}\n{"cut')
        assert latencies.read_latencies(run, "zoo") == {Architecture("zoo", "a"): 2.0}


def test_a_search_that_finds_every_network_too_slow_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine it used to measure thousands of networks, for hours and without a word. The smallest seems fast enough here."""
    times = iter([9.0, *range(100, 10**6)])
    monkeypatch.setattr("diswot.searching.feasibility.measure_latency", lambda *_: float(next(times)))
    monkeypatch.setattr("diswot.searching.feasibility.time.monotonic", itertools.count(0.0, 2.0).__next__)
    says = r"none of the \d\d networks of resnet_width that were measured is within it; the fastest took 1\d\d ms \(one thread, load"
    with pytest.raises(BudgetError, match=says):
        search(search_config(params="none", latency="5ms", iterations=12))
    assert next(times) < 150


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"params": "none"}, BudgetError, "needs a budget"),
        ({"params": "5k"}, BudgetError, "--params 5k: the smallest network of resnet_width has 5,378 params"),
        ({"space": "s0", "params": "1M..2M"}, BudgetError, "largest network of resnet_depth has 661,338 params"),
        ({"depth": "3"}, BudgetError, "smallest network of resnet_width has 11 depth"),
        ({"params": "300000..300001", "flops": "2M..2.0001M"}, BudgetError, "was found within it"),
        ({"space": "s0", "params": "0.35M..0.3501M", "flops": "10M"}, BudgetError, "smallest network of resnet_depth has 12,"),
        ({"iterations": 0}, ConfigError, "--iterations 0: at least 1 is needed"),
        ({"data": "noise", "num_classes": 1}, DataError, "at least 2"),
        ({"batch_size": 1}, ConfigError, "--batch-size 1: at least 2 is needed"),
    ],
)
def test_what_cannot_be_searched_is_said(options: dict[str, object], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        search(search_config(**options))
