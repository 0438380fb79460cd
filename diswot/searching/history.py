"""The history of a search as its strategy sees it: members with their fitness, which is ranked anew as the history grows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, overload

import numpy as np

from diswot.architecture import Architecture
from diswot.searching.strategies import Member
from diswot.statistics.growing_ranks import GrowingRanks
from diswot.statistics.ranked_values import Vector

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class History(Sequence[Member]):
    """Scored members in the order of their trials, and the best of them, which are found once for all that breed from this history.

    Args:
        arch_of: number -> architecture.
        fitness: (n,) higher is better.
        costs: (n, costs) of which lower is better, where a front is looked for.

    >>> archs = [Architecture("s", number) for number in range(4)]
    >>> [member.arch.choices for member in History(archs.__getitem__, np.array([1.0, 3.0, 2.0, 3.0])).best(3)]
    [1, 3, 2]
    """

    def __init__(self, arch_of: Callable[[int], Architecture], fitness: Vector, costs: Vector | None = None) -> None:
        self._arch_of, self.fitness = arch_of, fitness
        self.costs = np.empty((len(fitness), 0)) if costs is None else costs
        self._best: dict[int, list[Member]] = {}

    def __len__(self) -> int:
        return len(self.fitness)

    @overload
    def __getitem__(self, index: int) -> Member: ...
    @overload
    def __getitem__(self, index: slice) -> list[Member]: ...
    def __getitem__(self, index: int | slice) -> Member | list[Member]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        return Member(self._arch_of(number), float(self.fitness[number]))

    def best(self, count: int, among: NDArray[np.intp] | None = None) -> list[Member]:
        """The fittest members, of equal ones the earlier first.

        Args:
            count: of members, at most.
            among: numbers of the members that count, in ascending order; None for all, whose best are remembered.
        """
        if among is not None:
            return [self[int(number)] for number in among[_largest(self.fitness[among], count)]]
        if count not in self._best:
            self._best[count] = [self[int(number)] for number in _largest(self.fitness, count)]
        return self._best[count]


def _largest(values: Vector, count: int) -> NDArray[np.intp]:
    """The indices of the largest values in descending order, of equal ones the earlier first, without sorting the others."""
    if count < len(values):
        among = np.flatnonzero(values >= np.partition(values, -count)[-count])
        return among[np.argsort(-values[among], kind="stable")][:count]
    return np.argsort(-values, kind="stable")


class _Ranking(Protocol):
    def fitness(self, scores: ArrayLike, ranks: Vector | None = None) -> Vector: ...


class ScoredTrials:
    """The scores of a search's trials, kept so that a history of any length is ranked without looking at every trial again.

    Args:
        ranking: makes a fitness (n,) of scores (n, parts).
        parts: number of scores of a trial.
        costs: number of costs of a trial, where a front is looked for.
        arch_of: place among the trials -> architecture.
    """

    def __init__(self, ranking: _Ranking, parts: int, arch_of: Callable[[int], Architecture], costs: int = 0) -> None:
        self._ranking, self._arch_of, self._parts = ranking, arch_of, parts
        self._table, self._ranks = np.empty((64, parts + costs)), GrowingRanks(parts)
        self._places: list[int] = []  # of the complete trials among all
        self._count = 0
        self._last: tuple[int, History] = (0, self._history(0))

    def append(self, scores: Sequence[float] | None, costs: Sequence[float] = ()) -> None:
        """Add a trial: (parts,) its scores averaged over the seeds, None where it has none; (costs,)."""
        if scores is not None:
            number = len(self._places)
            if number == len(self._table):
                self._table = np.concatenate([self._table, np.empty_like(self._table)])
            self._table[number] = [*scores, *costs]
            self._places.append(self._count)
        self._count += 1

    def history(self, length: int | None = None) -> History:
        """The complete ones of the first `length` trials (all by default), ranked among themselves."""
        complete = bisect_left(self._places, self._count if length is None else length)
        if complete != self._last[0]:
            self._last = complete, self._history(complete)
        return self._last[1]

    def last(self) -> History:
        """The history that was asked for last."""
        return self._last[1]

    def _history(self, complete: int) -> History:
        table = self._table[:complete]
        scores = table[:, : self._parts]
        if complete > len(self._ranks):
            self._ranks.extend(scores[len(self._ranks) :])
        ranks = self._ranks.table() if complete == len(self._ranks) else None  # a shorter history than the last is ranked by itself
        fitness = self._ranking.fitness(scores, ranks) if complete else np.empty(0)
        return History(lambda number: self._arch_of(self._places[number]), fitness, table[:, self._parts :])

    def place(self, number: int) -> int:
        """The place among all trials of a member of a history."""
        return self._places[number]
