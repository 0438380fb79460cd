"""The trials of a search: candidates that were tried, each a line of the journal."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from diswot.architecture import Architecture, canonical_json
from diswot.errors import ArchitectureError, RunError, brief_repr, first_line
from diswot.runs import RunDir, is_count, is_number
from diswot.space import Cost

JOURNAL = "trials.jsonl"
_REMEMBERED = 4096


@dataclass(frozen=True)
class Trial:
    """A candidate that was tried, and what came of it.

    Attributes:
        index: its number, from 0.
        arch: the candidate.
        cost: its parameters, FLOPs and depth.
        scores: by proxy, one number for each seed.
        reason: why it has no score; None where it has.
        parent: digest of the architecture that it was bred from; None for a random one.
        latency: in milliseconds, where the budget limits it.
    """

    index: int
    arch: Architecture
    cost: Cost
    scores: dict[str, list[float]] = field(default_factory=dict)
    reason: str | None = None
    parent: str | None = None
    latency: float | None = None

    @property
    def complete(self) -> bool:
        """Whether every proxy gave a score."""
        return self.reason is None

    def record(self) -> dict[str, Any]:
        """The trial as a line of the journal."""
        record: dict[str, Any] = {"index": self.index, "choices": self.arch.choices, "parent": self.parent}
        record |= {"params": self.cost.params, "flops": self.cost.flops, "depth": self.cost.depth}
        if self.latency is not None:
            record["latency_ms"] = self.latency
        if self.reason is not None:
            return record | {"state": "failed", "reason": self.reason}
        return record | {"state": "complete", "scores": self.scores}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], space: str) -> Trial:
        """The trial that a line of the journal holds.

        Raises:
            ValueError: names the field that is missing or of another kind.
        """
        for name, fits in _FIELDS.items():
            if name not in record and name not in _OPTIONAL:
                raise ValueError(f"no {name}")
            if not fits(record.get(name)):
                raise ValueError(f"{name} {brief_repr(record.get(name))}")
        cost = Cost(record["params"], record["flops"], record["depth"])
        arch = Architecture(space, record["choices"])
        scores, reason = dict(record.get("scores") or {}), record.get("reason")
        return cls(record["index"], arch, cost, scores, reason, record.get("parent"), record.get("latency_ms"))


_OPTIONAL = {"latency_ms", "reason", "scores", "state"}
_FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "index": is_count,
    "choices": lambda value: value is not None,
    "parent": lambda value: value is None or isinstance(value, str),
    "params": is_count,
    "flops": is_count,
    "depth": is_count,
    "latency_ms": lambda value: value is None or (is_number(value) and value > 0),
    "state": lambda value: value in (None, "complete", "failed"),
    "reason": lambda value: value is None or isinstance(value, str),
    "scores": lambda value: value is None or isinstance(value, dict),
}


class Trials(Sequence[Trial]):
    """The trials of a search in the order of its journal. Each is kept as its line there, in a tenth of the memory, and read when it is
    looked at; the last few thousand of these are remembered.

    Args:
        space: the name of the search space.
    """

    def __init__(self, space: str) -> None:
        self._space = space
        self._lines: list[bytes] = []
        self._read = functools.lru_cache(_REMEMBERED)(self._read_line)

    def append(self, trial: Trial) -> None:
        """Add a trial."""
        self._lines.append(canonical_json(trial.record()).encode())

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> Trial: ...
    @overload
    def __getitem__(self, index: slice) -> list[Trial]: ...
    def __getitem__(self, index: int | slice) -> Trial | list[Trial]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return self._read(range(len(self))[index])

    def __eq__(self, other: object) -> bool:
        return self._lines == other._lines if isinstance(other, Trials) else NotImplemented

    def __iter__(self) -> Iterator[Trial]:
        return map(self._read_line, range(len(self)))

    def _read_line(self, number: int) -> Trial:
        return Trial.from_record(json.loads(self._lines[number]), self._space)


def read_trials(run: RunDir, space: str, repair: bool = False) -> list[Trial]:
    """Read the trials of a search's journal.

    Args:
        run: the run's folder.
        space: the name of the search space.
        repair: whether a last line that a crash cut short is cut off the file too.

    Raises:
        RunError: a line is damaged.
    """
    trials = []
    for number, record in enumerate(run.read(JOURNAL, repair), 1):
        try:
            trials.append(Trial.from_record(record, space))
        except (ValueError, ArchitectureError) as error:
            where = f"{run.path / JOURNAL}, line {number}"
            raise RunError(f"{where}: damaged ({first_line(error)}): restore it, or start a new run") from None
    return trials
