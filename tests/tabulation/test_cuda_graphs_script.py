"""scripts/train_with_cuda_graphs.py, without a GPU: its steps are those of the ordinary training, and its journal that of `tabulate`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import diswot
from diswot.runs import RunDir
from diswot.tabulation.networks import NETWORKS, read_networks
from diswot.tabulation.recipe import JOURNAL, TabulatePlan
from diswot.tabulation.trainings import Training
from tests.tabulation.inline import train_inline


@pytest.fixture(name="script")
def _script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("train_with_cuda_graphs")


@pytest.mark.slow
def test_the_steps_and_the_journal_are_those_of_the_ordinary_training(
    script: ModuleType, small_npz: Path, teacher_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    train_inline(monkeypatch)
    options: dict[str, Any] = {"data": str(small_npz), "teacher": "resnet8", "teacher_weights": str(teacher_file), "batch_size": 16}
    options |= {"epochs": 2, "lr": 0.01, "sched": "cosine", "augment": "flip", "val_interval": 1000}
    folder = tmp_path / "table"
    diswot.tabulate(space="s0", flops="9M", networks=2, baseline_fraction=0.5, repeat_fraction=0, folder=folder, **options)
    ordinary = [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]
    (folder / JOURNAL).unlink()
    for part in range(2):
        script.train_run(folder, (part, 2), 1, "cpu", math.inf)
    script.merge(folder)
    lines = [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]
    keys = ("network", "loss", "seed", "teacher", "measured_on", "images")
    assert sorted(str([line[key] for key in keys]) for line in lines) == sorted(str([line[key] for key in keys]) for line in ordinary)

    run, document = RunDir.open(folder, "tabulate", lock=False)
    plan = TabulatePlan.restore(document, folder)
    networks = read_networks(folder / NETWORKS, plan.space())
    material = script.Material.load(plan, Training(1, "kd", 0), networks, run, "cpu")
    student = script.Student(material, networks[1].arch, 0, "cpu")
    script.train_wave([student])
    alone = diswot.distill(networks[1].arch, folder=tmp_path / "alone", **options)
    weights = diswot.load_student(alone.folder / "student").state_dict()
    for name, tensor in student.model.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], rtol=1e-3, atol=1e-4)
