"""The study recipe: how well proxies rank the networks of a benchmark, whose accuracies are known."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from diswot import runs
from diswot.architecture import Architecture, canonical_json
from diswot.benchmarks import Benchmark, read_benchmark
from diswot.budget import CostCounter
from diswot.config import StudyConfig, resolve, to_dict
from diswot.config.scoring import FEWEST_ROWS
from diswot.data import GENERATED_SOURCES
from diswot.devices import single_thread
from diswot.errors import ConfigError, RunError, first_line
from diswot.execution import Execution
from diswot.executors.named import LOCAL
from diswot.progress import Forecast
from diswot.proxies import Ranking, adapt_to_teacher, get_proxy, resolve_ranking
from diswot.runs import RunDir
from diswot.scoring.candidates import ScoreResult, score_one
from diswot.scoring.context import ScoringContext
from diswot.scoring.engine import Engine
from diswot.scoring.recipe import JOURNAL, input_digests, prepare_scoring, read_scores
from diswot.space import Cost, SearchSpace, load_space
from diswot.statistics.ranked_values import Vector
from diswot.studies.dataset_report import DatasetReport, dataset_reports
from diswot.studies.ranking_result import rank_rows
from diswot.studies.study import BASELINES, Study

logger = logging.getLogger(__name__)
TIMES = "milliseconds.json"
_DECIDE_SCORES = ("teacher", "teacher_norm", "init")  # besides the inputs' digests
_TIMED = 5  # networks that each ranking is timed on
_CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet16_120": 120}  # of the benchmarks' data sets
_WORTH_A_PROCESS = 4  # networks for which another process is worth starting


@dataclass(frozen=True, repr=False)
class StudyResult:
    """The result of a study.

    Attributes:
        study: what was scored, and how every ranking ranks it.
        reports: for each data set, the figures.
        folder: the run's folder, or None.
    """

    study: Study
    reports: list[DatasetReport]
    folder: Path | None

    def __repr__(self) -> str:
        """What was studied, in a line."""
        rankings = ", ".join(ranking.name for ranking in self.study.rankings)
        datasets = ", ".join(report.dataset for report in self.reports)
        folder = self.folder and str(self.folder)
        return f"StudyResult({len(self.study.rows):,} networks of {datasets}; rankings {rankings}; folder={folder!r})"


@dataclass(frozen=True)
class StudyPlan:
    """The plan of `diswot study`. Making one checks whatever can be checked before the table is read.

    Attributes:
        config: the options.
        table: path of the benchmark's CSV.
        scores_of: the folder of an earlier study under the same setting, whose scores are taken over where it has them.
    """

    config: StudyConfig
    table: str
    scores_of: Path | None = None

    kind: ClassVar[str] = "study"

    def __post_init__(self) -> None:
        self.config.check()
        self.rankings()
        if self.config.space:
            load_space(self.config.space, trusted=True)

    def rankings(self) -> dict[str, Ranking]:
        """The rankings by the names that they were asked for; the baselines are always among them."""
        asked = [name.strip() for name in self.config.proxy.split(",") if name.strip()]
        return {name: resolve_ranking(name, self.config.combine) for name in dict.fromkeys([*asked, *BASELINES])}

    def document(self) -> dict[str, Any]:
        """Return the part of the plan that is kept with the run."""
        return {**to_dict(self.config), "table": str(Path(self.table).resolve())}

    def files(self) -> dict[str, str]:
        """Texts that are kept with the run, by file name: none."""
        return {}

    @classmethod
    def restore(cls, document: Mapping[str, Any], folder: Path) -> StudyPlan:
        """The plan of a run that is resumed."""
        table = document.get("table")
        if not isinstance(table, str):
            raise RunError(f"{folder}: its config.yaml names no table: start a new run")
        return cls(resolve(StudyConfig, {key: value for key, value in document.items() if key != "table"}, [], {}), table)


def run_study(plan: StudyPlan, run: RunDir | None, execution: Execution) -> StudyResult:
    """Score the networks, measure the rankings and write the report, from where the run was left.

    Raises:
        DiswotError: whatever a user can mend, in one line.
    """
    study = score_table(plan, run, execution)
    execution.reporter.within("intervals, figures and the report")
    logger.info("all scored; now the intervals, the figures and the report")
    reports = dataset_reports(study, run, execution.reporter)
    if run is not None:
        from diswot.studies.report import write_report  # matplotlib with it, which takes a second

        write_report(study, reports, run.path, with_page=execution.report)
    return StudyResult(study, reports, run.path if run is not None else None)


def score_table(plan: StudyPlan, run: RunDir | None, execution: Execution) -> Study:
    """Score the networks of a table, or go on where the run was left.

    Each different network is scored once, however many rows of the table compute the same function.
    """
    execution.reporter.within("reading the table, making images")
    table = _Table.read(plan, execution.choose_device())
    context, space, unique = table.context, table.space, table.unique
    inputs = {**input_digests(table.config, context, space.name), "space": space.name, "table": _digest(table.benchmark)}
    known = _scores_of(plan, context, inputs)
    if run is not None:
        run.check_inputs("inputs.json", inputs)
    counts = f"{len(table.rows):,} rows of {table.benchmark.name}, {len(unique):,} different networks, {len(context.proxies)} proxies"
    logger.info("%s, %s seeds x %s images (%s, %s classes)", counts, *table.shape, plan.config.data, context.spec.num_classes)
    counter = CostCounter(space, context.spec)
    scored = _score(unique, context, known, counter, run, execution)
    return table.study(table.rows, scored, counter, _times(unique, context, table.rankings, counter, run))


def study_so_far(plan: StudyPlan, run: RunDir) -> Study:
    """The study of those rows that a run under way has scores of. Nothing is written.

    Raises:
        RunError: they are fewer than ten.
    """
    table = _Table.read(plan, "cpu")
    scored = _replay(table.unique, table.context, run, repair=False)
    rows = np.array([row for row in table.rows if table.form(row) in scored], np.int64)
    if len(rows) < FEWEST_ROWS:
        raise RunError(f"{run.path}: {len(rows)} rows have been scored, and a report needs {FEWEST_ROWS}: wait for them")
    return table.study(rows, scored, CostCounter(table.space, table.context.spec), {})


@dataclass(frozen=True)
class _Table:
    """The table of a study with all that scores its networks.

    Attributes:
        config: the options, with the number of classes that follows from the table.
        benchmark, space: the table and the space of its networks.
        accuracies: by data set, of every row of the table.
        forms: the canonical form of each network.
        rows: that are studied.
        rankings, context: what scores them.
    """

    config: StudyConfig
    benchmark: Benchmark
    space: SearchSpace
    accuracies: dict[str, Vector]
    forms: dict[Architecture, Architecture]
    rows: NDArray[np.int64]
    rankings: dict[str, Ranking]
    context: ScoringContext

    @classmethod
    def read(cls, plan: StudyPlan, device: str) -> _Table:
        """Read the table, choose the rows, and observe the teacher."""
        config = plan.config
        own = load_space(config.space, trusted=True) if config.space else None
        benchmark = read_benchmark(plan.table, own, config.arch_column, config.accuracy_column)
        space = own or load_space(benchmark.space)
        accuracies = _accuracies(config, benchmark)
        forms = {arch: space.canonical(arch) for arch in dict.fromkeys(benchmark.archs)}
        rows = choose_rows(config, [forms[arch] for arch in benchmark.archs])
        if config.dataset is None:
            accuracies = _long_enough(accuracies, rows)
        _check_accuracies(config, accuracies, rows)
        plan = dataclasses.replace(plan, config=_with_classes_of(accuracies, config))
        return cls(plan.config, benchmark, space, accuracies, forms, rows, *_prepare(plan, device, space))

    def form(self, row: int) -> Architecture:
        """The canonical form of a row's network."""
        return self.forms[self.benchmark.archs[row]]

    @property
    def unique(self) -> list[Architecture]:
        """The different networks, in the order of the rows."""
        return list(dict.fromkeys(map(self.form, self.rows)))

    @property
    def shape(self) -> tuple[int, int]:
        """Initialisations that scores are averaged over, and images for each."""
        return len(self.context.batches), len(self.context.batches[0].target)

    def study(
        self, rows: NDArray[np.int64], scored: Mapping[Architecture, ScoreResult], counter: CostCounter, times: Mapping[str, float]
    ) -> Study:
        """The study of some rows, by what their networks have scored."""
        results = [scored[self.form(row)] for row in rows]
        costs = [counter(self.benchmark.archs[row]) for row in rows]
        number = {form: index for index, form in enumerate(self.unique)}
        groups = np.array([number[self.form(row)] for row in rows])
        ranked = [rank_rows(name, ranking, results, costs, times.get(name, 0.0)) for name, ranking in self.rankings.items()]
        accuracies = {name: values[rows] for name, values in self.accuracies.items()}
        return Study(self.config, self.benchmark, rows, *self.shape, groups, costs, ranked, accuracies)


def _prepare(plan: StudyPlan, device: str, space: SearchSpace) -> tuple[dict[str, Ranking], ScoringContext]:
    """The rankings, fit for the teacher, and the context that scores all of their parts."""
    asked = plan.rankings()
    _, context = prepare_scoring(dataclasses.replace(plan.config, proxy=",".join(asked)), device, space)
    context = dataclasses.replace(context, record_failures=True)
    if not context.teachers:
        return asked, context
    return {name: adapt_to_teacher(ranking, name, context.teachers, warn=False) for name, ranking in asked.items()}, context


def _with_classes_of(datasets: Iterable[str], config: StudyConfig) -> StudyConfig:
    """The options with the classes of the data sets that networks were trained on, where these agree and no option says how many classes
    generated images have."""
    counts = {_classes(name) for name in datasets}
    if config.num_classes is not None or config.data not in GENERATED_SOURCES or len(counts) > 1:
        return config
    return dataclasses.replace(config, num_classes=counts.pop())


def _classes(dataset: str) -> int | None:
    """The classes of a data set, which a table may call `ImageNet16-120`, `cifar10-valid` or, with its loss, `cifar10_kd`."""
    name = dataset.lower().replace("-", "_")
    return next((count for known, count in _CLASSES.items() if f"{name}_".startswith(f"{known}_")), None)


def _accuracies(config: StudyConfig, benchmark: Benchmark) -> dict[str, Vector]:
    asked = [name.strip() for name in config.dataset.split(",")] if config.dataset else benchmark.dataset_names()
    if config.accuracy_column is not None:
        if config.dataset is not None:
            raise ConfigError(f"--accuracy-column {config.accuracy_column} is the only accuracy: leave --dataset {config.dataset} out")
        return {name: benchmark.accuracy(name, "given") for name in benchmark.dataset_names()}
    if not asked:
        raise ConfigError(f"{benchmark.name} has no accuracies: name the column with --accuracy-column")
    return {name: benchmark.accuracy(name, config.split) for name in asked}


def _long_enough(accuracies: dict[str, Vector], rows: NDArray[np.int64]) -> dict[str, Vector]:
    """The data sets with enough accuracies to rank, where there are any; the others, such as the trainings without a teacher of a third of
    the networks, are left out."""
    known = {name: int((~np.isnan(values[rows])).sum()) for name, values in accuracies.items()}
    kept = {name: values for name, values in accuracies.items() if known[name] >= FEWEST_ROWS}
    if not kept:
        return accuracies
    for name in [name for name in known if name not in kept]:
        logger.info("%s is left out: %s of its accuracies are known, at least %s are needed", name, known[name], FEWEST_ROWS)
    return kept


def _check_accuracies(config: StudyConfig, accuracies: Mapping[str, Vector], rows: NDArray[np.int64]) -> None:
    for name, values in accuracies.items():
        reached = values[rows][~np.isnan(values[rows])]
        if len(reached) < FEWEST_ROWS or np.ptp(reached) == 0:
            few = f"only {len(reached)} of them are known, and {FEWEST_ROWS} are needed"
            reason = few if len(reached) < FEWEST_ROWS else "they are all alike"
            raise ConfigError(f"the {config.split} accuracies on {name} cannot be ranked: {reason}")


def _distinct(forms: Sequence[Architecture]) -> NDArray[np.int64]:
    """The first row of each different network."""
    first: dict[Architecture, int] = {}
    for row, form in enumerate(forms):
        first.setdefault(form, row)
    return np.array(list(first.values()), np.int64)


def _unseen(forms: Sequence[Architecture]) -> NDArray[np.int64]:
    """The odd rows whose network is in no even row."""
    even = set(forms[::2])
    return np.array([row for row in range(1, len(forms), 2) if forms[row] not in even], np.int64)


_ROWS: dict[str, Callable[[Sequence[Architecture]], NDArray[np.int64]]] = {
    "all": lambda forms: np.arange(len(forms)),
    "even": lambda forms: np.arange(0, len(forms), 2),
    "odd": lambda forms: np.arange(1, len(forms), 2),
    "distinct": _distinct,
    "unseen": _unseen,
}


def choose_rows(config: StudyConfig, forms: Sequence[Architecture]) -> NDArray[np.int64]:
    """The rows that `--rows` and `--sample-rows` ask for, in order.

    Args:
        config: the options.
        forms: the canonical forms of all rows.

    Raises:
        ConfigError: fewer than ten are left.
    """
    chosen = _ROWS[config.rows](forms)
    if config.sample_rows is not None and config.sample_rows < len(chosen):
        chosen = np.sort(np.random.default_rng([config.seed, 1]).choice(chosen, config.sample_rows, replace=False))
    if len(chosen) < FEWEST_ROWS:
        remedy = "widen --rows or --sample-rows" if len(chosen) < len(forms) else "it is too short to study"
        raise ConfigError(f"{len(chosen)} of {len(forms):,} rows of the table are left, at least {FEWEST_ROWS} are needed: {remedy}")
    return chosen


def _digest(benchmark: Benchmark) -> str:
    """Digest of the architectures and accuracies: what a resumed study must find unchanged."""
    digest = hashlib.sha256("\n".join(arch.digest for arch in benchmark.archs).encode())
    for name in sorted(benchmark.columns):
        digest.update(name.encode() + benchmark.columns[name].tobytes())
    return digest.hexdigest()[:12]


def _score(
    unique: Sequence[Architecture],
    context: ScoringContext,
    known: Mapping[str, ScoreResult],
    counter: CostCounter,
    run: RunDir | None,
    execution: Execution,
) -> dict[Architecture, ScoreResult]:
    """The outcome for every different network; those in the journal, and those `known` from an earlier study, are not scored again."""
    found = _replay(unique, context, run)
    left = [arch for arch in unique if arch not in found]
    new = [arch for arch in left if canonical_json(arch.choices) not in known]
    execution.reporter.start(len(unique), len(found), "network")
    runs_networks = any(get_proxy(name).runs_network for name in context.proxies)
    if not runs_networks and execution.executor == LOCAL:
        execution = dataclasses.replace(execution, workers=1)
    forecast = Forecast(len(unique), "network")
    with Engine.for_run(context, execution, run.path if run else None, len(new), _WORTH_A_PROCESS) as engine:
        fresh = engine.score(new, counter)
        for arch in left:
            result = known.get(canonical_json(arch.choices)) or next(fresh)
            if run is not None:
                run.append(JOURNAL, {"choices": arch.choices, "scores": result.scores, "failed": result.failed})
            found[arch] = result
            execution.reporter.update(len(found), lambda: _failures(found.values()))
            if line := forecast.line(len(found)):
                logger.info("%s; %s", line, engine.describe_cost())
    execution.reporter.stop()
    return found


def _failures(results: Iterable[ScoreResult]) -> str:
    """Return a line that says how many networks lack a score, and whose; "" where none does."""
    failed = [result.failed for result in results if result.failed]
    if not failed:
        return ""
    names = list(dict.fromkeys(name for reasons in failed for name in reasons))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(failed)} without a score by {', '.join(names[:3])}{more}"


def _scores_of(plan: StudyPlan, context: ScoringContext, inputs: Mapping[str, Any]) -> dict[str, ScoreResult]:
    """The outcomes of an earlier study, by the network's choices: those that have all that is asked for now.

    Raises:
        RunError: it is no study, or one under another setting, whose scores would be others.
    """
    folder = plan.scores_of
    if folder is None:
        return {}
    run, stored = RunDir.open(folder, "study")
    with run:
        before = StudyPlan.restore(stored, folder).config
        kept = runs.read_object(folder / "inputs.json")
        unlike = [name for name in inputs if name != "table" and not name.startswith("code of") and kept.get(name) != inputs[name]]
        unlike += [name for name in inputs if name.startswith("code of") and kept.get(name, inputs[name]) != inputs[name]]
        unlike += [name for name in _DECIDE_SCORES if getattr(before, name) != getattr(plan.config, name)]
        if unlike:
            raise RunError(f"{folder}: its scores are of another setting ({', '.join(unlike)}): leave --scores-of out")
        records = run.read(JOURNAL)
    found = {}
    for record in records:
        with contextlib.suppress(ValueError):
            found[canonical_json(record.get("choices"))] = read_scores(record, context, Cost(0, 0, 0))
    return found


def _replay(
    unique: Sequence[Architecture], context: ScoringContext, run: RunDir | None, repair: bool = True
) -> dict[Architecture, ScoreResult]:
    """The outcomes in the run's own journal, which must be those of this study, in order."""
    found: dict[Architecture, ScoreResult] = {}
    for number, record in enumerate(run.read(JOURNAL, repair) if run is not None else []):
        fault = f"{run.path / JOURNAL if run else JOURNAL}, line {number + 1}: "
        if number >= len(unique) or record.get("choices") != unique[number].choices:
            raise RunError(f"{fault}another network than this study's: start a new run")
        try:
            found[unique[number]] = read_scores(record, context, Cost(0, 0, 0))
        except ValueError as error:
            raise RunError(f"{fault}{error}: the journal is damaged, start a new run") from None
    return found


def _times(
    unique: Sequence[Architecture], context: ScoringContext, rankings: Mapping[str, Ranking], counter: CostCounter, run: RunDir | None
) -> dict[str, float]:
    """Return the milliseconds that each ranking takes by itself for one network and seed; 0 for what is only counted.

    They are the median over a few networks, measured once and kept.
    """
    path = run.path / TIMES if run is not None else None
    if path is not None and path.exists():
        return read_float_object(path)
    drawn = np.random.default_rng(0).choice(len(unique), min(_TIMED, len(unique)), replace=False)
    times = {}
    with single_thread(context.device):
        for name, ranking in rankings.items():
            runs_network = any(get_proxy(part).runs_network for part in ranking.parts)
            alone = dataclasses.replace(context, proxies=ranking.parts, batches=context.batches[:1])
            measured = (_milliseconds(alone, unique[number], counter) for number in drawn) if runs_network else [0.0]
            times[name] = statistics.median(measured)
    if path is not None:
        runs.write_atomic(path, json.dumps(times, indent=2) + "\n")
    return times


def _milliseconds(context: ScoringContext, arch: Architecture, counter: CostCounter) -> float:
    cost = counter(arch)
    start = time.perf_counter()
    score_one(context, arch, cost)
    return (time.perf_counter() - start) * 1000


def read_float_object(path: Path) -> dict[str, float]:
    """Read a JSON object of numbers.

    Raises:
        RunError: the file is anything else.
    """
    try:
        return {str(name): float(value) for name, value in runs.read_object(path).items()}
    except (ValueError, TypeError) as error:
        raise RunError(f"{path}: damaged ({first_line(error, 80)}): remove it, then --resume") from None
