"""The networks of a table: spread over a budget, and from searches, whose last generations are where a ranking is exploited."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diswot import runs
from diswot.architecture import Architecture, read_arch_json
from diswot.budget import Budget, CostCounter, Range
from diswot.config import SearchConfig, TabulateConfig, to_dict
from diswot.errors import BudgetError, DiswotError, RunError
from diswot.runs import RunDir, is_count
from diswot.searching.feasibility import CountedFeasibility
from diswot.searching.proposals import Proposer
from diswot.searching.trial import read_trials
from diswot.space import ALIASES, Cost, ImageSpec, SearchSpace

logger = logging.getLogger(__name__)
NETWORKS = "networks.json"
RANDOM = "random"
_SAMPLES = 2_000  # random networks, of which the nearest to the wanted sizes are taken
_TRACED_SAMPLES = 400  # the same in a space that does not count costs itself, where each takes some 10 ms or more
_TENTH = 10  # a phase of a search is this part of its trials


@dataclass(frozen=True)
class TableNetwork:
    """A network of a table.

    Attributes:
        arch: the architecture.
        cost: its parameters, FLOPs and depth.
        source: `random`, or the search that it was a candidate of, with the phase.
    """

    arch: Architecture
    cost: Cost
    source: str = RANDOM


class NetworkSampler:
    """Draws different networks within a budget.

    Args:
        space: the search space.
        budget: what they may cost.
        spec: classes, channels and size of the images.
        seed: random seed.
    """

    def __init__(self, space: SearchSpace, budget: Budget, spec: ImageSpec, seed: int) -> None:
        self.space, self.budget = space, budget
        self.cost = CostCounter(space, spec)
        self.rng = np.random.default_rng([seed, 0x7AB])
        self._taken: set[Architecture] = set()

    def take(self, arch: Architecture, source: str = RANDOM) -> TableNetwork | None:
        """Take an architecture for the table; None where it is outside the budget, or its network is in the table already."""
        form = self.space.canonical(arch)
        if form in self._taken or not self.budget.admits(self.cost(arch)):
            return None
        self._taken.add(form)
        return TableNetwork(arch, self.cost(arch), source)

    def everything(self, count: int) -> list[TableNetwork] | None:
        """Take every network within the budget, where there are no more than `count`."""
        every = self.space.enumerate()
        if every is None:
            return None
        admitted = (arch for arch in every if self.budget.admits(self.cost(arch)))
        forms = list(itertools.islice(dict.fromkeys(map(self.space.canonical, admitted)), count + 1))
        return None if len(forms) > count else [network for arch in forms if (network := self.take(arch))]

    def spread(self, count: int) -> list[TableNetwork]:
        """Take random networks that are spread over the budget: one in each of `count` bands of equal ratio of what is bounded, and of the
        second bound (FLOPs beside parameters) all sizes with all sizes of the first.

        Raises:
            BudgetError: fewer than `count` were found.
        """
        samples = _SAMPLES if self.cost.by_arithmetic else _TRACED_SAMPLES
        pool = [arch for arch in (self.space.sample(self.rng) for _ in range(samples)) if self.budget.admits(self.cost(arch))]
        found: list[TableNetwork] = []
        for band, wanted in self._bands(count):
            inside = [arch for arch in pool if self._is_new(arch) and band.admits(self.cost(arch))]
            nearest = min(inside, key=lambda arch: self._distance(arch, wanted)) if inside else self._draw(band)
            found += [network for network in (nearest and self.take(nearest),) if network]
        while len(found) < count:  # bands that nothing was found in
            arch = self._draw(self.budget)
            network = self.take(arch) if arch is not None else None
            if network is None:
                raise BudgetError(f"only {len(found)} of {count} networks were found within the budget: widen it, or lower --networks")
            found.append(network)
        return found

    def _is_new(self, arch: Architecture) -> bool:
        return self.space.canonical(arch) not in self._taken

    def _draw(self, budget: Budget) -> Architecture | None:
        within = CountedFeasibility(budget, self.cost)
        proposer = Proposer(self.space, within, SearchConfig())
        return proposer.random(self.rng, lambda arch: self._is_new(arch) and within.admits(arch))

    def _bands(self, count: int) -> list[tuple[Budget, dict[str, float]]]:
        """The budget of each band, and the wanted size of the second bound."""
        bounds = {what: self._bounds(what, limit) for what, limit in self.budget.counted().items() if what != "depth"}
        if not bounds:
            return [(self.budget, {})] * count
        first, *others = bounds
        edges = np.geomspace(*bounds[first], count + 1)
        wanted: list[dict[str, float]] = [{} for _ in range(count)]
        for other in others[:1]:
            sizes = np.geomspace(*bounds[other], 2 * count + 1)[1::2]
            wanted = [{other: float(sizes[index])} for index in self.rng.permutation(count)]
        budgets = (dataclasses.replace(self.budget, **{first: Range(*map(float, pair))}) for pair in itertools.pairwise(edges))
        return list(zip(budgets, wanted, strict=True))

    def _bounds(self, what: str, limit: Range) -> tuple[float, float]:
        """The part of a limit that the space reaches."""
        sizes = [getattr(self.cost(arch), what) for arch in self.space.extremes()]
        low, high = max(limit.low, min(sizes)), min(limit.high, max(sizes))
        if low > high:
            raise BudgetError(f"--{what}: networks of {self.space.name} have {min(sizes):,} to {max(sizes):,} {what}")
        return low, high

    def _distance(self, arch: Architecture, wanted: dict[str, float]) -> float:
        return sum(abs(math.log(getattr(self.cost(arch), what) / size)) for what, size in wanted.items())

    def from_search(self, folder: Path, phases: Sequence[str], count: int) -> list[TableNetwork]:
        """Take candidates of a search, from its phases in turn; the winner is the first of its last.

        Raises:
            RunError: the folder holds no search, or one in another space.
        """
        queues = self._phases(folder)
        found: list[TableNetwork] = []
        while len(found) < count and any(queues[phase] for phase in phases):
            for phase in phases:
                while queues[phase]:
                    if network := self.take(queues[phase].pop(0), f"{folder.name} {phase}"):
                        found.append(network)
                        break
        return found[:count]

    def _phases(self, folder: Path) -> dict[str, list[Architecture]]:
        """The candidates of each phase of a search, shuffled."""
        run, document = RunDir.open(folder, "search", lock=False)
        searched = str(document.get("space"))
        if ALIASES.get(searched, searched) != self.space.name:
            raise RunError(f"{folder}: a search in {searched}, and this table is of {self.space.name}")
        trials = read_trials(run, self.space.name)
        tenth, middle = max(len(trials) // _TENTH, 1), len(trials) // 2
        parts = {"early": trials[:tenth], "middle": trials[middle : middle + tenth], "last": trials[-tenth:]}
        shuffled = {name: [part[i].arch for i in self.rng.permutation(len(part))] for name, part in parts.items()}
        if (folder / "arch.json").exists():
            winner, _ = read_arch_json(folder / "arch.json")
            if winner.space == self.space.name:  # that of finals may be a hand-made network
                shuffled["last"].insert(0, winner)
        for arch in {arch for archs in shuffled.values() for arch in archs}:
            self.space.check(arch)
        return shuffled


def choose_networks(config: TabulateConfig, searches: Sequence[Path], space: SearchSpace, spec: ImageSpec) -> list[TableNetwork]:
    """The networks that a configuration asks for, shuffled, so that every beginning of the table is a small table of the same kind.

    Raises:
        DiswotError: there are too few within the budget, or a search cannot be read.
    """
    budget = Budget.parse(config.limits())
    sampler = NetworkSampler(space, budget, spec, config.seed)
    chosen: list[TableNetwork] = []
    wanted = round(config.search_fraction * config.networks) if searches else 0
    for number, folder in enumerate(searches):
        share = (wanted - len(chosen)) / (len(searches) - number)
        chosen += sampler.from_search(folder, config.phases, math.ceil(share - 1e-9))
    left = config.networks - len(chosen)
    chosen += sampler.everything(left) or sampler.spread(left) if left else []
    return [chosen[index] for index in sampler.rng.permutation(len(chosen))]


def networks_json(networks: Sequence[TableNetwork]) -> str:
    """The networks as the text of a file."""
    rows = [{"choices": n.arch.choices, **dataclasses.asdict(n.cost), "source": n.source} for n in networks]
    return json.dumps({"networks": rows}, indent=1) + "\n"


def read_networks(path: Path, space: SearchSpace) -> list[TableNetwork]:
    """Read the networks of a run that is resumed.

    Raises:
        RunError: the file is damaged.
    """
    rows: Any = runs.read_object(path).get("networks")
    try:
        found = [
            TableNetwork(Architecture(space.name, row["choices"]), Cost(row["params"], row["flops"], row["depth"]), str(row["source"]))
            for row in rows
        ]
        for network in found:
            space.check(network.arch)
            if not all(map(is_count, to_dict(network.cost).values())):
                raise TypeError("a cost is no whole number")
    except (KeyError, TypeError, DiswotError) as error:
        raise RunError(f"{path}: damaged ({error}): restore it, or start a new run") from None
    return found
