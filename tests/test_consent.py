"""A run that names somebody's own code is resumed where it was begun, and elsewhere only with a word of the user's."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import diswot as package
from diswot.consent import parts_of
from diswot.errors import ConfigError
from tests.own_modules import write_module

SPACE = """
from pathlib import Path
from search_spaces.resnet_depth import ResNetDepth as Space
Path("imported").touch()
"""
QUICK = ["--proxy", "params", "--iterations", "2", "--params", "0.3M", "--workers", "1", "--quiet", "--num-classes", "10"]
RESUME = ["--workers", "1", "--quiet"]


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a space of the user's own, which leaves a file where it is imported."""
    monkeypatch.syspath_prepend(tmp_path)
    return f"{write_module(tmp_path, SPACE)}:Space"


def test_a_run_of_somebody_else_imports_nothing_without_a_word(diswot: Any, tmp_path: Path, part: str) -> None:
    assert diswot("search", "--space", part, "--name", "mine", *QUICK)[0] == 0
    assert diswot("search", "--resume", "runs/mine", *RESUME)[0] == 0, "it was begun here"
    shutil.copytree(tmp_path / "runs" / "mine", tmp_path / "foreign")
    (tmp_path / "imported").unlink()
    del sys.modules[part.partition(":")[0]]
    code, _, err = diswot("search", "--resume", "foreign", *RESUME)
    assert code == 2 and err.count("\n") == 1 and err.endswith(f"it was not begun here: allow it with --allow {part}\n")
    assert not (tmp_path / "imported").exists()
    with pytest.raises(ConfigError, match="is Python code"):
        package.resume("foreign", workers=1, allow=["other:Space"])
    assert package.resume("foreign", workers=1, allow=[part]).winner.space == part
    code, _, err = diswot("search", "--resume", "foreign", *RESUME, "--allow", part)
    assert code == 0, err


def test_a_run_that_was_changed_is_somebody_elses(diswot: Any, tmp_path: Path, part: str) -> None:
    assert diswot("search", "--space", part, "--name", "mine", *QUICK)[0] == 0
    with open(tmp_path / "runs" / "mine" / "config.yaml", "a") as file:
        file.write("# changed\n")
    code, _, err = diswot("search", "--resume", "runs/mine", *RESUME)
    assert code == 2 and "--allow" in err


def test_a_run_that_leaves_nothing_is_not_remembered(diswot: Any, tmp_path: Path) -> None:
    assert diswot("study", "none.csv", "--data", "nosuch:images", "--quiet")[0] == 2
    assert not list(tmp_path.iterdir()), "no run, and no note of one in the user's own folder"


def test_allowing_is_of_runs_that_are_resumed(diswot: Any) -> None:
    code, _, err = diswot("search", "--params", "1M", "--allow", "a:b")
    assert code == 2 and "add --resume" in err


@pytest.mark.parametrize("name", ["../out", "a/b", "..", "/out"])
def test_the_name_of_a_run_is_no_path(diswot: Any, tmp_path: Path, name: str) -> None:
    code, _, err = diswot("search", *QUICK, "--runs", "some/runs", "--name", name)
    assert code == 2 and "a name without a path is needed" in err and not list(tmp_path.glob("**/config.yaml"))


def test_every_part_in_a_configuration_is_found() -> None:
    document = {"loss": "0.5*a.b:C(x=1) + kd", "teacher": "resnet56", "entries": [{"arch": {"space": "d:E", "choices": ["f:g"]}}]}
    assert parts_of(document) == ["a.b:C", "d:E"]
