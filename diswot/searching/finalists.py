"""The finalists of a search: its winner, and what it must be held against before it is believed."""

from __future__ import annotations

import functools
import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from diswot.architecture import Architecture
from diswot.budget import CostCounter, Range, count_params
from diswot.searching.choices import distance
from diswot.searching.feasibility import BudgetFeasibility, CountedFeasibility
from diswot.searching.proposals import Proposer
from diswot.searching.strategies import Member
from diswot.searching.trial import Trial
from diswot.space import Cost, ImageSpec, load_space

WINNER, ALTERNATIVE, LARGEST, RANDOM, HAND_MADE = "winner", "alternative", "largest", "random", "hand-made"
PEERS = 8  # random networks of the winner's size that it is compared with
HAND_MADE_NETWORKS = (
    "resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet8x4", "resnet32x4", "wrn_16_1", "wrn_16_2",
    "wrn_40_1", "wrn_40_2", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2",
)  # fmt: skip
_MAX_CIFAR_SIZE = 64  # the hand-made students are meant for images up to this side in pixels
_DIFFERENT = 0.5  # of the single choices, that the alternative differs from the winner in
_TOP = 0.1  # of the candidates, that the alternative is among
_NEARBY = 6  # hand-made networks nearest in parameters, whose FLOPs are counted
_SAMPLES = 200  # random networks among which peers are looked for first
_SAME_SIZE = 0.1  # by which the parameters and the FLOPs of a peer may differ from the winner's


@dataclass(frozen=True)
class Trained:
    """What a finalist came to after a short training: its epochs, and its accuracy in percent on held-out training images."""

    epochs: int
    top1: float


def alternative(members: Sequence[Member], winner: Architecture) -> Architecture | None:
    """The best of the top tenth that differs from the winner in half of its choices, else the one of them that differs most; None where
    there is no other."""
    ordered = sorted(members, key=lambda member: -member.fitness)
    top = [member.arch for member in ordered[: max(2, math.ceil(_TOP * len(ordered)))] if member.arch != winner]
    if not top:
        return None
    return next((arch for arch in top if distance(arch, winner) >= _DIFFERENT), max(top, key=lambda arch: distance(arch, winner)))


def largest(feasibility: BudgetFeasibility, trials: Sequence[Trial]) -> Architecture:
    """The network with the most parameters (then FLOPs) within the budget: exact where the space can be walked, else climbed to from the
    three largest seen, one elementary change at a time, where parameters or FLOPs are bounded."""

    def size(arch: Architecture) -> tuple[int, int]:
        cost = feasibility.cost(arch)
        return cost.params, cost.flops

    def climb(arch: Architecture) -> Architecture:
        while True:
            top = max((near for near in feasibility.space.neighbours(arch) if feasibility.admits(near)), key=size, default=arch)
            if size(top) <= size(arch):
                return arch
            arch = top

    everything, budget = feasibility.space.enumerate(), feasibility.budget
    if everything is not None and budget.latency is None:
        return max((arch for arch in everything if feasibility.admits(arch)), key=size)
    starts = [trial.arch for trial in heapq.nlargest(3, trials, key=lambda trial: (trial.cost.params, trial.cost.flops))][::-1]
    if budget.latency is not None or not {"params", "flops"} & set(budget.counted()):
        return starts[-1]  # nothing that can be counted bounds the climb
    return max(map(climb, starts), key=size)


def peers(proposer: Proposer, feasibility: BudgetFeasibility, winner: Trial) -> list[Architecture]:
    """Random networks within the budget, of the winner's parameters and FLOPs to a tenth, drawn by a generator that the search itself never
    uses; where there is none, one of any size within the budget."""
    config, space = proposer.config, proposer.space
    rng = np.random.default_rng([config.seed, config.iterations, 1])
    taken = {space.canonical(winner.arch)}

    def fresh(arch: Architecture) -> bool:
        return is_of_size(feasibility.cost(arch), winner.cost) and space.canonical(arch) not in taken and feasibility.admits(arch)

    def drawn() -> Iterator[Architecture]:
        """Samples; where sizes are counted by arithmetic, and not by tracing each network, walks into the size too."""
        yield from (space.sample(rng) for _ in range(_SAMPLES))
        if feasibility.cost.by_arithmetic:
            budget = feasibility.budget.intersect(_sizes(winner.cost))
            sized = Proposer(space, CountedFeasibility(budget, feasibility.cost), config)
            while (arch := sized.random(rng, fresh)) is not None:
                yield arch

    found: list[Architecture] = []
    for arch in drawn():
        if fresh(arch):
            found.append(arch)
            taken.add(space.canonical(arch))
        if len(found) == PEERS:
            return found
    if found:
        return found
    other = proposer.random(rng, lambda arch: space.canonical(arch) not in taken and feasibility.admits(arch))
    return [] if other is None else [other]


def is_of_size(cost: Cost, other: Cost) -> bool:
    """Whether a network has another's parameters and FLOPs, to a tenth."""
    return all(getattr(cost, what) in limit for what, limit in _sizes(other).items())


def _sizes(cost: Cost) -> dict[str, Range]:
    values = {what: getattr(cost, what) for what in ("params", "flops")}
    return {what: Range((1 - _SAME_SIZE) * value, (1 + _SAME_SIZE) * value) for what, value in values.items()}


def hand_made(feasibility: BudgetFeasibility, winner: Cost, spec: ImageSpec) -> Architecture | None:
    """The hand-made network that is nearest in parameters and FLOPs, of those within the budget where there are any; never the teacher.
    None for images that none is meant for."""
    if spec.input_size > _MAX_CIFAR_SIZE:
        return None
    count, sizes = costs_of_hand_made(spec), _params_of_hand_made(spec)
    archs = [arch for arch in sizes if arch.choices != feasibility.config.teacher]
    near = sorted(archs, key=lambda arch: abs(math.log(sizes[arch] / winner.params)))[:_NEARBY]
    within = [arch for arch in near if feasibility.budget.admits(count(arch))]
    return min(within or near, key=lambda arch: _ratio(count(arch), winner))


@functools.cache
def costs_of_hand_made(spec: ImageSpec) -> CostCounter:
    """The costs of the hand-made networks for images of a kind: tracing takes a while, so each is counted once in a process."""
    return CostCounter(load_space("zoo"), spec)


@functools.cache
def _params_of_hand_made(spec: ImageSpec) -> dict[Architecture, int]:
    """The numbers of parameters of the hand-made networks, which take less time than their FLOPs."""
    space = load_space("zoo")
    archs = [Architecture(space.name, name) for name in HAND_MADE_NETWORKS]
    return {arch: count_params(space, arch, spec) for arch in archs}


def _ratio(a: Cost, b: Cost) -> float:
    return abs(math.log(a.params / b.params)) + abs(math.log(a.flops / b.flops))
