"""Commands in processes of their own that have imported everything, under limits that the kernel sets, stopped or killed at a moment."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FEW_PEERS = 2  # random networks that the winner of a test's search is held against; each is looked for, and scored under two seeds


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code; minus the number of a signal that ended it.
        errors: what it wrote to stderr.
        peak_mb: the most memory it held at once, in megabytes.
    """

    code: int
    errors: str
    peak_mb: float


@functools.cache
def _server() -> subprocess.Popen[str]:
    """The process whose forks run the commands. It ends with this one, whose end it reads from its stdin."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-m", "tests.fork_server"]
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)  # type: ignore[call-overload]


class Forks:
    """Runs commands in a folder.

    Args:
        folder: where they run, and have their cache.

    Attributes:
        peak_mb: the most memory that a command held at once so far, in megabytes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.peak_mb = folder, 0.0

    def run(self, words: Sequence[str], *, file_size: int | None = None, unprivileged: bool = False) -> Ended:
        """Run a command to its end.

        Args:
            words: what follows `diswot`.
            file_size: bytes that no file may exceed, as `ulimit -f` sets it.
            unprivileged: whether the modes of files bind it, also where it is root's, who may write anywhere.
        """
        return self._ask(words=list(words), file_size=file_size, unprivileged=unprivileged)[0]

    def run_killed(self, words: Sequence[str], count: int, moment: str = "disk") -> Ended:
        """Run a command that kill -9 ends at the n-th moment of a kind (see `fork_server`), unless it ends before."""
        return self._ask(words=list(words), signal=signal.SIGKILL, count=count, moment=moment)[0]

    def run_stopped(self, words: Sequence[str], count: int, *meanwhile: Sequence[str]) -> list[Ended]:
        """Run a command that SIGSTOP halts at a step on the disk; while it stands, run others; then let it go on to its end.

        Returns:
            How it ended, and how each of the others did; nothing of them where it ended before.
        """
        return self._ask(words=list(words), signal=signal.SIGSTOP, count=count, moment="disk", meanwhile=[list(one) for one in meanwhile])

    def _ask(self, **question: object) -> list[Ended]:
        ours = {name: value for name, value in os.environ.items() if name.startswith("DISWOT_")}
        environment = {"DISWOT_REPORT": "off", "DISWOT_CACHE": "off", **ours, "DISWOT_HOME": str(self.folder / "home")}
        defaults = {"signal": None, "file_size": None, "unprivileged": False, "folder": str(self.folder), "environment": environment}
        server = _server()
        assert server.stdin and server.stdout
        server.stdin.write(json.dumps({**defaults, **question}) + "\n")
        server.stdin.flush()
        answers = [Ended(**answer) for answer in json.loads(server.stdout.readline())]
        self.peak_mb = max(self.peak_mb, *(ended.peak_mb for ended in answers))
        return answers
