"""The networks that one would take without a search: the largest network within the budget, a random one, and a hand-made one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diswot.architecture import Architecture
from diswot.budget import count_params
from diswot.searching.feasibility import BudgetFeasibility
from diswot.searching.proposals import Proposer
from diswot.searching.trial import Trial
from diswot.space import Cost, ImageSpec, load_space

HAND_MADE = (
    "resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet8x4", "resnet32x4", "wrn_16_1", "wrn_16_2",
    "wrn_40_1", "wrn_40_2", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2",
)  # fmt: skip
_MAX_CIFAR_SIZE = 64  # the hand-made students are meant for images up to this side in pixels


def baselines(proposer: Proposer, feasibility: BudgetFeasibility, trials: Sequence[Trial], winner: Cost) -> dict[str, Architecture]:
    """The baselines that there are, by role: `largest`, `random` and `hand-made`."""
    found = {
        "largest": _largest(feasibility, trials),
        "random": _random(proposer, feasibility),
        "hand-made": _hand_made(winner, feasibility.spec),
    }
    return {role: arch for role, arch in found.items() if arch is not None}


def _largest(feasibility: BudgetFeasibility, trials: Sequence[Trial]) -> Architecture:
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
    starts = sorted({trial.arch for trial in trials}, key=size)[-3:]
    if budget.latency is not None or not {"params", "flops"} & set(budget.counted()):
        return starts[-1]  # nothing that can be counted bounds the climb
    return max(map(climb, starts), key=size)


def _random(proposer: Proposer, feasibility: BudgetFeasibility) -> Architecture | None:
    """The first feasible sample of a generator that the search itself never uses."""
    config = proposer.config
    return proposer.random(np.random.default_rng([config.seed, config.iterations, 1]), feasibility.admits)


def _hand_made(cost: Cost, spec: ImageSpec) -> Architecture | None:
    """The hand-made network that is nearest in parameters; None for images that none is meant for."""
    if spec.input_size > _MAX_CIFAR_SIZE:
        return None
    zoo = load_space("zoo")
    archs = [Architecture("zoo", name) for name in HAND_MADE]
    params = [count_params(zoo, arch, spec) for arch in archs]
    return archs[int(np.argmin(np.abs(np.log(np.array(params) / cost.params))))]
