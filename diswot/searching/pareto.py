"""A front in place of a point: networks of which none is both cheaper and better ranked, after NSGA-II.

The source is Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Trans. Evolutionary Computation 2002.
All functions take values (n, objectives) of which lower is better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diswot.architecture import Architecture
from diswot.searching.history import History
from diswot.searching.strategies import Evolution, Member, SearchState
from diswot.searching.trial import Trial

if TYPE_CHECKING:
    from diswot.statistics.ranked_values import Vector

OBJECTIVES = ("params", "flops", "latency")


def non_dominated(values: Vector) -> NDArray[np.intp]:
    """Return the indices of the points that no other one dominates, in ascending order. A point dominates another where it is nowhere worse
    and somewhere better.

    >>> non_dominated(np.array([[1.0, 4.0], [2.0, 2.0], [3.0, 3.0], [4.0, 1.0], [2.0, 2.0]])).tolist()
    [0, 1, 3, 4]
    """
    order = np.lexsort(values.T[::-1])  # by the first objective, then the second, ...: what dominates a point comes before it
    front = np.empty_like(values)
    found: list[int] = []
    for index in order:
        point, count = values[index], len(found)
        nowhere_worse = (front[:count] <= point).all(1)
        if not nowhere_worse.any() or (front[:count][nowhere_worse] == point).all():
            front[count] = point
            found.append(int(index))
    return np.sort(np.array(found, np.intp))


def crowding_distances(values: Vector) -> Vector:
    """Return for each point of a front how far its neighbours are from each other along every objective, in parts of the front's extent,
    summed; infinite at the ends.

    >>> crowding_distances(np.array([[0.0, 1.0], [0.2, 0.5], [1.0, 0.0]])).tolist()
    [inf, 2.0, inf]
    """
    distances = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        extent = column[order[-1]] - column[order[0]]
        distances[order[[0, -1]]] = np.inf
        if extent > 0 and len(values) > 2:
            distances[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / extent
    return distances


def crowded_order(values: Vector, count: int) -> NDArray[np.intp]:
    """Return the indices of the `count` best points: front after front, in each the least crowded first.

    >>> crowded_order(np.array([[0.0, 3.0], [1.0, 1.5], [1.1, 1.4], [3.0, 0.0], [3.0, 3.0]]), 5).tolist()
    [0, 3, 2, 1, 4]
    """
    left, chosen = np.arange(len(values)), list[int]()
    while len(left) and len(chosen) < count:
        places = non_dominated(values[left])
        front = left[places]
        chosen += front[np.argsort(-crowding_distances(values[front]), kind="stable")].tolist()
        left = np.delete(left, places)
    return np.array(chosen[:count], np.intp)


def knee(values: Vector) -> int:
    """Return the index of the point of a front that is nearest to the best value of every objective, each in parts of the front's extent.

    >>> knee(np.array([[0.0, 1.0], [0.2, 0.1], [1.0, 0.0]]))
    1
    """
    low, extent = values.min(0), np.ptp(values, axis=0)
    scaled = (values - low) / np.where(extent > 0, extent, 1.0)
    return int(np.argmin((scaled**2).sum(1)))


class ParetoEvolution(Evolution):
    """The population is what is best by fronts and crowding; of two members drawn, the better one is the parent."""

    summary = "mutations along a front of cost and score (NSGA-II)"

    def population(self, state: SearchState) -> Sequence[Member]:
        history = state.history
        assert isinstance(history, History)
        return history.remembered("front", lambda: crowded_order(objectives(history), state.population_size))

    def parent(self, members: Sequence[Member], state: SearchState) -> Architecture:
        return members[int(state.rng.integers(len(members), size=2).min())].arch


def objectives(history: History) -> Vector:
    """The values (n, 1 + costs) that are to be low: minus the fitness, and the logarithms of the costs."""
    return np.column_stack([-history.fitness, np.log(np.maximum(history.costs, 1e-9))])


@dataclass(frozen=True)
class FrontMember:
    """A network of the front.

    Attributes:
        trial: of the search.
        score: its fitness among all that the search scored; higher is better.
        is_knee: whether it is nearest to the best of every objective.
    """

    trial: Trial
    score: float
    is_knee: bool


def find_front(history: History, trial_of: Callable[[int], Trial]) -> list[FrontMember]:
    """The front of a history, from the cheapest to the dearest.

    Args:
        history: the complete trials, ranked among themselves.
        trial_of: number of a member -> its trial.
    """
    values = objectives(history)
    front = non_dominated(values)
    best = int(front[knee(values[front])])
    ordered = sorted(front.tolist(), key=lambda number: tuple(history.costs[number]))
    return [FrontMember(trial_of(number), float(history.fitness[number]), number == best) for number in ordered]
