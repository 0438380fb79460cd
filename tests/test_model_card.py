"""The model card of an exported student, read back by the package that the hub reads it with."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import diswot
from diswot.export import run_export
from diswot.inference import student_model
from diswot.model_card import model_card
from tests.trained import ARCH, QUICK


def test_a_card_says_what_the_run_says(tmp_path: Path, small_npz: Path, teacher_file: Path) -> None:
    options = {**QUICK, "teacher": "resnet8", "teacher_weights": str(teacher_file)}
    found = diswot.distill(ARCH, folder=tmp_path / "run", data=str(small_npz), loss="kd + 0.5*rkd", **options)  # type: ignore[arg-type]
    target = run_export(student_model(tmp_path / "run"), tmp_path / "hub").path
    card = ModelCard.load(target / "README.md")
    (result,) = card.data.eval_results or []
    assert (result.dataset_name, result.dataset_split) == ("small.npz", "test")
    assert result.metric_value == pytest.approx(found.student.top1, abs=0.01)
    assert card.data.library_name == "timm" and "knowledge-distillation" in card.data.tags
    assert "the loss `kd + 0.5*rkd`, under the teacher `resnet8`, for 2 epochs on `small.npz`, random seed 0" in card.text
    assert str(tmp_path) not in card.content
    assert torch_parameters(target) in card.text.replace(",", "")


def torch_parameters(folder: Path) -> str:
    count = sum(parameter.numel() for parameter in diswot.load_student(folder).parameters())
    return f"{count} parameters"


def test_away_from_its_run_a_card_says_nothing_of_it(tmp_path: Path, small_npz: Path) -> None:
    diswot.train(ARCH, folder=tmp_path / "run", data=str(small_npz), **QUICK)  # type: ignore[arg-type]
    first = run_export(student_model(tmp_path / "run"), tmp_path / "hub").path
    card = ModelCard(model_card(first))
    assert not card.data.eval_results and "## Training" not in card.text and "load_student" in card.text
