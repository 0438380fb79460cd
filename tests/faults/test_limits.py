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

from tests.faults.children import Children, Ended
from tests.faults.commands import COMMANDS, Command, fault_of_refusal, write_inputs
from tests.faults.test_full_disk import clear

MOST = int(os.environ.get("DISWOT_FAULTS", "3"))
"""Limits that each verb meets."""
_SIZES = (0, 1, 100, 500, 1000, 2000, 5000, 20_000, 100_000, 300_000, 1_000_000)


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    with tempfile.TemporaryDirectory(prefix="limits-") as made:
        folder = Path(made).resolve()
        folder.chmod(0o755)  # nobody may read it
        write_inputs(folder)
        with Children(folder) as started:
            yield started


def whole(children: Children, command: Command) -> dict[str, bytes]:
    """What the command leaves undisturbed."""
    clear(children.folder)
    ended = children.run(command.begin)
    assert ended.code == 0, ended.errors
    return command.result(children.folder)


def goes_on(children: Children, command: Command, expected: dict[str, bytes]) -> str:
    """Go on with a command; return what is wrong with how it ends, or ""."""
    ended = Ended(0, "", 0) if command.is_done(children.folder) else children.run(command.next(children.folder))
    if ended.code != 0:
        return f"it cannot be gone on with: {ended.errors[-300:]}"
    return "" if command.result(children.folder) == expected else "it ends otherwise"


def faults_of_sizes(children: Children, command: Command, most: int) -> tuple[int, list[str]]:
    """No file may grow above a size: one line and code 2, and what there is can be gone on with.

    Returns:
        How many sizes were tried, and a line for each fault.
    """
    expected, found = whole(children, command), []
    rng = random.Random(0)
    largest = max(map(len, expected.values()))
    sizes = [rng.choice([*_SIZES, rng.randint(0, 2 * largest)]) for _ in range(most)]
    for size in sizes:
        clear(children.folder)
        ended = children.run(command.begin, file_size=size)
        fault = "" if ended.code == 0 else fault_of_refusal(ended.code, ended.errors)
        if fault := fault or goes_on(children, command, expected):
            found.append(f"{command.verb}, files of {size} bytes at most: {fault}")
    return len(sizes), found


def faults_of_two(children: Children, command: Command, most: int) -> tuple[int, list[str]]:
    """A run is stopped at a step on the disk and another process takes it up: it is refused, and the first one ends undisturbed."""
    expected, found = whole(children, command), []
    for number in range(most):
        clear(children.folder)
        first, *others = children.run_stopped(command.begin, number + 2, command.resume)
        if first.code != 0 or command.result(children.folder) != expected:
            found.append(f"{command.verb}, stopped at step {number + 2}: exit code {first.code}, {first.errors[-300:]}")
        for other in others:
            if fault := fault_of_refusal(other.code, other.errors):
                found.append(f"{command.verb}, a second process at step {number + 2}: {fault}")
    return most, found


def faults_of_small_disks(children: Children, command: Command, most: int) -> tuple[int, list[str]]:
    """Runs on a disk of their own with too little room, which must be a mount point that this process may make.

    Returns:
        How many sizes were tried, and a line for each fault; none where nothing may be mounted.
    """
    expected, found = whole(children, command), []
    place, rng = children.folder / "disk", random.Random(0)
    place.mkdir(exist_ok=True)
    (children.folder / "runs").mkdir(exist_ok=True)
    for number in range(most):
        clear(children.folder)
        size = rng.randint(4, max(40, 2 * sum(map(len, expected.values())) // 1024))
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(place)], capture_output=True).returncode:
            return number, found
        try:
            ended = children.run([*command.begin, "--runs", str(place)])
            fault = "" if ended.code == 0 else fault_of_refusal(ended.code, ended.errors)
            shutil.rmtree(children.folder / "runs", ignore_errors=True)
            shutil.copytree(place, children.folder / "runs")  # onto a disk with room
        finally:
            subprocess.run(["umount", str(place)], check=True)
        if fault := fault or goes_on(children, command, expected):
            found.append(f"{command.verb}, on a disk of {size} kB: {fault}")
    return most, found


def faults_of_read_only(children: Children, command: Command) -> tuple[int, list[str]]:
    """A folder that may not be written, and a run that may not: refused in one line or left as it is, and nothing is changed."""
    found = []
    clear(children.folder)
    begun = _read_only(children, command.begin)
    whole(children, command)
    gone_on_with = _read_only(children, command.resume)
    for what, (ended, changed) in (("a folder", begun), ("a run", gone_on_with)):
        fault = fault_of_refusal(ended.code, ended.errors) if ended.code != 0 or what == "a folder" else ""
        if fault := fault or ", ".join(changed):
            found.append(f"{command.verb}, {what} that is read-only: {fault}")
    return 2, found


def _read_only(children: Children, words: list[str]) -> tuple[Ended, list[str]]:
    """Run a command where nothing may be written; return how it ended, and what was changed nevertheless."""
    paths = [children.folder, *children.folder.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    before = {path: path.stat().st_mtime_ns for path in paths}
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        ended = children.run(words, unprivileged=True)
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    after = {path: path.stat().st_mtime_ns for path in [children.folder, *children.folder.rglob("*")]}
    return ended, [f"changed: {path}" for path in before.keys() | after.keys() if before.get(path) != after.get(path)]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=[command.verb for command in COMMANDS])
def test_folders_that_may_not_be_written(children: Children, command: Command) -> None:
    _, found = faults_of_read_only(children, command)
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=[command.verb for command in COMMANDS])
def test_files_that_may_not_grow(children: Children, command: Command) -> None:
    tried, found = faults_of_sizes(children, command, MOST)
    assert not found and tried == MOST, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in COMMANDS if command.keeps_a_run], ids=lambda command: command.verb)
def test_two_processes_in_one_run(children: Children, command: Command) -> None:
    _, found = faults_of_two(children, command, 1)
    assert not found, "\n".join(found)
