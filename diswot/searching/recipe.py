"""The search recipe: from a teacher and a budget to the student that should distil best, without training any candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from diswot import runs
from diswot.architecture import Architecture, arch_json
from diswot.budget import Budget
from diswot.config import SearchConfig, resolve, to_dict
from diswot.errors import ConfigError
from diswot.execution import Execution
from diswot.proxies import resolve_ranking
from diswot.runs import RunDir
from diswot.scoring.engine import Engine
from diswot.searching.choices import SettledChoice, settled_choices
from diswot.searching.closing import Finalist, Lead, rank_finalists
from diswot.searching.loop import Search
from diswot.searching.pareto import OBJECTIVES, FrontMember
from diswot.searching.remarks import describe_outcome
from diswot.searching.strategies import STRATEGIES
from diswot.searching.trial import Trial
from diswot.searching.views import view_winner
from diswot.space import Cost, load_space

FINALISTS, FRONT = "finalists", "front"


@dataclass(frozen=True, repr=False)
class SearchResult:
    """The result of a search.

    Attributes:
        winner: the best architecture ever seen, or the knee of the front.
        provenance: how it was found, as it stands in arch.json.
        trials: every candidate scored, in order.
        table: the finalists: the winner, and what it must be held against.
        teacher: the parameters, FLOPs and depth of the teacher.
        teacher_latency: in milliseconds, where latencies are asked for and measured.
        lead: how far the winner is ahead of random networks of its size.
        settled: the choices that the search settled on.
        front: of `--pareto`, from the cheapest network to the dearest; its files lie in `folder / "front"`. The winner is its knee.
        budget: the limits that held, those of the teacher among them.
        folder: the run's folder, or None; the finalists lie in `folder / "finalists"`.
    """

    winner: Architecture
    provenance: dict[str, Any]
    trials: Sequence[Trial]
    table: list[Finalist]
    teacher: Cost
    teacher_latency: float | None
    lead: Lead
    settled: list[SettledChoice]
    front: list[FrontMember]
    budget: Budget
    folder: Path | None

    def __repr__(self) -> str:
        """The winner and its cost, in a line."""
        cost = next((row.cost for row in self.table if row.arch == self.winner), None)
        size = f", {cost.params:,} params, {cost.flops:,} FLOPs" if cost else ""
        return f"SearchResult({len(self.trials):,} candidates; winner {self.winner}{size}; folder={self.folder and str(self.folder)!r})"

    def arch_json(self) -> str:
        """The text of the winner's arch.json."""
        return arch_json(self.winner, self.provenance)

    def remarks(self) -> list[str]:
        """Lines about the winner: its lead, what the search settled on, and how far the ranking can be trusted here."""
        return describe_outcome(self.provenance["search"], self.table, self.winner, self.lead, self.settled, bool(self.front))

    def summary(self) -> dict[str, Any]:
        """The result as plain values, which JSON can hold, without the trials."""
        budget = {what: [limit.low, limit.high] for what, limit in vars(self.budget).items() if limit is not None}
        return {
            "winner": _identity(self.winner),
            "provenance": self.provenance,
            "evaluations": len(self.trials),
            "table": [_finalist(row) for row in self.table],
            "teacher": {**asdict(self.teacher), "latency_ms": self.teacher_latency},
            "budget": budget,
            "lead": asdict(self.lead),
            "settled": [asdict(choice) for choice in self.settled],
            "front": [_front_member(member) for member in self.front],
            "remarks": self.remarks(),
        }


def _identity(arch: Architecture) -> dict[str, Any]:
    return {"space": arch.space, "choices": arch.choices}


def _finalist(row: Finalist) -> dict[str, Any]:
    measured = {"latency_ms": row.latency, "scores": row.scores, "rank": row.rank, "within_budget": row.within_budget}
    trained = {"trained": asdict(row.trained)} if row.trained else {}
    return {"role": row.role, **_identity(row.arch), **asdict(row.cost), **measured, **trained}


def _front_member(member: FrontMember) -> dict[str, Any]:
    trial = member.trial
    return {**_identity(trial.arch), **asdict(trial.cost), "latency_ms": trial.latency, "score": member.score, "knee": member.is_knee}


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
        self._check_front()

    def _check_front(self) -> None:
        """Refuse costs that no front can be found of."""
        config = self.config
        if config.pareto is None:
            return
        unknown = set(config.pareto_costs) - set(OBJECTIVES)
        if unknown or not config.pareto_costs or len(set(config.pareto_costs)) < len(config.pareto_costs):
            raise ConfigError(f"--pareto {config.pareto!r:.60}: one or more of {', '.join(OBJECTIVES)}, each once, separated by commas")
        if config.strategy != type(config).strategy:
            raise ConfigError(f"--strategy {config.strategy}: --pareto has a strategy of its own: leave one of them out")

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
    execution.reporter.within("making images, observing the teacher")
    search = Search(plan.config, execution.choose_device(), run, execution.reporter)
    with Engine.for_run(search.context, execution, run.path if run else None) as engine:
        search.run(engine)
        execution.reporter.within("scoring what the winner is held against")
        best, front = search.best(), search.front()
        winner = next((member.trial for member in front if member.is_knee), best)
        table, lead = rank_finalists(search, engine, search.trials, search.scored.history(), winner)
    trials = search.trials
    settled = settled_choices((trial.arch for trial in trials), len(trials), search.space.extremes())
    provenance, folder = _provenance(search, winner), run.path if run else None
    teacher, latency = search.feasibility.teacher, search.feasibility.latency_of_teacher()
    budget = search.feasibility.budget
    result = SearchResult(winner.arch, provenance, trials, table, teacher, latency, lead, settled, front, budget, folder)
    if run is not None:
        if front:
            _write_front(run.path / FRONT, search, result)
        _write_finalists(run.path / FINALISTS, result)
        runs.write_atomic(run.path / "arch.json", result.arch_json())
        run.write_result(result.summary())
        if execution.report:
            view_winner(search, winner.arch).save(run.path)
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


def _write_front(folder: Path, search: Search, result: SearchResult) -> None:
    """Write an arch.json for each network of the front, numbered from the cheapest to the dearest, and a CSV of them beside the folder."""
    folder.mkdir(exist_ok=True)
    rows = ["file,params,flops,depth,latency_ms,score,knee"]
    for number, member in enumerate(result.front):
        trial, name = member.trial, f"{number:03d}-{member.trial.arch.digest}.json"
        provenance = {**_provenance(search, trial), "role": "knee" if member.is_knee else "front"}
        runs.write_atomic(folder / name, arch_json(trial.arch, provenance))
        latency = "" if trial.latency is None else f"{trial.latency:.6g}"
        rows.append(f"{name},{trial.cost.params},{trial.cost.flops},{trial.cost.depth},{latency},{member.score:.6g},{int(member.is_knee)}")
    runs.write_atomic(folder.with_suffix(".csv"), "\n".join(rows) + "\n")


def _provenance(search: Search, winner: Trial) -> dict[str, Any]:
    """Return what arch.json says of the winner's origin: no clock, no machine, so that a repeated search writes the same file."""
    return {
        "diswot": runs.version(),
        "search": to_dict(search.config),
        "ranking": {"combine": search.ranking.combine, "weights": search.ranking.weighted},
        "evaluations": len(search.trials),
        "trial": winner.index,
        "data": to_dict(search.context.spec),
        "cost": to_dict(winner.cost),
        "scores": winner.scores,
    }
