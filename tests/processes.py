"""The command line as a process of its own: run to its end, or killed and resumed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def diswot_process(*arguments: str, cwd: Path, **kwargs: object) -> subprocess.Popen[str]:
    """`diswot ...` in a process of its own, on one thread, so that tests do not fight for cores."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DISWOT_HOME": str(cwd / "home")}
    command = [sys.executable, "-m", "diswot", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=cwd, text=True, env=environment, **{**pipes, **kwargs})  # type: ignore[call-overload]


def finish(process: subprocess.Popen[str]) -> None:
    """Waits for a command that must succeed."""
    _, errors = process.communicate()
    assert process.returncode == 0, errors


_DOOMED = """
import json, os, signal, sys
from pathlib import Path
import timm, torch._dynamo, diswot.distillation.recipe, diswot.searching.recipe, diswot.studies.recipe  # once, for all forks below
from diswot.architecture import canonical_json
from diswot.cli import main
from diswot.runs import RunDir

deaths, begin, resume, config = json.loads(sys.argv[1])
append = RunDir.append

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def last():
    global left
    left -= 1
    return left == 0

def line(run, name, *records, sync=True):
    for record in records:
        ending = last()
        if ending and moment == "torn":
            with open(run.path / name, "a") as file:
                file.write(canonical_json(dict(record))[:-1])
        else:
            append(run, name, record, sync=sync)
        if ending:
            kill()

def step(function):
    return lambda *arguments, **options: kill() if last() else function(*arguments, **options)

for left, moment in deaths:
    if not (child := os.fork()):
        if moment == "disk":
            os.fsync, os.replace = step(os.fsync), step(os.replace)
        else:
            RunDir.append = line
        os._exit(main(resume if Path(config).exists() else begin))
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
        sys.exit(f"it ended before {moment} number {left}")
"""


def kill_in_turn(cwd: Path, deaths: Sequence[tuple[int, str]], begin: Sequence[str], resume: Sequence[str]) -> None:
    """`diswot ...` again and again, each time in a process of its own, which ends by kill -9 at the n-th moment of a kind: `whole` and
    `torn` are lines of its journals, `disk` steps on the disk; it must come that far. A run that is there is gone on with; one that was
    killed before it had begun is begun again."""
    folder = resume[resume.index("--resume") + 1] if "--resume" in resume else "."
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DISWOT_HOME": str(cwd / "home")}
    command = [sys.executable, "-c", _DOOMED, json.dumps([deaths, begin, resume, f"{folder}/config.yaml"])]
    ended = subprocess.run(command, cwd=cwd, text=True, env=environment, capture_output=True)
    assert ended.returncode == 0, ended.stderr


def kill_at_line(cwd: Path, line: int, torn: bool, *arguments: str) -> None:
    """`diswot ...` in a process of its own, which ends by kill -9 once it has added so many lines to its journals; `torn`: while it writes
    the last of them. It must come that far."""
    kill_in_turn(cwd, [(line, "torn" if torn else "whole")], arguments, arguments)


def kill_at_lines(cwd: Path, begin: Sequence[str], resume: Sequence[str], *, kills: int, most: int) -> None:
    """kill -9 of a run, each time after 1 to `most` more lines of its journals, every other time in the middle of the last of them; each
    time it is gone on with, but not after the last."""
    rng = random.Random(0)
    kill_in_turn(cwd, [(rng.randint(1, most), "whole" if number % 2 else "torn") for number in range(kills)], begin, resume)


def kill_on_disk(cwd: Path, begin: Sequence[str], resume: Sequence[str], *, kills: int, most: int) -> None:
    """kill -9 of a run, each time between two of its next `most` steps on the disk (a file is flushed, or put in another's place), wherever
    they come; each time it is gone on with, but not after the last. A run that was killed before it had begun is begun again."""
    rng = random.Random(0)
    kill_in_turn(cwd, [(rng.randint(1, most), "disk") for _ in range(kills)], begin, resume)


def count_lines(path: Path) -> int:
    """Whole lines; 0 where there is no file."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_line(process: subprocess.Popen[str], path: Path) -> None:
    """Wait until a process has written a whole line; it must come that far."""
    while not count_lines(path):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
