"""Searches whose latency comes from a table: nothing is run, and everything can be repeated."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from diswot.errors import BudgetError, ConfigError, RunError
from diswot.latency.table import LatencyTable
from diswot.searching.trial import JOURNAL
from diswot.space import load_space
from tests.latency.samples import SPEC, table_plan, write_table
from tests.searching.samples import begin_search, resume_search, search, search_config

QUICK = {"space": "s0", "proxy": "params", "params": "none", "iterations": 6, "num_classes": 10}


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("diswot.searching.feasibility.measure_latency", None)
    return write_table(tmp_path / "t.csv", table_plan())


def test_candidates_are_held_against_the_table(table: Path, caplog: pytest.LogCaptureFixture) -> None:
    read, space = LatencyTable.read(table), load_space("s0")
    with caplog.at_level(logging.INFO, "diswot"):
        result = search(search_config(**QUICK, latency="6ms", latency_table=str(table)))
    assert len(result.trials) == 6
    for trial in result.trials:
        assert trial.latency == read.latency(space, trial.arch, SPEC) <= 6
    for row in result.table:  # the table has no networks of another space
        assert row.latency == (read.latency(space, row.arch, SPEC) if row.arch.space == space.name else None)
    assert result.table[-1].role == "hand-made" and result.teacher_latency is None
    assert [r.getMessage() for r in caplog.records if "t.csv" in r.getMessage()] == [
        f"latency by {table}: torch on cpu, 1 thread, batch of 1, a processor, {read.setup.versions}"
    ]


@pytest.mark.slow
def test_a_resumed_search_ends_as_the_undisturbed_one(table: Path, tmp_path: Path) -> None:
    config = search_config(**QUICK, latency="6ms", latency_table=str(table))
    begin_search(tmp_path / "whole", config)
    begin_search(tmp_path / "cut", config)
    lines = (tmp_path / "cut" / JOURNAL).read_bytes().splitlines(keepends=True)
    (tmp_path / "cut" / JOURNAL).write_bytes(b"".join(lines[:3]))
    resume_search(tmp_path / "cut")
    assert (tmp_path / "cut" / JOURNAL).read_bytes() == (tmp_path / "whole" / JOURNAL).read_bytes()
    kept = json.loads((tmp_path / "cut" / "inputs.json").read_text())
    assert kept["latency table"] == LatencyTable.read(table).digest


@pytest.mark.slow
def test_a_search_is_not_resumed_with_another_table(table: Path, tmp_path: Path) -> None:
    begin_search(tmp_path / "a", search_config(**QUICK, latency="6ms", latency_table=str(table)))
    write_table(table, table_plan(), law=lambda unit: 0.2 + unit.flops / 1e7)
    with pytest.raises(RunError, match="begun with other latency table"):
        resume_search(tmp_path / "a")


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"space": "nats_size"}, ConfigError, r"t.csv: a table of resnet_depth, not of nats_size: measure one with diswot latency"),
        ({"num_classes": 20}, ConfigError, r"not of 20 classes, 3 x 32 x 32: .* --num-classes 20 --input-size 32 --table FILE.csv"),
        ({"latency_batch_size": 4}, ConfigError, "--latency-batch-size 4: .* was measured with 1: add --latency-batch-size 1"),
        ({"latency": None}, ConfigError, "needs a limit: add --latency 5ms"),
        ({"latency_table": "none.csv"}, ConfigError, "none.csv: cannot be read"),
        ({"latency": "1us"}, BudgetError, "--latency 1us: the smallest network of resnet_depth takes"),
    ],
)
def test_what_does_not_fit_the_table_is_said(table: Path, options: dict[str, object], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        search(search_config(**{**QUICK, "latency": "6ms", "latency_table": str(table), **options}))
