"""The conformance check of search strategies."""

from __future__ import annotations

import itertools

import numpy as np

from diswot.architecture import Architecture
from diswot.searching.strategies import STRATEGIES, Member, SearchState, Strategy
from diswot.space import SearchSpace, load_space
from diswot.testing.promises import told_as_assertions

_MOST = 100_000  # candidates that are asked for before a strategy is thought never to end


@told_as_assertions
def check_strategy(strategy: Strategy | type[Strategy] | str, space: str = "resnet_depth") -> None:
    """Check that a strategy keeps the promises of `diswot.searching.strategies.Strategy`.

    Args:
        strategy: the strategy, its class, or its name: `evolution`, `module:Class`.
        space: the search space that it is tried in.

    Raises:
        AssertionError: says which promise it breaks.

    >>> check_strategy("aging")
    """
    found = STRATEGIES[strategy] if isinstance(strategy, str) else strategy() if isinstance(strategy, type) else strategy
    name, searched = type(found).__name__, load_space(space, trusted=True)
    for length in (1, 5, 40):
        history = _history(searched, length)
        before = list(history)
        first = _candidates(found, searched, history)
        assert history == before, f"{name}: it must not change the history"
        for arch, parent in first:
            searched.check(arch)
            assert parent is None or isinstance(parent, Architecture), (
                f"{name}: the parent must be an architecture or None, it is {parent!r}"
            )
        again = _candidates(found, searched, history)
        assert again == first, f"{name}: other candidates for the same state: draw from state.rng alone, and keep nothing between calls"


def _history(space: SearchSpace, length: int) -> list[Member]:
    rng = np.random.default_rng(length)
    return [Member(space.sample(rng), float(rng.random())) for _ in range(length)]


def _candidates(strategy: Strategy, space: SearchSpace, history: list[Member]) -> list[tuple[Architecture, Architecture | None]]:
    state = SearchState(space, history, np.random.default_rng(0), population_size=20, tournament_size=8, top_k=2)
    found = list(itertools.islice(strategy.candidates(state), _MOST))
    assert len(found) < _MOST, f"{type(strategy).__name__}: it must end, so that a random candidate can be taken instead"
    return found
