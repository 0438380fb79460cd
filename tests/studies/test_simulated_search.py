"""Simulated searches: what a search would have picked from a table of scores."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from diswot.architecture import Architecture
from diswot.config import SearchConfig
from diswot.errors import RunError
from diswot.progress import NullReporter
from diswot.proxies import Ranking
from diswot.runs import RunDir
from diswot.studies.dataset_report import dataset_reports
from diswot.studies.simulated_search import SEARCHES, SearchTable
from tests.processes import count_lines
from tests.searching.samples import Stop, StopAt
from tests.studies.samples import SPACE, only_report, quality, score, study

SEARCHED = {"proxy": "params", "simulated_searches": 2, "search_evaluations": 12}


def search_table(archs: list[Architecture]) -> tuple[SearchTable, np.ndarray]:
    """A table whose scores are the accuracies."""
    truth = np.array([quality(arch) for arch in archs])
    return SearchTable(SPACE, archs, truth[:, None], np.ones(len(archs), bool), Ranking(("params",))), truth


def test_a_search_that_may_try_everything_finds_the_best() -> None:
    table, truth = search_table(list(SPACE.enumerate() or ())[::40])
    allowed = np.zeros(len(truth), bool)
    allowed[::3] = True
    assert table.search(allowed, 1000, seed=0) == np.flatnonzero(allowed)[np.argmax(truth[allowed])]


def test_a_search_is_better_than_as_many_random_draws() -> None:
    table, truth = search_table(list(SPACE.enumerate() or ()))
    everything = np.ones(len(truth), bool)
    found = [truth[table.search(everything, 150, seed)] for seed in range(4)]
    rng = np.random.default_rng(0)
    drawn = [truth[rng.choice(len(truth), 150, replace=False)].max() for _ in range(200)]
    assert np.mean(found) > np.mean(drawn)
    assert SearchConfig().population_size < 150, "part of the search is evolution"


def test_searches_stay_within_the_budget_and_are_kept(table: Path, tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "run", "study", {}, {}) as run:
        found = score(table, run, **SEARCHED)
        ((first,), (again,)) = (dataset_reports(found, run, NullReporter()) for _ in range(2))
    assert first.searched["params"].shape == (2, 3)
    assert (first.searched["params"] >= 0).all()
    assert np.array_equal(first.searched["params"], again.searched["params"])
    records = [json.loads(line) for line in (tmp_path / "run" / SEARCHES).read_text().splitlines()]
    assert len(records) == 2 * 2 * 3  # params and flops
    assert all(set(record) == {"ranking", "search", "budget", "row", "among"} for record in records)
    assert {record["ranking"] for record in records} == {"params", "flops"}
    flops, truth = found.size("flops"), found.accuracies["toy"]
    for record in records:
        budget = first.budgets[record["budget"]]
        assert flops[record["row"]] <= budget
        lost = truth[flops <= budget].max() - truth[record["row"]]
        assert first.searched[record["ranking"]][record["search"], record["budget"]] == lost


def test_searches_broken_off_are_gone_on_with_to_the_same(table: Path, tmp_path: Path) -> None:
    found = score(table, **SEARCHED)
    with RunDir.create(tmp_path / "whole", "study", {}, {}) as run:
        (whole,) = dataset_reports(found, run, NullReporter())
    with RunDir.create(tmp_path / "cut", "study", {}, {}) as run:
        with pytest.raises(Stop):
            dataset_reports(found, run, StopAt(5))
        assert count_lines(run.path / SEARCHES) == 5
        (resumed,) = dataset_reports(found, run, NullReporter())
    assert (tmp_path / "cut" / SEARCHES).read_bytes() == (tmp_path / "whole" / SEARCHES).read_bytes()
    assert all(np.array_equal(resumed.searched[name], regrets) for name, regrets in whole.searched.items())


@pytest.mark.parametrize(
    "line",
    [
        '{"ranking":"params","search":0,"budget":0,"row":40,"among":"x"}',
        '{"ranking":"params","search":0,"budget":0,"row":"1","among":"x"}',
        '{"ranking":"params","search":"a","budget":0,"row":1,"among":"x"}',
        '{"contender":"params","search":0,"budget":0,"row":1,"among":"x"}',
    ],
)
def test_a_damaged_journal_of_searches_is_refused(table: Path, tmp_path: Path, line: str) -> None:
    with RunDir.create(tmp_path / "run", "study", {}, {}) as run:
        (run.path / SEARCHES).write_text(line + "\n")
        with pytest.raises(RunError, match="line 1: damaged: remove the file, then --resume"):
            dataset_reports(score(table, run, **SEARCHED), run, NullReporter())


def test_searches_pick_among_the_rows_that_have_an_accuracy(table: Path, tmp_path: Path) -> None:
    """A second data set knows only the smaller half: budgets and picks are its own, and no regret is negative or missing."""
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    flops = [SPACE.count(Architecture("nasbench201", row["arch_str"]), 5, 3, 8).flops for row in rows]
    path = tmp_path / "half.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arch_str", "toy_test_acc", "half_test_acc"])
        for row, size in zip(rows, flops, strict=True):
            writer.writerow([row["arch_str"], row["toy_test_acc"], row["toy_test_acc"] if size < np.median(flops) else ""])
    whole, half = study(path, **SEARCHED).reports
    assert (whole.dataset, half.dataset) == ("toy", "half")
    assert half.budgets.max() < np.median(flops) < whole.budgets.max()
    for report in (whole, half):
        assert set(report.searched) == {"params", "flops"}
        assert all((regrets >= 0).all() for regrets in report.searched.values())


def test_copies_of_a_row_without_an_accuracy_are_not_picked(table: Path, tmp_path: Path) -> None:
    lines = table.read_text().splitlines()
    path = tmp_path / "copies.csv"
    path.write_text("\n".join([*lines, *(line.split(",")[0] + ",," for line in lines[1:])]) + "\n")
    result = study(path, proxy="params", simulated_searches=1, search_evaluations=10)
    report = only_report(result)
    assert len(result.study.rows) == 80 and report.rows == 40 and np.isfinite(report.searched["params"]).all()
