"""Commands of a second or two, one for each verb that keeps a run, and what must be the same however they were disturbed."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diswot.cli import main

_DATA = ("--data", "small.npz", "--batch-size", "16", "--quiet")


@dataclass(frozen=True)
class Command:
    """A verb with words that make it short.

    Attributes:
        verb: its name.
        words: what follows.
        outcome: the files of the run's folder that an undisturbed run has byte for byte.
    """

    verb: str
    words: tuple[str, ...]
    outcome: tuple[str, ...]

    @property
    def begin(self) -> list[str]:
        return [self.verb, *self.words, "--name", "run"]

    @property
    def resume(self) -> list[str]:
        workers = ["--workers", "1"] if self.verb in ("search", "score", "study") else []
        return [self.verb, "--resume", "runs/run", "--quiet", *workers]

    def result(self, folder: Path) -> dict[str, bytes]:
        """The content of the files that must be the same."""
        return {name: (folder / "runs" / "run" / name).read_bytes() for name in self.outcome}


_SMALL = ("--num-classes", "4", "--workers", "1", "--quiet", "--teacher", "resnet8", "--seeds", "1")
_STEPS = ("--population-size", "2", "--generation-size", "2", "--tournament-size", "1", "--top-k", "1", "--iterations", "4")
COMMANDS = (
    Command("search", ("--space", "s0", "--proxy", "params", *_SMALL, *_STEPS), ("trials.jsonl", "arch.json", "config.yaml")),
    Command("score", ("resnet8", "resnet14", "--proxy", "params,nwot", *_SMALL, "--batch-size", "4"), ("scores.jsonl", "config.yaml")),
    Command(
        "train", ("resnet8", "--epochs", "2", *_DATA), ("metrics.jsonl", "metrics.csv", "last.safetensors", "student/model.safetensors")
    ),
    Command(
        "distill",
        ("resnet8", "--loss", "kd", "--teacher", "resnet8", "--teacher-weights", "teacher.pth", "--epochs", "1", *_DATA),
        ("metrics.jsonl", "metrics.csv", "student/model.safetensors", "student/arch.json", "student/config.json"),
    ),
    Command(
        "compare",
        (
            "resnet8",
            "--losses",
            "none; kd",
            "--teacher",
            "resnet8",
            "--teacher-weights",
            "teacher.pth",
            "--epochs",
            "1",
            "--seeds",
            "1",
            *_DATA,
        ),
        ("results.jsonl",),
    ),
)


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
    lines = [line for line in errors.splitlines() if line.strip()]
    if len(lines) != 1 or not lines[0].startswith("diswot: ") or len(lines[0]) > 2000:
        return f"{len(lines)} lines: {errors[-300:]}"
    return "" if "Traceback" not in errors and "fault of diswot" not in errors else errors[-300:]
