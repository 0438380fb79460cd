"""Commands in processes of their own, under limits that the kernel sets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]


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


class Children:
    """Runs commands in forks of a process that has imported everything.

    Args:
        folder: where they run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "DISWOT_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.faults.server"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._server = subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes)  # type: ignore[call-overload]

    def __enter__(self) -> Children:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def run(self, words: Sequence[str], *, file_size: int | None = None, unprivileged: bool = False, killed_at: int | None = None) -> Ended:
        """Run a command to its end.

        Args:
            words: what follows `diswot`.
            file_size: bytes that no file may exceed, as `ulimit -f` sets it.
            unprivileged: whether it is run by nobody where this process is root's, who may write anywhere.
            killed_at: the step on the disk at which kill -9 ends it.
        """
        return self._ask(words=list(words), file_size=file_size, unprivileged=unprivileged, killed_at=killed_at)[0]

    def run_stopped(self, words: Sequence[str], step: int, *meanwhile: Sequence[str]) -> list[Ended]:
        """Run a command that SIGSTOP halts at a step on the disk; while it stands, run others; then let it go on to its end.

        Returns:
            How it ended, and how each of the others did; nothing of them where it ended before.
        """
        return self._ask(words=list(words), stopped_at=step, meanwhile=[list(other) for other in meanwhile])

    def _ask(self, **question: object) -> list[Ended]:
        self._server.stdin.write(json.dumps(question) + "\n")
        self._server.stdin.flush()
        return [Ended(**answer) for answer in json.loads(self._server.stdout.readline())]
