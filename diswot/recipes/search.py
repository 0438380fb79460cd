"""The search recipe: from a teacher and a budget to the student that should distil best, without training any candidate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diswot import runs
from diswot.architecture import Architecture, arch_json
from diswot.budget import Budget, cost_of, count_params, measure_latency
from diswot.config import resolve, to_dict
from diswot.devices import choose_device
from diswot.engine import Engine, Scored, default_workers
from diswot.errors import BudgetError, RunError
from diswot.evolution import Evolution, Member, propose
from diswot.options import SearchConfig
from diswot.progress import Reporter, Silent
from diswot.proxies import resolve_ranking
from diswot.recipes.scoring import fitness_of, numbers, prepare, setting_digests
from diswot.space import Cost, SearchSpace, load_space

JOURNAL = "trials.jsonl"
HAND_MADE = (
    "resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet8x4", "resnet32x4", "wrn_16_1", "wrn_16_2",
    "wrn_40_1", "wrn_40_2", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2",
)  # fmt: skip
_FEW = 3  # parts of a ranking that a line of progress has room for
_CIFAR_SIZES = 64  # the hand-made students are meant for images up to this side


@dataclass(frozen=True)
class Trial:
    """One journal line: what was tried and what came of it."""

    index: int
    arch: Architecture
    cost: Cost
    scores: dict[str, list[float]] = field(default_factory=dict)
    reason: str | None = None
    parent: str | None = None
    latency: float | None = None

    @property
    def complete(self) -> bool:
        return self.reason is None

    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = {"index": self.index, "choices": self.arch.choices, "parent": self.parent}
        record |= {"params": self.cost.params, "flops": self.cost.flops, "depth": self.cost.depth}
        if self.latency is not None:
            record["latency_ms"] = self.latency
        if self.reason is not None:
            return record | {"state": "failed", "reason": self.reason}
        return record | {"state": "complete", "scores": self.scores}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], space: str) -> Trial:
        cost = Cost(record["params"], record["flops"], record["depth"])
        arch = Architecture(space, record["choices"])
        scores, reason = dict(record.get("scores") or {}), record.get("reason")
        return cls(record["index"], arch, cost, scores, reason, record["parent"], record.get("latency_ms"))


@dataclass(frozen=True)
class Row:
    """A line of the closing table. `rank` is the place (1 is best) among all networks scored in the search and this table."""

    role: str
    arch: Architecture
    cost: Cost
    scores: dict[str, float]
    rank: int


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        winner: the best architecture ever seen.
        found_by: how, as it stands in arch.json.
        trials: every candidate scored, in order.
        table: the winner beside the largest network within the budget, a random one and a hand-made one.
        folder: the run's folder, or None.
    """

    winner: Architecture
    found_by: dict[str, Any]
    trials: list[Trial]
    table: list[Row]
    folder: Path | None

    def arch_json(self) -> str:
        """The text of the winner's arch.json."""
        return arch_json(self.winner, self.found_by)


def run_search(
    config: SearchConfig,
    run: runs.RunDir | None = None,
    *,
    device: str = "auto",
    workers: int = 0,
    reporter: Reporter | None = None,
    executor: Executor | None = None,
) -> SearchResult:
    """Searches, or goes on where `run` was left.

    Args:
        config: what to search for, and how.
        run: the folder that keeps the journal; without one nothing is written.
        device: auto, cpu, cuda, mps.
        workers: processes on a CPU; 0 for one a core. The outcome is the same for any number.
        reporter: told of the progress.
        executor: `concurrent.futures.Executor` that scores in place of local processes.

    Raises:
        DiswotError: whatever a user can mend, in one line.
    """
    reporter = reporter or Silent()
    problem = _Problem(config, choose_device(device), reporter)
    if run is not None:
        run.hold_to("inputs.json", setting_digests(config, problem.setting, problem.space))
    trials = problem.replay(run)
    with Engine(problem.setting, workers or default_workers(problem.setting.device), executor) as engine:
        reporter.start(config.iterations, len(trials))
        while len(trials) < config.iterations:
            generation = problem.breed(trials)
            if not generation:
                every = "all" if problem.space.enumerate() is not None else "no network that has not been scored was found;"
                reporter.say(f"the space is exhausted: {every} {len(trials)} different networks within the budget have been scored")
                break
            for trial in problem.score(engine, generation):
                if run is not None:
                    run.append(JOURNAL, trial.record())
                trials.append(trial)
                reporter.update(len(trials), lambda: problem.best_line(trials))
        reporter.stop()
        winner = problem.best(trials)
        table = problem.compare(engine, trials, winner)
    result = SearchResult(winner.arch, problem.found_by(trials, winner), trials, table, run.path if run else None)
    if run is not None:
        runs.write_atomic(run.path / "arch.json", result.arch_json())
    return result


@dataclass(frozen=True)
class _Proposal:
    index: int
    arch: Architecture
    parent: Architecture | None


class _Problem:
    """A search's fixed parts: the space, the budget, the setting that scores; and the steps of the loop above."""

    def __init__(self, config: SearchConfig, device: str, reporter: Reporter) -> None:
        config.check()
        self.config = config
        self.budget = Budget.parse({w: getattr(config, w) for w in ("params", "flops", "depth", "latency")})
        self.space: SearchSpace = load_space(config.space, trusted=True)
        self.ranking, self.setting = prepare(config, device, self.space)
        self._latencies: dict[Architecture, float] = {}
        self._check_reachable()
        if self.ranking.parts != resolve_ranking(config.proxy).parts:
            reporter.say(f"not every part of {config.proxy} can see this teacher; {', '.join(self.ranking.parts)} rank instead")
        reporter.say(f"teacher {config.teacher}, space {self.space.name} ({self.space.size_text()} networks), images {config.data}")

    def cost(self, arch: Architecture) -> Cost:
        return cost_of(self.space, arch, self.setting.num_classes, self.setting.in_chans, self.setting.input_size)

    def _check_reachable(self) -> None:
        """`BudgetError` where no member can meet the budget, naming the nearest."""
        if not self.budget.counted() and self.budget.latency is None and self.space.enumerate() is None:
            raise BudgetError(f"a search in {self.space.name} needs a budget: --params 1M, --flops 100M, --depth 20 or --latency 5ms")
        costs = [self.cost(arch) for arch in self.space.extremes()]
        for what, limit in self.budget.counted().items():
            least, most = (extreme(getattr(cost, what) for cost in costs) for extreme in (min, max))
            if limit.high < least:
                raise BudgetError(f"--{what} {getattr(self.config, what)}: the smallest network of {self.space.name} has {least:,} {what}")
            if limit.low > most:
                raise BudgetError(f"--{what} {getattr(self.config, what)}: the largest network of {self.space.name} has {most:,} {what}")
        if self.budget.latency is not None:
            smallest = min(self.space.extremes(), key=lambda arch: self.cost(arch).flops)
            if (fastest := self.latency(smallest)) > 2 * self.budget.latency.high:
                raise BudgetError(f"--latency {self.config.latency}: the smallest network of {self.space.name} takes {fastest:.2g} ms here")

    def admits(self, arch: Architecture) -> bool:
        if not self.budget.admits(self.cost(arch)):
            return False
        return self.budget.latency is None or self.latency(arch) in self.budget.latency

    def latency(self, arch: Architecture) -> float:
        """Milliseconds, measured once for each network, while nothing else runs."""
        import torch

        if arch not in self._latencies:
            model = self.space.build(arch, self.setting.num_classes, self.setting.in_chans)
            setting = self.setting
            batch, device = self.config.latency_batch, torch.device(setting.device)
            self._latencies[arch] = measure_latency(model, setting.in_chans, setting.input_size, device, batch)
        return self._latencies[arch]

    def replay(self, run: runs.RunDir | None) -> list[Trial]:
        """The trials of the journal."""
        if run is None:
            return []
        try:
            trials = [Trial.from_record(record, self.space.name) for record in run.read(JOURNAL, repair=True)]
        except (KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{run.path / JOURNAL}: a line lacks {error}: the journal is damaged, start a new run") from None
        for position, trial in enumerate(trials):
            if trial.index != position:
                raise RunError(f"{run.path / JOURNAL}, line {position + 1}: trial {trial.index} where {position} belongs: start a new run")
            self.space.check(trial.arch)
            if trial.complete and not all(numbers(trial.scores.get(name), len(self.setting.batches)) for name in self.ranking.parts):
                raise RunError(f"{run.path / JOURNAL}, line {position + 1}: its scores are not those of this search: start a new run")
            if trial.latency is not None:
                self._latencies[trial.arch] = trial.latency
        return trials

    def breed(self, trials: Sequence[Trial]) -> list[_Proposal]:
        """What is left of the current generation. All of a generation comes from the history before it, and each candidate from a
        generator of its own, so a resumed search breeds what the undisturbed one would have."""
        size, done = self.config.generation, len(trials)
        begin = done - done % size
        history = self.members(trials[:begin])
        seen = {self.space.canonical(trial.arch) for trial in trials}
        proposals: list[_Proposal] = []
        for index in range(done, min(begin + size, self.config.iterations)):
            rng = np.random.default_rng([self.config.seed, index])
            found = propose(self.space, history, begin, self.config.evolution, rng, self.admits, seen, self.excess)
            if found is None:
                break
            seen.add(self.space.canonical(found[0]))
            proposals.append(_Proposal(index, *found))
        if not proposals and not trials:
            raise BudgetError(self._nothing_found())
        return proposals

    def excess(self, arch: Architecture) -> float:
        return self.budget.excess(self.cost(arch))

    def _nothing_found(self) -> str:
        rng = np.random.default_rng(self.config.seed)
        nearest = self.cost(min((self.space.sample(rng) for _ in range(500)), key=self.excess))
        limits = ", ".join(f"--{w} {getattr(self.config, w)}" for w in ("params", "flops", "depth", "latency") if getattr(self.config, w))
        return (
            f"{limits}: no network of {self.space.name} was found within it; the nearest seen has {nearest.params:,} params, "
            f"{nearest.flops:,} flops, depth {nearest.depth}: widen the budget"
        )

    def score(self, engine: Engine, proposals: Sequence[_Proposal]) -> Iterator[Trial]:
        for proposal, scored in zip(proposals, engine.score([p.arch for p in proposals]), strict=True):
            parent = proposal.parent.digest if proposal.parent is not None else None
            latency = self._latencies.get(proposal.arch)
            yield Trial(proposal.index, proposal.arch, scored.cost, scored.scores, scored.reason, parent, latency)

    def members(self, trials: Sequence[Trial]) -> list[Member]:
        """The complete trials with their fitness: ranks are taken anew over all that has been seen."""
        complete = [trial for trial in trials if trial.complete]
        if not complete:
            return []
        fitness = fitness_of(self.ranking, [trial.scores for trial in complete])
        return [Member(trial.arch, float(value)) for trial, value in zip(complete, fitness, strict=True)]

    def best(self, trials: Sequence[Trial]) -> Trial:
        """The fittest of all trials, the earliest of equals."""
        members = self.members(trials)
        if not members:
            reason = trials[0].reason if trials else "none was scored"
            raise RunError(f"no candidate could be scored; the first failed with: {reason}")
        winner = max(members, key=lambda member: member.fitness).arch
        return next(trial for trial in trials if trial.arch == winner)

    def best_line(self, trials: Sequence[Trial]) -> str:
        if not any(trial.complete for trial in trials):
            return "no candidate scored yet"
        best = self.best(trials)
        shown = [f"{name} {np.mean(best.scores[name]):.4g}" for name in self.ranking.parts] if len(self.ranking.parts) <= _FEW else []
        return f"best {', '.join([*shown, f'{best.cost.params / 1e6:.3f}M params'])}"

    def compare(self, engine: Engine, trials: Sequence[Trial], winner: Trial) -> list[Row]:
        """The winner beside what one would take without a search."""
        others = {"largest": self._largest(trials), "random": self._random(), "hand-made": self._hand_made(winner.cost)}
        named = {role: arch for role, arch in others.items() if arch is not None}
        scored: dict[str, Scored] = dict(zip(named, engine.score(named.values()), strict=True))
        rows = [("winner", winner.arch, winner.cost, winner.scores)]
        rows += [(role, named[role], s.cost, s.scores) for role, s in scored.items() if s.reason is None]
        complete = [trial.scores for trial in trials if trial.complete and trial is not winner]
        fitness = fitness_of(self.ranking, [row[3] for row in rows] + complete)
        return [
            Row(
                role, arch, cost, {name: float(np.mean(scores[name])) for name in self.ranking.parts}, int((fitness > fitness[i]).sum()) + 1
            )
            for i, (role, arch, cost, scores) in enumerate(rows)
        ]

    def _largest(self, trials: Sequence[Trial]) -> Architecture:
        """The member with the most parameters (then FLOPs) within the budget: exact where the space can be walked, else climbed to from
        the three largest seen, one elementary change at a time, where parameters or FLOPs are bounded."""

        def size(arch: Architecture) -> tuple[int, int]:
            cost = self.cost(arch)
            return cost.params, cost.flops

        everything = self.space.enumerate()
        if everything is not None and self.budget.latency is None:
            return max((arch for arch in everything if self.admits(arch)), key=size)
        starts = sorted({trial.arch for trial in trials}, key=size)[-3:]
        if self.budget.latency is not None or not {"params", "flops"} & set(self.budget.counted()):
            return starts[-1]  # nothing that can be counted bounds the climb
        return max((self._climb(start, size) for start in starts), key=size)

    def _climb(self, arch: Architecture, size: Callable[[Architecture], tuple[int, int]]) -> Architecture:
        while True:
            top = max((a for a in self.space.neighbours(arch) if self.admits(a)), key=size, default=arch)
            if size(top) <= size(arch):
                return arch
            arch = top

    def _random(self) -> Architecture | None:
        """The first feasible sample of a generator that the search itself never uses."""
        rng = np.random.default_rng([self.config.seed, self.config.iterations, 1])
        found = propose(self.space, [], 0, Evolution("random"), rng, self.admits, (), self.excess)
        return None if found is None else found[0]

    def _hand_made(self, cost: Cost) -> Architecture | None:
        if self.setting.input_size > _CIFAR_SIZES:
            return None
        zoo = load_space("zoo")
        archs = [Architecture("zoo", name) for name in HAND_MADE]
        params = [count_params(zoo, arch, self.setting.num_classes, self.setting.in_chans) for arch in archs]
        return archs[int(np.argmin(np.abs(np.log(np.array(params) / cost.params))))]

    def found_by(self, trials: Sequence[Trial], winner: Trial) -> dict[str, Any]:
        """What arch.json says of the winner's origin: no clock, no machine, so that a repeated search writes the same file."""
        return {
            "diswot": runs.version(),
            "search": to_dict(self.config),
            "evaluations": len(trials),
            "trial": winner.index,
            "data": {"num_classes": self.setting.num_classes, "in_chans": self.setting.in_chans, "input_size": self.setting.input_size},
            "cost": {"params": winner.cost.params, "flops": winner.cost.flops, "depth": winner.cost.depth},
            "scores": winner.scores,
        }


def resume_config(stored: Mapping[str, Any]) -> SearchConfig:
    """The configuration of a run that is resumed."""
    return resolve(SearchConfig, stored, [], {})
