"""Evolution as a function of history: what to try next, given what has been tried. No torch, no files, no clock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from diswot.architecture import Architecture
from diswot.space import SearchSpace

if TYPE_CHECKING:
    import numpy as np

Algorithm = Literal["evolution", "aging", "random"]
_PARENTS = 50  # tried before a fresh sample is taken instead
_STEPS = 8  # mutations away from a parent
_SAMPLES = 300  # fresh samples before the budget is walked into, or a small space is listed
_WALKS = 20
_WALK_STEPS = 300


@dataclass(frozen=True)
class Evolution:
    """How the next candidate is bred.

    Attributes:
        algorithm: `evolution` (DisWOT figure 2: the worst member leaves), `aging` (the oldest leaves; Real et al., AAAI 2019) or `random`.
        population: members kept; so many random candidates come first.
        sample: members drawn at random to choose a parent from.
        top_k: the best of the drawn ones, of which one, at random, becomes the parent.
    """

    algorithm: Algorithm = "evolution"
    population: int = 64
    sample: int = 16
    top_k: int = 4


@dataclass(frozen=True)
class Member:
    """A scored architecture; `fitness` is higher for the better."""

    arch: Architecture
    fitness: float


def propose(
    space: SearchSpace,
    history: Sequence[Member],
    started: int,
    settings: Evolution,
    rng: np.random.Generator,
    admits: Callable[[Architecture], bool],
    seen: Collection[Architecture],
    excess: Callable[[Architecture], float],
) -> tuple[Architecture, Architecture | None] | None:
    """The next candidate and its parent (None for a random one), or None where every network within the budget has been tried.

    Args:
        history: the scored members, in the order of their trials.
        started: trials begun so far, failed and pending ones included; random candidates come while it is below the population.
        admits: whether a candidate is within the budget.
        seen: canonical forms that have been tried; a candidate equal to one of them is never proposed again.
        excess: how far outside the budget a candidate is, 0 within.
    """

    def fresh(arch: Architecture) -> bool:
        return space.canonical(arch) not in seen and admits(arch)

    if settings.algorithm != "random" and started >= settings.population and history:
        members = _population(history, settings)
        for _ in range(_PARENTS):
            parent = _parent(members, settings, rng)
            child = parent
            for _ in range(_STEPS):  # where all neighbours are known or too large, look further away
                child = space.mutate(child, rng)
                if fresh(child):
                    return child, parent
    found = _fresh_sample(space, rng, fresh, excess)
    return None if found is None else (found, None)


def _population(history: Sequence[Member], settings: Evolution) -> Sequence[Member]:
    """Who is alive. Adding a child and removing the worst, again and again, leaves the best ever seen; removing the oldest, the last."""
    if settings.algorithm == "aging":
        return history[-settings.population :]
    return sorted(history, key=lambda member: -member.fitness)[: settings.population]


def _parent(members: Sequence[Member], settings: Evolution, rng: np.random.Generator) -> Architecture:
    drawn = rng.choice(len(members), size=min(settings.sample, len(members)), replace=False)
    best = sorted(drawn, key=lambda i: (-members[i].fitness, i))[: settings.top_k]
    return members[best[int(rng.integers(len(best)))]].arch


def _fresh_sample(
    space: SearchSpace,
    rng: np.random.Generator,
    fresh: Callable[[Architecture], bool],
    excess: Callable[[Architecture], float],
) -> Architecture | None:
    """A random new candidate: by rejection, else by walking from samples into a budget that few of them meet, else by enumeration."""
    samples: list[Architecture] = []
    for _ in range(_SAMPLES):
        arch = space.sample(rng)
        if fresh(arch):
            return arch
        samples.append(arch)
    everything = space.enumerate()
    if everything is not None:
        left = [arch for arch in everything if fresh(arch)]
        return left[int(rng.integers(len(left)))] if left else None
    starts = sorted(samples, key=excess)[:_WALKS]
    return next((found for start in starts if (found := _walk(space, start, rng, fresh, excess)) is not None), None)


def _walk(
    space: SearchSpace,
    arch: Architecture,
    rng: np.random.Generator,
    fresh: Callable[[Architecture], bool],
    excess: Callable[[Architecture], float],
) -> Architecture | None:
    """Mutations that do not lead further away from the budget, until one lands in it."""
    distance = excess(arch)
    for _ in range(_WALK_STEPS):
        step = space.mutate(arch, rng)
        if fresh(step):
            return step
        if (away := excess(step)) <= distance:
            arch, distance = step, away
    return None
