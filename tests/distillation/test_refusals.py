"""What cannot be distilled is said, in one line, before anything is trained."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import diswot
from diswot.config import DistillConfig
from diswot.distillation.plan import restore_config
from diswot.errors import ConfigError, DataError, RunError, TeacherError
from diswot.models.zoo import ZOO
from diswot.runs import RunDir
from diswot.training.loop import Trainer
from tests.distillation.samples import QUICK, stop_after
from tests.trained import ARCH


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"teacher": "resnet9"}, TeacherError, "did you mean"),
        ({"teacher_weights": "none.pth"}, TeacherError, "no such weights file"),
        ({"teacher_weights": "random"}, TeacherError, "nothing to teach"),
        ({"loss": "kdd"}, ConfigError, "did you mean kd"),
        ({"data": "noise"}, DataError, "nothing to learn"),
        ({"data": "cifar100"}, DataError, "--download"),
        ({"limit": 4}, ConfigError, "--limit 4"),
        ({"crop_views": 4, "cutout": 4}, ConfigError, "--crop-views 4: crops and mirroring alone can be drawn once: leave --cutout out"),
        ({"crop_views": 4, "augment": "flip"}, ConfigError, "leave --augment flip out"),
        ({"limit": 20, "val_fraction": 0.9}, DataError, "fewer than the batch"),
        ({"val_fraction": 1.5}, ConfigError, "--val-fraction 1.5: 0 or more and below 1"),
        (
            {"lr": -1.0, "epochs": 0},
            ConfigError,
            "--epochs 0: at least 1 is needed; --lr -1.0: more than 0",
        ),
        ({"momentum": 1.0}, ConfigError, "--momentum 1.0: 0 or more and below 1"),
        ({"loss": "kd(temperature=0)"}, ConfigError, "loss kd: temperature 0.0: more than 0 is needed"),
        ({"loss": "kd(tempreature=2)"}, ConfigError, "did you mean temperature"),
        ({"loss": "kd + dml"}, ConfigError, "dml stands alone"),
        ({"loss": "rkd", "batch_size": 2}, ConfigError, "--batch-size 2: the loss rkd needs 3 images"),
        ({"loss": "fitnets(stage=-9)"}, ConfigError, "stage -9; the two networks share 3"),
        ({"loss": "dlb", "batch_size": 64}, ConfigError, "--batch-size 64: too large for 80 images"),
        ({"loss": "dlb", "grad_accum_steps": 2}, ConfigError, "repeats half of each batch"),
        ({"loss": "kd", "unlabelled": "more"}, ConfigError, "looks at labels"),
        ({"loss": "ssld", "unlabelled": "nothing"}, DataError, "a folder of images"),
        ({"loss": "none", "assistants": "resnet8"}, ConfigError, "looks at no teacher"),
        ({"assistants": "resnet9"}, TeacherError, "did you mean"),
        (
            {"loss": "none", "distill_fraction": 0.5},
            ConfigError,
            "-fraction 0.5: it ends what a teacher teaches; none looks at none, use kd",
        ),
        (
            {"loss": "ssld", "distill_fraction": 0.5, "unlabelled": "w.npz"},
            ConfigError,
            "-fraction 0.5: the labels alone are left",
        ),
        ({"loss": "ssld(ce_weight=1)", "unlabelled": "more"}, ConfigError, "looks at labels"),
        ({"loss": "none(ce_weight=0)"}, ConfigError, "none: with ce_weight 0"),
        ({"loss": "dlb(ce_weight=0)"}, ConfigError, "dlb: with ce_weight 0"),
        ({"loss": "dlb", "batch_size": 32, "limit": 64}, ConfigError, "--batch-size 32: too large for 64 images"),
        ({"loss": "dml", "weights": "w.pth"}, ConfigError, "the peers of dml would begin as one"),
        ({"loss": "pefd(projectors=1e9)"}, ConfigError, "loss pefd: projectors 1000000000: from 1 to 64 is needed"),
        ({"aa": "foo"}, ConfigError, "timm does not know it"),
        ({"layer_decay": 0.5}, ConfigError, "layer-decay 0.5"),
        ({"opt": "adahessian"}, ConfigError, "cannot train here"),
        ({"teacher_norm": "imagenet"}, TeacherError, "trained first sees its images as the student does"),
        ({"teacher_epochs": 0}, ConfigError, "--teacher-epochs 0: at least 1"),
        ({"limit": 1}, ConfigError, "use more, or a smaller --batch-size"),
        ({"distill_fraction": 0.0}, ConfigError, "--distill-fraction 0.0: more than 0 and at most 1"),
        ({"label_noise": 1.0}, ConfigError, "--label-noise 1.0: 0 or more and below 1"),
        ({"teacher": "self", "teacher_weights": "w.pth"}, ConfigError, "teacher self"),
        ({"weights": "none.pth"}, TeacherError, "no such weights file"),
        ({"opt": "sdg"}, ConfigError, "did you mean"),
        ({"epochs": "many"}, ConfigError, "whole number"),
        ({"teacher_norm": "nonsense", "teacher_weights": "w.pth"}, TeacherError, "nonsense"),
    ],
)
def test_what_cannot_be_distilled_is_said(
    tmp_path: Path, small_npz: Path, options: dict[str, object], error: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Trainer, "epoch", lambda self, number: pytest.fail("a teacher was trained first"))
    torch.save(ZOO["resnet8"](num_classes=4).state_dict(), tmp_path / "w.pth")
    with pytest.raises(error, match=says):
        diswot.distill(ARCH, folder=tmp_path / "run", **{**QUICK, "data": str(small_npz), **options})
    assert not (tmp_path / "run").exists() and not (tmp_path / "home").exists()


def test_what_is_wrong_is_said_before_a_teacher_is_trained(tmp_path: Path, small_npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(0, monkeypatch)  # no epoch of anything
    torch.save(ZOO["resnet14"](num_classes=4).state_dict(), tmp_path / "w.pth")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    for options, says in (
        ({"weights": str(tmp_path / "w.pth")}, r"w\.pth does not fit resnet8"),
        ({"tensorboard": True}, "needs the package"),
    ):
        with pytest.raises((TeacherError, ConfigError), match=says):
            diswot.distill("resnet8", folder=tmp_path / "run", data=str(small_npz), **QUICK, **options)


def test_students_that_do_not_go_together_are_refused(tmp_path: Path, small_npz: Path) -> None:
    options = {**QUICK, "data": str(small_npz)}
    with pytest.raises(ConfigError, match="vit_tiny_patch16_224 cannot take 16x16 images"):
        diswot.distill("vit_tiny_patch16_224", folder=tmp_path / "run", loss="none", **options)
    with pytest.raises(ConfigError, match="resnet8 is named twice"):
        diswot.distill(["resnet8", "resnet14", "resnet8"], folder=tmp_path / "run", loss="none", **options)
    with pytest.raises(ConfigError, match="--teacher self is a twin of the student, and there are 2: distil them one by one"):
        diswot.distill(["resnet8", "resnet14"], folder=tmp_path / "run", **{**options, "teacher": "self"})
    assert not (tmp_path / "run").exists(), "a run that never began leaves nothing, also with several students"
    for more, says in (
        ({"loss": "dml"}, "loss dml: students that learn from each other cannot be compared by themselves; use distill"),
        ({"seed": 2**31 - 2}, "--seed 2147483648: 0 or more and at most 2,147,483,647"),
    ):
        with pytest.raises(ConfigError, match=says):
            diswot.compare(["resnet8", "resnet14"], folder=tmp_path / "run", **{**options, **more})


def test_images_exchanged_before_a_resume_are_noticed(tmp_path: Path, small_npz: Path, teacher_file: Path) -> None:
    """Those of the test, and those without labels."""
    more = tmp_path / "more.npz"
    with np.load(small_npz) as arrays:
        kept = dict(arrays)
    np.savez(more, x_train=kept["x_train"][:20], y_train=kept["y_train"][:20])
    options = {**QUICK, "data": str(small_npz), "loss": "ssld", "unlabelled": str(more), "teacher_weights": str(teacher_file)}
    diswot.distill(ARCH, folder=tmp_path / "run", **options)
    for path, arrays in ((more, {"x_train": kept["x_train"][20:40]}), (small_npz, {**kept, "x_test": kept["x_test"][::-1]})):
        before = path.read_bytes()
        np.savez(path, **arrays)
        with pytest.raises(RunError, match="begun with other images"):
            diswot.resume(tmp_path / "run", device="cpu")
        path.write_bytes(before)
    diswot.resume(tmp_path / "run", device="cpu")


def test_weights_exchanged_before_a_resume_are_noticed(tmp_path: Path, small_npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.pth"
    torch.save(ZOO["resnet8"](num_classes=4).state_dict(), path)
    diswot.distill(ARCH, folder=tmp_path / "run", data=str(small_npz), teacher_weights=str(path), **QUICK)
    run, stored = RunDir.open(tmp_path / "run", "distill")
    run.close()
    assert restore_config(stored, DistillConfig).teacher_weights == str(path)
    torch.save(ZOO["resnet8"](num_classes=4).state_dict(), path)
    with pytest.raises(TeacherError, match="not the file this run began with"):
        restore_config(stored, DistillConfig)
