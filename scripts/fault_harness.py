"""The faults of tests/faults at a scale: kill -9, full disks, limits of the kernel, damaged files, bad inputs.

python scripts/fault_harness.py --kills 300 --disks 100 --limits 50 --damages 500 --inputs 2000

Each number is for each verb, file or kind of input; 0 leaves a kind of fault out. Prints what was tried and every fault that was found.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from tests.faults import inputs, test_damage, test_full_disk, test_limits
from tests.faults.commands import COMMANDS, Command, write_inputs
from tests.forks import Forks

_KILLS_AT_ONCE = 10  # of one run, before it is let go to its end and compared
_STEPS = 4  # on the disk, within which a process is killed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in _PARTS:
        parser.add_argument(f"--{name}", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults-") as made:
        folder = Path(made).resolve()
        _prepare(folder)
        forks = Forks(folder)
        faults = [fault for name, part in _PARTS.items() for fault in part(forks, getattr(asked, name))]
        os.chdir("/")
    for fault in faults:
        print(fault)
    peak_mb = max(forks.peak_mb, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(f"{len(faults)} faults; {peak_mb:,.0f} MB of memory at most in one process")
    return bool(faults)


def _prepare(folder: Path) -> None:
    """Make the folder that commands run in, with their inputs."""
    os.chdir(folder)
    os.environ |= {"DISWOT_HOME": str(folder / "home"), "DISWOT_CACHE": "off"}
    write_inputs(folder)


def _told(what: str, tried: int, found: list[str]) -> list[str]:
    print(f"{what}: {tried} tried, {len(found)} faults", flush=True)
    return found


def _kills(forks: Forks, most: int) -> Iterator[str]:
    """kill -9 between two steps on the disk, several times in one run, which then ends as an undisturbed one."""
    for command in COMMANDS if most else ():
        yield from _told(f"kill -9, {command.verb}", *_kills_of(forks, command, most))


def _kills_of(forks: Forks, command: Command, most: int) -> tuple[int, list[str]]:
    folder, rng = forks.folder, random.Random(0)
    expected, found, killed = test_limits.whole(forks, command), [], 0
    while killed < most:
        test_full_disk.clear(folder)
        for _ in range(rng.randint(1, _KILLS_AT_ONCE)):
            ended = forks.run_killed(command.next(folder), rng.randint(1, _STEPS))
            killed += ended.code == -signal.SIGKILL
            if ended.code not in (0, -signal.SIGKILL):
                found.append(f"{command.verb}: {ended.errors[-300:]}")
            if ended.code != -signal.SIGKILL or command.is_done(folder):
                break
        if fault := test_limits.goes_on(forks, command, expected):
            found.append(f"{command.verb}, after {killed} kills in all: {fault}")
    return killed, found


def _disks(forks: Forks, most: int) -> Iterator[str]:
    for command in COMMANDS if most else ():
        for forever in (True, False):
            when = "stays full" if forever else "is full once"
            yield from _told(f"the disk {when}, {command.verb}", *test_full_disk.faults_of(command, forks.folder, most, forever))


def _limits(forks: Forks, most: int) -> Iterator[str]:
    for command in COMMANDS if most else ():
        yield from _told(f"files that may not grow, {command.verb}", *test_limits.faults_of_sizes(forks, command, most))
        yield from _told(f"folders that may not be written, {command.verb}", *test_limits.faults_of_read_only(forks, command))
        if command.keeps_a_run:
            yield from _told(f"small disks, {command.verb}", *test_limits.faults_of_small_disks(forks, command, most))
            yield from _told(f"stopped, and a second process, {command.verb}", *test_limits.faults_of_two(forks, command, min(most, 10)))


def _damages(forks: Forks, most: int) -> Iterator[str]:
    for command, name in test_damage.FILES if most else ():
        yield from _told(f"damage, {command.verb} {name}", *test_damage.faults_of(command, name, forks.folder, most))


def _inputs(forks: Forks, most: int) -> Iterator[str]:
    for kind, strategy in inputs.KINDS.items() if most else ():
        yield from _told(f"bad {kind}", *_inputs_of(strategy, forks.folder, most))


def _inputs_of(strategy: SearchStrategy[inputs.Case], folder: Path, most: int) -> tuple[int, list[str]]:
    """Use many inputs of one kind; return how many there were, and a text for each that was not refused as it must be."""
    found: list[str] = []
    tried = 0

    @settings(max_examples=most, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=strategy)
    def use(case: inputs.Case) -> None:
        nonlocal tried
        tried += 1
        if fault := inputs.fault_of(folder, *case):
            found.append(fault)

    use()
    return tried, found


_PARTS = {"kills": _kills, "disks": _disks, "limits": _limits, "damages": _damages, "inputs": _inputs}


if __name__ == "__main__":
    sys.exit(main())
