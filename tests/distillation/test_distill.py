"""The distillation recipe from an arch.json to a student: every loss, every scheme, interrupted, resumed, exported."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import diswot
from diswot import api
from diswot.architecture import Architecture, arch_json
from diswot.config.training import DistillConfig
from diswot.distillation.context import TrainingContext
from diswot.errors import ArchitectureError, ConfigError, DataError, RunError, TeacherError
from diswot.export import run_export
from diswot.inference import student_model
from diswot.losses import LOSSES, create
from diswot.models.teachers import build_teacher
from diswot.models.zoo import ZOO
from diswot.observe import Observer, observe_without_gradients
from diswot.progress import NullReporter
from diswot.runs import RunDir
from diswot.training.checkpoint import load_tensors
from diswot.training.loop import Trainer
from tests.processes import finish, kill_and_resume

QUICK = {"epochs": 2, "batch_size": 16, "teacher": "resnet8", "lr": 0.02}
ARCH = Architecture("resnet_depth", {"depths": [1, 1, 1]})
TERMS = {
    "none": {"ce"},
    "dkd": {"ce", "tckd", "nckd"},
    "skd": {"ce", "skd"},
    "ssld": {"ssld"},
    "afd": {"ce", "afd", "kd"},
    "rkd": {"ce", "distance", "angle"},
    "diswot": {"ce", "kd", "semantic", "relation"},
    "udml": {"ce", "js", "features"},
}


@pytest.fixture
def arch_file(tmp_path: Path) -> Path:
    path = tmp_path / "arch.json"
    path.write_text(arch_json(ARCH, {}))
    return path


class Said(NullReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def stop_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the epoch after these."""
    real = Trainer.epoch

    def fail(self: Trainer, number: int) -> dict[str, float]:
        if number == epochs:
            raise KeyboardInterrupt
        return real(self, number)

    monkeypatch.setattr(Trainer, "epoch", fail)


def students_of(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("student*/**/model.safetensors"))


def same_students(ours: Path, theirs: Path) -> bool:
    pairs = zip(students_of(ours), students_of(theirs), strict=True)
    loaded = [(load_file(a / "model.safetensors"), load_file(b / "model.safetensors")) for a, b in pairs]
    return bool(loaded) and all(torch.equal(a[name], b[name]) for a, b in loaded for name in b)


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


@pytest.mark.parametrize("case", [*LOSSES, *SCHEMES])
def test_every_loss_and_scheme_trains_is_resumed_and_exported(
    tmp_path: Path, small_npz: Path, arch_file: Path, teacher_file: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Two epochs from an arch.json; cut off after the first, the second is the same; the student alone is left, and others can run it."""
    options = {**QUICK, "data": str(small_npz), "teacher_weights": str(teacher_file), **SCHEMES.get(case, {"loss": case})}
    if options.pop("unlabelled", False):
        options["unlabelled"] = str(small_npz)
    beside = options.pop("beside", None)
    students = [arch_file] * options.pop("students", 1) + ([beside] if beside else [])  # type: ignore[operator]
    result = diswot.distill(students, folder=tmp_path / "whole", **options)  # type: ignore[arg-type]
    count = 2 if case in ("dml", "udml") else len(students)
    assert len(result.history) == 2 and len(result.students) == count
    names = {name.rpartition("/")[2] for name in result.history[0]} - {"epoch", "lr", "test_top1"}
    assert names == TERMS.get(case, names if case in SCHEMES else {"ce", case})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(1, patch)
        diswot.distill(students, folder=tmp_path / "cut", **options)  # type: ignore[arg-type]
    api.resume_distill("distill", tmp_path / "cut", "cpu")(None, False)
    assert same_students(tmp_path / "cut", tmp_path / "whole")
    assert (tmp_path / "cut" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    for folder in students_of(tmp_path / "whole"):
        model = diswot.load_student(folder)
        assert set(load_file(folder / "model.safetensors")) == set(model.state_dict()), "neither teacher, adapters nor optimiser"
    assert run_export(student_model(folder), tmp_path / "timm").difference == 0


FAMILIES = [
    *("wrn_16_1", "vgg8", "mobilenetv2", "shufflenetv2", "resnet10t"),
    *("convnext_atto", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"),
]
WITHOUT_NORMS = ("convnext_atto", "vit_tiny_patch16_224", "shufflenetv2")  # the last ends its stages in two branches with a norm each


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_of_maps_meet_teachers_of_all_families(family: str) -> None:
    """Other widths, resolutions and layouts: a value and a gradient, and adapters as needed; or one line that says what is missing."""
    side = 224 if "window" in family else 32
    teacher = build_teacher(family, 5, 3, side)
    student = ZOO["resnet8"](num_classes=5).train()
    images = torch.randn(3, 3, side, side)
    few = ("at", "afd", "fitnets", "ickd")  # of a large teacher
    for name, kind in LOSSES.items():
        if kind.partner != "teacher" or ("window" in family and name not in few):
            continue
        loss = create(name)
        seen, taught = Observer(student, kind.needs)(images), observe_without_gradients(teacher, images, kind.needs)
        if name == "ofd" and family in WITHOUT_NORMS:
            with pytest.raises(ConfigError, match="batch norm"):
                loss.prepare(seen, taught)
            continue
        terms = loss(seen, taught, torch.tensor([0, 1, 4]))
        total = torch.stack(list(terms.values())).sum()
        assert total.isfinite(), name
        grads = torch.autograd.grad(total, list(student.parameters()), allow_unused=True)
        assert any(g is not None and bool(g.abs().sum() > 0) for g in grads), name


@pytest.mark.parametrize("loss", ["none", "kd", "diswot"])
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
    both = diswot.distill([ARCH, "resnet14"], folder=tmp_path / "both", **options)  # type: ignore[arg-type, list-item]
    for arch, trained in zip((ARCH, "resnet14"), both.students, strict=True):
        folder = tmp_path / trained.name
        diswot.distill(arch, folder=folder, **options)  # type: ignore[arg-type]
        ours, theirs = (load_file(path / "model.safetensors") for path in (trained.folder, folder / "student"))
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_assistants_form_a_chain(tmp_path: Path, small_npz: Path, teacher_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is distilled from the one before it, and kept in the run; a resumed run trains none of them again."""
    options = {**QUICK, "data": str(small_npz), "teacher_weights": str(teacher_file), "assistants": "resnet14, resnet8"}
    said = Said()
    diswot.distill(ARCH, folder=tmp_path / "run", reporter=said, **options)  # type: ignore[arg-type]
    chain = [line.split(":")[0] for line in said.lines if line.startswith(("assistant", "teacher"))]
    assert chain == ["assistant resnet14", "assistant resnet8", "teacher resnet8"]
    folders = sorted((tmp_path / "run" / "assistants").iterdir())
    assert [folder.name for folder in folders] == ["1-resnet14", "2-resnet8"]
    kept = [(folder / "model.safetensors").read_bytes() for folder in folders]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(1, patch)
        diswot.distill(ARCH, folder=tmp_path / "cut", **options)  # type: ignore[arg-type]
    api.resume_distill("distill", tmp_path / "cut", "cpu")(None, False)
    assert [(tmp_path / "cut" / "assistants" / f.name / "model.safetensors").read_bytes() for f in folders] == kept


def test_a_trained_network_teaches_the_next(tmp_path: Path, small_npz: Path) -> None:
    made = diswot.train("resnet8", folder=tmp_path / "teacher", data=str(small_npz), epochs=2, batch_size=16, lr=0.02)
    weights = str(tmp_path / "teacher" / "student" / "model.safetensors")
    result = diswot.distill(ARCH, folder=tmp_path / "run", data=str(small_npz), teacher_weights=weights, **QUICK)
    assert result.teacher == made.student


def test_students_go_on_from_given_weights(tmp_path: Path, small_npz: Path, teacher_file: Path) -> None:
    diswot.train("resnet8", folder=tmp_path / "a", data=str(small_npz), epochs=1, batch_size=16, lr=1e-9, weights=str(teacher_file))
    found, given = load_file(tmp_path / "a" / "student" / "model.safetensors"), torch.load(teacher_file, weights_only=True)
    torch.testing.assert_close(found["fc.weight"], given["fc.weight"])


def test_unlabelled_images_are_shown_too(tmp_path: Path, small_npz: Path, teacher_file: Path) -> None:
    """A folder of any images, a list of paths: 80 labelled ones and 6 more."""
    from PIL import Image

    (tmp_path / "more" / "deep").mkdir(parents=True)
    for number in range(6):
        Image.new("RGB", (20, 24), (40 * number, 0, 0)).save(tmp_path / "more" / "deep" / f"{number}.png")
    (tmp_path / "more.txt").write_text("".join(f"more/deep/{number}.png\n" for number in range(6)))
    for source in ("more", "more.txt"):
        said = Said()
        options = {**QUICK, "data": str(small_npz), "teacher_weights": str(teacher_file), "loss": "ssld"}
        diswot.distill(ARCH, folder=tmp_path / f"run-{source}", unlabelled=str(tmp_path / source), reporter=said, **options)  # type: ignore[arg-type]
        assert any("86 training images" in line for line in said.lines)


def test_measuring_can_wait_for_the_last_epoch(tmp_path: Path, small_npz: Path) -> None:
    options = {**QUICK, "data": str(small_npz), "loss": "none", "epochs": 5, "val_interval": 3}
    result = diswot.distill(ARCH, folder=tmp_path / "run", **options)  # type: ignore[arg-type]
    assert [line["epoch"] for line in result.history if "test_top1" in line] == [3, 5]


def test_logs_are_kept_as_csv_and_for_tensorboard(tmp_path: Path, small_npz: Path, teacher_file: Path) -> None:
    import csv

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = {**QUICK, "data": str(small_npz), "teacher_weights": str(teacher_file)}
    result = diswot.distill(ARCH, folder=tmp_path / "run", tensorboard=True, **options)  # type: ignore[arg-type]
    with open(tmp_path / "run" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [{key: float(value) for key, value in row.items()} for row in rows] == result.history
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    assert set(board.Tags()["scalars"]) == {"lr", "ce", "kd", "test_top1"}
    assert [event.value for event in board.Scalars("kd")] == pytest.approx([line["kd"] for line in result.history])


def test_a_teacher_is_trained_once_and_kept(tmp_path: Path, small_npz: Path) -> None:
    said = Said()
    for name in ("a", "b"):
        diswot.distill(ARCH, folder=tmp_path / name, data=str(small_npz), reporter=said, seed=len(name), **QUICK)
    starts = [line for line in said.lines if line.startswith("teacher resnet8: no weights")]
    assert len(starts) == 1 and len([line for line in said.lines if "trained before" in line]) == 1
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


def test_ten_kills_during_training_change_nothing(spawn, tmp_path: Path, small_npz: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "c.yaml").write_text(f"data: {small_npz}\nloss: none\nepochs: 30\nbatch: 16\nlr: 0.02\n")
    begin, metrics = ["distill", "resnet8", "--config", "c.yaml", "--quiet", "--name"], tmp_path / "runs" / "cut" / "metrics.jsonl"
    finish(spawn(*begin, "whole"))

    def epochs() -> int:
        return len(metrics.read_bytes().splitlines()) if metrics.exists() else 0

    resume = ["distill", "--resume", "runs/cut", "--quiet"]
    assert kill_and_resume(spawn, [*begin, "cut"], resume, epochs, kills=10, most=2, pause=0.05) == 10
    for name in ("metrics.jsonl", "student/arch.json"):
        assert (tmp_path / "runs" / "cut" / name).read_bytes() == (tmp_path / "runs" / "whole" / name).read_bytes()
    ours, theirs = (load_file(tmp_path / "runs" / name / "student" / "model.safetensors") for name in ("cut", "whole"))
    assert all(torch.equal(ours[k], v) for k, v in theirs.items())


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
        ({"limit": 20, "val_fraction": 0.9}, DataError, "fewer than the batch"),
        ({"val_fraction": 1.5}, ConfigError, "--val-fraction"),
        ({"lr": -1.0, "epochs": 0}, ConfigError, "epochs 0.*lr -1"),
        ({"momentum": 1.0}, ConfigError, "momentum"),
        ({"loss": "kd(temperature=0)"}, ConfigError, "temperature 0: more than 0"),
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
        ({"loss": "none", "distill_fraction": 0.5}, ConfigError, "until 0.5: it ends what a teacher teaches"),
        ({"loss": "ssld", "distill_fraction": 0.5, "unlabelled": "w.npz"}, ConfigError, "until 0.5: the labels alone are left"),
        ({"loss": "ssld(ce_weight=1)", "unlabelled": "more"}, ConfigError, "looks at labels"),
        ({"loss": "none(ce_weight=0)"}, ConfigError, "none: with ce_weight 0"),
        ({"loss": "dlb(ce_weight=0)"}, ConfigError, "dlb: with ce_weight 0"),
        ({"loss": "dlb", "batch_size": 32, "limit": 64}, ConfigError, "--batch-size 32: too large for 64 images"),
        ({"loss": "dml", "weights": "w.pth"}, ConfigError, "the peers of dml would begin as one"),
        ({"loss": "pefd(projectors=1e9)"}, ConfigError, "from 1 to 64"),
        ({"aa": "foo"}, ConfigError, "timm does not know it"),
        ({"layer_decay": 0.5}, ConfigError, "layer-decay 0.5"),
        ({"opt": "adahessian"}, ConfigError, "cannot train here"),
        ({"teacher_norm": "imagenet"}, TeacherError, "trained first sees its images as the student does"),
        ({"teacher_epochs": 0}, ConfigError, "teacher-epochs 0"),
        ({"limit": 1}, ConfigError, "use more, or a smaller --batch-size"),
        ({"distill_fraction": 0.0}, ConfigError, "until 0.0"),
        ({"label_noise": 1.0}, ConfigError, "label-noise 1.0"),
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
    torch.save(ZOO["resnet8"](num_classes=4).state_dict(), tmp_path / "w.pth")
    with pytest.raises(error, match=says):
        diswot.distill(ARCH, folder=tmp_path / "run", **{**QUICK, "data": str(small_npz), **options})  # type: ignore[arg-type]


def test_what_is_wrong_is_said_before_a_teacher_is_trained(tmp_path: Path, small_npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(0, monkeypatch)  # no epoch of anything
    torch.save(ZOO["resnet14"](num_classes=4).state_dict(), tmp_path / "w.pth")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    for options, says in (
        ({"weights": str(tmp_path / "w.pth")}, r"w\.pth does not fit resnet8"),
        ({"tensorboard": True}, "needs the package"),
    ):
        with pytest.raises((TeacherError, ConfigError), match=says):
            diswot.distill("resnet8", folder=tmp_path / "run", data=str(small_npz), **QUICK, **options)  # type: ignore[arg-type]


def test_students_that_do_not_go_together_are_refused(tmp_path: Path, small_npz: Path) -> None:
    options = {**QUICK, "data": str(small_npz)}
    with pytest.raises(ConfigError, match="vit_tiny_patch16_224 cannot take 16x16 images"):
        diswot.distill("vit_tiny_patch16_224", folder=tmp_path / "run", loss="none", **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="resnet8 is named twice"):
        diswot.distill(["resnet8", "resnet14", "resnet8"], folder=tmp_path / "run", loss="none", **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="teacher self is like the student, and there are 2"):
        diswot.distill(["resnet8", "resnet14"], folder=tmp_path / "run", **{**options, "teacher": "self"})  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists(), "a run that never began leaves nothing, also with several students"
    for more, says in (({"loss": "dml"}, "peers teach each other"), ({"seed": 2**31 - 2}, "seed 2147483648")):
        with pytest.raises(ConfigError, match=says):
            diswot.compare(["resnet8", "resnet14"], folder=tmp_path / "run", **{**options, **more})  # type: ignore[arg-type]


def test_images_exchanged_before_a_resume_are_noticed(tmp_path: Path, small_npz: Path, teacher_file: Path) -> None:
    """Those of the test, and those without labels."""
    more = tmp_path / "more.npz"
    with np.load(small_npz) as arrays:
        kept = dict(arrays)
    np.savez(more, x_train=kept["x_train"][:20], y_train=kept["y_train"][:20])
    options = {**QUICK, "data": str(small_npz), "loss": "ssld", "unlabelled": str(more), "teacher_weights": str(teacher_file)}
    diswot.distill(ARCH, folder=tmp_path / "run", **options)  # type: ignore[arg-type]
    for path, arrays in ((more, {"x_train": kept["x_train"][20:40]}), (small_npz, {**kept, "x_test": kept["x_test"][::-1]})):
        before = path.read_bytes()
        np.savez(path, **arrays)
        with pytest.raises(RunError, match="begun with other images"):
            api.resume_distill("distill", tmp_path / "run", "cpu")(None, False)
        path.write_bytes(before)
    api.resume_distill("distill", tmp_path / "run", "cpu")(None, False)


@pytest.mark.parametrize("more", [{}, {"mixup": 0.2, "cutmix": 1.0}, {"loss": "kd(ce_weight=0)"}])
def test_a_teacher_of_unlabelled_images_is_trained_on_the_labelled_ones(
    tmp_path: Path, small_npz: Path, more: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    real = TrainingContext.train

    def counted(self, run, notes, specs, *rest):  # type: ignore[no-untyped-def]
        counts.append(len(self.material.labels))
        return real(self, run, notes, specs, *rest)

    monkeypatch.setattr(TrainingContext, "train", counted)
    options = {**QUICK, "data": str(small_npz), "loss": "ssld", "unlabelled": str(small_npz), **more}
    diswot.distill(ARCH, folder=tmp_path / "run", **options)  # type: ignore[arg-type]
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
            diswot.train(name, folder=tmp_path / f"{name}-train", seed=1000, **common)  # type: ignore[arg-type]
        with pytest.raises(KeyboardInterrupt):
            diswot.distill("resnet14", folder=tmp_path / f"{name}-distill", teacher=name, **common)  # type: ignore[arg-type]
        assert begun[0].keys() == begun[1].keys() and all(torch.equal(begun[0][k], begun[1][k]) for k in begun[0])


def test_a_teacher_like_the_student_is_not_its_twin(tmp_path: Path, small_npz: Path) -> None:
    options = {**QUICK, "data": str(small_npz)}
    diswot.distill("resnet8", folder=tmp_path / "run", **{**options, "teacher": "self"})  # type: ignore[arg-type]
    diswot.distill("resnet8", folder=tmp_path / "none", loss="none", **options)  # type: ignore[arg-type]
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
        assert diswot.distill(ARCH, folder=tmp_path / f"run{seed}", **options).teacher == made.student  # type: ignore[arg-type]


def test_the_last_of_the_assistants_is_named(tmp_path: Path, small_npz: Path, teacher_file: Path) -> None:
    options = {**QUICK, "data": str(small_npz), "teacher_weights": str(teacher_file), "epochs": 1}
    assert diswot.distill(ARCH, folder=tmp_path / "a", **options).taught_by == "resnet8"  # type: ignore[arg-type]
    assert diswot.distill(ARCH, folder=tmp_path / "b", assistants="resnet14", **options).taught_by == "resnet14"  # type: ignore[arg-type]


def test_any_network_of_the_users_own_can_teach_logits(tmp_path: Path, small_npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n\n\ndef net(num_classes, in_chans):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(16 * 16 * in_chans, num_classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    options = {**QUICK, "data": str(small_npz), "teacher": "mine:net"}
    assert diswot.distill(ARCH, folder=tmp_path / "run", **options).taught_by == "mine:net"  # type: ignore[arg-type]
    with pytest.raises((ConfigError, TeacherError), match=r"Sequential|feature maps"):
        diswot.distill(ARCH, folder=tmp_path / "maps", loss="fitnets", **options)  # type: ignore[arg-type]


def test_weights_exchanged_before_a_resume_are_noticed(tmp_path: Path, small_npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diswot.recipes.distill import resume_config

    path = tmp_path / "w.pth"
    torch.save(ZOO["resnet8"](num_classes=4).state_dict(), path)
    diswot.distill(ARCH, folder=tmp_path / "run", data=str(small_npz), teacher_weights=str(path), **QUICK)
    run, stored = RunDir.open(tmp_path / "run", "distill")
    run.close()
    assert resume_config(stored, DistillConfig).teacher_weights == str(path)
    torch.save(ZOO["resnet8"](num_classes=4).state_dict(), path)
    with pytest.raises(TeacherError, match="not the file this run began with"):
        resume_config(stored, DistillConfig)


def test_without_test_images_training_images_are_held_out(tmp_path: Path, small_npz: Path) -> None:
    with np.load(small_npz) as arrays:
        np.savez(tmp_path / "train.npz", x_train=arrays["x_train"], y_train=arrays["y_train"])
    result = diswot.distill(ARCH, folder=tmp_path / "run", data=str(tmp_path / "train.npz"), loss="none", **QUICK)
    assert result.measured_on == "validation" and result.student.count == 8


def test_a_student_folder_that_is_not_whole_is_refused(tmp_path: Path, small_npz: Path) -> None:
    diswot.distill(ARCH, folder=tmp_path / "run", data=str(small_npz), loss="none", **QUICK)
    folder = tmp_path / "run" / "student"
    text = (folder / "arch.json").read_text()
    document = json.loads(text)
    (folder / "arch.json").write_text(json.dumps({**document, "choices": {"depths": [1, 1, 3]}}))
    with pytest.raises(RunError, match=r"not those of its arch\.json"):
        diswot.load_student(folder)
    (folder / "arch.json").write_text(text[:-20])
    with pytest.raises(ArchitectureError, match="cut short"):
        diswot.load_student(folder)
    (folder / "arch.json").write_text(text)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-50])
    with pytest.raises(RunError, match="damaged"):
        diswot.load_student(folder)
