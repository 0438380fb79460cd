from __future__ import annotations

import numpy as np
import pytest

from diswot.architecture import Architecture
from diswot.searching.strategies import Evolution, Member, propose
from diswot.space import load_space

S0 = load_space("s0")


def everything(_: Architecture) -> bool:
    return True


def nothing_off(_: Architecture) -> float:
    return 0.0


def grow(settings: Evolution, steps: int, fitness, seed: int = 0, space=S0, admits=everything):  # type: ignore[no-untyped-def]
    history: list[Member] = []
    parents: list[Architecture | None] = []
    seen: set[Architecture] = set()
    for index in range(steps):
        found = propose(space, history, index, settings, np.random.default_rng([seed, index]), admits, seen, nothing_off)
        if found is None:
            break
        arch, parent = found
        seen.add(space.canonical(arch))
        history.append(Member(arch, fitness(arch)))
        parents.append(parent)
    return history, parents


def total_depth(arch: Architecture) -> float:
    return float(sum(arch.choices["depths"]))


@pytest.mark.parametrize("algorithm", ["evolution", "aging", "random"])
def test_no_network_comes_twice_and_a_finite_space_is_exhausted(algorithm: str) -> None:
    history, _ = grow(Evolution(algorithm, population_size=8, sample=4, top_k=2), 100, total_depth)  # type: ignore[arg-type]
    archs = [member.arch for member in history]
    assert len(archs) == len(set(archs)) == 64


def test_canonically_equal_cells_come_once() -> None:
    space = load_space("nasbench201")
    history, _ = grow(Evolution(population_size=20, sample=5, top_k=2), 200, lambda a: len(a.choices), space=space)
    forms = [space.canonical(member.arch) for member in history]
    assert len(forms) == len(set(forms)) == 200


def test_the_same_history_and_generator_propose_the_same() -> None:
    settings = Evolution(population_size=8, sample=4, top_k=2)
    assert grow(settings, 40, total_depth)[0] == grow(settings, 40, total_depth)[0]
    assert grow(settings, 40, total_depth)[0] != grow(settings, 40, total_depth, seed=1)[0]


def test_random_candidates_come_first_then_children_of_the_fit() -> None:
    settings = Evolution(population_size=10, sample=10, top_k=1)
    history, parents = grow(settings, 30, total_depth)
    assert parents[:10] == [None] * 10
    for index in range(10, 30):
        if parents[index] is None:
            continue
        best = max(member.fitness for member in history[:index])
        assert total_depth(parents[index]) == best, "with the whole population drawn and top-k 1 the parent is the fittest"


def test_the_worst_leaves_or_the_oldest() -> None:
    """A member that is old and best stays a parent in evolution and is gone in aging."""
    archs = list(S0.enumerate())
    history = [Member(archs[0], 100.0)] + [Member(arch, 1.0) for arch in archs[1:30]]
    seen = {member.arch for member in history}

    def parent(algorithm: str) -> Architecture | None:
        settings = Evolution(algorithm, population_size=10, sample=10, top_k=1)  # type: ignore[arg-type]
        found = propose(S0, history, 30, settings, np.random.default_rng(0), everything, seen, nothing_off)
        assert found is not None
        return found[1]

    assert parent("evolution") == archs[0]
    assert parent("aging") in archs[20:30]


def test_what_is_outside_the_budget_is_never_proposed() -> None:
    history, _ = grow(Evolution(population_size=8, sample=4, top_k=2), 100, total_depth, admits=lambda a: total_depth(a) <= 9)
    assert 0 < len(history) < 64
    assert all(member.fitness <= 9 for member in history)


def test_evolution_beats_random_search_on_a_smooth_fitness() -> None:
    """The same number of trials on cells whose fitness is their number of 3x3 convolutions, over 10 seeds."""
    space = load_space("nasbench201")

    def fitness(arch: Architecture) -> float:
        return arch.choices.count("nor_conv_3x3") + 0.1 * arch.choices.count("nor_conv_1x1")

    best = {
        algorithm: np.mean([
            max(m.fitness for m in grow(Evolution(algorithm, 20, 8, 2), 80, fitness, seed, space)[0]) for seed in range(10)  # type: ignore[arg-type]
        ])
        for algorithm in ("evolution", "random")
    }  # fmt: skip
    assert best["evolution"] > best["random"] + 0.5


def test_a_budget_that_samples_miss_is_walked_into() -> None:
    """A range that about none of 2,000 samples of S1 meets."""
    space = load_space("s1")

    def params(arch: Architecture) -> int:
        return space.count(arch, 100, 3, 32).params

    def admits(arch: Architecture) -> bool:
        return 25_000_000 <= params(arch) <= 25_500_000

    found = propose(
        space, [], 0, Evolution(), np.random.default_rng(0), admits, set(), lambda a: abs(np.log(params(a) / 25_250_000)) * (not admits(a))
    )
    assert found is not None and admits(found[0])


def test_an_impossible_budget_ends_with_nothing() -> None:
    assert propose(load_space("s0"), [], 0, Evolution(), np.random.default_rng(0), lambda _: False, set(), nothing_off) is None
