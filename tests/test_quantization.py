"""Exports in smaller number formats: what they lose, what they save, what they are refused for; and predictions of folders."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import diswot as api
from diswot.errors import ConfigError, DataError
from diswot.inference import run_evaluate, run_predict, student_model
from diswot.quantization import OnnxNetwork, run_reduced_export
from tests.conftest import write_small_npz

STUDENT = "wrn_16_2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("trained")
    api.train(STUDENT, folder=where / "run", data=str(write_small_npz(where / "images.npz")), epochs=4, batch_size=16, lr=0.02)
    return where


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "smaller", "near"), [("fp16", 1.7, 0.01), ("int8", 2.5, 0.3)])
def test_a_smaller_format_answers_as_float32_does(folder: Path, tmp_path: Path, precision: str, smaller: float, near: float) -> None:
    model, data = student_model(folder / "run"), str(folder / "images.npz")
    found = run_reduced_export(model, tmp_path / "s.onnx", precision, data, calibration=40)
    assert found.full.megabytes / found.reduced.megabytes > smaller
    assert found.written.difference < near and (tmp_path / "s.onnx").stat().st_size / 1e6 == pytest.approx(found.reduced.megabytes)
    full, reduced = found.full.accuracy, found.reduced.accuracy
    assert full is not None and reduced is not None and abs(full.top1 - reduced.top1) < 10
    assert full.top1 == run_evaluate(str(folder / "run"), data).accuracy.top1
    assert OnnxNetwork(tmp_path / "s.onnx")(torch.zeros(5, *model.input_size)).shape == (5, 4)
    kinds = {node.op_type for node in onnx.load(str(tmp_path / "s.onnx")).graph.node}
    assert ("QuantizeLinear" in kinds) == (precision == "int8")
    assert [path.name for path in tmp_path.iterdir()] == ["s.onnx"]


@pytest.mark.parametrize(
    ("target", "precision", "data", "says"),
    [
        ("s.pt2", "fp16", None, "only ONNX files have it"),
        ("s.onnx", "int8", None, "it is calibrated by images: give --data"),
        ("there.onnx", "fp16", None, "there.onnx exists"),
    ],
)
@pytest.mark.slow
def test_what_cannot_be_is_refused(folder: Path, tmp_path: Path, target: str, precision: str, data: str | None, says: str) -> None:
    (tmp_path / "there.onnx").touch()
    with pytest.raises(ConfigError, match=says):
        run_reduced_export(student_model(folder / "run"), tmp_path / target, precision, data)
    assert [path.name for path in tmp_path.iterdir()] == ["there.onnx"]


@pytest.mark.slow
def test_from_the_command_line(folder: Path, diswot: Any) -> None:
    code, out, err = diswot("export", str(folder / "run"), "h.onnx", "--precision", "fp16")
    assert code == 0 and "fp16" in out and "MB" in out and "differ from float32's" in out, err
    assert diswot("export", str(folder / "run"), "i.onnx", "--data", "x.npz")[0] == 2


@pytest.mark.slow
def test_all_images_of_a_folder_are_named_in_a_csv(folder: Path, tmp_path: Path, diswot: Any) -> None:
    """Many at a time give what one at a time gives; folders below count too."""
    photos = tmp_path / "photos" / "below"
    photos.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(70):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save((photos, photos.parent)[number % 2] / f"{number:02}.png")
    (photos / "notes.txt").write_text("no image")
    code, out, err = diswot("predict", str(folder / "run"), str(photos.parent), "--csv", "p.csv", "--top", "2")
    assert code == 0 and "70 images" in out, err
    with open("p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == sorted(str(path) for path in photos.parent.rglob("*.png"))
    model = student_model(folder / "run")
    for row in rows[::9]:
        (alone,) = run_predict(model, [row["image"]], top=2)
        assert [row["class_1"], row["class_2"]] == [name for name, _ in alone.classes]
        assert float(row["probability_1"]) == pytest.approx(alone.classes[0][1], rel=1e-4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="a folder without images"):
        run_predict(model, [tmp_path / "empty"])
    assert diswot("predict", str(folder / "run"), str(photos), "--csv", "no/such/p.csv")[0] == 2
