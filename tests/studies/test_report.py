"""The report of a study, made of results whose numbers are known."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from diswot.statistics.bootstrap import Estimate
from diswot.statistics.correlation import SizeBand
from diswot.studies import report as study_report
from diswot.studies.dataset_report import DatasetReport
from diswot.studies.figures import dataset_charts, looks_of_rankings
from diswot.studies.verdict import pick_table, verdict
from tests.report.samples import EVIL, NAN

NAMES = ["nwot", "relation:kd", "params", "flops"]
SPEARMAN = {"nwot": 0.6, "relation:kd": NAN, "params": 0.7, "flops": 0.5}


@dataclasses.dataclass
class Config:
    data: str = "cifar10"
    num_classes: int | None = 10
    init: str = "kaiming"
    teacher: str = "resnet8"
    teacher_weights: str = "random"
    note: str = EVIL


def ranking_result(name: str, rng: np.random.Generator) -> Any:
    """A ranking's result on 30 networks; `relation:kd` has no score for the first two."""
    complete = np.arange(30) >= (2 if name == "relation:kd" else 0)
    return SimpleNamespace(
        name=name,
        ranking=SimpleNamespace(parts=(name,)),
        parts=rng.normal(size=(30, 1)),
        complete=complete,
        fitness=rng.normal(size=30),
        reason="" if complete.all() else "no gradient",
        failed=int((~complete).sum()),
        milliseconds=0.0 if name in ("params", "flops") else 2.0,
    )


@pytest.fixture
def study() -> Any:
    """What the report reads of a study: 30 networks, of which the last has no accuracy."""
    rng = np.random.default_rng(0)
    flops = np.linspace(1e7, 9e8, 30)
    return SimpleNamespace(
        config=Config(),
        benchmark=SimpleNamespace(name="bench"),
        rows=np.arange(100, 130),
        seeds=2,
        batch_size=8,
        groups=np.arange(30) // 2,
        costs=[SimpleNamespace(params=int(x) // 10, flops=int(x)) for x in flops],
        archs=[SimpleNamespace(choices=f"cell{index}") for index in range(30)],
        rankings=[ranking_result(name, rng) for name in NAMES],
        accuracies={"toy": np.append(np.linspace(60, 90, 29), NAN)},
        measured="test accuracy",
        size=lambda what: flops,
    )


@pytest.fixture
def report() -> DatasetReport:
    statistics = {
        name: {"Spearman": Estimate(rho, rho - 0.1, rho + 0.1, 0.02), "best rank at 5": Estimate(3.0), "regret": Estimate(1.5)}
        for name, rho in SPEARMAN.items()
    }
    return DatasetReport(
        dataset="toy",
        rows=29,
        statistics=statistics,
        bands=[SizeBand(1e7, 1e8, 1500), SizeBand(1e8, 9e8, 14)],
        banded={name: [Estimate(0.4), Estimate(0.2)] for name in NAMES},
        budgets=np.array([1e8, 9e8]),
        regrets={**{name: np.array([1.0, 2.0]) for name in NAMES}, "random": np.array([5.0, 7.0])},
        searched={"nwot": np.array([[1.0, 3.0], [3.0, 5.0]]), "params": np.array([[1.0, 1.0], [NAN, 1.0]])},
        matrix=np.eye(4),
    )


def test_correlations_are_sorted_by_spearman_with_those_without_one_last(study: Any, report: DatasetReport) -> None:
    table = study_report.correlation_table(study, report)
    assert [row["ranking"] for row in table.rows] == ["params", "nwot", "flops", "relation:kd"]
    assert [(column.key, column.best) for column in table.columns[1:]] == [
        ("spearman", "high"),
        ("best_rank_at_5", "low"),
        ("regret", "low"),
    ]
    assert table.title == "toy, test accuracy: 29 rows" and table.rows[0]["spearman"] == report.statistics["params"]["Spearman"]


def test_regret_table_has_a_column_for_each_budget_and_the_lowest_mean_first(report: DatasetReport) -> None:
    table = study_report.regret_table(report)
    assert [column.heading for column in table.columns] == ["pick by", "mean", "100M", "900M"]
    assert table.rows[-1] == {"ranking": "random", "mean": 6.0, "within_100M": 5.0, "within_900M": 7.0}
    assert table.rows[0]["mean"] == Estimate(1.5)


def test_searches_are_averaged_and_their_spread_is_over_searches(report: DatasetReport) -> None:
    table = study_report.search_table(report)
    first, last = table.rows
    assert first["ranking"] == "nwot" and first["mean"].value == 3 and first["mean"].spread == pytest.approx(np.std([2, 4], ddof=1))
    assert (first["within_100M"], first["within_900M"]) == (2, 4) and "mean of 2" in table.title
    assert last["ranking"] == "params" and np.isnan(last["mean"].value)
    single = dataclasses.replace(report, searched={"nwot": np.array([[1.0, 3.0]])})
    assert study_report.search_table(single).rows[0]["mean"] == Estimate(2.0)


def test_bands_say_how_many_networks_they_hold(report: DatasetReport) -> None:
    table = study_report.band_table(report)
    assert [column.heading for column in table.columns] == ["ranking", "10 to 100M", "100 to 900M"]
    assert table.title.endswith("(1,500, 14 rows)") and table.rows[0]["band_2"] == Estimate(0.2)


def test_score_table_has_a_row_for_each_network_and_no_score_where_a_ranking_has_none(study: Any) -> None:
    table = study_report.score_table(study)
    assert len(table.rows) == 30 and table.rows[3]["row"] == 103 and table.rows[3]["choices"] == "cell3"
    assert table.rows[3]["fitness_nwot"] == study.rankings[0].fitness[3] and table.rows[3]["flops"] == study.costs[3].flops
    scores = [row["score_relation:kd"] for row in table.rows]
    assert np.isnan(scores[:2]).all() and scores[2:] == study.rankings[1].parts[2:, 0].tolist()
    assert np.isnan(table.rows[29]["accuracy_toy"])


def test_charts_show_the_best_rankings_over_known_accuracies(study: Any, report: DatasetReport) -> None:
    pictures = dataset_charts(study, report, looks_of_rankings(study, [report]))
    assert list(pictures)[:5] == ["intervals", "regret", "bands", "matrix", "cost"]
    assert list(pictures)[5:] == ["scatter_params", "scatter_nwot", "scatter_flops", "scatter_relation:kd"]
    axes = pictures["scatter_params"].figure.axes[0]
    assert len(axes.collections[0].get_offsets()) == 29 and axes.texts[0].get_text() == "Spearman .700 ± .020 [.600, .800]"
    assert [text.get_text() for text in pictures["cost"].figure.axes[0].texts] == ["nwot"]
    regret = [line.get_label() for line in pictures["regret"].figure.axes[0].lines]
    assert regret == ["params, flops", "random", "nwot, relation:kd"]


def test_without_times_and_searches_there_is_no_chart_of_cost_and_no_table_of_searches(study: Any, report: DatasetReport) -> None:
    study.rankings = [SimpleNamespace(**{**vars(result), "milliseconds": 0.0}) for result in study.rankings]
    assert "cost" not in dataset_charts(study, report, looks_of_rankings(study, [report]))
    assert "searches" not in study_report.dataset_tables(study, dataclasses.replace(report, searched={}))


@pytest.mark.slow
def test_report_writes_every_table_and_chart_and_one_page(study: Any, report: DatasetReport, tmp_path: Path) -> None:
    study.accuracies["../away"] = study.accuracies["toy"]
    other = dataclasses.replace(report, dataset="../away")
    path = tmp_path / "report.html"
    study_report.write_report(study, [report, other], tmp_path)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "report", path]
    tables = {
        f"{name}.{kind}" for name in ("correlations", "regret", "picks", "bands", "searches") for kind in ("csv", "json", "md", "tex")
    }
    drawn = ("intervals", "regret", "bands", "matrix", "cost", *(f"scatter_{name.replace(':', '_')}" for name in NAMES))
    names = tables | {f"{name}.{kind}" for name in drawn for kind in ("svg", "png", "csv")}
    written = {file.name for file in (tmp_path / "report").iterdir()}
    assert written == {f"{dataset}_{name}" for dataset in ("toy", ".._away") for name in names} | {"scores.csv"}
    text = path.read_text()
    assert "How 4 rankings order bench" in text and "30 rows of bench, 15 different networks" in text
    assert "2 seeds x 8 images (cifar10, 10 classes)" in text
    assert "relation:kd (2, the first because no gradient)" in text and "<script" not in text
    assert text.count("<table") == 10 and text.count("<svg") == 2 * len(drawn)
    with open(tmp_path / "report" / "scores.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 30


def test_a_ranking_keeps_its_colour_in_every_chart(study: Any, report: DatasetReport) -> None:
    """Also where it is best in one chart and worst in another."""
    banded = {**report.banded, "nwot": [Estimate(-0.5), Estimate(-0.6)], "relation:kd": [Estimate(0.9), Estimate(0.8)]}
    regrets = {**report.regrets, "nwot": np.array([9.0, 9.5]), "relation:kd": np.array([0.5, 0.1])}
    swapped = dataclasses.replace(report, banded=banded, regrets=regrets)
    looks = looks_of_rankings(study, [swapped])
    pictures = dataset_charts(study, swapped, looks)
    for name in ("regret", "bands"):
        colors = {str(line.get_label()): line.get_color() for line in pictures[name].figure.axes[0].lines}
        assert {ranking: colors[ranking] for ranking in ("nwot", "relation:kd")} == {ranking: looks[ranking].color for ranking in looks}
    dots = {line.get_label(): line.get_color() for line in pictures["intervals"].figure.axes[0].lines}
    assert dots["nwot"] == looks["nwot"].color != looks["relation:kd"].color == dots["relation:kd"]


def test_the_verdict_says_whether_a_ranking_is_better_than_counting(study: Any, report: DatasetReport) -> None:
    def said(rho: float, width: float) -> str:
        best = {"nwot": {**report.statistics["nwot"], "Spearman": Estimate(rho, rho - width, rho + width)}}
        return verdict(study, dataclasses.replace(report, statistics={**report.statistics, **best}))

    assert "nwot orders the 29 networks best: Spearman's ρ 0.95 (0.90 to 1.00)" in said(0.95, 0.05) and "clearly worse" in said(0.95, 0.05)
    assert "intervals that overlap" in said(0.75, 0.2) and "as well or better" in said(0.6, 0.1)
    assert "lose 1.50 points" in said(0.6, 0.1) and "random ones 6.00" in said(0.6, 0.1)


def test_picks_are_the_best_scored_within_each_budget(study: Any, report: DatasetReport) -> None:
    rows = pick_table(study, report).rows
    flops, accuracy = study.size("flops"), study.accuracies["toy"]
    assert {row["budget"] for row in rows} == {"100M", "900M"} and {row["ranking"] for row in rows} == set(NAMES)
    for row in rows:
        (result,) = [one for one in study.rankings if one.name == row["ranking"]]
        limit = float(row["budget"].rstrip("M")) * 1e6
        candidates = [index for index in range(29) if flops[index] <= limit]
        pick = max(candidates, key=lambda index: result.fitness[index])
        assert row["network"] == f"cell{pick}" and row["accuracy"] == accuracy[pick]
        assert row["lost"] == max(accuracy[index] for index in candidates) - accuracy[pick]
