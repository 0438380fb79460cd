"""A front of S1 in parameters and FLOPs against searches for one network at five budgets, each with a fifth of the candidates.

    python scripts/benchmark_front.py [--iterations 1000] [--proxy diswot+] [--workers 2]

All candidates of all six searches are ranked together; a point dominates another where it has a better rank, no more parameters and no more
FLOPs. Needs no data and no GPU.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from typing import Any

import numpy as np

import diswot
from diswot.proxies import resolve_ranking
from diswot.searching.pareto import non_dominated
from diswot.searching.trial import Trial

BUDGETS = ("0.1M", "0.2M", "0.4M", "0.6M", "0.85M")  # of ResNet-56, the teacher, which is the limit of the front


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=1000, help="of each of the five; the front has five times as many")
    parser.add_argument("--proxy", default="diswot+")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1, help="how often, with other random seeds")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["DISWOT_HOME"] = home
        for seed in range(given.seeds):
            compare(given.iterations, seed, {"proxy": given.proxy, "workers": given.workers, "space": "s1", "teacher": "resnet56"})


def compare(iterations: int, seed: int, options: dict[str, Any]) -> None:
    front = diswot.search(**options, seed=seed, iterations=5 * iterations, pareto="params,flops")
    points = {budget: diswot.search(**options, seed=seed, iterations=iterations, params=budget) for budget in BUDGETS}
    members = {member.trial.arch for member in front.front}
    winners = {result.winner for result in points.values()}
    trials: dict[Any, Trial] = {}
    for result in (front, *points.values()):
        trials |= {trial.arch: trial for trial in result.trials if trial.complete}
    archs, ranking = list(trials), resolve_ranking(options["proxy"])
    fitness = ranking.fitness([[float(np.mean(trials[arch].scores[part])) for part in ranking.parts] for arch in archs])
    costs = [[trials[arch].cost.params, trials[arch].cost.flops] for arch in archs]
    values = np.column_stack([-fitness, costs])
    place = {arch: number for number, arch in enumerate(archs)}
    print(f"seed {seed}: a front of {len(members)} among {len(archs):,} candidates of all searches")
    worse = [arch for arch in members if any(_dominates(values[place[other]], values[place[arch]]) for other in winners)]
    print(f"  members dominated by one of the five winners: {len(worse)}")
    for budget, result in points.items():
        winner = values[place[result.winner]]
        beaten = sum(_dominates(values[place[arch]], winner) for arch in members)
        ahead = min(
            (values[place[arch]] for arch in members if (values[place[arch]][1:] <= winner[1:]).all()), key=lambda v: v[0], default=None
        )
        gap = "none is as cheap" if ahead is None else f"the best of the front at no higher cost {-ahead[0]:.3f}"
        cost = trials[result.winner].cost
        size = f"{cost.params / 1e6:.3f}M parameters, {cost.flops / 1e6:.1f}M FLOPs"
        print(f"  {budget}: the winner has {size}, score {-winner[0]:.3f}; {gap}; {beaten} members dominate it")
    everything = set(non_dominated(values).tolist())
    kept = sum(place[arch] in everything for arch in members)
    print(f"  the front of everything scored has {len(everything)} networks; {kept} of them are members", flush=True)


def _dominates(one: Any, other: Any) -> bool:
    return bool((one <= other).all() and (one < other).any())


if __name__ == "__main__":
    main()
