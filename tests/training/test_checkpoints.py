"""Checkpoints: a training that was cut off goes on as if it had not been, and what is damaged or another's is said."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from diswot.errors import RunError
from diswot.progress import NullReporter
from diswot.runs import RunDir
from diswot.training.checkpoint import NEWEST, PREVIOUS, load_tensors, save_tensors
from diswot.training.logs import Logs
from diswot.training.loop import METRICS, TIMINGS, Trainer, fit
from tests.training.samples import images, make_recipe, same, trainer, weights

RECIPES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "adamw": {"opt": "adamw", "lr": 1e-3, "sched": "cosine", "warmup_epochs": 1},
    "lamb": {"opt": "lamb", "lr": 5e-3, "supervised_loss": "bce", "mixup": 0.2, "cutmix": 1.0, "norm_weight_decay": False},
    "average": {"model_ema_decay": 0.9, "clip_grad": 1.0, "grad_accum_steps": 2, "cutout": 3},
    "views": {"crop_views": 3},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
}


@pytest.mark.parametrize(
    ("loss", "recipe", "students"),
    [
        *(pytest.param("kd", name, ["resnet8"], marks=[pytest.mark.slow] * (name == "fp16")) for name in RECIPES),
        ("fitnets", "sgd", ["resnet8"]),
        ("mgd", "sgd", ["resnet8"]),
        ("dlb", "sgd", ["resnet8"]),
        ("dkd", "sgd", ["resnet8"]),
        ("udml", "sgd", ["resnet8", "resnet14"]),
        ("udml", "fp16", ["small", "small"]),
    ],
)
def test_resuming_at_any_epoch_is_bit_for_bit(tmp_path: Path, loss: str, recipe: str, students: list[str]) -> None:
    made = make_recipe(epochs=3, **RECIPES[recipe])
    whole = trainer(loss, made, students)
    for epoch in range(3):
        whole.epoch(epoch)
    for stop in (1, 2):
        first = trainer(loss, made, students)
        for epoch in range(stop):
            first.epoch(epoch)
        first.save(tmp_path, stop, {"a": 1})
        second = trainer(loss, made, students, seed=9)  # other weights, all of which the checkpoint replaces
        assert not same(weights(second), weights(first))
        assert second.load(tmp_path, {"a": 1}) == stop
        for epoch in range(stop, 3):
            second.epoch(epoch)
        for number, student in enumerate(whole.students):
            ours, theirs = student.state(), second.students[number].state()
            assert same(ours[0], theirs[0]) and ours[1] == theirs[1], (stop, number)
            assert same(weights(whole, number), weights(second, number))


def test_where_there_is_no_checkpoint_a_training_begins(tmp_path: Path) -> None:
    one = trainer()
    before = weights(one)
    assert one.load(tmp_path, {}) == 0
    assert same(weights(one), before)


def test_a_checkpoint_cut_in_half_gives_way_to_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = trainer(students=["small"])
    for epoch in (1, 2, 3):
        one.epoch(epoch - 1)
        one.save(tmp_path, epoch, {})
        if epoch == 2:
            second = weights(one)
    assert {path.name for path in tmp_path.iterdir()} == {NEWEST, PREVIOUS}
    data = (tmp_path / NEWEST).read_bytes()
    (tmp_path / NEWEST).write_bytes(data[: len(data) // 2])
    resumed = trainer(students=["small"], seed=9)
    with caplog.at_level(logging.WARNING, "diswot"):
        assert resumed.load(tmp_path, {}) == 2
    assert same(weights(resumed), second)
    (line,) = caplog.messages
    assert "damaged" in line and "going on from the checkpoint before it" in line
    (tmp_path / PREVIOUS).write_bytes(b"")
    with pytest.raises(RunError, match=r"damaged.*start a new run"):
        resumed.load(tmp_path, {})


def test_a_run_that_was_killed_between_two_checkpoints_has_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The newest is moved aside before another is written."""
    one = trainer(students=["small"])
    one.save(tmp_path, 1, {})
    (tmp_path / NEWEST).rename(tmp_path / PREVIOUS)
    with caplog.at_level(logging.WARNING, "diswot"):
        assert one.load(tmp_path, {}) == 1
    assert not caplog.messages


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    one = trainer()
    one.save(tmp_path, 1, {"arch": "a"})
    with pytest.raises(RunError, match="its checkpoint belongs to another training: start a new run"):
        one.load(tmp_path, {"arch": "b"})
    with pytest.raises(RunError, match="belongs to another training"):
        trainer(students=["resnet8", "resnet8"]).load(tmp_path, {"arch": "a"})
    with pytest.raises(RunError, match="do not fit the student: start a new run"):
        trainer(students=["resnet14"]).load(tmp_path, {"arch": "a"})


def test_files_of_tensors_are_read_as_they_were_written_and_others_are_refused(tmp_path: Path) -> None:
    tensors, notes = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(1)}, {"mean": [0.5], "name": "x"}
    save_tensors(tmp_path / "file", tensors, notes)
    found, facts = load_tensors(tmp_path / "file")
    assert same(found, tensors) and facts == notes
    with pytest.raises(RunError, match="nowhere: no such file"):
        load_tensors(tmp_path / "nowhere")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(RunError, match="text: damaged or no safetensors file"):
        load_tensors(tmp_path / "text")
    save_file({"a": torch.zeros(1)}, tmp_path / "theirs")
    with pytest.raises(RunError, match="theirs: not written by diswot"):
        load_tensors(tmp_path / "theirs")


# a training in a folder


def small_trainer(epochs: int = 3, **options: Any) -> Trainer:
    return trainer("kd", make_recipe(epochs=epochs, **options), students=["small"])


def fit_in(folder: Path, one: Trainer, **notes: Any) -> list[dict[str, Any]]:
    """Until the last epoch, from where the folder was left."""
    folder.mkdir(exist_ok=True)
    return fit(one, RunDir(folder), {"a": 1, **notes}, {"test": images(20)}, NullReporter())


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


class Cut(Exception):
    """The moment that a run is killed."""


@pytest.mark.parametrize("moment", ["before the line", "before the checkpoint", "after the checkpoint"])
@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_run_that_is_cut_off_anywhere_goes_on_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, done: int
) -> None:
    """The journal and the weights are those of a run that was left alone."""
    whole = small_trainer()
    history = fit_in(tmp_path / "whole", whole)
    assert history == lines(tmp_path / "whole") and [line["epoch"] for line in history] == [1, 2, 3]

    owner, name = (RunDir, "append") if moment == "before the line" else (Trainer, "save")
    real, calls = getattr(owner, name), 0

    def cut(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        if arguments[0] == TIMINGS:
            return
        calls += 1
        if calls <= done or moment == "after the checkpoint":
            real(self, *arguments, **options)
        if calls > done:
            raise Cut

    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(owner, name, cut)
        fit_in(tmp_path / "cut", small_trainer())
    assert RunDir(tmp_path / "cut").read(METRICS) == history[: done + (moment != "before the line")]
    resumed = small_trainer()
    assert fit_in(tmp_path / "cut", resumed) == history == lines(tmp_path / "cut")
    assert same(weights(resumed), weights(whole))


def test_a_finished_run_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = fit_in(tmp_path / "run", small_trainer())
    monkeypatch.setattr(Trainer, "epoch", lambda *_: pytest.fail("it is trained again"))
    assert fit_in(tmp_path / "run", small_trainer()) == history


def test_a_journal_shorter_than_the_checkpoint_is_damaged(tmp_path: Path) -> None:
    fit_in(tmp_path / "run", small_trainer())
    journal = tmp_path / "run" / METRICS
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(RunError, match=r"metrics.jsonl: 2 lines for 3 epochs: it is damaged, start a new run"):
        fit_in(tmp_path / "run", small_trainer())


def test_another_training_is_not_gone_on_with(tmp_path: Path) -> None:
    fit_in(tmp_path / "run", small_trainer())
    with pytest.raises(RunError, match="belongs to another training"):
        fit_in(tmp_path / "run", small_trainer(), b=2)


@pytest.mark.parametrize(("interval", "measured"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])])
def test_accuracy_is_measured_every_few_epochs_and_at_the_end(tmp_path: Path, interval: int, measured: list[int]) -> None:
    history = fit_in(tmp_path / "run", small_trainer(5, val_interval=interval))
    assert [line["epoch"] for line in history if "test_top1" in line] == measured
    assert all(0 <= line.get("test_top1", 0) <= 100 for line in history)


def test_spreadsheets_get_every_epoch_also_after_a_resume(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for _ in range(2):
        logs = Logs(tmp_path, board=False)
        history = fit(small_trainer(), run, {}, {"test": images(20)}, NullReporter(), logs)
        logs.close()
        rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
        assert [{name: float(value) for name, value in row.items()} for row in rows] == history
        assert [row["epoch"] for row in rows] == ["1", "2", "3"] and set(rows[0]) == {"epoch", "lr", "ce", "kd", "test_top1"}
        (tmp_path / NEWEST).unlink()  # the last epoch is trained again


class Noted(NullReporter):
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def start(self, total: int, done: int = 0, unit: str = "step") -> None:
        self.calls.append(("start", total, done, unit))

    def update(self, done: int, detail: Any) -> None:
        self.calls.append(("update", done))
        assert "images/s" in detail() and "kd " in detail() and "test " in detail()

    def stop(self) -> None:
        self.calls.append(("stop",))


def test_progress_is_shown_by_epochs_from_where_the_run_was_left(tmp_path: Path) -> None:
    fit_in(tmp_path, small_trainer(2))
    (tmp_path / NEWEST).unlink()
    reporter = Noted()
    fit(small_trainer(2), RunDir(tmp_path), {"a": 1}, {"test": images(20)}, reporter)
    assert reporter.calls == [("start", 2, 1, "epoch"), ("update", 2), ("stop",)]
