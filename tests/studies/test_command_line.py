"""`diswot study` as its users meet it: the report that it leaves, what it refuses, and runs that survive being killed."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diswot.architecture import Architecture
from diswot.scoring.recipe import JOURNAL
from diswot.studies.recipe import TIMES
from diswot.studies.simulated_search import SEARCHES
from tests.processes import count_lines, kill_in_turn
from tests.studies.samples import QUICK, SPACE

CommandLine = Callable[..., tuple[int, str, str]]


def words(**options: Any) -> list[str]:
    return [word for key, value in {**QUICK, **options}.items() for word in (f"--{key.replace('_', '-')}", str(value))]


@pytest.mark.slow
@pytest.mark.usefixtures("_pages")
def test_the_report_holds_every_table_and_figure(diswot: CommandLine, table: Path, tmp_path: Path) -> None:
    options = words(proxy="relation", simulated_searches=1, search_evaluations=8)
    code, out, err = diswot("study", str(table), *options, "--name", "one", "--workers", "1", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert {row["ranking"] for row in result["tables"][0]["rows"]} == {"relation", "params", "flops"}
    folder = tmp_path / result["folder"]
    page = (folder / "report.html").read_text()
    assert all(text in page for text in ("relation", "Spearman", "given FLOPs", "<svg", "bootstrap_resamples: 30"))
    names = {path.name for path in (folder / "report").iterdir()}
    assert names >= {
        "scores.csv",
        "toy_correlations.tex",
        "toy_regret.md",
        "toy_searches.json",
        "toy_scatter_relation.svg",
        "toy_matrix.png",
    }
    with open(folder / "report" / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40 and rows[0]["choices"].startswith("|")
    entries = map(json.loads, (folder / JOURNAL).read_text().splitlines())
    means = {entry["choices"]: np.mean(entry["scores"]["relation"]) for entry in entries}
    for row in rows:
        form = SPACE.canonical(Architecture("nasbench201", row["choices"])).choices
        assert float(row["score_relation"]) == pytest.approx(means[form], rel=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("_pages")
def test_names_of_data_sets_stay_inside_the_report(diswot: CommandLine, table: Path, tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text(table.read_text().replace("toy_test_acc", "../../../away_test_acc").replace("toy_valid_acc", "x/y_test_acc"))
    code, _, err = diswot("study", str(path), *words(proxy="params"), "--name", "one", "--quiet")
    assert code == 0, err
    assert {path.parent.name for path in tmp_path.rglob("*away*")} == {"report"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing.csv"], "nothing.csv: no such file"),
        (["{table}", "--dataset", "tay"], "did you mean toy"),
        (["{table}", "--split", "validation"], "it has test, valid"),
        (["{table}", "--proxy", "relatoin"], "did you mean relation"),
        (["{table}", "--sample-rows", "3"], "--sample-rows 3: at least 10 is needed"),
        (["{table}", "--proxy", ""], "--proxy '': name at least one"),
        (["{table}", "--dataset", ","], "--dataset ',': name at least one"),
        (["{table}", "--accuracy-column", "top1"], "top1"),
        (["{table}", "--bootstrap-resamples", "1"], "--bootstrap-resamples 1: from 20 to 100,000"),
        (["{table}", "--proxy", "params", "--scores-of", "runs/none"], "runs/none: no run is there"),
        ([], "diswot study TABLE.csv"),
    ],
)
def test_what_cannot_be_is_one_line(diswot: CommandLine, table: Path, tmp_path: Path, arguments: list[str], says: str) -> None:
    code, out, err = diswot("study", *(word.format(table=table) for word in arguments), "--quiet")
    assert code == 2 and out == "" and says in err and len(err.strip().splitlines()) == 1, err
    assert not (tmp_path / "runs").exists()


QUIET = ["--workers", "1", "--quiet"]
RESUME = ["study", "--resume", "runs/cut", *QUIET]


def kept(table: Path, name: str) -> list[str]:
    options = words(proxy="relation", simulated_searches=1, search_evaluations=10)
    return ["study", str(table), *options, *QUIET, "--name", name]


def assert_same_study(one: Path, two: Path) -> None:
    tables = (f"report/toy_{name}.csv" for name in ("correlations", "regret", "bands", "searches"))
    for name in (JOURNAL, SEARCHES, *tables):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    assert (one / TIMES).exists()


@pytest.mark.slow
def test_kills_change_nothing(diswot: CommandLine, table: Path, tmp_path: Path) -> None:
    """kill -9 of real processes, while they score and while they simulate searches: the journals and the tables are those of the
    undisturbed study, byte for byte."""
    assert diswot(*kept(table, "whole"))[0] == 0
    whole, cut = (tmp_path / "runs" / name for name in ("whole", "cut"))
    scores, searches = count_lines(whole / JOURNAL), count_lines(whole / SEARCHES)
    deaths = [(8, "torn"), (scores - 7 + 4, "torn"), (2, "whole")]  # 7 scores are whole then; all, and 3 searches; 2 searches more
    kill_in_turn(tmp_path, deaths, kept(table, "cut"), RESUME)
    assert 7 < scores == count_lines(cut / JOURNAL) and count_lines(cut / SEARCHES) == 5 < searches
    assert diswot(*RESUME)[0] == 0
    assert_same_study(cut, whole)
