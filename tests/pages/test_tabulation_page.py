"""The page of a table of trained networks, held against the table."""

from __future__ import annotations

import csv
import shutil
import statistics
from pathlib import Path

import pytest

from diswot.pages import write_page
from diswot.runs import read_object
from tests.pages.test_training_pages import read_csv
from tests.report.test_html import Reader

pytestmark = pytest.mark.slow  # two dozen trainings, of an epoch on 48 images


def test_the_page_has_the_accuracies_and_costs_of_the_table(tabulated: Path) -> None:
    reader = Reader(write_page(tabulated).read_text())
    assert reader.open == [] and reader.text["h1"] == ["A table of s0"]
    assert reader.text["h2"] == ["Accuracy over cost", "The best networks", "How far one training can be trusted", "To repeat it"]
    with open(tabulated / "table.csv", newline="") as file:
        table = list(csv.DictReader(file))
    for cost in ("params", "flops"):
        drawn = read_csv(tabulated / "report" / f"accuracy_over_{cost}.csv")
        found = sorted((int(float(row[cost])), round(float(row["top1"]), 4)) for row in drawn)
        assert found == sorted((int(row[cost]), round(mean_of_seeds(row), 4)) for row in table) and len(found) == 16
    best = max(map(mean_of_seeds, table))
    assert any(text.startswith(f"{best:.2f}") for text in map(str.strip, reader.text["td"]))
    assert f"{best:.2f} %" in "".join(reader.text["dd"])
    hovers = [text for text in reader.text["title"] if " %, network " in text]
    assert len(hovers) == 2 * len(table), "every network, over parameters and over FLOPs"
    (agreement,) = read_object(tabulated / "result.json")["agreements"]
    assert agreement["networks"] == 8 and any(agreement["what"] in text for text in reader.text["td"] + reader.text["th"])


def mean_of_seeds(row: dict[str, str]) -> float:
    """Of a row's trainings with the table's loss."""
    return statistics.fmean(float(value) for name, value in row.items() if name.startswith("small_kd_seed") and value)


def test_a_table_under_way_has_a_page(tabulated: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tabulated, tmp_path / "run"))
    lines = (run / "trainings.jsonl").read_text().splitlines(keepends=True)
    (run / "trainings.jsonl").write_text("".join(lines[:3]) + lines[3][:20])
    (run / "result.json").unlink()
    text = " ".join(Reader(write_page(run).read_text()).text["p"])
    assert "The table is not at its end. 3 networks of s0" in text and (run / "trainings.jsonl").read_text().endswith(lines[3][:20])


def test_before_the_first_training_the_page_says_how_many_there_will_be(tabulated: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tabulated, tmp_path / "run"))
    for name in ("trainings.jsonl", "result.json", "networks.json"):
        (run / name).unlink()
    reader = Reader(write_page(run).read_text())
    assert "0 of 16" in "".join(reader.text["dd"]) and reader.text["h2"] == ["To repeat it"]
