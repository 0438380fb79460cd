"""What surrounds the code: workflows and scripts that exist, and versions that are asked for in one place."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def steps(workflow: Path) -> list[str]:
    """The commands that a workflow runs."""
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return [line for job in jobs for step in job["steps"] for line in step.get("run", "").splitlines()]


@pytest.mark.skipif(not WORKFLOWS, reason="the workflows are not part of a source distribution")
@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_scripts_that_are_here(workflow: Path) -> None:
    for command in steps(workflow):
        first = shlex.split(command)[0]
        assert first == "pip" or os.access(ROOT / first, os.X_OK), command
    assert steps(workflow)


@pytest.mark.skipif(not (ROOT / ".ci").exists(), reason="not part of a source distribution")
def test_ci_runs_the_same_scripts_as_the_workflows() -> None:
    ran = {line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("scripts/")}
    assert ran and ran <= {command for workflow in WORKFLOWS for command in steps(workflow)}


@pytest.mark.parametrize("script", ["scripts/check", "scripts/check_wheel", "scripts/install_and_test"])
def test_scripts_can_be_read_by_bash(script: str) -> None:
    assert subprocess.run(["bash", "-n", str(ROOT / script)]).returncode == 0
    assert "set -euo pipefail" in (ROOT / script).read_text()


def test_the_line_of_the_readme_is_found() -> None:
    (found,) = re.findall(r"(?m)^pip install.*pytest$", (ROOT / "README.md").read_text())
    assert found.startswith('pip install -e ".[test]"')


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a checkout is built")
def test_the_wheel_runs_from_an_empty_folder() -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    found = subprocess.run([str(ROOT / "scripts" / "check_wheel")], capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert found.returncode == 0 and found.stdout.endswith("all is well\n"), found.stdout + found.stderr
