"""The trials of a search: candidates that were tried, each a line of the journal."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from diswot.architecture import Architecture, canonical_json
from diswot.errors import RunError
from diswot.runs import RunDir
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
        """The trial that a line of the journal holds."""
        cost = Cost(record["params"], record["flops"], record["depth"])
        arch = Architecture(space, record["choices"])
        scores, reason = dict(record.get("scores") or {}), record.get("reason")
        return cls(record["index"], arch, cost, scores, reason, record["parent"], record.get("latency_ms"))


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
    try:
        return [Trial.from_record(record, space) for record in run.read(JOURNAL, repair)]
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{run.path / JOURNAL}: a line lacks {error}: the journal is damaged, start a new run") from None
