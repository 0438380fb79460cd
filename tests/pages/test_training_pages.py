"""The pages of trainings and of comparisons, held against what the runs left."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from diswot.pages import comparison, write_page
from diswot.pages.confusions import Confusions
from tests.report.test_html import Reader

pytestmark = pytest.mark.slow  # trainings with their pages take some twenty seconds


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def training(compared: Path, tmp_path: Path) -> Path:
    """A training of three students side by side."""
    return Path(shutil.copytree(compared / "seed-0", tmp_path / "run"))


def test_the_page_of_a_training_shows_accuracies_terms_and_confusions(training: Path) -> None:
    reader = Reader(write_page(training).read_text())
    result = json.loads((training / "result.json").read_text())
    assert reader.open == [] and reader.text["h1"] == ["Training of 3 students under resnet8"]
    assert {"Accuracy", "The terms of the loss", "Class by class", "Speed", "To repeat it"} <= set(reader.text["h2"])
    cells = [text.strip() for text in reader.text["td"]]
    assert all(f"{found['top1']:.2f}" in cells for found in result["students"].values())
    history = [json.loads(line) for line in (training / "metrics.jsonl").read_text().splitlines()]
    drawn = read_csv(training / "report" / "accuracy.csv")
    for name in result["students"]:
        assert [float(row[f"{name}/test"]) for row in drawn] == [line[f"{name}/test_top1"] for line in history]


def test_confusions_add_up_to_the_accuracy(compared: Path) -> None:
    result, found = json.loads((compared / "seed-0" / "result.json").read_text()), Confusions.read(compared / "seed-0")
    assert found is not None and list(found.counts) == [*result["students"], "teacher"]
    for name, accuracy in {**result["students"], "teacher": result["teacher"]}.items():
        assert found.counts[name].sum() == 40 and 100 * found.counts[name].trace() / 40 == pytest.approx(accuracy["top1"])


def test_students_that_have_no_room_are_named(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diswot.pages.run_files._MOST_STUDENTS", 2)
    shutil.rmtree(training / "report", ignore_errors=True)  # of a page that another test wrote
    reader = Reader(write_page(training).read_text())
    left_out = [text for text in reader.text["p"] if text.startswith("Left out")]
    names = list(json.loads((training / "result.json").read_text())["students"])
    assert left_out == [f"Left out, for want of room: {names[2]}."] * 2, "of the terms, and class by class"
    drawn = {path.stem for path in (training / "report").glob("*.csv")}
    assert {f"confusion_{name}" for name in names} - drawn == {f"confusion_{names[2]}"} and {"terms_1", "terms_2"} <= drawn


def test_a_training_under_way_has_a_page(training: Path) -> None:
    (training / "result.json").unlink()
    (training / "confusions.npz").write_bytes(b"")
    lines = (training / "metrics.jsonl").read_text().splitlines(keepends=True)
    (training / "metrics.jsonl").write_text(lines[0] + lines[1][:30])
    reader = Reader(write_page(training).read_text())
    assert any("not at its end: 1 of 2 epochs" in text for text in reader.text["p"]) and "Class by class" not in reader.text["h2"]


def test_the_page_of_a_comparison_names_the_best_and_its_lead(compared: Path) -> None:
    write_page(compared)
    reader = Reader((compared / "report.html").read_text())
    records = [json.loads(line) for line in (compared / "results.jsonl").read_text().splitlines()]
    means = {loss: np.mean([record["top1"][number] for record in records]) for number, loss in enumerate(records[0]["losses"])}
    best = max(means, key=lambda loss: means[loss])
    (verdict,) = [text for text in reader.text["p"] if " is best, " in text]
    assert verdict.startswith(f"{best} is best, ") and reader.text["h1"] == ["Comparison of 3 students"]
    drawn = read_csv(compared / "report" / "accuracy.csv")
    assert {row["label"]: pytest.approx(float(row["top1"])) for row in drawn} == means
    curves = read_csv(compared / "report" / "curves.csv")
    assert list(curves[0]) == ["epoch", "none", "kd", "rkd"] and {name: float(curves[-1][name]) for name in means} == pytest.approx(means)
    assert {path.name for path in (compared / "report").glob("gains_*.csv")} == {"gains_kd_over_none.csv", "gains_rkd_over_none.csv"}


def test_a_comparison_under_way_shows_what_its_first_seed_does(compared: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(compared, tmp_path / "run"))
    (run / "results.jsonl").unlink()
    (run / "result.json").unlink()
    shutil.rmtree(run / "seed-1")
    reader = Reader(write_page(run).read_text())
    assert "No seed is done yet, of 2." in reader.text["p"] and "Over the epochs" in reader.text["h2"]


def test_accuracy_is_drawn_over_the_costs_in_which_students_differ(compared: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(compared, tmp_path / "run"))
    result = json.loads((run / "result.json").read_text())
    for number, student in enumerate(result["students"]):
        student |= {"params": 1e6 * (1 + number), "flops": 4e7, "latency_ms": 2.5 - number}
    (run / "result.json").write_text(json.dumps(result))
    write_page(run)
    drawn = {path.stem for path in (run / "report").glob("accuracy_over_*.csv")}
    assert drawn == {"accuracy_over_params", "accuracy_over_latency_ms"}, "all have the same FLOPs"
    rows = read_csv(run / "report" / "accuracy_over_params.csv")
    assert {row["label"]: float(row["params"]) for row in rows} == {"none": 1e6, "kd": 2e6, "rkd": 3e6}
    means = {row["label"]: float(row["top1"]) for row in read_csv(run / "report" / "accuracy.csv")}
    assert {row["label"]: float(row["top1"]) for row in rows} == means


@pytest.mark.parametrize(
    ("accuracies", "says"),
    [
        ([[70.0, 71.0], [60.0, 61.0]], "That is more than chance would give."),
        ([[70.0, 71.0], [60.0, 61.0], [50.0, 51.0]], "but the best of 3 is often that far ahead by chance: train it with more seeds."),
        ([[70.0, 71.0], [60.0, 75.0]], "That cannot be told from chance."),
        ([[70.0], [60.0]], "One seed cannot tell this from chance."),
    ],
)
def test_a_lead_is_called_what_it_is(accuracies: list[list[float]], says: str) -> None:
    """Differences of 10 in both seeds have an interval without any width; but a best that was picked afterwards is another matter."""
    rows = [{"label": str(number), "top1": top1} for number, top1 in enumerate(accuracies)]
    run: Any = SimpleNamespace(config={"seeds": len(accuracies[0])})
    assert comparison._verdict(run, rows, len(accuracies[0])).endswith(says)
