"""The end of a search: its finalists are scored and ranked, and the winner is tried under another random seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from diswot.architecture import Architecture
from diswot.config.scoring import MAX_SEED
from diswot.scoring.engine import Engine
from diswot.scoring.recipe import fitness_of, prepare_scoring
from diswot.scoring.store import ScoreStore
from diswot.searching import finalists
from diswot.searching.finalists import Trained
from diswot.searching.history import History
from diswot.searching.setup import SearchSetup
from diswot.searching.trial import Trial
from diswot.space import Cost

_OTHER_SEED = 1_000_000  # added to the seed of the search


@dataclass(frozen=True)
class Finalist:
    """A line of the closing table.

    Attributes:
        role: winner, alternative (the best that differs much from it), largest (within the budget), random (of the winner's size) or
            hand-made.
        arch: the network.
        cost: its parameters, FLOPs and depth.
        scores: by proxy, the mean over the seeds.
        rank: its rank among all networks scored in the search and this table; 1 is the best.
        latency: in milliseconds, where latencies are asked for and it can be measured.
        trained: what it came to in the finals, where they were held.
        within_budget: whether its parameters, FLOPs and depth are within the budget; a hand-made network need not be.
    """

    role: str
    arch: Architecture
    cost: Cost
    scores: dict[str, float]
    rank: int
    latency: float | None = None
    trained: Trained | None = None
    within_budget: bool = True


@dataclass(frozen=True)
class Lead:
    """How far the winner is ahead of random networks of its own size.

    Attributes:
        peers: how many random networks were scored.
        behind: how many of them the ranking puts behind the winner.
        behind_again: how many under another random seed: other images, weights and, unless it has weights, another teacher.
        same_size: whether they have its parameters and FLOPs, to a tenth; else they are of any size within the budget.
    """

    peers: int
    behind: int
    behind_again: int
    same_size: bool


def rank_finalists(
    search: SearchSetup, engine: Engine, trials: Sequence[Trial], history: History, winner: Trial
) -> tuple[list[Finalist], Lead]:
    """The winner beside what it must be held against, and its lead over random networks of its size."""
    feasibility, spec = search.feasibility, search.context.spec
    sized = finalists.peers(search.proposer, feasibility, winner)
    others = [(finalists.LARGEST, finalists.largest(feasibility, trials)), *((finalists.RANDOM, arch) for arch in sized)]
    if (by_hand := finalists.hand_made(feasibility, winner.cost, spec)) is not None:
        others.append((finalists.HAND_MADE, by_hand))
    counters = {search.space.name: feasibility.cost, "zoo": finalists.costs_of_hand_made(spec)}
    scored = engine.score([arch for _, arch in others], lambda arch: counters[arch.space](arch))
    rows = [(finalists.WINNER, winner)]
    if (second := finalists.alternative(history, winner.arch)) is not None:
        rows.append((finalists.ALTERNATIVE, next(trial for trial in trials if trial.arch == second)))
    for (role, arch), found in zip(others, scored, strict=True):
        if found.reason is None:
            rows.append((role, Trial(len(trials), arch, found.cost, found.scores)))
    complete = [trial.scores for trial in trials if trial.complete and trial.index != winner.index]
    fitness = fitness_of(search.ranking, [trial.scores for _, trial in rows] + complete)
    of_peers = [number for number, (role, _) in enumerate(rows) if role == finalists.RANDOM]
    peers = [rows[number][1].arch for number in of_peers]
    near = any(finalists.is_of_size(feasibility.cost(arch), winner.cost) for arch in peers)
    behind = int((fitness[of_peers] < fitness[0]).sum())
    table = [
        Finalist(
            role,
            trial.arch,
            trial.cost,
            search.mean_scores(trial.scores),
            rank=int((fitness > fitness[number]).sum()) + 1,
            latency=feasibility.latency_to_show(trial.arch),
            within_budget=feasibility.budget.admits(trial.cost),
        )
        for number, (role, trial) in enumerate(rows)
        if role not in (earlier for earlier, _ in rows[:number])
    ]
    return table, Lead(len(peers), behind, _behind_again(search, engine.store, winner.arch, peers), near)


def _behind_again(search: SearchSetup, store: ScoreStore | None, winner: Architecture, peers: Sequence[Architecture]) -> int:
    """Return how many of the peers are behind the winner under other images and weights, ranked among themselves.

    They are scored in this process: so few are not worth starting others for."""
    config = replace(search.config, seed=(search.config.seed + _OTHER_SEED) % MAX_SEED)
    _, context = prepare_scoring(config, search.context.device, search.space, warn=False)
    with Engine(replace(context, record_failures=True), store=store) as engine:
        scored = list(engine.score([winner, *peers], search.feasibility.cost))
    complete = [found.scores for found in scored if found.reason is None]
    if scored[0].reason is not None or len(complete) < 2:
        return 0
    fitness = fitness_of(search.ranking, complete)
    return int((fitness[1:] < fitness[0]).sum())
