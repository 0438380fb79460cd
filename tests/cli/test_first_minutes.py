"""What a new user meets in the first ten minutes: each of these once went wrong."""

from __future__ import annotations

import dataclasses
import io
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import diswot as library
from diswot.architecture import Architecture, arch_json
from diswot.cli import output
from diswot.config import DistillConfig
from diswot.data import load_data
from diswot.distillation.plan import plan_distillation, read_entries
from diswot.distillation.students import read_entry, student_names
from diswot.proxies import RANKINGS
from diswot.scoring.recipe import ScoreRow
from diswot.searching.closing import Finalist
from diswot.searching.pareto import FrontMember
from diswot.searching.recipe import SearchResult
from diswot.searching.trial import Trial
from diswot.space import Cost
from diswot.tabulation.networks import TableNetwork
from diswot.tabulation.recipe import TabulateResult
from diswot.tabulation.trainings import Training
from tests.spaces.own import write_own_space

TINY: dict[str, Any] = {"teacher": "resnet8", "seeds": 1, "batch_size": 2, "workers": 1, "proxy": "params", "population_size": 4}


def rendered(tables: list[Any], width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for table in tables:
        console.print(table)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 400])
def test_scores_by_the_default_ranking_can_be_read(width: int) -> None:
    """Numbers are not folded over several lines, and networks are called as the user called them."""
    parts = RANKINGS["diswot+"].parts
    scores = {part: [-123.456 - number] for number, part in enumerate(parts)}
    rows = [ScoreRow(Architecture("s0", {"depths": [1, n, 1]}), Cost(260_892, 38_800_000, 17), scores, rank=3 - n) for n in (1, 2)]
    lines = rendered(output.score_tables(rows, ["a1.json", "b.json"], width), width)
    text = "\n".join(lines)
    assert all(f"{-123.456 - number:.4g}" in text for number in range(len(parts))) and max(map(len, lines)) <= width
    found = [line for line in lines if "a1.json" in line or "b.json" in line]
    assert len(found) == (2 if width == 400 else 2 * 4) and "b.json" in found[0], "the best is first"


def test_students_are_called_as_their_files(tmp_path: Path) -> None:
    files = {"a1": {}, "winner": {"role": "winner"}, "copy": {"role": "winner"}, "odd name": {}}
    for number, (name, provenance) in enumerate(files.items()):
        (tmp_path / f"{name}.json").write_text(arch_json(Architecture("resnet_depth", {"depths": [1, 1, 2 * number + 1]}), provenance))
    entries = [read_entry(str(tmp_path / f"{name}.json")) for name in files]
    assert student_names(entries)[:3] == ["a1", "winner", "copy"] and len(student_names(entries)[3]) == 12
    assert student_names([read_entry("resnet8")]) == ["resnet8"]
    plan = plan_distillation(DistillConfig(loss="none", data="x.npz"), entries[:2])
    for name, text in plan.files().items():
        (tmp_path / name).write_text(text)
    assert student_names(read_entries(tmp_path)) == ["a1", "winner"], "and so when the run is resumed"


@pytest.fixture(scope="module")
def narrow() -> SearchResult:
    """A search within a budget that no hand-made network meets."""
    return library.search(space="resnet_width", params="0.03M", iterations=4, cache=False, **TINY)


def test_the_table_marks_what_is_outside_of_the_budget_and_has_the_teacher(narrow: SearchResult) -> None:
    lines = rendered([output.search_table(narrow)], 80)
    assert any("hand-made *" in line for line in lines) and not any("winner *" in line for line in lines)
    assert any(line.strip().startswith("teacher") and "resnet8" in line for line in lines)
    assert narrow.remarks()[0].startswith("* outside of the budget")
    assert [row["within_budget"] for row in narrow.summary()["table"] if row["role"] == "hand-made"] == [False]


def test_a_winner_of_rank_2_is_explained(narrow: SearchResult) -> None:
    winner, *others = (dataclasses.replace(row, rank=number) for number, row in enumerate(narrow.table, 1))

    def told(*table: Finalist) -> str:
        return "\n".join(dataclasses.replace(narrow, table=list(table)).remarks())

    assert winner.arch == narrow.winner and "the winner led" not in told(winner, *others)
    again = dataclasses.replace(winner, rank=2), dataclasses.replace(others[0], rank=1), *others[1:]
    assert "the winner led when the search ended" in told(*again) and f"the {others[0].role} one stands before it" in told(*again)


def test_results_have_a_short_repr(narrow: SearchResult) -> None:
    assert len(repr(narrow)) < 400 and "4 candidates" in repr(narrow) and narrow.winner.space in repr(narrow)
    assert {"search", "score", "Architecture"} <= set(dir(library)) and dir(library) == sorted(dir(library))


def test_a_search_from_python_can_show_progress(capsys: pytest.CaptureFixture[str]) -> None:
    library.search(space="resnet_width", params="0.08M", iterations=2, cache=False, progress=True, **TINY)
    out, err = capsys.readouterr()
    assert out == "" and "2/2 candidates" in err and "M FLOPs" in err and "params" in err
    library.score(["resnet8"], proxy="params", progress=True)
    assert "1/1 networks" in capsys.readouterr().err


def test_ones_own_photos_are_described(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(tmp_path / split / name / f"{number}.png")
    told = load_data(str(tmp_path)).describe()
    assert told.startswith("6 training and 4 test images of 2 classes, 32 x 32, cut square and shrunk to that (the first from 64 x 48")
    assert "shrunk" not in load_data(str(tmp_path), input_size=48).describe()


def test_the_next_command_works_for_ones_own_space_and_images(
    diswot: Any, tmp_path: Path, small_npz: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_own_space(tmp_path, "next_space", monkeypatch)
    words = ["--space", "next_space:Own", "--data", str(small_npz), "--teacher", "resnet8", "--proxy", "params", "--iterations", "2"]
    code, out, err = diswot("search", *words, "--params", "none", "--flops", "none", "--workers", "1", "--seeds", "1", "--batch-size", "2")
    assert code == 0, err
    (told,) = (line for line in out.splitlines() if line.startswith("next: "))
    command = shlex.split(told.removeprefix("next: diswot "))
    assert command == ["distill", "arch.json", "--space", "next_space:Own"]
    code, out, err = diswot(*command, "--epochs", "1", "--batch-size", "40", "--loss", "none", "--name", "d")
    assert code == 0 and "test accuracy" in out, err
    assert f"{small_npz}: 80 training and 40 test images of 4 classes, 16 x 16" in err


@pytest.mark.parametrize("best", [0, 7, 39])
def test_a_long_front_is_shown_with_its_ends_its_knee_and_its_best(best: int) -> None:
    def member(number: int) -> FrontMember:
        trial = Trial(number, Architecture("zoo", f"n{number:02}"), Cost(10**6 * number, 10**7, 3))
        return FrontMember(trial, 1.0 if number == best else 0.01 * number, number == 8)

    table = output.front_table(SimpleNamespace(front=[member(number) for number in range(40)]))  # type: ignore[arg-type]
    shown = list(table.columns[0].cells)
    assert {"n00", "n39", "n08", f"n{best:02}"} <= set(shown) and len(shown) <= 14 and shown == sorted(shown)


def test_a_table_too_short_for_a_study_is_not_sent_to_one(tmp_path: Path) -> None:
    networks = [TableNetwork(Architecture("resnet_depth", {"depths": [1, 1, n]}), Cost(n, n, n)) for n in range(10)]
    accuracies = {Training(n, "kd", 0): 50.0 + n for n in range(10)}
    for count, says in ((9, "a study needs 10 networks"), (10, "next: diswot study ")):
        of_some = {training: top1 for training, top1 in accuracies.items() if training.network < count}
        result = TabulateResult(networks[:count], of_some, {}, [], 1.0, tmp_path / "table.csv", tmp_path)
        assert says in output.tabulate_remarks(result)[-1]
        assert "fewer than 8 were trained twice" in str(output.tabulate_table(result).title)
