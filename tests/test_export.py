"""A student written for others: ONNX, torch.export, and a folder that timm loads."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import diswot
from diswot import export
from diswot.errors import ConfigError
from diswot.export import run_export
from diswot.inference import student_model
from tests.trained import train_student


@pytest.fixture
def student(tmp_path: Path, small_npz: Path) -> Path:
    return train_student(tmp_path / "run", small_npz)


@pytest.mark.parametrize("name", ["student.onnx", "student.pt2", "student"])
@pytest.mark.slow
def test_what_is_exported_computes_the_same(student: Path, tmp_path: Path, name: str) -> None:
    """Loaded by the package it is for, on another batch size than it was made with."""
    model = diswot.load_student(student)
    images = torch.randn(5, 3, 16, 16)
    expected = model(images)
    written = run_export(student_model(student), tmp_path / name)
    assert written.difference < 1e-5 and written.path == tmp_path / name
    if name.endswith(".onnx"):
        import onnx
        import onnxruntime

        session = onnxruntime.InferenceSession(str(written.path), providers=["CPUExecutionProvider"])
        found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
        props = {entry.key: json.loads(entry.value) for entry in onnx.load(str(written.path)).metadata_props}
        assert props["class_names"] == ["0", "1", "2", "3"] and props["mean"] == pytest.approx(model.pretrained_cfg["mean"])
    elif name.endswith(".pt2"):
        found = torch.export.load(str(written.path)).module()(images)
    else:
        assert {path.name for path in written.path.iterdir()} == {"README.md", "arch.json", "config.json", "model.safetensors"}
        found = diswot.load_student(written.path)(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not list(tmp_path.glob(".tmp*")) and not list(tmp_path.glob("*.data"))


def test_timm_loads_a_students_folder(student: Path) -> None:
    timm = pytest.importorskip("timm")
    if not hasattr(timm.models._hub, "load_model_config_from_path"):
        pytest.skip("this timm does not know local-dir:")
    import diswot.models.student

    model = timm.create_model(f"local-dir:{student}", pretrained=True).eval()
    images = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(model(images), diswot.load_student(student)(images))
    assert model.pretrained_cfg["input_size"] == [3, 16, 16] and model.pretrained_cfg["label_names"] == ["0", "1", "2", "3"]


def test_a_wrong_export_is_not_kept(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_export_torch", lambda model, net, images, target: target.write_text("x") * 0 + torch.zeros(2, 4))
    with pytest.raises(ConfigError, match="not written, its outputs differ"):
        run_export(student_model(student), tmp_path / "student.pt2")
    assert not list(tmp_path.glob("*student.pt2"))


def test_what_cannot_be_written_is_said(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    model = student_model(student)
    cases = [
        (lambda: run_export(model, tmp_path / "there"), "exists"),
        (lambda: run_export(model, tmp_path / "a.tflite"), "ending in .onnx, .pt2"),
        (lambda: run_export(model, tmp_path / "no" / "a.onnx"), "there is no folder"),
        (lambda: run_export(model, Path("/proc/a.pt2")), "/proc: nothing can be written there"),
    ]
    for call, says in cases:
        with pytest.raises(ConfigError, match=says):
            call()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"pip install 'diswot\[export\]'"):
        run_export(model, tmp_path / "a.onnx")


def test_export_from_the_command_line(student: Path, diswot: Any) -> None:
    code, out, err = diswot("export", str(student), "out")
    assert code == 0 and "local-dir:out" in out, err
    code, _, err = diswot("export", str(student), "out")
    assert code == 2 and "out exists" in err


@pytest.mark.parametrize("name", ["student.pt2", "student"])
def test_what_a_killed_export_left_does_not_stop_the_next(student: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / f".tmp-{name}").mkdir()
    (tmp_path / f".tmp-{name}" / "half").write_text("x")
    assert run_export(student_model(student), tmp_path / name).difference < 1e-5
    assert not list(tmp_path.glob(".tmp*")) and not (tmp_path / name / "half").exists()
