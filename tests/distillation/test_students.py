"""Students as folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import diswot
from diswot.errors import ArchitectureError, RunError
from tests.distillation.samples import QUICK
from tests.trained import ARCH


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
