"""Which units of a space are measured, where there are too many to measure all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diswot.architecture import Architecture
from diswot.budget import Budget, CostCounter
from diswot.errors import BudgetError
from diswot.latency.fill_in import places_of
from diswot.latency.units import Unit, UnitReader

SAMPLES = 400  # networks whose units are candidates
_MOST_DRAWS = 40_000
_AGAIN = 100  # after so many, a space has next to no others


@dataclass(frozen=True)
class Example:
    """A unit, and a network that has it: the `position`-th of the units of `arch`."""

    unit: Unit
    arch: Architecture
    position: int


@dataclass(frozen=True)
class Design:
    """What is measured for a table.

    Attributes:
        examples: the units.
        networks: whole networks, against which the sums are held.
        kinds_seen: how many different units the sampled networks have.
    """

    examples: tuple[Example, ...]
    networks: tuple[Architecture, ...]
    kinds_seen: int


def sample_networks(reader: UnitReader, budget: Budget, count: int, rng: np.random.Generator) -> list[Architecture]:
    """Different random networks within a budget, at most `count`.

    Raises:
        BudgetError: none was found.
    """
    cost = CostCounter(reader.space, reader.spec)
    found: dict[Architecture, None] = {}
    again = 0  # draws in a row of what had been drawn before
    for _ in range(_MOST_DRAWS if cost.by_arithmetic else count):
        arch = reader.space.sample(rng)
        again = again + 1 if arch in found else 0
        if not budget.counted() or budget.admits(cost(arch)):
            found[arch] = None
        if len(found) == count or again == _AGAIN:
            break
    if not found:
        raise BudgetError(f"no network of {reader.space.name} was found within the limits: widen --params or --flops")
    return list(found)


def design(reader: UnitReader, budget: Budget, most_units: int, num_networks: int, rng: np.random.Generator) -> Design:
    """Choose the units to measure: those of random networks of the space, spread as evenly as can be.

    The first of each kind is the one that most networks have; then always the one that lies farthest from those that are taken (in the
    logarithms of channels, kernel and resolution, within its kind), so that both the smallest and the largest are among them, and what is
    filled in lies between.

    Args:
        reader: of the space.
        budget: limits on the networks whose units are considered.
        most_units: how many units.
        num_networks: how many whole networks.
        rng: draws the networks.
    """
    archs = sample_networks(reader, budget, SAMPLES, rng)
    examples: dict[Unit, Example] = {}
    counts: Counter[Unit] = Counter()
    for arch in archs:
        for position, unit in enumerate(reader.units(arch)):
            examples.setdefault(unit, Example(unit, arch, position))
            counts[unit] += 1
    chosen = _spread(sorted(examples, key=lambda unit: (-counts[unit], unit.key)), most_units)
    by_size = sorted(archs, key=lambda arch: sum(unit.flops for unit in reader.units(arch)))
    spaced = np.linspace(0, len(archs) - 1, min(num_networks, len(archs))).round().astype(int)
    networks = tuple(by_size[index] for index in dict.fromkeys(spaced.tolist()))
    return Design(tuple(examples[unit] for unit in chosen), networks, len(examples))


def _spread(units: Sequence[Unit], most: int) -> list[Unit]:
    """The farthest-point order of units, the commonest of each kind first, cut off after `most`."""
    if len(units) <= most:
        return list(units)
    places = places_of(units)
    kinds = np.array([unit.kind for unit in units])
    distance = np.full(len(units), np.inf)
    order: list[int] = []
    while len(order) < most:
        nearest = int(np.argmax(distance))
        order.append(nearest)
        apart = np.linalg.norm(places - places[nearest], axis=1)
        apart[kinds != kinds[nearest]] = np.inf
        distance = np.minimum(distance, apart)
    return [units[index] for index in order]
