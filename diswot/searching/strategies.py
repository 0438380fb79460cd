"""Search strategies: what to try next, as a function of what has been tried. No torch, no files, no clock."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from diswot import plugins
from diswot.architecture import Architecture
from diswot.registry import Registry
from diswot.space import SearchSpace

if TYPE_CHECKING:
    import numpy as np

_PARENTS = 50  # that are tried before a random candidate is taken instead
_STEPS = 8  # mutations away from a parent, where all its neighbours are known or outside the budget


@dataclass(frozen=True)
class Member:
    """A scored architecture; a higher `fitness` is better."""

    arch: Architecture
    fitness: float


@dataclass(frozen=True)
class SearchState:
    """The state of a search, as a strategy is given it.

    Attributes:
        space: the search space.
        history: the members scored so far, in the order of their trials; never empty. Their fitness is relative to one another, and so
            changes as the history grows.
        rng: the random generator of this candidate; whatever is drawn must come from it.
        population_size: members to keep, as `--population-size`.
        tournament_size: members to draw a parent from, as `--tournament-size`.
        top_k: of these, the best that may become the parent, as `--top-k`.
    """

    space: SearchSpace
    history: Sequence[Member]
    rng: np.random.Generator
    population_size: int = 64
    tournament_size: int = 16
    top_k: int = 4

    def best(self, count: int) -> Sequence[Member]:
        """The fittest members of the history, of equal ones the earlier first."""
        if callable(found := getattr(self.history, "best", None)):  # a history that remembers them for all candidates of a generation
            return found(count)
        return sorted(self.history, key=lambda member: -member.fitness)[:count]


class Strategy(ABC):
    """Base class of the search strategies. To write one, subclass it and define `candidates`; `--strategy module:Class` finds it.

    A search begins with as many random candidates as the population has members, or as a generation has, where that is more. From then on
    `candidates` is called for every trial. It must depend on the state alone, and keep nothing from one call to the next: that is what
    makes a search resumable. Candidates of one generation are bred from the same history. Candidates that failed are not part of it.
    """

    summary: ClassVar[str] = ""

    @abstractmethod
    def candidates(self, state: SearchState) -> Iterator[tuple[Architecture, Architecture | None]]:
        """Yield candidates, each with the parent it was bred from, or None.

        The search takes the first that is within the budget and has not been tried, and asks for no more. After the last one, or the
        10,000th, a random candidate is taken. A candidate need not be canonical, but it must be valid in `state.space`.
        """


STRATEGIES = Registry[Strategy]("strategy", load=lambda reference: plugins.load_part(reference, "strategy", Strategy))  # type: ignore[type-abstract]
"""The strategies by name."""


class Evolution(Strategy):
    """The worst member leaves the population (DisWOT, figure 2)."""

    summary = "mutations of the best ever seen: the worst member leaves the population"

    def candidates(self, state: SearchState) -> Iterator[tuple[Architecture, Architecture | None]]:
        return self.bred_from(self.population(state), state)

    def bred_from(self, members: Sequence[Member], state: SearchState) -> Iterator[tuple[Architecture, Architecture | None]]:
        """Yield mutations of these members, further and further away from each parent."""
        for _ in range(_PARENTS):
            parent = child = self.parent(members, state)
            for _ in range(_STEPS):
                child = state.space.mutate(child, state.rng)
                yield child, parent

    def population(self, state: SearchState) -> Sequence[Member]:
        """The members that are alive. Adding a child and removing the worst, again and again, leaves the best ever seen."""
        return state.best(state.population_size)

    def parent(self, members: Sequence[Member], state: SearchState) -> Architecture:
        """One of the best of a random sample of the members."""
        drawn = state.rng.choice(len(members), size=min(state.tournament_size, len(members)), replace=False).tolist()
        best = sorted(drawn, key=lambda index: (-members[index].fitness, index))[: state.top_k]
        return members[best[int(state.rng.integers(len(best)))]].arch


class AgingEvolution(Evolution):
    """The oldest member leaves the population (Real et al., "Regularized Evolution for Image Classifier Architecture
    Search", AAAI 2019)."""

    summary = "mutations of the last members: the oldest leaves the population"

    def population(self, state: SearchState) -> Sequence[Member]:
        return state.history[-state.population_size :]


class RandomSearch(Strategy):
    """Every candidate is random."""

    summary = "random candidates"

    def candidates(self, state: SearchState) -> Iterator[tuple[Architecture, Architecture | None]]:
        return iter(())


for _name, _strategy in (("evolution", Evolution()), ("aging", AgingEvolution()), ("random", RandomSearch())):
    STRATEGIES.register(_name)(_strategy)
