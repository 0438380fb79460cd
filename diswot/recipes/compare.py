"""Was the search worth it? Several students by the same recipe, on the same seeds, under one teacher."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from scipy import stats

from diswot import losses, runs
from diswot.architecture import Architecture
from diswot.budget import cost_of, measure_latency
from diswot.config import positive, resolve, to_dict
from diswot.data import load_data
from diswot.errors import ConfigError
from diswot.options import CompareConfig, DistillConfig, check_seed
from diswot.progress import Reporter, Silent
from diswot.recipes.distill import DistillResult, Subject, complete_config, identity, run_distill
from diswot.recipes.students import build_student
from diswot.space import Cost, load_space
from diswot.training.parallel import launched

RESULTS = "results.jsonl"


@dataclass(frozen=True)
class Row:
    """A student over all seeds: top-1 in percent for each, what it costs, latency in milliseconds for one image."""

    name: str
    arch: Architecture
    top1: list[float]
    cost: Cost
    latency: float

    @property
    def mean(self) -> float:
        return statistics.fmean(self.top1)

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds; NaN of one."""
        return statistics.stdev(self.top1) if len(self.top1) > 1 else math.nan

    def ahead_of(self, other: Row) -> tuple[float, float]:
        """Mean difference to another student, seed by seed, and the half-width of its 95 % interval (Student's t); NaN of one seed."""
        return paired_difference(self.top1, other.top1)


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Mean of ours - theirs, pair by pair, and the half-width of its 95 % interval (Student's t); NaN of one pair.

    >>> [round(value, 2) for value in paired_difference([71.0, 72.0, 73.0], [70.0, 70.0, 70.0])]  # 4.303 / sqrt(3)
    [2.0, 2.48]
    """
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    count = len(differences)
    if count < 2:
        return differences[0], math.nan
    width = stats.t.ppf(0.975, count - 1) * statistics.stdev(differences) / math.sqrt(count)
    return statistics.fmean(differences), float(width)


@dataclass(frozen=True)
class Comparison:
    """Rows in the order that the students were given in; `teacher` is the accuracy of each seed's teacher, where there was one."""

    rows: list[Row]
    teacher: list[float]
    measured_on: str
    images: int
    folder: Path


def complete_comparison(config: CompareConfig, subjects: Sequence[Subject]) -> CompareConfig:
    """With the teacher and the data that the first arch.json knows, checked."""
    positive(config, "seeds")
    if launched():
        raise ConfigError("compare runs in one process: under torchrun, distill the students side by side, seed by seed")
    if len(subjects) < 2:
        raise ConfigError("compare needs two students at least: diswot compare arch.json resnet20")
    check_seed(config.seed + config.seeds - 1)
    loss = losses.create(config.loss)
    if loss.partner == "peers":
        raise ConfigError(f"loss {loss.label}: peers teach each other, so none would be compared by itself; use distill, or another loss")
    known = complete_config(training_of(config, config.seed), subjects[0][1])
    return replace(config, teacher=known.teacher, data=known.data, data_dir=known.data_dir, input_size=known.input_size)


def training_of(config: CompareConfig, seed: int) -> DistillConfig:
    """The configuration of the training with this seed."""
    fields = {name: value for name, value in to_dict(config).items() if name != "seeds"}
    return resolve(DistillConfig, None, [], {**fields, "seed": seed})


def run_compare(
    config: CompareConfig, subjects: Sequence[Subject], run: runs.RunDir, *, device: str = "cpu", reporter: Reporter | None = None
) -> Comparison:
    """Trains all students side by side, once for each seed, or goes on where `run` was left.

    Each seed is a run of its own in the folder `seed-N`.
    """
    reporter = reporter or Silent()
    done = run.read(RESULTS, repair=True)
    for seed in range(config.seed + len(done), config.seed + config.seeds):
        reporter.say(f"seed {seed} ({seed - config.seed + 1} of {config.seeds})")
        result = _train(training_of(config, seed), subjects, run.path / f"seed-{seed}", device, reporter)
        run.append(RESULTS, _record(seed, result))
        done = run.read(RESULTS)
    return _comparison(config, subjects, done, run.path, device)


def _train(config: DistillConfig, subjects: Sequence[Subject], folder: Path, device: str, reporter: Reporter) -> DistillResult:
    with runs.RunDir.open_or_create(folder, "distill", identity(config), runs.environment(device)) as run:
        return run_distill(config, subjects, run, device=device, reporter=reporter)


def _record(seed: int, result: DistillResult) -> dict[str, Any]:
    names, top1 = zip(*((student.name, student.accuracy.top1) for student in result.students), strict=True)
    facts = {"measured_on": result.measured_on, "images": result.student.count}
    return {"seed": seed, "names": list(names), "top1": list(top1), "teacher": result.teacher.top1 if result.teacher else None, **facts}


def _comparison(
    config: CompareConfig, subjects: Sequence[Subject], records: Sequence[Mapping[str, Any]], folder: Path, device: str
) -> Comparison:
    assert config.data is not None
    data = load_data(config.data, **config.image_options())
    rows = []
    for index, (arch, _) in enumerate(subjects):
        trusted = config.space == arch.space
        cost = cost_of(load_space(arch.space, trusted=trusted), arch, data.num_classes, data.in_chans, data.input_size)
        model = build_student(arch, data.num_classes, data.in_chans, 0, trusted)
        latency = measure_latency(model, data.in_chans, data.input_size, torch.device(device))
        rows.append(Row(records[0]["names"][index], arch, [record["top1"][index] for record in records], cost, latency))
    teacher = [record["teacher"] for record in records if record["teacher"] is not None]
    return Comparison(rows, teacher, records[0]["measured_on"], records[0]["images"], folder)
