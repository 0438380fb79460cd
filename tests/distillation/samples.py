"""What the tests of distillation share: a quick recipe, Ctrl-C after an epoch, students compared to the bit."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from diswot.training.loop import Trainer

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 16, "teacher": "resnet8", "lr": 0.02}


def stop_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the epoch after these."""
    real = Trainer.epoch

    def fail(self: Trainer, number: int) -> dict[str, float]:
        if number == epochs:
            raise KeyboardInterrupt
        return real(self, number)

    monkeypatch.setattr(Trainer, "epoch", fail)


def stop_at_call(call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at this call of an epoch, counted from 1 over all trainings."""
    real, calls = Trainer.epoch, itertools.count(1)

    def fail(self: Trainer, number: int) -> dict[str, float]:
        if next(calls) == call:
            raise KeyboardInterrupt
        return real(self, number)

    monkeypatch.setattr(Trainer, "epoch", fail)


def students_of(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("student*/**/model.safetensors"))


def same_students(ours: Path, theirs: Path) -> bool:
    pairs = zip(students_of(ours), students_of(theirs), strict=True)
    loaded = [(load_file(a / "model.safetensors"), load_file(b / "model.safetensors")) for a, b in pairs]
    return bool(loaded) and all(torch.equal(a[name], b[name]) for a, b in loaded for name in b)
