"""The search recipe: from a teacher and a budget to the student that should distil best, without training any candidate."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from diswot import runs
from diswot.architecture import Architecture, arch_json
from diswot.budget import Budget
from diswot.config import SearchConfig, resolve, to_dict
from diswot.errors import RunError
from diswot.execution import Execution
from diswot.proxies import resolve_ranking
from diswot.runs import RunDir
from diswot.scoring.engine import Engine
from diswot.scoring.recipe import input_digests, is_number_list
from diswot.searching.choices import SettledChoice, settled_choices
from diswot.searching.closing import Finalist, Lead, rank_finalists
from diswot.searching.setup import SearchSetup
from diswot.searching.strategies import STRATEGIES
from diswot.searching.trial import JOURNAL, Trial, read_trials
from diswot.space import Cost, load_space

logger = logging.getLogger(__name__)
FINALISTS = "finalists"
_FEW = 3  # parts of a ranking that a line of progress has room for


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        winner: the best architecture ever seen.
        provenance: how it was found, as it stands in arch.json.
        trials: every candidate scored, in order.
        table: the finalists: the winner, and what it must be held against.
        teacher: the parameters, FLOPs and depth of the teacher.
        lead: how far the winner is ahead of random networks of its size.
        settled: the choices that the search settled on.
        folder: the run's folder, or None; the finalists lie in `folder / "finalists"`.
    """

    winner: Architecture
    provenance: dict[str, Any]
    trials: list[Trial]
    table: list[Finalist]
    teacher: Cost
    lead: Lead
    settled: list[SettledChoice]
    folder: Path | None

    def arch_json(self) -> str:
        """The text of the winner's arch.json."""
        return arch_json(self.winner, self.provenance)


@dataclass(frozen=True)
class SearchPlan:
    """The plan of `diswot search`. Making one checks whatever can be checked before anything is loaded."""

    config: SearchConfig

    kind: ClassVar[str] = "search"

    def __post_init__(self) -> None:
        self.config.check()
        Budget.parse(self.config.limits())
        load_space(self.config.space, trusted=True)
        resolve_ranking(self.config.proxy, self.config.combine)
        _ = STRATEGIES[self.config.strategy]

    def document(self) -> dict[str, Any]:
        """Return the part of the plan that is kept with the run."""
        return to_dict(self.config)

    def files(self) -> dict[str, str]:
        """Texts that are kept with the run, by file name: none."""
        return {}

    @classmethod
    def restore(cls, document: Mapping[str, Any], folder: Path) -> SearchPlan:
        """The plan of a run that is resumed."""
        return cls(resolve(SearchConfig, document, [], {}))


def run_search(plan: SearchPlan, run: RunDir | None, execution: Execution) -> SearchResult:
    """Search, or go on where the run was left; without a run nothing is written.

    Raises:
        DiswotError: whatever a user can mend, in one line.
    """
    config, device, reporter = plan.config, execution.choose_device(), execution.reporter
    search = _Search(config, device)
    if run is not None:
        inputs = input_digests(config, search.context, search.space.name, config.strategy)
        run.check_inputs("inputs.json", {**inputs, **search.feasibility.digests()})
    trials = search.replay(run)
    with Engine(search.context, execution.num_workers(device), execution.executor) as engine:
        reporter.start(config.iterations, len(trials), "candidate")
        while len(trials) < config.iterations:
            generation = search.breed(trials)
            if not generation:
                search.log_exhausted(len(trials))
                break
            for trial in search.score(engine, generation):
                if run is not None:
                    run.append(JOURNAL, trial.record())
                trials.append(trial)
                reporter.update(len(trials), lambda: search.best_line(trials))
        reporter.stop()
        winner = search.best(trials)
        table, lead = rank_finalists(search, engine, trials, winner)
    settled = settled_choices([trial.arch for trial in trials], search.space.extremes())
    provenance, folder = search.provenance(trials, winner), run.path if run else None
    result = SearchResult(winner.arch, provenance, trials, table, search.feasibility.teacher, lead, settled, folder)
    if run is not None:
        _write_finalists(run.path / FINALISTS, result)
        runs.write_atomic(run.path / "arch.json", result.arch_json())
    return result


def _write_finalists(folder: Path, result: SearchResult) -> None:
    """Write an arch.json for each different finalist, named after its role."""
    folder.mkdir(exist_ok=True)
    shared = {key: value for key, value in result.provenance.items() if key not in ("trial", "scores", "cost")}
    archs = [row.arch for row in result.table]
    for number, row in enumerate(result.table):
        if row.arch not in archs[:number]:
            provenance = {**shared, "role": row.role, "cost": to_dict(row.cost), "mean_scores": row.scores}
            runs.write_atomic(folder / f"{row.role}.json", arch_json(row.arch, provenance))


@dataclass(frozen=True)
class _Proposal:
    index: int
    arch: Architecture
    parent: Architecture | None


class _Search(SearchSetup):
    """The steps of the loop of a search."""

    def replay(self, run: RunDir | None) -> list[Trial]:
        """The trials of the journal."""
        if run is None:
            return []
        path, trials = run.path / JOURNAL, read_trials(run, self.space.name, repair=True)
        for number, trial in enumerate(trials):
            if trial.index != number:
                raise RunError(f"{path}, line {number + 1}: trial {trial.index} where {number} belongs: start a new run")
            self.space.check(trial.arch)
            if trial.complete and not all(is_number_list(trial.scores.get(name), len(self.context.batches)) for name in self.ranking.parts):
                raise RunError(f"{path}, line {number + 1}: its scores are not those of this search: start a new run")
        self.feasibility.remember(trials)
        return trials

    def breed(self, trials: Sequence[Trial]) -> list[_Proposal]:
        """Return the candidates that are left of the current generation.

        All of a generation comes from the history before it, and each candidate from a generator of its own, so a resumed search breeds
        what the undisturbed one would have.
        """
        size, done = self.config.generation_size, len(trials)
        begin = done - done % size
        history = self.members(trials[:begin])
        seen = {self.space.canonical(trial.arch) for trial in trials}
        proposals: list[_Proposal] = []
        for index in range(done, min(begin + size, self.config.iterations)):
            found = self.proposer.propose(history, begin, seen, np.random.default_rng([self.config.seed, index]))
            if found is None:
                break
            seen.add(self.space.canonical(found[0]))
            proposals.append(_Proposal(index, *found))
        if not proposals and not trials:
            raise self.feasibility.nothing_found()
        return proposals

    def score(self, engine: Engine, proposals: Sequence[_Proposal]) -> Iterator[Trial]:
        """The proposals as trials, in their order."""
        scored = engine.score([proposal.arch for proposal in proposals], self.feasibility.cost)
        for proposal, result in zip(proposals, scored, strict=True):
            parent = proposal.parent.digest if proposal.parent is not None else None
            latency = self.feasibility.latencies.get(proposal.arch)
            yield Trial(proposal.index, proposal.arch, result.cost, result.scores, result.reason, parent, latency)

    def best_line(self, trials: Sequence[Trial]) -> str:
        """The best so far, for a line of progress."""
        if not any(trial.complete for trial in trials):
            return "no candidate scored yet"
        best, parts = self.best(trials), self.ranking.parts
        scores = [f"{name} {np.mean(best.scores[name]):.4g}" for name in parts] if len(parts) <= _FEW else []
        return f"best {', '.join([*scores, f'{best.cost.params / 1e6:.3f}M params'])}"

    def log_exhausted(self, count: int) -> None:
        """Say that nothing is left to try."""
        every = "all" if self.space.enumerate() is not None else "no network that has not been scored was found;"
        logger.info("the space is exhausted: %s %s different networks within the budget have been scored", every, count)

    def provenance(self, trials: Sequence[Trial], winner: Trial) -> dict[str, Any]:
        """Return what arch.json says of the winner's origin: no clock, no machine, so that a repeated search writes the same file."""
        return {
            "diswot": runs.version(),
            "search": to_dict(self.config),
            "ranking": {"combine": self.ranking.combine, "weights": self.ranking.weighted},
            "evaluations": len(trials),
            "trial": winner.index,
            "data": to_dict(self.context.spec),
            "cost": to_dict(winner.cost),
            "scores": winner.scores,
        }
