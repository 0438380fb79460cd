"""Where teachers come from: trained first and kept, from a file, a twin of the student, a chain of assistants, a network of one's own."""

from __future__ import annotations

import importlib
import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

import diswot
from diswot.distillation.context import TrainingContext
from diswot.errors import ConfigError, RunError, TeacherError
from diswot.training.checkpoint import load_tensors
from diswot.training.loop import Trainer
from tests.distillation.samples import QUICK, stop_after
from tests.own_modules import write_module
from tests.trained import ARCH


@pytest.mark.slow
def test_assistants_form_a_chain(
    tmp_path: Path, small_npz: Path, teacher_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is distilled from the one before it, and kept in the run; a resumed run trains none of them again."""
    options = {**QUICK, "data": str(small_npz), "teacher_weights": str(teacher_file), "assistants": "resnet14, resnet8"}
    with caplog.at_level(logging.INFO, "diswot"):
        diswot.distill(ARCH, folder=tmp_path / "run", **options)
    chain = [line.split(":")[0] for line in caplog.messages if line.startswith(("assistant", "teacher"))]
    assert chain == ["assistant resnet14", "assistant resnet8", "teacher resnet8"]
    folders = sorted((tmp_path / "run" / "assistants").iterdir())
    assert [folder.name for folder in folders] == ["1-resnet14", "2-resnet8"]
    kept = [(folder / "model.safetensors").read_bytes() for folder in folders]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(1, patch)
        diswot.distill(ARCH, folder=tmp_path / "cut", **options)
    diswot.resume(tmp_path / "cut", device="cpu")
    assert [(tmp_path / "cut" / "assistants" / f.name / "model.safetensors").read_bytes() for f in folders] == kept


def test_the_last_of_the_assistants_is_named(tmp_path: Path, small_npz: Path, teacher_file: Path) -> None:
    options = {**QUICK, "data": str(small_npz), "teacher_weights": str(teacher_file), "epochs": 1}
    assert diswot.distill(ARCH, folder=tmp_path / "a", **options).taught_by == "resnet8"
    assert diswot.distill(ARCH, folder=tmp_path / "b", assistants="resnet14", **options).taught_by == "resnet14"


def test_a_trained_network_teaches_the_next(tmp_path: Path, small_npz: Path) -> None:
    made = diswot.train("resnet8", folder=tmp_path / "teacher", data=str(small_npz), epochs=2, batch_size=16, lr=0.02)
    weights = str(tmp_path / "teacher" / "student" / "model.safetensors")
    result = diswot.distill(ARCH, folder=tmp_path / "run", data=str(small_npz), teacher_weights=weights, **QUICK)
    assert result.teacher == made.student


def test_where_no_teacher_can_be_kept_the_remedy_is_said(tmp_path: Path, small_npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DISWOT_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(RunError, match=r"cannot be made \(Not a directory\): set DISWOT_HOME to a folder that can be written, or give"):
        diswot.distill(ARCH, folder=tmp_path / "run", data=str(small_npz), **QUICK)


def test_a_teacher_that_another_process_trains_is_waited_for(
    tmp_path: Path, small_npz: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The other one is its lock here, and ends when it is looked at a second time."""
    options: dict[str, Any] = {**QUICK, "data": str(small_npz), "epochs": 1}
    first = diswot.distill(ARCH, folder=tmp_path / "a", **options)
    (weights,) = Path(os.environ["DISWOT_HOME"]).rglob("teachers/*/model.safetensors")
    other = FileLock(weights.parent / "lock")
    other.acquire()
    weights.rename(tmp_path / "model.safetensors")

    def end(seconds: float) -> None:
        (tmp_path / "model.safetensors").rename(weights)
        other.release()

    monkeypatch.setattr("diswot.distillation.teachers.time.sleep", end)
    with caplog.at_level(logging.INFO, "diswot"):
        second = diswot.distill(ARCH, folder=tmp_path / "b", **options)
    assert second.teacher == first.teacher and second.student == first.student
    told = [line.split(": ")[1] for line in caplog.messages if line.startswith("teacher")]
    assert told[0].startswith("another process is training it") and told[1].startswith("the one trained before")


def test_a_teacher_is_trained_once_and_kept(tmp_path: Path, small_npz: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "diswot"):
        for seed, name in enumerate(("a", "b")):  # the student's seed is not the teacher's
            diswot.distill(ARCH, folder=tmp_path / name, data=str(small_npz), seed=seed, **QUICK)
    starts = [line for line in caplog.messages if line.startswith("teacher resnet8: no weights")]
    assert len(starts) == 1 and len([line for line in caplog.messages if "trained before" in line]) == 1
    (folder,) = (tmp_path / "home" / "teachers").iterdir()
    weights, notes = load_tensors(folder / "model.safetensors")
    assert notes["teacher"] == "resnet8"
    assert not torch.equal(weights["bn1.running_mean"], torch.zeros(16)), "training moved the running statistics"


def test_an_interrupted_teacher_is_taken_up_again(tmp_path: Path, small_npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diswot.distill(ARCH, folder=tmp_path / "a", data=str(small_npz), **QUICK)
    (whole,) = (tmp_path / "home" / "teachers").iterdir()
    expected = load_tensors(whole / "model.safetensors")[0]
    monkeypatch.setenv("DISWOT_HOME", str(tmp_path / "home2"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(1, patch)
        diswot.distill(ARCH, folder=tmp_path / "b", data=str(small_npz), **QUICK)
    diswot.distill(ARCH, folder=tmp_path / "c", data=str(small_npz), **QUICK)
    (again,) = (tmp_path / "home2" / "teachers").iterdir()
    found = load_tensors(again / "model.safetensors")[0]
    assert all(torch.equal(found[k], v) for k, v in expected.items())


@pytest.mark.parametrize("more", [{}, {"mixup": 0.2, "cutmix": 1.0}, {"loss": "kd(ce_weight=0)"}])
def test_a_teacher_of_unlabelled_images_is_trained_on_the_labelled_ones(
    tmp_path: Path, small_npz: Path, more: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    real = TrainingContext.train

    def counted(self: TrainingContext, *arguments: Any, **options: Any) -> Any:
        counts.append(len(self.splits.labels))
        return real(self, *arguments, **options)

    monkeypatch.setattr(TrainingContext, "train", counted)
    options = {**QUICK, "data": str(small_npz), "loss": "ssld", "unlabelled": str(small_npz), **more}
    diswot.distill(ARCH, folder=tmp_path / "run", **options)
    assert counts == [80, 160]


def test_a_teacher_by_name_begins_as_a_student_of_that_name(tmp_path: Path, small_npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that `diswot train NAME` makes the teacher that `--teacher NAME` would; timm's networks keep timm's initialisation."""
    begun: list[dict[str, torch.Tensor]] = []

    def note(self: Trainer, number: int) -> dict[str, float]:
        begun.append({k: v.clone() for k, v in self.students[0].model.state_dict().items()})
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "epoch", note)
    for name in ("resnet8", "timm/resnet10t"):
        begun.clear()
        common = {"data": str(small_npz), "epochs": 2, "batch_size": 16}
        with pytest.raises(KeyboardInterrupt):
            diswot.train(name, folder=tmp_path / f"{name}-train", seed=1000, **common)
        with pytest.raises(KeyboardInterrupt):
            diswot.distill("resnet14", folder=tmp_path / f"{name}-distill", teacher=name, **common)
        assert begun[0].keys() == begun[1].keys() and all(torch.equal(begun[0][k], begun[1][k]) for k in begun[0])


def test_a_teacher_like_the_student_is_not_its_twin(tmp_path: Path, small_npz: Path) -> None:
    options = {**QUICK, "data": str(small_npz)}
    diswot.distill("resnet8", folder=tmp_path / "run", **{**options, "teacher": "self"})
    diswot.distill("resnet8", folder=tmp_path / "none", loss="none", **options)
    (teacher,) = (tmp_path / "home" / "teachers").iterdir()
    assert not torch.equal(
        load_file(teacher / "model.safetensors")["conv1.weight"],
        load_file(tmp_path / "none" / "student" / "model.safetensors")["conv1.weight"],
    )


def test_a_teacher_sees_images_as_its_own_file_says(tmp_path: Path, small_npz: Path) -> None:
    """However few of them train the student."""
    made = diswot.train("resnet8", folder=tmp_path / "teacher", data=str(small_npz), epochs=3, batch_size=16, lr=0.02, limit=40)
    weights = str(tmp_path / "teacher" / "student" / "model.safetensors")
    for seed, limit in ((0, 20), (1, 60)):
        options = {**QUICK, "data": str(small_npz), "teacher_weights": weights, "seed": seed, "limit": limit, "epochs": 1}
        assert diswot.distill(ARCH, folder=tmp_path / f"run{seed}", **options).teacher == made.student


def test_any_network_of_the_users_own_can_teach_logits(tmp_path: Path, small_npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
        from torch import nn

        def net(num_classes, in_chans):
            return nn.Sequential(nn.Flatten(), nn.Linear(16 * 16 * in_chans, num_classes))
    """
    monkeypatch.syspath_prepend(str(tmp_path))
    teacher = f"{write_module(tmp_path, source)}:net"
    options = {**QUICK, "data": str(small_npz), "teacher": teacher}
    assert diswot.distill(ARCH, folder=tmp_path / "run", **options).taught_by == teacher
    with pytest.raises((ConfigError, TeacherError), match=r"Sequential|feature maps"):
        diswot.distill(ARCH, folder=tmp_path / "maps", loss="fitnets", **options)


OWN_NETWORKS = """
import timm, torch
from torch import nn
from torch.nn import functional as F


def dino(num_classes, in_chans):
    '''A transformer of features alone, as DINO's are.'''
    return timm.create_model("vit_tiny_patch16_224", num_classes=0, in_chans=in_chans, img_size=16, patch_size=4)


class Plain(nn.Module):
    '''No protocol, a functional ReLU, and a classifier that is called by another name.'''

    def __init__(self, num_classes, in_chans):
        super().__init__()
        self.one, self.two = nn.Conv2d(in_chans, 8, 3, padding=1), nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.norm, self.out = nn.BatchNorm2d(12), nn.Linear(12, num_classes)

    def forward(self, x):
        x = self.norm(self.two(F.relu(self.one(x))))
        return self.out(F.relu(x).mean((2, 3)))
"""


@pytest.fixture
def own_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of them; their weights lie beside it."""
    name = write_module(tmp_path, OWN_NETWORKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module(name)
    for kind in ("dino", "Plain"):
        torch.manual_seed(0)
        torch.save(getattr(module, kind)(4, 3).state_dict(), tmp_path / f"{kind}.pt")
    return name


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["rkd", "sp", "pefd", "crd", "fitnets", "vid", "kd(kd_weight=0) + ickd"])
def test_a_teacher_of_features_alone(tmp_path: Path, small_npz: Path, own_networks: str, loss: str) -> None:
    """It has no accuracy, and losses of its features train, resume and save a student all the same."""
    options = {**QUICK, "data": str(small_npz), "teacher": f"{own_networks}:dino", "teacher_weights": str(tmp_path / "dino.pt")}
    if "kd(" in loss:
        with pytest.raises(TeacherError, match="dino has no classifier: use a loss of features, as rkd"):
            diswot.distill(ARCH, folder=tmp_path / "run", loss=loss, **options)
        assert not (tmp_path / "run").exists()
        return
    result = diswot.distill(ARCH, folder=tmp_path / "run", loss=loss, **options)
    assert result.teacher is None and result.taught_by == f"{own_networks}:dino"
    assert len(result.history) == 2 and diswot.load_student(tmp_path / "run" / "student")


@pytest.mark.parametrize("loss", ["kd", "at", "reviewkd"])
def test_a_network_without_any_protocol_teaches_by_its_maps_too(tmp_path: Path, small_npz: Path, own_networks: str, loss: str) -> None:
    options = {**QUICK, "data": str(small_npz), "teacher": f"{own_networks}:Plain", "teacher_weights": str(tmp_path / "Plain.pt")}
    result = diswot.distill(ARCH, folder=tmp_path / "run", loss=loss, **options)
    assert result.teacher is not None and result.history[0]["ce"] > 0
