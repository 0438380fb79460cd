"""What to try next: never the same network twice, never one outside the budget, and as the strategy says."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from diswot.architecture import Architecture
from diswot.config import SearchConfig
from diswot.searching.proposals import Proposer
from diswot.searching.strategies import STRATEGIES, Member, SearchState, Strategy
from diswot.space import SearchSpace, load_space
from diswot.testing import check_strategy

S0 = load_space("s0")
Proposal = tuple[Architecture, Architecture | None] | None


@dataclass(frozen=True)
class FunctionBudget:
    """A budget that is a function."""

    admits: Callable[[Architecture], bool] = field(default=lambda _: True)
    excess: Callable[[Architecture], float] = field(default=lambda _: 0.0)


def breeding(strategy: str = "evolution", population_size: int = 64, tournament_size: int = 16, top_k: int = 4) -> SearchConfig:
    return SearchConfig(strategy=strategy, population_size=population_size, tournament_size=tournament_size, top_k=top_k)


def propose(
    config: SearchConfig,
    history: Sequence[Member] = (),
    seen: Collection[Architecture] = (),
    *,
    space: SearchSpace = S0,
    budget: FunctionBudget | None = None,
    seed: Any = 0,
) -> Proposal:
    """The next candidate after a history of complete trials."""
    proposer = Proposer(space, budget or FunctionBudget(), config)
    return proposer.propose(history, len(history), seen, np.random.default_rng(seed))


def grow(
    config: SearchConfig,
    steps: int,
    fitness: Callable[[Architecture], float],
    *,
    seed: int = 0,
    space: SearchSpace = S0,
    budget: FunctionBudget | None = None,
) -> tuple[list[Member], list[Architecture | None]]:
    """A search of so many steps, or until nothing is left: its members, and their parents."""
    history: list[Member] = []
    parents: list[Architecture | None] = []
    seen: set[Architecture] = set()
    for index in range(steps):
        found = propose(config, history, seen, space=space, budget=budget, seed=[seed, index])
        if found is None:
            break
        arch, parent = found
        seen.add(space.canonical(arch))
        history.append(Member(arch, fitness(arch)))
        parents.append(parent)
    return history, parents


def total_depth(arch: Architecture) -> float:
    return float(sum(arch.choices["depths"]))


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_keeps_its_promises(name: str) -> None:
    check_strategy(name)
    check_strategy(type(STRATEGIES[name]), space="nats_size")


class Forgetful(Strategy):
    """It counts its own calls, so that a resumed search would breed otherwise."""

    def __init__(self) -> None:
        self.calls = 0

    def candidates(self, state: SearchState) -> Any:
        self.calls += 1
        yield list(state.space.neighbours(state.history[0].arch))[self.calls], None


class Endless(Strategy):
    def candidates(self, state: SearchState) -> Any:
        while True:
            yield state.history[0].arch, None


class Greedy(Strategy):
    """It changes what it is given."""

    def candidates(self, state: SearchState) -> Any:
        state.history.sort(key=lambda member: -member.fitness)  # type: ignore[attr-defined]
        return iter(())


@pytest.mark.parametrize(
    ("strategy", "says"), [(Forgetful, "other candidates for the same state"), (Endless, "it must end"), (Greedy, "not change the history")]
)
def test_a_strategy_that_breaks_its_promises_is_noticed(strategy: type[Strategy], says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_strategy(strategy)


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_network_comes_twice_and_a_finite_space_is_exhausted(name: str) -> None:
    history, _ = grow(breeding(name, population_size=8, tournament_size=4, top_k=2), 100, total_depth)
    archs = [member.arch for member in history]
    assert len(archs) == len(set(archs)) == 64


def test_canonically_equal_cells_come_once() -> None:
    space = load_space("nasbench201")
    history, _ = grow(breeding(population_size=20, tournament_size=5, top_k=2), 200, lambda arch: len(arch.choices), space=space)
    forms = [space.canonical(member.arch) for member in history]
    assert len(forms) == len(set(forms)) == 200


def test_the_same_history_and_generator_propose_the_same() -> None:
    config = breeding(population_size=8, tournament_size=4, top_k=2)
    assert grow(config, 40, total_depth)[0] == grow(config, 40, total_depth)[0]
    assert grow(config, 40, total_depth)[0] != grow(config, 40, total_depth, seed=1)[0]


def test_random_candidates_come_first_then_children_of_the_fit() -> None:
    """With the whole population drawn and top-k 1 the parent is the fittest."""
    history, parents = grow(breeding(population_size=10, tournament_size=10, top_k=1), 30, total_depth)
    assert parents[:10] == [None] * 10
    bred = {index: parent for index, parent in enumerate(parents) if parent is not None}
    assert len(bred) > 10
    for index, parent in bred.items():
        assert total_depth(parent) == max(member.fitness for member in history[:index])


def test_the_worst_leaves_or_the_oldest() -> None:
    """A member that is old and best stays a parent in evolution and is gone in aging."""
    archs = list(S0.enumerate() or ())
    history = [Member(archs[0], 100.0)] + [Member(arch, 1.0) for arch in archs[1:30]]

    def parent(name: str) -> Architecture | None:
        found = propose(breeding(name, population_size=10, tournament_size=10, top_k=1), history, {member.arch for member in history})
        assert found is not None
        return found[1]

    assert parent("evolution") == archs[0]
    assert parent("aging") in archs[20:30]


def test_what_is_outside_the_budget_is_never_proposed() -> None:
    budget = FunctionBudget(lambda arch: total_depth(arch) <= 9)
    history, _ = grow(breeding(population_size=8, tournament_size=4, top_k=2), 100, total_depth, budget=budget)
    assert len(history) == sum(map(budget.admits, S0.enumerate() or ())) < 64
    assert all(member.fitness <= 9 for member in history)


def test_evolution_beats_random_search_on_a_smooth_fitness() -> None:
    """The same number of trials on cells whose fitness is their number of 3x3 convolutions, over 10 seeds."""
    space = load_space("nasbench201")

    def fitness(arch: Architecture) -> float:
        return arch.choices.count("nor_conv_3x3") + 0.1 * arch.choices.count("nor_conv_1x1")

    def best(name: str, seed: int) -> float:
        return max(member.fitness for member in grow(breeding(name, 20, 8, 2), 80, fitness, seed=seed, space=space)[0])

    evolved, drawn = (np.mean([best(name, seed) for seed in range(10)]) for name in ("evolution", "random"))
    assert evolved > drawn + 0.5


def test_a_budget_that_samples_miss_is_walked_into() -> None:
    """A range that about none of 2,000 samples of S1 meets."""
    space = load_space("s1")

    def params(arch: Architecture) -> int:
        return space.count(arch, 100, 3, 32).params

    def admits(arch: Architecture) -> bool:
        return 25_000_000 <= params(arch) <= 25_500_000

    budget = FunctionBudget(admits, lambda arch: abs(np.log(params(arch) / 25_250_000)) * (not admits(arch)))
    found = propose(breeding(), space=space, budget=budget)
    assert found is not None and admits(found[0])


def test_an_impossible_budget_ends_with_nothing() -> None:
    assert propose(breeding(), budget=FunctionBudget(lambda _: False)) is None
