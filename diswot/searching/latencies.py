"""The journal of a search's latencies: what was measured once decides for good, whatever the machine does after a resume."""

from __future__ import annotations

from typing import Any

from diswot.architecture import Architecture
from diswot.errors import RunError
from diswot.runs import RunDir, is_number

JOURNAL = "latencies.jsonl"


def write_latency(run: RunDir, arch: Architecture, ms: float) -> None:
    """Add the time of a network, in milliseconds, to the journal."""
    run.append(JOURNAL, {"choices": arch.choices, "ms": ms})


def read_latencies(run: RunDir, space: str) -> dict[Architecture, float]:
    """Read the journal of a search in a space, and cut off a last line that a crash cut short.

    Raises:
        RunError: a line is damaged.
    """
    found = {}
    for number, record in enumerate(run.read(JOURNAL, repair=True), 1):
        ms: Any = record.get("ms")
        if "choices" not in record or not is_number(ms) or ms <= 0:
            where = f"{run.path / JOURNAL}, line {number}"
            raise RunError(f"{where}: damaged: delete the file, and the networks are measured again")
        found[Architecture(space, record["choices"])] = float(ms)
    return found
