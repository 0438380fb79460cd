"""The command line as a process of its own: run to its end, or killed and resumed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def diswot_process(*arguments: str, cwd: Path, **kwargs: object) -> subprocess.Popen[str]:
    """`diswot ...` in a process of its own, on one thread, so that tests do not fight for cores."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DISWOT_HOME": str(cwd / "home")}
    command = [sys.executable, "-m", "diswot.cli", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=cwd, text=True, env=environment, **{**pipes, **kwargs})  # type: ignore[call-overload]


def finish(process: subprocess.Popen[str]) -> None:
    """Waits for a command that must succeed."""
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def kill_and_resume(
    spawn: Callable[..., subprocess.Popen[str]],
    begin: Sequence[str],
    resume: Sequence[str],
    written: Callable[[], int],
    *,
    kills: int,
    most: int,
    pause: float = 0.0,
) -> int:
    """kill -9 at random moments: each time once the run has written up to `most` more, and a random part of `pause` seconds have passed.
    Resumes it each time, and at last to its end; returns how often it was killed before it had ended of itself."""
    rng, command = random.Random(0), begin
    for done in range(kills):
        process = spawn(*command)
        aim = written() + rng.randint(1, most)
        while process.poll() is None and written() < aim:
            time.sleep(0.002)
        time.sleep(rng.random() * pause)
        process.kill()
        _, errors = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), errors
        command = resume
        if process.returncode == 0:
            return done
    finish(spawn(*command))
    return kills
