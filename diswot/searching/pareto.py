"""A front in place of a point: networks of which none is both cheaper and better ranked.

All functions take values (n, objectives) of which lower is better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diswot.architecture import Architecture
from diswot.searching.history import History
from diswot.searching.strategies import Evolution, SearchState, Strategy
from diswot.searching.trial import Trial

if TYPE_CHECKING:
    from diswot.statistics.ranked_values import Vector

OBJECTIVES = ("params", "flops", "latency")
_SPAN = 10.0  # between the highest limit and the lowest
_DRAWS = 100


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


def knee(values: Vector) -> int:
    """Return the index of the point of a front that is nearest to the best value of every objective, each in parts of the front's extent.

    >>> knee(np.array([[0.0, 1.0], [0.2, 0.1], [1.0, 0.0]]))
    1
    """
    low, extent = values.min(0), np.ptp(values, axis=0)
    scaled = (values - low) / np.where(extent > 0, extent, 1.0)
    return int(np.argmin((scaled**2).sum(1)))


class ParetoEvolution(Strategy):
    """Evolution within limits on the costs, which are drawn anew for each candidate: it is bred from one of the `top_k` fittest of all
    members within them, and lies within them itself. So every size is searched by what is known of that size and all below.

    This is the epsilon-constraint method (Haimes et al., "On a Bicriterion Formulation of the Problems of Integrated System Identification
    and System Optimization", IEEE Trans. Systems, Man, and Cybernetics 1971).

    Args:
        known_cost: (architecture, name of a cost) -> that cost, or 0 where only a measurement could tell.
        costs: names of the costs, as the columns of a history's.
    """

    summary = "mutations of the best within limits on the costs that are drawn for each candidate"

    def __init__(self, known_cost: Callable[[Architecture, str], float], costs: Sequence[str]) -> None:
        self._known_cost, self._costs, self._evolution = known_cost, costs, Evolution()

    def candidates(self, state: SearchState) -> Iterator[tuple[Architecture, Architecture | None]]:
        history = state.history
        assert isinstance(history, History)
        limits = draw_limits(history.costs, state.rng)
        members = history.best(state.top_k, np.flatnonzero((history.costs <= limits).all(1)))
        for child, parent in self._evolution.bred_from(members, state):
            if all(self._known_cost(child, name) <= limit for name, limit in zip(self._costs, limits, strict=True)):
                yield child, parent


def draw_limits(costs: Vector, rng: np.random.Generator) -> Vector:
    """Draw a limit (costs,) on each cost of a history (n, costs), within which it has a member: every order of size is as likely, from a
    tenth of the dearest member on."""
    high = costs.max(0)
    low = np.clip(high / _SPAN, costs.min(0), high)
    for _ in range(_DRAWS):
        limits: Vector = low * (high / low) ** rng.random(len(high))
        if (costs <= limits).all(1).any():
            return limits
    return high


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
