"""The study recipe: how well proxies rank the networks of a benchmark, whose accuracies are known."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diswot import runs
from diswot.architecture import Architecture, canonical_json
from diswot.benchmarks import Benchmark, read_benchmark
from diswot.budget import cost_of
from diswot.config import resolve
from diswot.devices import choose_device
from diswot.engine import Engine, Scored, Setting, default_workers, score_one, single_thread
from diswot.errors import ConfigError, RunError, first_line
from diswot.options import StudyConfig
from diswot.progress import Reporter, Silent
from diswot.proxies import Ranking, get_proxy, resolve_ranking, see_teacher
from diswot.recipes.scoring import numbers, prepare, setting_digests
from diswot.space import Cost, SearchSpace, load_space

JOURNAL = "scores.jsonl"
TIMES = "milliseconds.json"
BASELINES = ("params", "flops")
_DECIDE_SCORES = ("teacher", "teacher_norm", "init")  # besides the inputs' digests
_FEWEST = 10  # rows below which a rank correlation says nothing
_TIMED = 5  # networks that each proxy is timed on

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Contender:
    """A ranking under study.

    Attributes:
        name: as it was asked for.
        ranking: its parts and how they are combined.
        parts: (n, parts) scores averaged over the seeds.
        complete: (n,) whether it has all of them; rows that it has not rank below all others.
        fitness: (n,) from these, higher is better.
        by_seed: (n, seeds) from each seed's scores alone.
        reason: why the first of the rows that are not complete is not; empty where all are.
        milliseconds: of one network and seed, median; 0 for what is only counted.
    """

    name: str
    ranking: Ranking
    parts: Vector
    complete: NDArray[np.bool_]
    fitness: Vector
    by_seed: Vector
    reason: str
    milliseconds: float

    @property
    def failed(self) -> int:
        """Rows that it has no score for."""
        return int((~self.complete).sum())


@dataclass(frozen=True)
class Study:
    """All that a report needs.

    Attributes:
        config: what was asked for.
        benchmark: the table.
        rows: (n,) the rows under study.
        seeds, batch: initialisations that scores are averaged over, and images for each.
        groups: (n,) equal for networks that compute the same function.
        costs: (n,) of each row's own network, for the setting's classes and image size.
        contenders: the rankings, and the two baselines.
        accuracies: for each data set (n,), NaN where the table has none.
    """

    config: StudyConfig
    benchmark: Benchmark
    rows: NDArray[np.int64]
    seeds: int
    batch: int
    groups: NDArray[np.int64]
    costs: list[Cost]
    contenders: list[Contender]
    accuracies: dict[str, Vector]

    @property
    def archs(self) -> list[Architecture]:
        return [self.benchmark.archs[row] for row in self.rows]

    @property
    def measured(self) -> str:
        """Which accuracies they are."""
        return self.config.accuracy_column or f"{self.config.split} accuracy"

    def size(self, what: str) -> Vector:
        """(n,) `params` or `flops`."""
        return np.array([getattr(cost, what) for cost in self.costs], np.float64)


def run_study(
    config: StudyConfig,
    table: str,
    run: runs.RunDir | None = None,
    *,
    earlier: Path | None = None,
    device: str = "auto",
    workers: int = 0,
    reporter: Reporter | None = None,
) -> Study:
    """Scores the networks of a table, or goes on where `run` was left.

    Each different network is scored once, however many rows of the table compute the same function.

    Args:
        table: path of the benchmark's CSV.
        run: the folder that keeps the journal; without one nothing is written.
        earlier: the folder of a study under the same setting, whose scores are taken over where it has them.

    Raises:
        DiswotError: whatever a user can mend, in one line.
    """
    reporter = reporter or Silent()
    config.check()
    asked = {name: resolve_ranking(name, config.combine) for name in _names(config.proxy)}  # refuses before a large table is read
    space = load_space(config.space, trusted=True) if config.space else None
    benchmark = read_benchmark(table, space, config.arch_column, config.accuracy_column)
    space = space or load_space(benchmark.space)
    accuracies = _accuracies(config, benchmark)
    forms = _forms(space, benchmark.archs)
    rows = choose_rows(config, [forms[arch] for arch in benchmark.archs])
    for name, values in accuracies.items():
        reached = values[rows][~np.isnan(values[rows])]
        if len(reached) < _FEWEST or np.ptp(reached) == 0:
            raise ConfigError(f"the {config.split} accuracies on {name} are all alike or missing ({len(reached)} known): nothing to rank")
    _, setting = prepare(dataclasses.replace(config, proxy=",".join(_names(config.proxy))), choose_device(device), space)
    setting = dataclasses.replace(setting, patient=True)
    rankings = {name: see_teacher(ranking, name, setting.teachers) if setting.teachers else ranking for name, ranking in asked.items()}
    inputs = {**setting_digests(config, setting, space), "table": _digest(benchmark)}
    known = _scores_of(earlier, config, setting, inputs) if earlier is not None else {}
    if run is not None:
        run.hold_to("inputs.json", inputs)
    unique = list(dict.fromkeys(forms[benchmark.archs[row]] for row in rows))
    shape = len(setting.batches), len(setting.batches[0].target)
    reporter.say(
        f"{len(rows):,} rows of {benchmark.name}, {len(unique):,} different networks, {len(setting.proxies)} proxies, "
        f"{shape[0]} seeds x {shape[1]} images ({config.data})"
    )
    scored = _score(unique, setting, known, run, workers, reporter)
    times = _times(unique, setting, rankings, run)
    results = [scored[forms[benchmark.archs[row]]] for row in rows]
    own = [cost_of(space, benchmark.archs[row], setting.num_classes, setting.in_chans, setting.input_size) for row in rows]
    place = {form: index for index, form in enumerate(unique)}
    contenders = [_contender(name, ranking, results, own, times) for name, ranking in rankings.items()]
    groups = np.array([place[forms[benchmark.archs[row]]] for row in rows])
    return Study(config, benchmark, rows, *shape, groups, own, contenders, {name: values[rows] for name, values in accuracies.items()})


def _accuracies(config: StudyConfig, benchmark: Benchmark) -> dict[str, Vector]:
    asked = [name.strip() for name in config.dataset.split(",")] if config.dataset else benchmark.dataset_names()
    if config.accuracy_column is not None:
        if config.dataset is not None:
            raise ConfigError(f"--accuracy-column {config.accuracy_column} is the only accuracy: leave --dataset {config.dataset} out")
        return {name: benchmark.accuracy(name, "given") for name in benchmark.dataset_names()}
    if not asked:
        raise ConfigError(f"{benchmark.name} has no accuracies: name the column with --accuracy-column")
    return {name: benchmark.accuracy(name, config.split) for name in asked}


def _forms(space: SearchSpace, archs: Sequence[Architecture]) -> dict[Architecture, Architecture]:
    """The canonical form of each architecture."""
    return {arch: space.canonical(arch) for arch in dict.fromkeys(archs)}


def _distinct(forms: Sequence[Architecture]) -> NDArray[np.int64]:
    """The first row of each different network."""
    first: dict[Architecture, int] = {}
    for row, form in enumerate(forms):
        first.setdefault(form, row)
    return np.array(list(first.values()), np.int64)


def _unseen(forms: Sequence[Architecture]) -> NDArray[np.int64]:
    """The odd rows whose network no even row has."""
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
    """The rows that `--rows` and `--sample` ask for, in order; `forms` are the canonical forms of all rows.

    Raises:
        ConfigError: fewer than ten are left.
    """
    chosen = _ROWS[config.rows](forms)
    if config.sample is not None and config.sample < len(chosen):
        chosen = np.sort(np.random.default_rng([config.seed, 1]).choice(chosen, config.sample, replace=False))
    if len(chosen) < _FEWEST:
        raise ConfigError(f"{len(chosen)} rows are left to study, at least {_FEWEST} are needed: widen --rows or --sample")
    return chosen


def _names(proxy: str) -> list[str]:
    """The contenders' names; the baselines are always among them."""
    asked = [name.strip() for name in proxy.split(",") if name.strip()]
    return list(dict.fromkeys([*asked, *BASELINES]))


def _digest(benchmark: Benchmark) -> str:
    """Of the architectures and accuracies: what a resumed study must find unchanged."""
    digest = hashlib.sha256("\n".join(arch.digest for arch in benchmark.archs).encode())
    for name in sorted(benchmark.columns):
        digest.update(name.encode() + benchmark.columns[name].tobytes())
    return digest.hexdigest()[:12]


def _score(
    unique: Sequence[Architecture],
    setting: Setting,
    known: Mapping[str, Scored],
    run: runs.RunDir | None,
    workers: int,
    reporter: Reporter,
) -> dict[Architecture, Scored]:
    """Every different network's outcome; those in the journal, and those `known` from an earlier study, are not scored again."""
    found = _replay(unique, setting, run)
    left = [arch for arch in unique if arch not in found]
    new = [arch for arch in left if canonical_json(arch.choices) not in known]
    reporter.start(len(unique), len(found))
    run_networks = any("student" in get_proxy(name).needs for name in setting.proxies)
    processes = min(workers or default_workers(setting.device), max(1, len(new) // 4)) if run_networks else 1
    with Engine(setting, processes) as engine:
        fresh = engine.score(new)
        for arch in left:
            scored = known.get(canonical_json(arch.choices)) or next(fresh)
            if run is not None:
                run.append(JOURNAL, {"choices": arch.choices, "scores": scored.scores, "failed": scored.failed})
            found[arch] = scored
            reporter.update(len(found), lambda: _failures(found.values()))
    reporter.stop()
    return found


def _failures(outcomes: Iterable[Scored]) -> str:
    """How many networks lack a score, and whose; nothing where none does."""
    failed = [one.failed for one in outcomes if one.failed]
    if not failed:
        return ""
    names = list(dict.fromkeys(name for reasons in failed for name in reasons))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(failed)} without a score by {', '.join(names[:3])}{more}"


def _scores_of(folder: Path, config: StudyConfig, setting: Setting, inputs: Mapping[str, str]) -> dict[str, Scored]:
    """The outcomes of an earlier study, by the network's choices: those that have all that is asked for now.

    Raises:
        RunError: it is no study, or one under another setting, whose scores would be others.
    """
    run, stored = runs.RunDir.open(folder, "study")
    with run:
        before, _ = resume_config(stored)
        kept = runs.read_object(folder / "inputs.json")
        unlike = [name for name in inputs if name != "table" and kept.get(name) != inputs[name]]
        unlike += [name for name in _DECIDE_SCORES if getattr(before, name) != getattr(config, name)]
        if unlike:
            raise RunError(f"{folder}: its scores are of another setting ({', '.join(unlike)}): leave --scores-of out")
        records = run.read(JOURNAL)
    found = {}
    for record in records:
        with contextlib.suppress(ValueError):
            found[canonical_json(record.get("choices"))] = _outcome(record, setting)
    return found


def _replay(unique: Sequence[Architecture], setting: Setting, run: runs.RunDir | None) -> dict[Architecture, Scored]:
    """The outcomes in the run's own journal, which must be those of this study, in order."""
    found: dict[Architecture, Scored] = {}
    for number, record in enumerate(run.read(JOURNAL, repair=True) if run is not None else []):
        fault = f"{run.path / JOURNAL if run else JOURNAL}, line {number + 1}: "
        if number >= len(unique) or record.get("choices") != unique[number].choices:
            raise RunError(f"{fault}another network than this study's: start a new run")
        try:
            found[unique[number]] = _outcome(record, setting)
        except ValueError as error:
            raise RunError(f"{fault}{error}: the journal is damaged, start a new run") from None
    return found


def _outcome(record: Mapping[str, Any], setting: Setting) -> Scored:
    """What a journal's line says of the setting's proxies; `ValueError` where it lacks one. The cost is not in it."""
    scores, failed = record.get("scores"), record.get("failed")
    if not isinstance(scores, dict) or not isinstance(failed, dict):
        raise ValueError("no scores in it")
    lacking = [name for name in setting.proxies if name not in failed and not numbers(scores.get(name), len(setting.batches))]
    if lacking:
        raise ValueError(f"its {lacking[0]} is not this study's")
    reasons = {name: failed[name] for name in setting.proxies if name in failed}
    return Scored(Cost(0, 0, 0), {name: scores[name] for name in setting.proxies if name not in failed}, reasons)


def _times(unique: Sequence[Architecture], setting: Setting, rankings: Mapping[str, Ranking], run: runs.RunDir | None) -> dict[str, float]:
    """Milliseconds that each ranking takes by itself for one network and seed: the median over a few networks, measured once and kept. 0
    for what is only counted."""
    path = run.path / TIMES if run is not None else None
    if path is not None and path.exists():
        return read_numbers(path)
    rng = np.random.default_rng(0)
    archs = [unique[i] for i in rng.choice(len(unique), min(_TIMED, len(unique)), replace=False)]
    times = {}
    with single_thread(setting.device):
        for name, ranking in rankings.items():
            runs_network = any("student" in get_proxy(part).needs for part in ranking.parts)
            alone = dataclasses.replace(setting, proxies=ranking.parts, batches=setting.batches[:1])
            times[name] = statistics.median(_milliseconds(alone, arch) for arch in archs) if runs_network else 0.0
    if path is not None:
        runs.write_atomic(path, json.dumps(times, indent=2) + "\n")
    return times


def _milliseconds(setting: Setting, arch: Architecture) -> float:
    start = time.perf_counter()
    score_one(setting, arch)
    return (time.perf_counter() - start) * 1000


def read_numbers(path: Path) -> dict[str, float]:
    """A JSON object of numbers; `RunError` where the file is anything else."""
    try:
        return {str(name): float(value) for name, value in runs.read_object(path).items()}
    except (ValueError, TypeError) as error:
        raise RunError(f"{path}: damaged ({first_line(error, 80)}): remove it, then --resume") from None


def _contender(name: str, ranking: Ranking, results: Sequence[Scored], costs: Sequence[Cost], times: Mapping[str, float]) -> Contender:
    """A ranking's fitness over all rows. What is counted is counted on each row's own network, what is measured on the function."""
    seeds = max((len(values) for one in results for values in one.scores.values()), default=1)
    parts = np.stack([_part(part, results, costs, seeds) for part in ranking.parts], 2)  # (n, seeds, parts)
    complete = np.asarray(np.isfinite(parts).all((1, 2)), np.bool_)
    means = _worst_for_failed(parts.mean(1))
    fitness = _last(ranking.fitness(means), ~complete)
    by_seed = np.stack([_last(ranking.fitness(_worst_for_failed(parts[:, seed])), ~complete) for seed in range(seeds)], 1)
    reasons = (one.failed[part] for one in results for part in ranking.parts if part in one.failed)
    return Contender(name, ranking, means, complete, fitness, by_seed, next(reasons, ""), times.get(name, 0.0))


def _part(name: str, results: Sequence[Scored], costs: Sequence[Cost], seeds: int) -> Vector:
    """(n, seeds), NaN for networks that it has no score for."""
    proxy = get_proxy(name)
    if "student" not in proxy.needs:
        return np.array([[float(proxy.score(None, None, cost))] * seeds for cost in costs])
    return np.array([one.scores.get(name, [float("nan")] * seeds) for one in results])


def _last(fitness: Vector, failed: NDArray[np.bool_]) -> Vector:
    """(n,) with the `failed` just below all others, whatever their other parts say."""
    if not failed.any() or failed.all():
        return fitness
    lowest = fitness[~failed].min()
    return np.where(failed, lowest - max(abs(float(lowest)), 1.0) * 1e-3, fitness)


def _worst_for_failed(scores: Vector) -> Vector:
    """(n, parts) with a value just below all others where there is none."""
    filled = scores.copy()
    for column in filled.T:
        missing = np.isnan(column)
        if missing.any():
            known = column[~missing]
            column[missing] = known.min() - max(float(np.ptp(known)), 1.0) * 1e-3 if len(known) else 0.0
    return filled


def resume_config(stored: Mapping[str, Any]) -> tuple[StudyConfig, str]:
    """The configuration and the table of a study that is resumed."""
    table = stored.get("table")
    if not isinstance(table, str):
        raise RunError("the run's config.yaml names no table: start a new run")
    return resolve(StudyConfig, {key: value for key, value in stored.items() if key != "table"}, [], {}), table
