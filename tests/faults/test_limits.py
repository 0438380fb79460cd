"""Limits that the kernel sets: files that may not grow, folders that may not be written, a disk of its own that is full, processes that are
stopped, two in one run."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.commands import QUICK, Command, fault_of_refusal, write_inputs
from tests.faults.test_full_disk import clear
from tests.forks import Ended, Forks

MOST = int(os.environ.get("DISWOT_FAULTS", "2"))
"""Limits that each verb meets."""
_SIZES = (0, 1, 100, 500, 1000, 2000, 5000, 20_000, 100_000, 300_000, 1_000_000)


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with tempfile.TemporaryDirectory(prefix="limits-") as made:
        folder = Path(made).resolve()
        write_inputs(folder)
        yield Forks(folder)


def whole(forks: Forks, command: Command) -> dict[str, bytes]:
    """What the command leaves undisturbed."""
    clear(forks.folder)
    ended = forks.run(command.begin)
    assert ended.code == 0, ended.errors
    return command.result(forks.folder)


def goes_on(forks: Forks, command: Command, expected: dict[str, bytes]) -> str:
    """Go on with a command; return what is wrong with how it ends, or ""."""
    ended = Ended(0, "", 0) if command.is_done(forks.folder) else forks.run(command.next(forks.folder))
    if ended.code != 0:
        return f"it cannot be gone on with: {ended.errors[-300:]}"
    return "" if command.result(forks.folder) == expected else "it ends otherwise"


def faults_of_sizes(forks: Forks, command: Command, most: int) -> tuple[int, list[str]]:
    """No file may grow above a size: one line and code 2, and what there is can be gone on with.

    Returns:
        How many sizes were tried, and a line for each fault.
    """
    expected, found = whole(forks, command), []
    rng = random.Random(0)
    largest = max(map(len, expected.values()))
    sizes = [rng.choice([*_SIZES, rng.randint(0, 2 * largest)]) for _ in range(most)]
    for size in sizes:
        clear(forks.folder)
        ended = forks.run(command.begin, file_size=size)
        fault = "" if ended.code == 0 else fault_of_refusal(ended.code, ended.errors)
        if fault := fault or goes_on(forks, command, expected):
            found.append(f"{command.verb}, files of {size} bytes at most: {fault}")
    return len(sizes), found


def faults_of_two(forks: Forks, command: Command, most: int) -> tuple[int, list[str]]:
    """A run is stopped at a step on the disk and another process takes it up: it is refused, and the first one ends undisturbed."""
    expected, found = whole(forks, command), []
    for number in range(most):
        clear(forks.folder)
        first, *others = forks.run_stopped(command.begin, number + 2, command.resume)
        if first.code != 0 or command.result(forks.folder) != expected:
            found.append(f"{command.verb}, stopped at step {number + 2}: exit code {first.code}, {first.errors[-300:]}")
        for other in others:
            if fault := fault_of_refusal(other.code, other.errors):
                found.append(f"{command.verb}, a second process at step {number + 2}: {fault}")
    return most, found


def faults_of_small_disks(forks: Forks, command: Command, most: int) -> tuple[int, list[str]]:
    """Runs on a disk of their own with too little room, which must be a mount point that this process may make.

    Returns:
        How many sizes were tried, and a line for each fault; none where nothing may be mounted.
    """
    expected, found = whole(forks, command), []
    place, rng = forks.folder / "disk", random.Random(0)
    place.mkdir(exist_ok=True)
    (forks.folder / "runs").mkdir(exist_ok=True)
    for number in range(most):
        clear(forks.folder)
        size = rng.randint(4, max(40, 2 * sum(map(len, expected.values())) // 1024))
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(place)], capture_output=True).returncode:
            return number, found
        try:
            ended = forks.run([*command.begin, "--runs", str(place)])
            fault = "" if ended.code == 0 else fault_of_refusal(ended.code, ended.errors)
            shutil.rmtree(forks.folder / "runs", ignore_errors=True)
            shutil.copytree(place, forks.folder / "runs")  # onto a disk with room
        finally:
            subprocess.run(["umount", str(place)], check=True)
        if fault := fault or goes_on(forks, command, expected):
            found.append(f"{command.verb}, on a disk of {size} kB: {fault}")
    return most, found


def faults_of_read_only(forks: Forks, command: Command) -> tuple[int, list[str]]:
    """A folder that may not be written, and a run that may not: refused in one line or left as it is, and nothing is changed."""
    found = []
    clear(forks.folder)
    begun = _read_only(forks, command.begin)
    whole(forks, command)
    gone_on_with = _read_only(forks, command.resume)
    for what, (ended, changed) in (("a folder", begun), ("a run", gone_on_with)):
        fault = fault_of_refusal(ended.code, ended.errors) if ended.code != 0 or what == "a folder" else ""
        if fault := fault or ", ".join(changed):
            found.append(f"{command.verb}, {what} that is read-only: {fault}")
    return 2, found


def _read_only(forks: Forks, words: list[str]) -> tuple[Ended, list[str]]:
    """Run a command where nothing may be written; return how it ended, and what was changed nevertheless."""
    paths = [forks.folder, *forks.folder.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    before = {path: path.stat().st_mtime_ns for path in paths}
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        ended = forks.run(words, unprivileged=True)
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    after = {path: path.stat().st_mtime_ns for path in [forks.folder, *forks.folder.rglob("*")]}
    return ended, [f"changed: {path}" for path in before.keys() | after.keys() if before.get(path) != after.get(path)]


@pytest.mark.slow
@pytest.mark.parametrize("command", QUICK, ids=[command.verb for command in QUICK])
def test_folders_that_may_not_be_written(forks: Forks, command: Command) -> None:
    _, found = faults_of_read_only(forks, command)
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("command", QUICK, ids=[command.verb for command in QUICK])
def test_files_that_may_not_grow(forks: Forks, command: Command) -> None:
    tried, found = faults_of_sizes(forks, command, MOST)
    assert not found and tried == MOST, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in QUICK if command.keeps_a_run], ids=lambda command: command.verb)
def test_two_processes_in_one_run(forks: Forks, command: Command) -> None:
    _, found = faults_of_two(forks, command, 1)
    assert not found, "\n".join(found)
