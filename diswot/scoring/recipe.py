"""The recipe of `diswot score`, and what it shares with searches and studies: from options to a scoring context, and from scores to a
fitness."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from diswot import plugins
from diswot.architecture import Architecture
from diswot.budget import CostCounter, check_buildable
from diswot.config import ScoreConfig, resolve, to_dict
from diswot.data import GENERATED_SOURCES, load_data
from diswot.devices import kind_of_device
from diswot.errors import ArchitectureError, RunError, brief_repr
from diswot.execution import Execution
from diswot.files import is_file
from diswot.models.weights import file_digest
from diswot.progress import Forecast
from diswot.proxies import Ranking, adapt_to_teacher, resolve_ranking
from diswot.proxies.base import part_name
from diswot.runs import RunDir, is_number
from diswot.scoring.candidates import ScoreResult
from diswot.scoring.context import ScoringContext, make_scoring_context
from diswot.scoring.engine import Engine
from diswot.space import Cost, SearchSpace, is_built_in, load_space
from diswot.statistics.ranked_values import Vector

logger = logging.getLogger(__name__)
JOURNAL = "scores.jsonl"
_CIFAR_SIZE = 32
_WORTH_A_PROCESS = 8  # networks for which another process is worth starting


def prepare_scoring(config: ScoreConfig, device: str, space: SearchSpace, *, warn: bool = True) -> tuple[Ranking, ScoringContext]:
    """The ranking and the context that a configuration asks for, for networks of `space`.

    Args:
        config: the options.
        device: where networks run.
        space: of the networks.
        warn: whether it is logged that a part of the ranking cannot see the teacher.
    """
    config.check()
    ranking = resolve_ranking(config.proxy, config.combine)
    chooses_size = config.data in GENERATED_SOURCES or space.input_size != _CIFAR_SIZE
    images = {**config.image_options(), "input_size": config.input_size or (space.input_size if chooses_size else None)}
    data = load_data(config.data, **images, seed=config.seed)
    if warn and config.data not in GENERATED_SOURCES:
        logger.info("%s: %s", config.data, data.describe())
    own_spaces = frozenset() if is_built_in(space) else frozenset([space.name])
    context = make_scoring_context(config, ranking, data, device, own_spaces)
    if context.teachers:
        ranking = adapt_to_teacher(ranking, config.proxy, context.teachers, warn=warn)
    return ranking, replace(context, proxies=ranking.parts)


def input_digests(config: ScoreConfig, context: ScoringContext, *names: str) -> dict[str, Any]:
    """Digests of what decides the scores and lies outside the configuration: the images, the teacher's weights, the device, and the code of
    parts of the user's own.

    Args:
        names: of the parts that may be the user's own, besides the teacher, the data source and the proxies.
    """
    pixels = hashlib.sha256()
    for batch in context.batches:
        pixels.update(batch.images.contiguous().numpy().tobytes() + batch.target.numpy().tobytes())
    path = Path(config.teacher_weights)
    weights = file_digest(path) if is_file(path) else config.teacher_weights
    digests = {"images": pixels.hexdigest()[:12], "shape": str(context.spec), "teacher weights": weights}
    digests["device"] = kind_of_device(context.device)
    own = plugins.code_digests(config.teacher, config.data, *map(part_name, context.proxies), *names)
    return {**digests, **{f"code of {name}": digest for name, digest in own.items()}}


def fitness_of(ranking: Ranking, scores: Sequence[Mapping[str, Sequence[float]]]) -> Vector:
    """One number for each candidate, higher is better: its scores averaged over the seeds, then combined over the candidates."""
    table = [[float(np.mean(one[name])) for name in ranking.parts] for one in scores]
    return ranking.fitness(table)


def is_number_list(values: Any, count: int) -> bool:
    """Whether a journal's entry is a list of `count` finite numbers."""
    return isinstance(values, list) and len(values) == count and all(map(is_number, values))


def read_scores(record: Mapping[str, Any], context: ScoringContext, cost: Cost) -> ScoreResult:
    """The outcome that a journal's line holds, of the proxies of this context.

    Raises:
        ValueError: it lacks one of them.
    """
    scores, failed = record.get("scores"), record.get("failed")
    if not isinstance(scores, dict) or not isinstance(failed, dict):
        raise ValueError("no scores in it")
    lacking = [name for name in context.proxies if name not in failed and not is_number_list(scores.get(name), len(context.batches))]
    if lacking:
        raise ValueError(f"its {lacking[0]} is not that of this run")
    if not all(isinstance(reason, str) for reason in failed.values()):
        raise ValueError("a reason in it is no text")
    reasons = {name: failed[name] for name in context.proxies if name in failed}
    return ScoreResult(cost, {name: scores[name] for name in context.proxies if name not in failed}, reasons)


@dataclass(frozen=True)
class ScoreRow:
    """The outcome for one architecture.

    Attributes:
        arch: the architecture.
        cost: its parameters, FLOPs and depth.
        scores: by proxy, one number for each seed.
        rank: its rank among those scored together; 1 is the best.
    """

    arch: Architecture
    cost: Cost
    scores: dict[str, list[float]]
    rank: int


@dataclass(frozen=True)
class ScorePlan:
    """The checked plan of `diswot score`: architectures, of one space or of several, that all see the same images.

    Attributes:
        config: the options.
        archs: the architectures.
        space: a space of the user's own that may be imported.
    """

    config: ScoreConfig
    archs: tuple[Architecture, ...]
    space: str | None = None

    kind: ClassVar[str] = "score"

    def __post_init__(self) -> None:
        """Refuse what cannot be scored, before anything is loaded."""
        self.config.check()
        resolve_ranking(self.config.proxy, self.config.combine)
        if not self.archs:
            raise ArchitectureError("no architecture was given: name an arch.json, a NAS-Bench-201 string or a network such as resnet20")
        spaces = self.spaces()
        for arch in self.archs:
            spaces[arch.space].check(arch)

    def spaces(self) -> dict[str, SearchSpace]:
        """The spaces of the architectures, by name."""
        if self.space is not None:
            load_space(self.space, trusted=True)
        return {arch.space: load_space(arch.space, trusted=arch.space == self.space) for arch in self.archs}

    def document(self) -> dict[str, Any]:
        """Return the part of the plan that is kept with the run."""
        archs = [{"space": arch.space, "choices": arch.choices} for arch in self.archs]
        return {**to_dict(self.config), "archs": archs, "space": self.space}

    def files(self) -> dict[str, str]:
        """Texts that are kept with the run, by file name: none."""
        return {}

    @classmethod
    def restore(cls, document: Mapping[str, Any], folder: Path) -> ScorePlan:
        """The plan of a run that is resumed."""
        options = dict(document)
        archs, space = options.pop("archs", None), options.pop("space", None)
        try:
            restored = tuple(Architecture(str(arch["space"]), arch["choices"]) for arch in archs or [])
        except (KeyError, TypeError):
            raise RunError(f"{folder}: its config.yaml names no architectures: start a new run") from None
        if not isinstance(space, str | None):
            raise RunError(f"{folder}: its config.yaml names no space but {brief_repr(space)}: start a new run")
        return cls(resolve(ScoreConfig, options, [], {}), restored, space)


def run_score(plan: ScorePlan, run: RunDir | None, execution: Execution) -> list[ScoreRow]:
    """Score the architectures, or go on where the run was left.

    Raises:
        DiswotError: among others where one cannot be scored.
    """
    spaces = plan.spaces()
    execution.reporter.within("making images, observing the teacher")
    main = max(spaces.values(), key=lambda space: (not is_built_in(space), space.input_size))
    device = execution.choose_device()
    ranking, context = prepare_scoring(plan.config, device, main)
    counters = {name: CostCounter(space, context.spec) for name, space in spaces.items()}
    for arch in plan.archs:
        check_buildable(arch, counters[arch.space](arch))
    if run is not None:
        run.check_inputs("inputs.json", input_digests(plan.config, context, *spaces))
    results = _replay(plan, run, context, counters)
    left = plan.archs[len(results) :]
    execution.reporter.start(len(plan.archs), len(results), "network")
    forecast = Forecast(len(plan.archs), "network")
    with Engine.for_run(context, execution, run.path if run else None, len(left), _WORTH_A_PROCESS) as engine:
        for arch, result in zip(left, engine.score(left, lambda arch: counters[arch.space](arch)), strict=True):
            if result.reason is not None:
                raise RunError(f"{arch!s:.100} cannot be scored: {result.reason}")
            if run is not None:
                run.append(JOURNAL, {"choices": arch.choices, "scores": result.scores, "failed": result.failed})
            results.append(result)
            execution.reporter.update(len(results), lambda: "")
            if line := forecast.line(len(results)):
                logger.info("%s; %s", line, engine.describe_cost())
    execution.reporter.stop()
    return _ranked(plan, ranking, results)


def _replay(plan: ScorePlan, run: RunDir | None, context: ScoringContext, counters: Mapping[str, CostCounter]) -> list[ScoreResult]:
    """The outcomes in the run's journal."""
    results = []
    for number, record in enumerate(run.read(JOURNAL, repair=True) if run is not None else []):
        arch = plan.archs[number] if number < len(plan.archs) else None
        try:
            if arch is None or record.get("choices") != arch.choices:
                raise ValueError("another network than this run's")
            results.append(read_scores(record, context, counters[arch.space](arch)))
        except ValueError as error:
            raise RunError(f"{JOURNAL}, line {number + 1}: {error}: the journal is damaged, start a new run") from None
    return results


def _ranked(plan: ScorePlan, ranking: Ranking, results: Sequence[ScoreResult]) -> list[ScoreRow]:
    fitness = fitness_of(ranking, [result.scores for result in results])
    ranks = [int((fitness > value).sum()) + 1 for value in fitness]
    return [ScoreRow(arch, result.cost, result.scores, rank) for arch, result, rank in zip(plan.archs, results, ranks, strict=True)]
