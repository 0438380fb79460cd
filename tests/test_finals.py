"""The finals of a search: its finalists are trained briefly, the better half of them longer, and the last is the winner."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

import diswot as package
from diswot import finals
from diswot.architecture import read_arch_json
from diswot.errors import ConfigError


def options(npz: Path, teacher: Path, **more: Any) -> dict[str, Any]:
    found = {"space": "s0", "proxy": "params", "data": str(npz), "teacher": "resnet8", "teacher_weights": str(teacher), "trial_epochs": 4}
    return {**found, "iterations": 12, "population_size": 6, "generation_size": 4, "params": "0.3M", "flops": "none", "workers": 1, **more}


@pytest.mark.parametrize("count", range(1, 9))
def test_every_round_keeps_the_better_half_and_the_last_has_all_epochs(count: int) -> None:
    rounds = finals.halvings(count, 16)
    assert [entrants for entrants, _ in rounds] == [n for n in (8, 7, 6, 5, 4, 3, 2) if n == count or n in _halves(count)]
    if rounds:
        assert rounds[-1] == (2, 16) and all(2 * a[1] == b[1] for a, b in itertools.pairwise(rounds))


def _halves(count: int) -> set[int]:
    found = set()
    while count > 2:
        count = -(-count // 2)
        found.add(count)
    return found


@pytest.mark.slow
def test_the_winner_is_the_last_that_is_left(small_npz: Path, teacher_file: Path, tmp_path: Path) -> None:
    result = package.search(folder=tmp_path / "run", **options(small_npz, teacher_file))
    trained = {row.role: row.trained for row in result.table if row.trained is not None}
    longest = {role: found.top1 for role, found in trained.items() if found.epochs == 4}
    assert len(longest) == 2 and min(found.epochs for found in trained.values()) < 4
    best = max(longest.values())
    assert next(row for row in result.table if row.arch == result.winner).trained.top1 == best  # type: ignore[union-attr]
    arch, provenance = read_arch_json(tmp_path / "run" / "arch.json")
    assert arch == result.winner and provenance["finals"].keys() == trained.keys()
    again = package.resume(tmp_path / "run", workers=1)
    assert again.winner == result.winner and again.table == result.table


@pytest.mark.slow
def test_one_epoch_is_one_round_that_decides(small_npz: Path, teacher_file: Path, tmp_path: Path) -> None:
    result = package.search(folder=tmp_path / "run", **options(small_npz, teacher_file, trial_epochs=1))
    top1 = {row.role: row.trained.top1 for row in result.table if row.trained is not None}
    assert len(top1) > 2 and [path.name for path in (tmp_path / "run" / "finals").iterdir()] == ["1-epochs"]
    assert top1[next(row.role for row in result.table if row.arch == result.winner)] == max(top1.values())


@pytest.mark.slow
def test_no_test_image_chooses(small_npz: Path, teacher_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accuracies are those of the held-out training images, as the journal of the last round has them."""
    result = package.search(folder=tmp_path / "run", **options(small_npz, teacher_file))
    for row in result.table:
        if row.trained is not None:
            folder = tmp_path / "run" / "finals" / f"{row.trained.epochs}-epochs"
            last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
            assert last[f"{row.role}/validation_top1"] == row.trained.top1
            assert last[f"{row.role}/test_top1"] is not None


def test_finals_need_a_folder(small_npz: Path, teacher_file: Path) -> None:
    with pytest.raises(ConfigError, match="needs a folder"):
        package.search(**options(small_npz, teacher_file))
