"""`diswot latency` as its users meet it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diswot.latency import measure, recipe
from diswot.latency.measure import Measurement, Patience, Timing
from tests.latency.samples import table_plan, write_table


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "PATIENCE", Patience(0.0, least=2, most=2))


def measured(monkeypatch: pytest.MonkeyPatch, *timings: Timing, on_processor: float = 1.0) -> None:
    monkeypatch.setattr(measure, "time_interleaved", lambda *_: Measurement(list(timings), on_processor))


def test_a_table_says_the_times_the_runtime_and_the_threads(diswot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, Timing(1.5, 1.25, 1.75, 40), Timing(4.5, 4.0, 5.0, 20))
    code, out, err = diswot("latency", "resnet8", "resnet20", "--device", "cpu", "--threads", "2")
    assert code == 0 and err == ""
    assert "torch on cpu, 2 threads, batch of 1" in out
    words = out.split()
    assert words[words.index("resnet8") :][3:7] == ["1.5", "1.25", "1.75", "40"]
    assert words[words.index("resnet20") :][3:7] == ["4.5", "4", "5", "20"]


@pytest.mark.parametrize(
    ("p90", "on_processor", "says"),
    [(1.6, 1.0, "90th percentile"), (1.1, 0.5, "busy for 50%"), (1.1, 1.0, "")],
)
def test_doubtful_figures_come_with_a_line(
    diswot: Any, monkeypatch: pytest.MonkeyPatch, p90: float, on_processor: float, says: str
) -> None:
    measured(monkeypatch, Timing(1.0, 0.9, p90, 40), on_processor=on_processor)
    _, _, err = diswot("latency", "resnet8", "--device", "cpu")
    assert says in err and len(err.splitlines()) == bool(says)
    found = json.loads(diswot("latency", "resnet8", "--device", "cpu", "--json")[1])
    assert (says in found["warning"]) if says else found["warning"] is None
    assert found["networks"][0]["latency_ms"] == 1.0


def test_json_has_what_the_table_has(diswot: Any) -> None:
    sizes = ["--num-classes", "10", "--input-size", "16", "--batch-size", "2"]
    code, out, _ = diswot("latency", "resnet8", "--json", "--device", "cpu", *sizes)
    found = json.loads(out)
    assert code == 0 and set(found) == {"device", "runtime", "threads", "batch_size", "networks", "on_processor", "load", "warning"}
    (row,) = found["networks"]
    assert row["name"] == "resnet8" and 0 < row["p10_ms"] <= row["latency_ms"] <= row["p90_ms"] and row["repeats"] >= 12


@pytest.mark.slow
def test_a_table_is_measured_and_searched_with(diswot: Any, tmp_path: Path) -> None:
    words = ["--space", "s0", "--num-classes", "10", "--networks", "2", "--device", "cpu"]
    code, out, err = diswot("latency", *words, "--table", "t.csv")
    assert code == 0 and "7 blocks and 2 networks of resnet_depth" in out and "9/9 rows" in err
    assert "next: diswot search --space resnet_depth --latency 5ms --latency-table t.csv" in out
    found = json.loads(diswot("latency", *words, "--table", "t.csv", "--json", "--quiet")[1])
    assert found["units"] == 7 and found["units_error"] is None
    budget = ["--params", "none", "--flops", "none", "--latency", "1000s", "--latency-table", "t.csv"]
    scoring = ["--teacher", "resnet8", "--proxy", "params", "--num-classes", "10", "--seeds", "1", "--batch-size", "2", "--workers", "1"]
    code, _, err = diswot("search", "--space", "s0", *budget, *scoring, "--iterations", "2", "--name", "a")
    assert code == 0 and "latency by t.csv: torch on cpu, 1 thread" in err


BAD = [
    ([], "no architecture was given"),
    (["resnet21"], "resnet21"),
    (["resnet8", "--runtime", "tflite"], "--runtime 'tflite': known: torch, onnx, compile"),
    (["resnet8", "--threads", "0"], "--threads 0: from 1 to 1,024 is needed"),
    (["resnet8", "--batch-size", "0"], "--batch-size 0"),
    (["resnet8", "--num-classes", "0"], "--num-classes 0"),
    (["resnet8", "--units", "20"], "--units is of a table: add --table FILE.csv"),
    (["resnet8", "--export", "blocks"], "--export is of a table"),
    (["resnet8", "--table", "t.csv", "--space", "s0"], "is of a space, not of 'resnet8': leave it out"),
    (["--table", "t.csv"], "needs the space that it is of: --space s1"),
    (["--table", "t.csv", "--space", "resnet_dept"], "did you mean resnet_depth"),
    (["--table", "t.csv", "--space", "s0", "--units", "3"], "--units 3: from 10 to 1,000 is needed"),
    (["--table", "t.csv", "--space", "s0", "--params", "1Q"], "1Q"),
    (["--table", "t.csv", "--space", "s0", "--params", "1..2"], "no network of resnet_depth was found within the limits"),
    (["--table", "nowhere/t.csv", "--space", "s0"], "nowhere/t.csv: cannot be written"),
    (["vgg8", "--input-size", "4"], "4x4"),
    (["none.json"], "none.json"),
]


@pytest.mark.parametrize(("words", "says"), BAD, ids=[" ".join(words)[:60] for words, _ in BAD])
def test_bad_input_is_one_line_and_leaves_nothing(diswot: Any, tmp_path: Path, words: list[str], says: str) -> None:
    code, out, err = diswot("latency", *words, "--device", "cpu")
    lines = err.splitlines()
    assert code == 2 and out == "" and lines[-1].startswith("diswot: ") and says in lines[-1]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_search_refuses_a_table_of_another_space(diswot: Any, tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", table_plan())
    words = ["--latency", "5ms", "--latency-table", "t.csv", "--num-classes", "10", "--proxy", "params", "--teacher", "resnet8"]
    code, out, err = diswot("search", *words)
    assert code == 2 and out == "" and "a table of resnet_depth, not of resnet_width" in err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
