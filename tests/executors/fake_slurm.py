"""A Slurm of one machine for tests: `sbatch`, `srun`, `sacct` and `scancel` as far as submitit calls them.

`install` puts this file into a folder under each of these names; it is then run by them.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

NAMES = ("sbatch", "srun", "sacct", "scancel")
JOBS = Path(os.environ.get("FAKE_SLURM", "."))  # NAME.pid of each job, and NAME.code once it has ended


def install(folder: Path) -> dict[str, str]:
    """Return the environment variables under which programs find this Slurm."""
    (folder / "jobs").mkdir(parents=True)
    for name in NAMES:
        file = folder / name
        file.write_text(f"#!{sys.executable}\n{Path(__file__).read_text()}")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "FAKE_SLURM": str(folder / "jobs")}


def sbatch(script: str) -> None:
    array = re.search(r"--array=0-(\d+)", Path(script).read_text())
    number = 1000 + len(list(JOBS.glob("*.pid")))
    for index in range(int(array[1]) + 1) if array else (None,):
        variables = {"SLURM_JOB_ID": str(number + (index or 0))}
        if index is not None:
            variables |= {"SLURM_ARRAY_JOB_ID": str(number), "SLURM_ARRAY_TASK_ID": str(index)}
        name = str(number) if index is None else f"{number}_{index}"
        command = ["bash", "-c", f"bash {script}; echo $? > {JOBS / name}.code"]
        with open(os.devnull, "w") as nowhere:
            started = subprocess.Popen(command, env={**os.environ, **variables}, stdout=nowhere, stderr=nowhere, start_new_session=True)
        (JOBS / f"{name}.pid").write_text(str(started.pid))
    print(f"Submitted batch job {number}")


def srun(*arguments: str) -> None:
    files = {}
    rest = list(arguments)
    while rest[0].startswith("--"):
        flag = rest.pop(0)
        if flag in ("--output", "--error"):
            files[flag] = rest.pop(0)
    places = {"%A": "SLURM_ARRAY_JOB_ID", "%a": "SLURM_ARRAY_TASK_ID", "%j": "SLURM_JOB_ID"}
    for number, flag in ((1, "--output"), (2, "--error")):
        path = files[flag].replace("%t", "0")
        for place, variable in places.items():
            path = path.replace(place, os.environ.get(variable, ""))
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.execvp(rest[0], rest)


def sacct(*_: str) -> None:
    print("JobID|State|NodeList")
    for file in JOBS.glob("*.pid"):
        code = file.with_suffix(".code")
        state = "RUNNING" if not code.exists() else "COMPLETED" if code.read_text().strip() == "0" else "FAILED"
        print(f"{file.stem}|{state}|here")


def scancel(name: str, *_: str) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(int((JOBS / f"{name}.pid").read_text()), signal.SIGKILL)
    (JOBS / f"{name}.code").write_text("1")


if __name__ == "__main__":
    globals()[Path(sys.argv[0]).name](*sys.argv[1:])
