"""Several losses at once: one pass of the teacher for all, each student as if it were alone; and strengths of a loss, chosen without test
images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import diswot
from diswot.config import CompareConfig, DistillConfig
from diswot.config.tabulation import TabulateConfig
from diswot.distillation.plan import plan_distillation
from diswot.distillation.students import StudentEntry
from diswot.errors import ConfigError
from diswot.training.frozen_teacher import FrozenTeacher
from tests.distillation.samples import QUICK, same_students, stop_after
from tests.trained import ARCH

LOSSES = ("none", "fitnets", "0.5*dkd(beta=2)", "crd(negatives=8)")


def test_losses_side_by_side_end_as_alone(tmp_path: Path, small_npz: Path, teacher_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit, also where the training was cut off; and the teacher looks at each batch once."""
    options: Any = {**QUICK, "data": str(small_npz), "teacher_weights": str(teacher_file)}
    real, passes = FrozenTeacher.observe, 0

    def count(self: FrozenTeacher, *args: Any) -> Any:
        nonlocal passes
        passes += 1
        return real(self, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(1, patch)
        diswot.distill("resnet8", folder=tmp_path / "all", loss="; ".join(LOSSES), **options)
    with monkeypatch.context() as patch:
        patch.setattr(FrozenTeacher, "observe", count)
        together = diswot.resume(tmp_path / "all")
    assert passes == 5  # batches of the second epoch
    assert [student.loss for student in together.students] == list(LOSSES)
    assert [student.name for student in together.students] == [
        *("resnet8-none", "resnet8-fitnets", "resnet8-0.5-dkd-beta-2"),
        "resnet8-crd-negatives-8",
    ]
    for student in together.students:
        alone = diswot.distill("resnet8", folder=tmp_path / student.name, loss=student.loss, **options).students[0]
        ours, theirs = (load_file(one.folder / "model.safetensors") for one in (student, alone))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_sweep_looks_at_no_test_image(tmp_path: Path, small_npz: Path, teacher_file: Path) -> None:
    """The same with other test labels; eight of the 80 training images measure."""
    arrays = dict(np.load(small_npz))
    np.savez(tmp_path / "other.npz", **{**arrays, "y_test": 1 - arrays["y_test"] % 2})
    options: Any = {**QUICK, "teacher_weights": str(teacher_file), "loss": "kd + 0.5*rkd", "sweep": "0.1,1"}
    found = [diswot.distill(ARCH, folder=tmp_path / path.stem, data=str(path), **options) for path in (small_npz, tmp_path / "other.npz")]
    first, second = found
    assert [student.loss for student in first.students] == ["none", "0.1*kd + 0.05*rkd", "kd + 0.5*rkd"]
    assert first.measured_on == "validation" and first.student.count == 8
    assert not any("test" in name for line in first.history for name in line)
    assert first.best is not None and second.best is not None and first.best.loss == second.best.loss
    assert first.best.accuracy.top1 == max(student.accuracy.top1 for student in first.students)
    assert same_students(tmp_path / "small", tmp_path / "other")


def test_a_sweep_on_the_command_line(small_npz: Path, teacher_file: Path, diswot: Any) -> None:
    teacher = ["--teacher", "resnet8", "--teacher-weights", str(teacher_file)]
    options = ["--data", str(small_npz), *teacher, "--epochs", "1", "--batch-size", "16", "--name", "s", "--quiet"]
    code, out, err = diswot("distill", "resnet8", *options, "--loss", "dist", "--sweep", "0.3")
    assert code == 0, err
    line = out.strip().splitlines()[-1]
    assert line.startswith("best on held-out training images: ") and "runs/s/students/resnet8-" in line and "arch.json --loss" in line


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"loss": "kd; dml"}, "loss kd; dml: these cannot be trained side by side"),
        ({"loss": "kd; ofd"}, "these cannot be trained side by side"),
        ({"loss": " ; "}, "names none"),
        ({"loss": "kd; dkd", "assistants": "resnet14"}, "--assistants resnet14"),
        ({"loss": "none", "sweep": "1,3"}, "loss none stands alone"),
        ({"sweep": "0.1,0"}, "--sweep '0.1,0': factors above 0"),
        ({"sweep": "strong"}, "--sweep 'strong': factors above 0"),
        ({"sweep": "1", "val_fraction": 0.0}, "--val-fraction 0"),
    ],
)
def test_what_cannot_be_tried_side_by_side_is_said(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_distillation(DistillConfig(**options), [StudentEntry(ARCH)])
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("config", [CompareConfig(sweep="1,3", losses="kd; dkd"), TabulateConfig(sweep="1,3")])
def test_other_verbs_do_not_sweep(config: CompareConfig | TabulateConfig) -> None:
    with pytest.raises(ConfigError, match="--sweep 1,3: diswot distill sweeps"):
        config.check()
