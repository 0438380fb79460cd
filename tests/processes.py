"""The command line as a process of its own: run to its end, or killed and resumed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.forks import Forks


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


def kill_in_turn(cwd: Path, deaths: Sequence[tuple[int, str]], begin: Sequence[str], resume: Sequence[str]) -> None:
    """`diswot ...` again and again, each time in a process of its own, which ends by kill -9 at the n-th moment of a kind: `whole` and
    `torn` are lines of its journals, `disk` steps on the disk; it must come that far. A run that is there is gone on with; one that was
    killed before it had begun is begun again."""
    folder = cwd / (resume[resume.index("--resume") + 1] if "--resume" in resume else ".")
    for count, moment in deaths:
        ended = Forks(cwd).run_killed(resume if (folder / "config.yaml").exists() else begin, count, moment)
        assert ended.code == -signal.SIGKILL, f"it ended before {moment} number {count}: {ended.errors}"


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


def workers_of(pid: int) -> list[int]:
    """The scoring processes of a process: forked by the helper that it has started for that."""
    helpers = [one for one in children_of(pid) if "forkserver" in Path(f"/proc/{one}/cmdline").read_text()]
    return [one for helper in helpers for one in children_of(helper)]


def children_of(pid: int) -> list[int]:
    return [int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]
