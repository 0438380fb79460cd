"""The distillation recipe from an arch.json to a student: every loss, every scheme, interrupted, resumed, exported."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import diswot
from diswot.architecture import arch_json
from diswot.devices import single_thread
from diswot.export import run_export
from diswot.inference import student_model
from diswot.losses import LOSSES
from tests.distillation.samples import QUICK, same_students, stop_after, students_of
from tests.processes import count_lines, kill_on_disk
from tests.trained import ARCH

TERMS = {
    "none": {"ce"},
    "dkd": {"ce", "tckd", "nckd"},
    "skd": {"ce", "skd"},
    "ssld": {"ssld"},
    "simkd": {"simkd"},
    "mlkd": {"ce", "kd", "batch", "classes"},
    "ctkd": {"ce", "kd"},
    "ofa": {"ce", "kd", "ofa"},
    "srrl": {"ce", "features", "regression"},
    "fsp": {"fsp", "ce"},  # one epoch each
    "ab": {"ab", "ce"},
    "ft": {"paraphrase", "ce", "ft"},
    "afd": {"ce", "afd", "kd"},
    "rkd": {"ce", "distance", "angle"},
    "diswot": {"ce", "kd", "semantic", "relation"},
    "udml": {"ce", "js", "features"},
    "combined": {"ce", "tckd", "nckd", "distance", "angle"},
    "stopped early": {"ce", "kd"},
    "self": {"ce", "kd"},
    "assistants": {"ce", "kd"},
    "side by side": {"ce", "at"},
    "peers": {"ce", "dml"},
    "unlabelled": {"ssld"},
    "noisy labels": {"ce", "dlb"},
    "strong": {"bce", "kd"},
    "files": {"ce", "kd"},
}


@pytest.fixture
def arch_file(tmp_path: Path) -> Path:
    path = tmp_path / "arch.json"
    path.write_text(arch_json(ARCH, {}))
    return path


SCHEMES = {
    "combined": {"loss": "dkd(beta=2) + 0.5*rkd"},
    "stopped early": {"loss": "kd", "distill_fraction": 0.5},
    "self": {"loss": "kd", "teacher": "self", "teacher_weights": None},
    "assistants": {"loss": "kd(ce_weight=0.5, kd_weight=0.5)", "assistants": "resnet14,resnet8"},
    "side by side": {"loss": "at", "beside": "resnet8"},
    "peers": {"loss": "dml", "students": 3},
    "unlabelled": {"loss": "ssld", "unlabelled": True},
    "noisy labels": {"loss": "dlb", "label_noise": 0.4},
    "strong": {
        "loss": "kd",
        "opt": "lamb",
        "lr": 5e-3,
        "supervised_loss": "bce",
        "mixup": 0.1,
        "cutmix": 1.0,
        "model_ema_decay": 0.9,
        "clip_grad": 1.0,
    },
    "files": {"loss": "kd", "augment": "resized", "aa": "rand-m7-mstd0.5", "loader_workers": 0},
}


FAST = ("kd", "fitnets", "dml", "dlb", "combined", "strong")  # of each kind of loss and scheme one


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in FAST else pytest.mark.slow) for case in [*sorted(set(LOSSES) - {"deit"}), *SCHEMES]]
)
def test_every_loss_and_scheme_trains_is_resumed_and_exported(
    tmp_path: Path, small_npz: Path, arch_file: Path, teacher_file: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Two epochs from an arch.json; cut off after the first, the second is the same; the student alone is left, and others can run it."""
    options = {**QUICK, "limit": 48, "data": str(small_npz), "teacher_weights": str(teacher_file), **SCHEMES.get(case, {"loss": case})}
    if options.pop("unlabelled", False):
        options["unlabelled"] = str(small_npz)
    beside = options.pop("beside", None)
    students = [arch_file] * options.pop("students", 1) + ([beside] if beside else [])  # type: ignore[operator]
    result = diswot.distill(students, folder=tmp_path / "whole", **options)
    count = 2 if case in ("dml", "udml") else len(students)
    assert len(result.history) == 2 and len(result.students) == count
    names = {name.rpartition("/")[2] for line in result.history for name in line} - {"epoch", "lr", "test_top1"}
    assert names == TERMS.get(case, {"ce", case})
    if case == "stopped early":
        assert set(result.history[1]) == {"epoch", "lr", "ce", "test_top1"}, "the labels alone are left"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(1, patch)
        diswot.distill(students, folder=tmp_path / "cut", **options)
    diswot.resume(tmp_path / "cut", device="cpu")
    assert same_students(tmp_path / "cut", tmp_path / "whole")
    assert (tmp_path / "cut" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    for folder in students_of(tmp_path / "whole"):
        model = diswot.load_student(folder)
        assert set(load_file(folder / "model.safetensors")) == set(model.state_dict()), "neither teacher, adapters nor optimiser"
    assert run_export(student_model(folder), tmp_path / "timm").difference == 0


@pytest.mark.parametrize("loss", ["none", "kd", "diswot"])
@pytest.mark.slow
def test_colours_that_give_the_classes_away_are_learned(tmp_path: Path, small_npz: Path, loss: str) -> None:
    """A few epochs learn them, and the student comes back with the accuracy it left with."""
    result = diswot.distill(ARCH, folder=tmp_path / "run", data=str(small_npz), loss=loss, **{**QUICK, "epochs": 6})
    assert result.student.top1 > 60
    assert result.measured_on == "test" and len(result.history) == 6
    assert (result.teacher is None) == (loss == "none")
    model = diswot.load_student(tmp_path / "run" / "student")
    with np.load(small_npz) as arrays:
        x, y = arrays["x_test"], arrays["y_test"]
    cfg = model.pretrained_cfg
    images = (torch.from_numpy(x) / 255 - torch.tensor(cfg["mean"])) / torch.tensor(cfg["std"])
    right = (model(images.permute(0, 3, 1, 2)).argmax(1).numpy() == y).mean() * 100
    assert right == pytest.approx(result.student.top1)
    assert cfg["input_size"] == (3, 16, 16) and cfg["num_classes"] == 4


def test_two_students_side_by_side_are_as_two_runs(tmp_path: Path, small_npz: Path, teacher_file: Path) -> None:
    options = {**QUICK, "data": str(small_npz), "teacher_weights": str(teacher_file), "loss": "mgd"}
    both = diswot.distill([ARCH, "resnet14"], folder=tmp_path / "both", **options)
    for arch, trained in zip((ARCH, "resnet14"), both.students, strict=True):
        folder = tmp_path / trained.name
        diswot.distill(arch, folder=folder, **options)
        ours, theirs = (load_file(path / "model.safetensors") for path in (trained.folder, folder / "student"))
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_students_go_on_from_given_weights(tmp_path: Path, small_npz: Path, teacher_file: Path) -> None:
    diswot.train("resnet8", folder=tmp_path / "a", data=str(small_npz), epochs=1, batch_size=16, lr=1e-9, weights=str(teacher_file))
    found, given = load_file(tmp_path / "a" / "student" / "model.safetensors"), torch.load(teacher_file, weights_only=True)
    torch.testing.assert_close(found["fc.weight"], given["fc.weight"])


def test_unlabelled_images_are_shown_too(tmp_path: Path, small_npz: Path, teacher_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder of any images, a list of paths: 80 labelled ones and 6 more."""
    (tmp_path / "more" / "deep").mkdir(parents=True)
    for number in range(6):
        Image.new("RGB", (20, 24), (40 * number, 0, 0)).save(tmp_path / "more" / "deep" / f"{number}.png")
    (tmp_path / "more.txt").write_text("".join(f"more/deep/{number}.png\n" for number in range(6)))
    for source in ("more", "more.txt"):
        caplog.clear()
        options = {**QUICK, "data": str(small_npz), "teacher_weights": str(teacher_file), "loss": "ssld"}
        with caplog.at_level(logging.INFO, "diswot"):
            diswot.distill(ARCH, folder=tmp_path / f"run-{source}", unlabelled=str(tmp_path / source), **options)
        assert any("86 training images" in line for line in caplog.messages)


def test_measuring_can_wait_for_the_last_epoch(tmp_path: Path, small_npz: Path) -> None:
    options = {**QUICK, "data": str(small_npz), "loss": "none", "epochs": 5, "val_interval": 3}
    result = diswot.distill(ARCH, folder=tmp_path / "run", **options)
    assert [line["epoch"] for line in result.history if "test_top1" in line] == [3, 5]


def test_logs_are_kept_as_csv_and_for_tensorboard(tmp_path: Path, small_npz: Path, teacher_file: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = {**QUICK, "data": str(small_npz), "teacher_weights": str(teacher_file)}
    result = diswot.distill(ARCH, folder=tmp_path / "run", tensorboard=True, **options)
    with open(tmp_path / "run" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [{key: float(value) for key, value in row.items()} for row in rows] == result.history
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    assert set(board.Tags()["scalars"]) == {"lr", "ce", "kd", "test_top1"}
    assert [event.value for event in board.Scalars("kd")] == pytest.approx([line["kd"] for line in result.history])


def test_without_test_images_training_images_are_held_out(tmp_path: Path, small_npz: Path) -> None:
    with np.load(small_npz) as arrays:
        np.savez(tmp_path / "train.npz", x_train=arrays["x_train"], y_train=arrays["y_train"])
    result = diswot.distill(ARCH, folder=tmp_path / "run", data=str(tmp_path / "train.npz"), loss="none", **QUICK)
    assert result.measured_on == "validation" and result.student.count == 8


@pytest.mark.slow
def test_kills_during_training_change_nothing(diswot: Any, tmp_path: Path, small_npz: Path) -> None:
    """kill -9 of real processes of the command line, wherever they write: within a checkpoint, between lines, before all of them."""
    (tmp_path / "c.yaml").write_text(f"data: {small_npz}\nloss: none\nepochs: 10\nbatch_size: 16\nlr: 0.02\n")
    begin = ["distill", "resnet8", "--config", "c.yaml", "--quiet", "--name"]
    with single_thread():  # as the others, so that sums are the same to the bit
        assert diswot(*begin, "whole")[0] == 0
    resume = ["distill", "--resume", "runs/cut", "--quiet"]
    kill_on_disk(tmp_path, [*begin, "cut"], resume, kills=5, most=12)
    assert 0 < count_lines(tmp_path / "runs" / "cut" / "metrics.jsonl") < 10
    with single_thread():
        assert diswot(*resume)[0] == 0
    for name in ("metrics.jsonl", "student/arch.json"):
        assert (tmp_path / "runs" / "cut" / name).read_bytes() == (tmp_path / "runs" / "whole" / name).read_bytes()
    ours, theirs = (load_file(tmp_path / "runs" / name / "student" / "model.safetensors") for name in ("cut", "whole"))
    assert all(torch.equal(ours[k], v) for k, v in theirs.items())
