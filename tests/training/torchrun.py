"""Trainings in processes of their own, under torchrun where there are several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def launch(cwd: Path, processes: int, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Python with these arguments, under torchrun where it is more than one process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DISWOT_HOME": str(cwd / "home"), **more}
    launcher = [] if processes == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run([sys.executable, *launcher, *command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def run_script(folder: Path, processes: int, text: str) -> None:
    """A script that can import from the tests, and is given a folder to write to; it must succeed."""
    path = folder / "script.py"
    path.write_text(text)
    done = launch(folder, processes, str(path), str(folder), PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
