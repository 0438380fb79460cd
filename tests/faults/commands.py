"""Commands of a second or two, one for each verb that keeps a run, and what must be the same however they were disturbed."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import diswot
from diswot.cli import main
from diswot.models.zoo import ZOO
from tests.conftest import write_small_npz
from tests.studies.samples import write_cells
from tests.trained import ARCH

_DATA = ("--data", "small.npz", "--batch-size", "16", "--quiet")


@dataclass(frozen=True)
class Command:
    """A verb with words that make it short.

    Attributes:
        verb: its name.
        words: what follows.
        outcome: the files that an undisturbed command leaves byte for byte the same.
        folder: where it leaves them.
    """

    verb: str
    words: tuple[str, ...]
    outcome: tuple[str, ...]
    folder: str = "runs/run"

    @property
    def keeps_a_run(self) -> bool:
        """Whether it can be gone on with; else it is begun again."""
        return self.folder.startswith("runs/")

    @property
    def begin(self) -> list[str]:
        return [self.verb, *self.words, *(["--name", "run"] if self.keeps_a_run else [])]

    @property
    def resume(self) -> list[str]:
        if not self.keeps_a_run:
            return self.begin
        workers = ["--workers", "1"] if self.verb in ("search", "score", "study", "tabulate") else []
        return [self.verb, "--resume", self.folder, "--quiet", *workers]

    def next(self, folder: Path) -> list[str]:
        """What to type after a disturbance: the command that goes on, or where nothing had begun the one that begins."""
        return self.resume if (folder / self.folder / "config.yaml").exists() else self.begin

    def is_done(self, folder: Path) -> bool:
        """Whether it has left all it leaves and, having no run, could not be typed again."""
        return not self.keeps_a_run and all((folder / self.folder / name).exists() for name in self.outcome)

    def result(self, folder: Path) -> dict[str, bytes]:
        """The content of the files that must be the same."""
        return {name: (folder / self.folder / name).read_bytes() for name in self.outcome}


_ALONE = ("--workers", "1", "--quiet")
_SMALL = ("--num-classes", "4", *_ALONE, "--teacher", "resnet8", "--seeds", "1")
_STEPS = ("--population-size", "2", "--generation-size", "2", "--tournament-size", "1", "--top-k", "1", "--iterations", "4")
_TAUGHT = ("--teacher", "resnet8", "--teacher-weights", "teacher.pth", "--epochs", "1", *_DATA)
_TABLE = ("--sample-rows", "12", "--bootstrap-resamples", "20", "--batch-size", "2", "--input-size", "8")
_FEW = ("--networks", "3", "--group-size", "2", "--limit", "32", "--repeat-fraction", "0", "--baseline-fraction", "0", "--epochs", "1")
COMMANDS = (
    Command("search", ("--space", "s0", "--proxy", "params", *_SMALL, *_STEPS), ("trials.jsonl", "arch.json", "config.yaml")),
    Command("score", ("resnet8", "resnet14", "--proxy", "params,nwot", *_SMALL, "--batch-size", "4"), ("scores.jsonl", "config.yaml")),
    Command(
        "train", ("resnet8", "--epochs", "2", *_DATA), ("metrics.jsonl", "metrics.csv", "last.safetensors", "student/model.safetensors")
    ),
    Command(
        "distill",
        ("resnet8", "--loss", "kd", *_TAUGHT),
        ("metrics.jsonl", "metrics.csv", "student/model.safetensors", "student/arch.json", "student/config.json"),
    ),
    Command("compare", ("resnet8", "--losses", "none; kd", "--seeds", "1", *_TAUGHT), ("results.jsonl",)),
    Command("study", ("cells.csv", "--proxy", "params,nwot", *_TABLE, *_SMALL), ("scores.jsonl", "config.yaml")),
    Command("tabulate", ("--space", "s0", *_FEW, *_ALONE[:2], *_DATA), ("table.csv", "networks.json", "trainings.jsonl")),
    Command("export", ("student", "out"), ("arch.json", "config.json", "model.safetensors"), "out"),
    Command("export", ("student", "student.onnx"), ("student.onnx",), "."),
)

QUICK = [command for command in COMMANDS[:-1] if command.verb not in ("compare", "tabulate")]
"""Those that the tests have time for; the program of scripts/ has all."""


NO_PAGE = "warning: the page of the run could not be written ("
"""What a command says whose run is whole but for its page; that is no failure of it."""


def write_inputs(folder: Path) -> None:
    """Write what the commands read."""
    write_small_npz(folder / "small.npz")
    write_cells(folder / "cells.csv")
    torch.manual_seed(5)
    torch.save(ZOO["resnet8"](num_classes=4).state_dict(), folder / "teacher.pth")
    diswot.train(ARCH, folder=folder / "trained", data=str(folder / "small.npz"), epochs=1, batch_size=16)
    (folder / "trained" / "student").rename(folder / "student")


def run_command(words: Sequence[str]) -> tuple[int, str]:
    """Run a command in this process; return its exit code and what it wrote to stderr."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(list(words))
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
    return code, errors.getvalue()


def fault_of_refusal(code: int, errors: str) -> str:
    """What is wrong with how a command was refused, or "": code 2 and one line that is not of Python's."""
    if code != 2:
        return f"exit code {code}: {errors[-300:]}"
    lines = [line for line in errors.splitlines() if line.strip() and not line.startswith(NO_PAGE)]
    if len(lines) != 1 or not lines[0].startswith("diswot: ") or len(lines[0]) > 2000:
        return f"{len(lines)} lines: {errors[-300:]}"
    return "" if "Traceback" not in errors and "fault of diswot" not in errors else errors[-300:]
