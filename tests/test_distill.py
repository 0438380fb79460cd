from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import diswot
from diswot.architecture import Architecture
from diswot.data.images import ArrayImages
from diswot.errors import ArchitectureError, ConfigError, DataError, RunError, TeacherError
from diswot.losses import create
from diswot.models.zoo import ZOO
from diswot.recipes.training import Network, Normalise, Recipe, Trainer, augmented, batches, evaluate, load_tensors, split
from diswot.runs import RunDir
from tests.processes import finish, kill_and_resume

QUICK = {"epochs": 2, "batch": 16, "teacher": "resnet8", "lr": 0.02}
ARCH = Architecture("resnet_depth", {"depths": [1, 1, 1]})


def test_augmentation_shifts_and_mirrors_whole_images() -> None:
    """Every result is the padded image, cut somewhere and perhaps mirrored; found by trying all 162 ways."""
    rng = np.random.default_rng(0)
    images = rng.integers(1, 256, (40, 6, 6, 3)).astype(np.uint8)
    seen = set()
    for image, result in zip(images, augmented(images, rng), strict=True):
        padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
        ways = [(y, x, m) for y in range(9) for x in range(9) for m in (1, -1) if (padded[y : y + 6, x : x + 6][:, ::m] == result).all()]
        assert ways
        seen.add(ways[0])
    assert len(seen) > 25


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own() -> None:
    data = ArrayImages(np.arange(50, dtype=np.uint8).repeat(12).reshape(50, 2, 2, 3), np.arange(50))
    recipe = Recipe(batch=8, augment=False)
    orders = [[int(y) for _, target in batches(data, np.arange(50), recipe, epoch) for y in target] for epoch in (0, 1, 0)]
    assert sorted(orders[0]) == list(range(50))
    assert orders[0] == orders[2] != orders[1]
    recipe = Recipe(batch=7, augment=False)
    assert [len(t) for _, t in batches(data, np.arange(50), recipe, 0)] == [7] * 7, "a last single image is left out"


def test_held_out_images_do_not_train() -> None:
    train, kept = split(100, 60, 0.25, 3)
    assert len(train) == 45 and len(kept) == 15 and not set(train) & set(kept)
    assert [a.tolist() for a in split(100, 60, 0.25, 3)] == [train.tolist(), kept.tolist()]


def tiny_trainer(seed: int = 0, loss: str = "kd") -> Trainer:
    torch.manual_seed(seed)
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 4
    images = ArrayImages((rng.integers(0, 120, (48, 8, 8, 3)) + 130 * np.eye(4, 3)[labels][:, None, None]).astype(np.uint8), labels)
    normalise = Normalise(torch.full((3,), 0.4), torch.full((3,), 0.3))
    student, teacher = (Network(ZOO[name](num_classes=4), normalise) for name in ("resnet8", "resnet14"))
    return Trainer(student, teacher, create(loss), images, np.arange(48), Recipe(epochs=4, batch=16, lr=0.02), "cpu")


def test_a_step_is_torchs_own_sgd_on_the_sum_of_the_terms() -> None:
    ours, theirs = tiny_trainer(), tiny_trainer()
    ours.epoch(0)
    model, teacher = theirs.student.model.train(), theirs.teacher.model.eval()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4, nesterov=True)
    for pixels, target in batches(theirs.images, theirs.chosen, theirs.recipe, 0):
        images = ((torch.from_numpy(pixels) / 255 - 0.4) / 0.3).permute(0, 3, 1, 2)
        logits, soft = model(images), torch.softmax(teacher(images) / 4, 1)
        loss = 0.1 * torch.nn.functional.cross_entropy(logits, target)
        loss = loss + 0.9 * 16 * torch.nn.functional.kl_div(torch.log_softmax(logits / 4, 1), soft, reduction="batchmean")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for (name, a), b in zip(ours.student.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_the_teacher_is_frozen_and_in_evaluation_mode() -> None:
    trainer = tiny_trainer()
    before = {k: v.clone() for k, v in trainer.teacher.model.state_dict().items()}
    trainer.epoch(0)
    assert all(torch.equal(v, before[k]) for k, v in trainer.teacher.model.state_dict().items())
    assert all(p.grad is None for p in trainer.teacher.model.parameters())


def test_resuming_at_any_epoch_is_bit_for_bit(tmp_path: Path) -> None:
    whole = tiny_trainer()
    for epoch in range(4):
        whole.epoch(epoch)
    for stop in (1, 2, 3):
        first = tiny_trainer()
        for epoch in range(stop):
            first.epoch(epoch)
        first.save(tmp_path / "last.safetensors", stop, {"a": 1})
        second = tiny_trainer(seed=9)  # other weights, all of which the checkpoint replaces; the teacher comes from its own file
        second.teacher.model.load_state_dict(first.teacher.model.state_dict())
        assert second.load(tmp_path / "last.safetensors", {"a": 1}) == stop
        for epoch in range(stop, 4):
            second.epoch(epoch)
        for (name, a), b in zip(whole.student.model.state_dict().items(), second.student.model.state_dict().values(), strict=True):
            assert torch.equal(a, b), (stop, name)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    trainer = tiny_trainer()
    trainer.save(path, 1, {"arch": "a"})
    with pytest.raises(RunError, match="another training"):
        trainer.load(path, {"arch": "b"})
    for content in (b"", path.read_bytes()[:100], b"x" * 1000):
        path.write_bytes(content)
        with pytest.raises(RunError, match="damaged"):
            trainer.load(path, {"arch": "a"})


def test_a_loss_that_is_not_finite_stops_and_names_its_term() -> None:
    trainer = tiny_trainer(loss="none")
    with torch.no_grad():
        trainer.student.model.fc.weight.fill_(float("nan"))
    with pytest.raises(RunError, match="the term ce of the loss became nan in epoch 1"):
        trainer.epoch(0)


def test_accuracy_and_its_margin() -> None:
    class Copy(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot((x[:, 0, 0, 0] * 255).round().long() % 10, 10).float()

    labels = np.arange(1200) % 10
    guesses = np.where(np.arange(1200) < 900, labels, (labels + 1) % 10)
    images = ArrayImages(np.broadcast_to(guesses[:, None, None, None], (1200, 2, 2, 3)).astype(np.uint8), labels)
    accuracy = evaluate(Network(Copy(), Normalise(torch.zeros(3), torch.ones(3))), images, "cpu")
    assert accuracy.top1 == 75.0 and accuracy.count == 1200
    assert accuracy.margin == pytest.approx(196 * (0.75 * 0.25 / 1200) ** 0.5)


@pytest.mark.parametrize("loss", ["none", "kd", "diswot"])
def test_the_whole_way_on_small_images(tmp_path: Path, small_npz: Path, loss: str) -> None:
    """The colours give the classes away: a few epochs learn them, and the student comes back with the accuracy it left with."""
    result = diswot.distill(ARCH, folder=tmp_path / "run", data=str(small_npz), loss=loss, **{**QUICK, "epochs": 6})
    assert result.student.top1 > 60
    assert result.measured_on == "test" and len(result.history) == 6
    assert (result.teacher is None) == (loss == "none")
    terms = {"none": {"ce"}, "kd": {"ce", "kd"}, "diswot": {"ce", "kd", "semantic", "relation"}}[loss]
    assert set(result.history[0]) == {"epoch", "lr", "test_top1"} | terms
    model = diswot.load_student(tmp_path / "run" / "student")
    with np.load(small_npz) as arrays:
        x, y = arrays["x_test"], arrays["y_test"]
    cfg = model.pretrained_cfg
    images = (torch.from_numpy(x) / 255 - torch.tensor(cfg["mean"])) / torch.tensor(cfg["std"])
    right = (model(images.permute(0, 3, 1, 2)).argmax(1).numpy() == y).mean() * 100
    assert right == pytest.approx(result.student.top1)
    assert cfg["input_size"] == (3, 16, 16) and cfg["num_classes"] == 4
    kept = load_file(tmp_path / "run" / "student" / "model.safetensors")
    assert set(kept) == set(model.state_dict()), "the student alone, without teacher or optimiser"


def test_a_teacher_is_trained_once_and_kept(tmp_path: Path, small_npz: Path) -> None:
    lines: list[str] = []

    class Listener:
        def start(self, total: int, done: int = 0) -> None: ...
        def update(self, done: int, detail: object) -> None: ...
        def say(self, line: str) -> None:
            lines.append(line)

        def stop(self) -> None: ...

    for name in ("a", "b"):
        diswot.distill(ARCH, folder=tmp_path / name, data=str(small_npz), reporter=Listener(), **QUICK)
    said = [line for line in lines if line.startswith("teacher resnet8: no weights")], [line for line in lines if "trained before" in line]
    assert (len(said[0]), len(said[1])) == (1, 1)
    (folder,) = (tmp_path / "home" / "teachers").iterdir()
    weights, notes = load_tensors(folder / "model.safetensors")
    assert notes["teacher"] == "resnet8"
    assert not torch.equal(weights["bn1.running_mean"], torch.zeros(16)), "training moved the running statistics"


def test_an_interrupted_teacher_is_taken_up_again(tmp_path: Path, small_npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diswot.distill(ARCH, folder=tmp_path / "a", data=str(small_npz), **QUICK)
    (whole,) = (tmp_path / "home" / "teachers").iterdir()
    expected = load_tensors(whole / "model.safetensors")[0]
    monkeypatch.setenv("DISWOT_HOME", str(tmp_path / "home2"))
    real = Trainer.epoch

    def fail(self: Trainer, number: int) -> dict[str, float]:
        if number == 1:
            raise KeyboardInterrupt
        return real(self, number)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "epoch", fail)
        diswot.distill(ARCH, folder=tmp_path / "b", data=str(small_npz), **QUICK)
    diswot.distill(ARCH, folder=tmp_path / "c", data=str(small_npz), **QUICK)
    (again,) = (tmp_path / "home2" / "teachers").iterdir()
    found = load_tensors(again / "model.safetensors")[0]
    assert all(torch.equal(found[k], v) for k, v in expected.items())


def test_kills_during_training_change_nothing(spawn, tmp_path: Path, small_npz: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "c.yaml").write_text(f"data: {small_npz}\nloss: none\nepochs: 12\nbatch: 16\nlr: 0.02\n")
    begin, metrics = ["distill", "resnet8", "--config", "c.yaml", "--quiet", "--name"], tmp_path / "runs" / "cut" / "metrics.jsonl"
    finish(spawn(*begin, "whole"))

    def epochs() -> int:
        return len(metrics.read_bytes().splitlines()) if metrics.exists() else 0

    resume = ["distill", "--resume", "runs/cut", "--quiet"]
    assert kill_and_resume(spawn, [*begin, "cut"], resume, epochs, kills=4, most=2, pause=0.05) == 4
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
        ({"limit": 20, "held_out": 0.9}, DataError, "fewer than the batch"),
        ({"held_out": 1.5}, ConfigError, "--held-out"),
        ({"lr": -1.0, "epochs": 0}, ConfigError, "epochs 0.*lr -1"),
        ({"momentum": 1.0}, ConfigError, "momentum"),
        ({"temperature": 0.0}, ConfigError, "temperature"),
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


def test_weights_exchanged_before_a_resume_are_noticed(tmp_path: Path, small_npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diswot.recipes.distill import resume_config

    path = tmp_path / "w.pth"
    torch.save(ZOO["resnet8"](num_classes=4).state_dict(), path)
    diswot.distill(ARCH, folder=tmp_path / "run", data=str(small_npz), teacher_weights=str(path), **QUICK)
    run, stored = RunDir.open(tmp_path / "run", "distill")
    run.close()
    assert resume_config(stored).teacher_weights == str(path)
    torch.save(ZOO["resnet8"](num_classes=4).state_dict(), path)
    with pytest.raises(TeacherError, match="not the file this run began with"):
        resume_config(stored)


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
