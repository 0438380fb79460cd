"""Students compared: the same recipe, the same seeds, the same teacher."""

from __future__ import annotations

import json
import logging
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import stats

import diswot
from diswot.distillation.compare import ComparedStudent
from diswot.errors import DataError, RunError
from diswot.space import Cost
from tests.distillation.samples import stop_at_call
from tests.trained import ARCH, QUICK


def compared(first: list[float], second: list[float]) -> tuple[ComparedStudent, ComparedStudent]:
    cost = Cost(1, 1, 1)
    return ComparedStudent("a", "kd", ARCH, first, cost, 1.0), ComparedStudent("b", "kd", ARCH, second, cost, 1.0)


def test_the_interval_of_a_difference_is_scipys() -> None:
    a, b = [71.2, 70.8, 71.9, 71.1], [70.1, 70.6, 70.9, 70.2]
    first, second = compared(a, b)
    mean, width = first.ahead_of(second)
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (mean - width, mean + width) == pytest.approx((interval.low, interval.high))
    assert first.spread == pytest.approx(np.std(a, ddof=1))
    one, other = compared([71.0], [70.0])
    assert one.ahead_of(other)[0] == 1.0 and math.isnan(one.ahead_of(other)[1]) and math.isnan(one.spread)


@pytest.mark.slow
def test_a_comparison_is_the_single_runs(tmp_path: Path, small_npz: Path, teacher_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off in its second seed and resumed; each student as if trained alone with that seed."""
    options = {**QUICK, "data": str(small_npz), "teacher": "resnet8", "teacher_weights": str(teacher_file)}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at_call(4, patch)
        diswot.compare([ARCH, "resnet14"], folder=tmp_path / "c", seeds=2, seed=5, **options)  # type: ignore[arg-type]
    found = diswot.resume(tmp_path / "c", device="cpu")
    assert [row.name for row in found.rows] == [ARCH.digest, "resnet14"]
    assert found.rows[1].cost.params > found.rows[0].cost.params and len(found.teacher) == 2
    for arch, row in zip((ARCH, "resnet14"), found.rows, strict=True):
        for place, seed in enumerate((5, 6)):
            alone = diswot.distill(arch, folder=tmp_path / f"{row.name}-{seed}", seed=seed, **options)  # type: ignore[arg-type]
            assert row.top1[place] == alone.student.top1
            kept = load_file(tmp_path / "c" / f"seed-{seed}" / "students" / row.name / "model.safetensors")
            theirs = load_file(alone.students[0].folder / "model.safetensors")
            assert all(torch.equal(kept[name], value) for name, value in theirs.items())


def test_what_cannot_be_trained_is_told_before_workers_begin(tmp_path: Path) -> None:
    """And leaves nothing."""
    with pytest.raises(DataError, match=r"none.npz: no such file"):
        diswot.compare(["resnet8", "resnet14"], folder=tmp_path / "run", data="none.npz", workers=2, seeds=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_seeds_trained_by_workers_are_those_of_one_process(tmp_path: Path, small_npz: Path, caplog: pytest.LogCaptureFixture) -> None:
    """To the same journal, under a teacher that is trained once, before them; and an error in a worker is told as it is in one process."""
    options: Any = {**QUICK, "data": str(small_npz), "teacher": "resnet8", "losses": "none; kd", "seeds": 2}
    with caplog.at_level(logging.INFO, "diswot"):
        for workers in (2, 1):
            diswot.compare(["resnet8"], folder=tmp_path / f"by{workers}", workers=workers, **options)
    assert sum("it is trained first" in line for line in caplog.messages) == 1
    one, two = (tmp_path / f"by{workers}" / "results.jsonl" for workers in (1, 2))
    assert one.read_bytes() == two.read_bytes() and one.read_bytes().count(b"\n") == 2
    (weights,) = Path(os.environ["DISWOT_HOME"]).rglob("teachers/*/model.safetensors")
    with pytest.raises(RunError, match="became nan in epoch 1: use a smaller --lr"):
        diswot.compare(["resnet8"], folder=tmp_path / "none", workers=2, **{**options, "lr": 1e30, "teacher_weights": str(weights)})


def test_compare_from_the_command_line(small_npz: Path, diswot: Any) -> None:
    options = ["--data", str(small_npz), "--loss", "none", "--epochs", "1", "--batch-size", "16", "--seeds", "2", "--quiet"]
    code, out, err = diswot("compare", "resnet8", "resnet14", *options, "--name", "c")
    assert code == 0 and "resnet14" in out and "±" in out and "ahead" in out, err
    found = json.loads(diswot("compare", "--resume", "runs/c", "--json", "--quiet")[1])
    assert [len(row["top1"]) for row in found["students"]] == [2, 2] and found["students"][0]["difference"] is None
    code, _, err = diswot("compare", "resnet8", *options, "--losses", "none; none")
    assert code == 2 and "two students at least, or two losses" in err


@pytest.mark.slow
def test_one_student_is_compared_by_several_losses(
    tmp_path: Path, small_npz: Path, teacher_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the labels alone and kd where no others are named; cut off between two losses and resumed; each as if it were alone."""
    options: Any = {**QUICK, "data": str(small_npz), "teacher": "resnet8", "teacher_weights": str(teacher_file)}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at_call(4, patch)
        diswot.compare(["resnet8"], folder=tmp_path / "c", seeds=2, loss="fitnets", **options)
    found = diswot.resume(tmp_path / "c", device="cpu")
    assert [(row.name, row.loss) for row in found.rows] == [("resnet8", loss) for loss in ("none", "kd", "fitnets")]
    for row in found.rows:
        for seed in (0, 1):
            alone = diswot.distill("resnet8", folder=tmp_path / f"{row.loss}-{seed}", seed=seed, loss=row.loss, **options)
            assert row.top1[seed] == alone.student.top1
    assert len(found.teacher) == 2
