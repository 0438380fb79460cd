"""The faults of tests/faults at a scale: kill -9, full disks, damaged files, bad inputs.

python scripts/fault_harness.py --kills 1000 --disks 100 --damages 500 --inputs 2000

Each number is for each verb, file or kind of input; 0 leaves a kind of fault out. Prints what was tried and every fault that was found.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from diswot.models.zoo import ZOO
from tests.conftest import write_small_npz
from tests.faults import inputs, test_damage, test_full_disk
from tests.faults.commands import COMMANDS, run_command
from tests.processes import kill_on_disk

_KILLS_AT_ONCE = 10  # of one run, before it is let go to its end and compared


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("kills", "disks", "damages", "inputs"):
        parser.add_argument(f"--{name}", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults-") as made:
        folder = Path(made).resolve()
        _prepare(folder)
        parts = (_kills, asked.kills), (_disks, asked.disks), (_damages, asked.damages), (_inputs, asked.inputs)
        faults = [fault for part, most in parts for fault in part(folder, most)]
        os.chdir("/")
    for fault in faults:
        print(fault)
    print(f"{len(faults)} faults")
    return bool(faults)


def _prepare(folder: Path) -> None:
    """Make the folder that commands run in, with their inputs."""
    os.chdir(folder)
    os.environ |= {"DISWOT_HOME": str(folder / "home"), "DISWOT_CACHE": "off"}
    write_small_npz(folder / "small.npz")
    torch.manual_seed(5)
    torch.save(ZOO["resnet8"](num_classes=4).state_dict(), folder / "teacher.pth")


def _told(what: str, tried: int, found: list[str]) -> list[str]:
    print(f"{what}: {tried} tried, {len(found)} faults", flush=True)
    return found


def _kills(folder: Path, most: int) -> Iterator[str]:
    """kill -9 between two steps on the disk, several times in one run, which then ends as an undisturbed one."""
    for command in COMMANDS if most else ():
        test_full_disk.clear(folder)
        run_command(command.begin)
        expected, found, tried = command.result(folder), [], 0
        rng = random.Random(0)
        while tried < most:
            test_full_disk.clear(folder)
            kills = min(rng.randint(1, _KILLS_AT_ONCE), most - tried)
            try:
                kill_on_disk(folder, command.begin, command.resume, kills=kills, most=4)
            except AssertionError as error:  # the run has ended before
                found += [] if "ended before" in str(error) else [f"{command.verb}: {error}"]
            tried += kills
            begun = (folder / "runs" / "run" / "config.yaml").exists()
            code, errors = run_command(command.resume if begun else command.begin)
            if code != 0 or command.result(folder) != expected:
                found.append(f"{command.verb} after {kills} kills: exit code {code}, {errors[-300:]}")
        yield from _told(f"kill -9, {command.verb}", tried, found)


def _disks(folder: Path, most: int) -> Iterator[str]:
    for command in COMMANDS if most else ():
        for forever in (True, False):
            when = "stays full" if forever else "is full once"
            yield from _told(f"the disk {when}, {command.verb}", *test_full_disk.faults_of(command, folder, most, forever))


def _damages(folder: Path, most: int) -> Iterator[str]:
    for command, name in test_damage.FILES if most else ():
        yield from _told(f"damage, {command.verb} {name}", *test_damage.faults_of(command, name, folder, most))


def _inputs(folder: Path, most: int) -> Iterator[str]:
    for kind, strategy in inputs.KINDS.items() if most else ():
        yield from _told(f"bad {kind}", *_inputs_of(strategy, folder, most))


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


if __name__ == "__main__":
    sys.exit(main())
