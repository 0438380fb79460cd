"""A run or a student whose files are damaged anywhere is refused in one line, or goes on; never a fault from inside."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from tests.conftest import write_small_npz
from tests.faults.commands import COMMANDS, Command, fault_of_refusal, run_command
from tests.faults.damage import damaged

MOST = int(os.environ.get("DISWOT_FAULTS", "10"))
"""Damages to each file, drawn among all there are."""
FILES = [
    *((COMMANDS[0], name) for name in ("trials.jsonl", "config.yaml", "inputs.json")),
    *((COMMANDS[1], name) for name in ("scores.jsonl", "config.yaml", "inputs.json")),
    *((COMMANDS[2], name) for name in ("metrics.jsonl", "config.yaml", "inputs.json", "arch.json", "last.safetensors")),
    *((COMMANDS[2], f"student/{name}") for name in ("arch.json", "config.json", "model.safetensors")),
]


def faults_of(command: Command, name: str, folder: Path, most: int) -> tuple[int, list[str]]:
    """Damage a file of a run in up to `most` ways, and use it each time.

    Args:
        command: that has made the run; a student is exported, anything else is resumed.
        name: of the file in the run's folder.
        folder: where the command runs, with its inputs.
        most: damages.

    Returns:
        How many were tried, and a line for each that ended otherwise than in code 0, or code 2 and one line.
    """
    whole, run = folder / f"whole-{command.verb}", folder / "runs" / "run"
    if not whole.exists():
        shutil.rmtree(run, ignore_errors=True)
        code, errors = run_command(command.begin)
        if code != 0:
            return 0, [errors]
        shutil.copytree(run, whole)
    ways = list(damaged(name, (whole / name).read_bytes()))
    ways = random.Random(0).sample(ways, min(most, len(ways)))
    found = []
    for what, content in ways:
        shutil.rmtree(run, ignore_errors=True)
        shutil.rmtree(folder / "out", ignore_errors=True)
        shutil.copytree(whole, run)
        (run / name).write_bytes(content)
        code, errors = run_command(["export", "runs/run/student", "out"] if name.startswith("student/") else command.resume)
        if code != 0 and (fault := fault_of_refusal(code, errors)):
            found.append(f"{command.verb}, {name} {what}: {fault}")
    return len(ways), found


@pytest.mark.slow
@pytest.mark.parametrize(("command", "name"), FILES, ids=[f"{command.verb}-{name}" for command, name in FILES])
def test_a_damaged_file_is_refused_or_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, name: str) -> None:
    write_small_npz(tmp_path / "small.npz")
    monkeypatch.chdir(tmp_path)
    tried, found = faults_of(command, name, tmp_path, MOST)
    assert not found and tried >= min(MOST, 10), "\n".join(found)
