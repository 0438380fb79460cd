"""The words that a shell completes, as the shell asks for them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from diswot.cli.app import cli
from diswot.cli.completion import VARIABLE


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_asks_by_the_variable_that_is_answered(diswot: Any, shell: str) -> None:
    code, out, err = diswot("completion", shell)
    assert code == 0 and VARIABLE in out and "diswot" in out and err == ""


def test_bash_takes_the_script(diswot: Any, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(diswot("completion", "bash")[1])
    found = subprocess.run(["bash", "-c", "source ./script && complete -p diswot"], cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 0 and "-F" in found.stdout, found.stderr


@pytest.mark.parametrize(
    ("words", "number", "completed"),
    [("diswot sea", 1, "search"), ("diswot search --par", 2, "--params"), ("diswot list pro", 2, "proxies"), ("diswot ru", 1, "runs")],
)
def test_words_are_completed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, number: int, completed: str
) -> None:
    monkeypatch.setenv(VARIABLE, "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(number))
    with pytest.raises(SystemExit) as ended:
        cli.main([], prog_name="diswot", standalone_mode=False)
    assert ended.value.code in (0, 1)  # 1 is click's for: it has been answered
    assert f"plain,{completed}" in capsys.readouterr().out.splitlines()
