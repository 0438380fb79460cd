"""The next candidate: what the strategy breeds, else a random one, within the budget and never tried before."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from diswot import plugins
from diswot.architecture import Architecture
from diswot.config.scoring import SearchConfig
from diswot.errors import ArchitectureError, ConfigError
from diswot.searching.pareto import ParetoEvolution
from diswot.searching.strategies import STRATEGIES, Member, SearchState, Strategy
from diswot.space import SearchSpace

if TYPE_CHECKING:
    import numpy as np

_SAMPLES = 300  # random candidates that are tried before the budget is walked into, or a small space is listed
_WALKS = 20  # of these, the nearest to the budget that walks begin at
_WALK_STEPS = 300
_CANDIDATES = 10_000  # of a strategy, before a random candidate is taken; ours yield a few hundred


class Feasibility(Protocol):
    """The test of architectures against a budget."""

    def admits(self, arch: Architecture) -> bool:
        """Whether it is within the budget."""

    def excess(self, arch: Architecture) -> float:
        """Return its distance from the budget, 0 within."""


class TriedForms:
    """Canonical forms that have been tried, by their digests: a hundred bytes each.

    >>> forms = TriedForms()
    >>> forms.add(Architecture("s", 1))
    >>> Architecture("s", 1) in forms, Architecture("s", 2) in forms, len(forms)
    (True, False, 1)
    """

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def add(self, form: Architecture) -> None:
        """Note a form."""
        self._digests.add(self._digest(form))

    def __contains__(self, form: object) -> bool:
        return isinstance(form, Architecture) and self._digest(form) in self._digests

    def __len__(self) -> int:
        return len(self._digests)

    @staticmethod
    def _digest(form: Architecture) -> bytes:
        return hashlib.blake2b(form.key.encode(), digest_size=16).digest()


@dataclass(frozen=True)
class Proposer:
    """Proposes candidates.

    Attributes:
        space: the search space.
        feasibility: which of its architectures are within the budget.
        config: the strategy, and the sizes that it works with.
        known_cost: (architecture, `params`, `flops` or `latency`) -> that cost, or 0 where only a measurement could tell; a search for a
            front needs it.
    """

    space: SearchSpace
    feasibility: Feasibility
    config: SearchConfig
    known_cost: Callable[[Architecture, str], float] | None = None

    @property
    def strategy(self) -> Strategy:
        """The strategy that breeds."""
        if costs := self.config.pareto_costs:
            assert self.known_cost is not None
            return ParetoEvolution(self.known_cost, costs)
        return STRATEGIES[self.config.strategy]

    def propose(
        self, history: Sequence[Member], started: int, seen: Container[Architecture], rng: np.random.Generator
    ) -> tuple[Architecture, Architecture | None] | None:
        """The next candidate and its parent (None for a random one), or None where every network within the budget has been tried.

        Args:
            history: the scored members, in the order of their trials.
            started: trials begun so far, failed and pending ones included; candidates are random while it is below the population's size.
            seen: canonical forms that have been tried; a candidate equal to one of them is never proposed again.
            rng: the generator of this candidate.
        """

        def fresh(arch: Architecture) -> bool:
            return self.space.canonical(arch) not in seen and self.feasibility.admits(arch)

        if started >= self.config.population_size and history:
            sizes = self.config.population_size, self.config.tournament_size, self.config.top_k
            bred = self._bred(SearchState(self.space, history, rng, *sizes))
            if (found := next((pair for pair in bred if fresh(pair[0])), None)) is not None:
                return found
        arch = self.random(rng, fresh)
        return None if arch is None else (arch, None)

    def _bred(self, state: SearchState) -> Iterator[tuple[Architecture, Architecture | None]]:
        """Yield the candidates of the strategy, each checked."""
        name, found = self.config.strategy, self.strategy.candidates(state)
        if not isinstance(found, Iterable):
            raise ConfigError(f"strategy {name}: candidates() must yield pairs, it returned {type(found).__name__}")
        for pair in itertools.islice(found, _CANDIDATES):
            if not (
                isinstance(pair, tuple)
                and len(pair) == 2
                and isinstance(pair[0], Architecture)
                and isinstance(pair[1], Architecture | None)
            ):
                raise ConfigError(
                    f"strategy {name}: candidates() must yield (architecture, its parent or None), not {type(pair).__name__} {pair!s:.80}"
                )
            if plugins.is_reference(name):
                if pair[0].space != self.space.name:
                    raise ConfigError(f"strategy {name}: it yields {pair[0]!s:.80}, and the space is {self.space.name}")
                try:
                    self.space.check(pair[0])
                except ArchitectureError as error:
                    raise ConfigError(f"strategy {name}: it yields what is not in the space: {error}") from None
            yield pair

    def random(self, rng: np.random.Generator, fresh: Callable[[Architecture], bool]) -> Architecture | None:
        """A random candidate: by rejection, else by enumeration, else by walking from samples into a budget that few of them meet."""
        samples: list[Architecture] = []
        for _ in range(_SAMPLES):
            arch = self.space.sample(rng)
            if fresh(arch):
                return arch
            samples.append(arch)
        everything = self.space.enumerate()
        if everything is not None:
            left = [arch for arch in everything if fresh(arch)]
            return left[int(rng.integers(len(left)))] if left else None
        starts = sorted(samples, key=self.feasibility.excess)[:_WALKS]
        return next((found for start in starts if (found := self._walk(start, rng, fresh)) is not None), None)

    def _walk(self, arch: Architecture, rng: np.random.Generator, fresh: Callable[[Architecture], bool]) -> Architecture | None:
        """Mutate, never further away from the budget, until a fresh architecture is met."""
        distance = self.feasibility.excess(arch)
        for _ in range(_WALK_STEPS):
            step = self.space.mutate(arch, rng)
            if fresh(step):
                return step
            if (away := self.feasibility.excess(step)) <= distance:
                arch, distance = step, away
        return None
