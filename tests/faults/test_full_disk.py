"""The disk becomes full at every single write of every verb: one line, nothing lost, and a resume ends as an undisturbed run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.faults.commands import COMMANDS, NO_PAGE, QUICK, Command, fault_of_refusal, run_command, write_inputs
from tests.faults.disk import FullDisk

MOST = int(os.environ.get("DISWOT_FAULTS", "5"))
"""Writes of each verb at which the disk becomes full; all of them where there are fewer."""


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def spread(count: int, most: int) -> list[int]:
    """At most so many of the first `count` numbers, the first and the last among them."""
    return sorted({round(place * (count - 1) / (most - 1)) for place in range(most)}) if count > most else list(range(count))


def clear(folder: Path) -> None:
    """Take away what commands have made, but for their inputs and the teachers in the cache."""
    for made in ("runs", "out"):
        shutil.rmtree(folder / made, ignore_errors=True)
    for path in [*folder.glob("arch*.json"), *folder.glob("*.onnx")]:
        path.unlink()


def faults_of(command: Command, folder: Path, most: int, forever: bool) -> tuple[int, list[str]]:
    """Let the disk become full at up to `most` steps of a command, each in a run of its own, which is then gone on with.

    Args:
        command: the command.
        folder: where it runs, with its inputs.
        most: steps.
        forever: whether the disk stays full until the command has ended; else only this one step fails.

    Returns:
        How many steps were tried, and a line for each that ended otherwise than it must.
    """
    clear(folder)
    disk = FullDisk(folder)
    with disk.mounted():
        code, errors = run_command(command.begin)
    if code != 0:
        return 0, [f"{command.verb} fails undisturbed: {errors}"]
    expected, found = command.result(folder), []
    tried = spread(len(disk.steps), most)
    for number in tried:
        clear(folder)
        full = FullDisk(folder, (lambda step, at=number: step >= at) if forever else (lambda step, at=number: step == at))
        with full.mounted():
            code, errors = run_command(command.begin)
        what = f"{command.verb}, step {number}, {full.steps[number] if number < len(full.steps) else 'not reached'}: "
        needless = not forever or number >= len(full.steps) or NO_PAGE in errors
        if code == 0 and needless and command.result(folder) == expected:
            continue  # what failed was not needed, or was not come to: workers take more steps or fewer
        if fault := fault_of_refusal(code, errors):
            found.append(what + fault)
        code, errors = (0, "") if command.is_done(folder) else run_command(command.next(folder))
        if code != 0:
            found.append(f"{what}it cannot be gone on with: {errors[-300:]}")
        elif command.result(folder) != expected:
            found.append(f"{what}it ends otherwise")
        if left := [str(path) for path in folder.rglob("*.tmp") if "home" not in path.parts]:
            found.append(f"{what}left behind: {left[0]}")
    return len(tried), found


@pytest.mark.slow
@pytest.mark.parametrize("command", QUICK, ids=[command.verb for command in QUICK])
@pytest.mark.parametrize("forever", [True, False], ids=["stays full", "is full once"])
def test_a_disk_that_is_full_at_any_write(inputs: Path, command: Command, forever: bool) -> None:
    tried, found = faults_of(command, inputs, MOST, forever)
    assert not found and tried >= min(MOST, 5), "\n".join(found)


def test_a_disk_that_is_full_while_a_network_is_scored(inputs: Path) -> None:
    """The quick one of them."""
    tried, found = faults_of(COMMANDS[1], inputs, 4, forever=True)
    assert not found and tried == 4, "\n".join(found)
