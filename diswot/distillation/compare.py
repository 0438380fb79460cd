"""Was it worth it? Students, or losses, by the same recipe, on the same seeds, under one teacher."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from scipy import special

from diswot import losses
from diswot.architecture import Architecture
from diswot.budget import cost_of
from diswot.config import CompareConfig
from diswot.data import load_data
from diswot.distillation.context import TrainingContext
from diswot.distillation.plan import DistillPlan, plan_distillation, read_entries, restore_config
from diswot.distillation.recipe import distill_in
from diswot.distillation.side_by_side import TICK, epochs_done, train_side_by_side
from diswot.distillation.students import StudentEntry, build_student, student_names
from diswot.distillation.teachers import trained_teacher
from diswot.errors import ConfigError, RunError
from diswot.execution import Execution
from diswot.executors.named import LOCAL
from diswot.latency.measure import measure_networks
from diswot.latency.runtimes import Setup
from diswot.losses.together import trained_together
from diswot.processes import launched_by_torchrun
from diswot.runs import RunDir, finite, is_count, is_number
from diswot.space import Cost, load_space

logger = logging.getLogger(__name__)
RESULTS = "results.jsonl"


@dataclass(frozen=True)
class ComparedStudent:
    """A student over all seeds, by one loss.

    Attributes:
        name: for the table.
        loss: the loss.
        arch: its architecture.
        top1: accuracy in percent for each seed.
        cost: its parameters, FLOPs and depth.
        latency: in milliseconds for one image, with one thread on a CPU.
    """

    name: str
    loss: str
    arch: Architecture
    top1: list[float]
    cost: Cost
    latency: float

    @property
    def mean(self) -> float:
        """The mean accuracy over the seeds."""
        return statistics.fmean(self.top1)

    @property
    def spread(self) -> float:
        """The standard deviation over the seeds; NaN for one."""
        return statistics.stdev(self.top1) if len(self.top1) > 1 else math.nan

    def ahead_of(self, other: ComparedStudent) -> tuple[float, float]:
        """The mean difference to another student, seed by seed, and the half-width of its 95 % interval (Student's t); NaN for one seed."""
        return paired_difference(self.top1, other.top1)


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """The mean of ours - theirs, pair by pair, and the half-width of its 95 % interval (Student's t); NaN for one pair.

    >>> [round(value, 2) for value in paired_difference([71.0, 72.0, 73.0], [70.0, 70.0, 70.0])]  # 4.303 / sqrt(3)
    [2.0, 2.48]
    """
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    count = len(differences)
    if count < 2:
        return differences[0], math.nan
    width = special.stdtrit(count - 1, 0.975) * statistics.stdev(differences) / math.sqrt(count)
    return statistics.fmean(differences), float(width)


@dataclass(frozen=True, repr=False)
class Comparison:
    """The result of a comparison.

    Attributes:
        rows: the students, in the order that they were given in, for each loss in turn.
        teacher: the accuracy of each seed's teacher, where there was one.
        measured_on: `test` or `validation`.
        images: how many images that is.
        folder: the run's folder.
    """

    rows: list[ComparedStudent]
    teacher: list[float]
    measured_on: str
    images: int
    folder: Path

    def __repr__(self) -> str:
        """The mean accuracies, in a line."""
        rows = ", ".join(f"{row.name} ({row.loss}) {row.mean:.2f} %" for row in self.rows)
        return f"Comparison({self.measured_on}: {rows}; folder={str(self.folder)!r})"

    def summary(self) -> dict[str, Any]:
        """The result as plain values, which JSON can hold."""
        first = self.rows[0]
        rows = [
            {
                "name": row.name,
                "loss": row.loss,
                "space": row.arch.space,
                "choices": row.arch.choices,
                "top1": row.top1,
                "mean": row.mean,
                "spread": finite(row.spread),
                "difference": None if row is first else finite(list(first.ahead_of(row))),
                "latency_ms": row.latency,
                **asdict(row.cost),
            }
            for row in self.rows
        ]
        return {"students": rows, "teacher": self.teacher, "measured_on": self.measured_on, "images": self.images}


@dataclass(frozen=True)
class ComparePlan:
    """The checked plan of `diswot compare`; `plan_comparison` makes one."""

    config: CompareConfig
    entries: tuple[StudentEntry, ...]

    kind: ClassVar[str] = "compare"

    @property
    def losses(self) -> tuple[str, ...]:
        """The losses that are compared."""
        return compared_losses(self.config, len(self.entries))

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """The losses by the trainings that share a teacher's pass."""
        groups: list[tuple[str, ...]] = []
        for loss in self.losses:
            for number, group in enumerate(groups):
                if trained_together(list(map(losses.create, (*group, loss)))):
                    groups[number] = (*group, loss)
                    break
            else:
                groups.append((loss,))
        return groups

    def training(self, seed: int, group: Sequence[str] = ()) -> DistillPlan:
        """The plan of the training with this seed, by some of the losses side by side."""
        return DistillPlan(self.config.training(seed, "; ".join(group or self.losses[:1])), self.entries)

    def folder(self, parent: Path, seed: int, number: int) -> Path:
        """The folder of one group's training, in the run's."""
        return parent / f"seed-{seed}" / (f"losses-{number + 1}" if len(self.groups) > 1 else "")

    def trainings(self, parent: Path) -> list[Path]:
        """The folders of all trainings, in the run's."""
        seeds = range(self.config.seed, self.config.seed + self.config.seeds)
        return [self.folder(parent, seed, number) for seed in seeds for number in range(len(self.groups))]

    def document(self) -> dict[str, Any]:
        """Return the part of the plan that is kept with the run."""
        return {**self.training(self.config.seed, (self.config.loss,)).document(), "seeds": self.config.seeds, "losses": self.config.losses}

    def files(self) -> dict[str, str]:
        """Texts that are kept with the run, by file name: the arch.json of every student."""
        return self.training(self.config.seed).files()

    @classmethod
    def restore(cls, document: Mapping[str, Any], folder: Path) -> ComparePlan:
        """The plan of a comparison that is resumed."""
        return cls(restore_config(document, CompareConfig), read_entries(folder))


def compared_losses(config: CompareConfig, num_students: int) -> tuple[str, ...]:
    """The losses that are compared, each once.

    >>> compared_losses(CompareConfig(loss="dist"), 1), compared_losses(CompareConfig(losses="kd; dkd(beta=2)"), 3)
    (('none', 'kd', 'dist'), ('kd', 'dkd(beta=2)'))
    """
    beside = "none; kd; " if num_students == 1 else ""
    return losses.split_expressions(beside + config.loss if config.losses is None else config.losses)


def plan_comparison(config: CompareConfig, entries: Sequence[StudentEntry]) -> ComparePlan:
    """Plan a comparison, with the teacher and the data that the first arch.json knows.

    Raises:
        DiswotError: what cannot be compared.
    """
    config.check()
    if launched_by_torchrun():
        raise ConfigError("compare runs in one process: under torchrun, distil the students side by side, seed by seed")
    compared = compared_losses(config, len(entries))
    if len(entries) * len(compared) < 2:
        raise ConfigError(
            "compare needs two students at least, or two losses that differ: diswot compare arch.json resnet20 --losses 'none; kd; dkd'"
        )
    made = {expression: losses.create(expression) for expression in compared}
    for loss in made.values():
        if not loss.scheme.independent_students:
            alone = "students that learn from each other cannot be compared by themselves"
            raise ConfigError(f"loss {loss.label}: {alone}; use distill, or another loss")
    taught = next((expression for expression, loss in made.items() if loss.scheme.uses_teacher), compared[0])
    known = plan_distillation(config.training(config.seed, taught), entries).config
    completed = replace(config, teacher=known.teacher, data=known.data, data_dir=known.data_dir, input_size=known.input_size)
    return ComparePlan(completed, tuple(entries))


def _train_losses(plan: ComparePlan, parent: Path, seed: int, execution: Execution) -> dict[str, Any]:
    """Train the students of one seed by every loss, and return the record of them, in the order in which losses and students were given."""
    record: dict[str, Any] = {"seed": seed, "teacher": None}
    trained: dict[str, list[float]] = {}
    for number, group in enumerate(plan.groups):
        result = distill_in(plan.folder(parent, seed, number), plan.training(seed, group), execution)
        for student in result.students:
            trained.setdefault(student.loss, []).append(student.accuracy.top1)
        record |= {"measured_on": result.measured_on, "images": result.student.count}
        record["teacher"] = result.teacher.top1 if result.teacher else record["teacher"]
    names = student_names(plan.entries)
    record |= {"names": [name for _ in plan.losses for name in names], "losses": [loss for loss in plan.losses for _ in names]}
    return {**record, "top1": [top1 for loss in plan.losses for top1 in trained[loss]]}


def run_compare(plan: ComparePlan, run: RunDir | None, execution: Execution) -> Comparison:
    """Train all students side by side, once for each seed, or go on where the run was left.

    Each seed is a run of its own in the folder `seed-N`. They come one after the other in this process, unless workers are asked for.
    """
    assert run is not None
    config = plan.config
    seeds = range(config.seed + len(run.read(RESULTS, repair=True)), config.seed + config.seeds)
    here = execution.executor == LOCAL and execution.workers <= 1
    for record in _train_here(plan, run.path, execution, seeds) if here else _train_elsewhere(plan, run.path, execution, seeds):
        run.append(RESULTS, record)
    records = run.read(RESULTS)
    for number, record in enumerate(records):
        if not _is_result(plan, number, record):
            raise RunError(f"{run.path / RESULTS}, line {number + 1}: damaged: remove this line and those after it, then --resume")
    found = _comparison(plan, records, run.path, execution.choose_device())
    run.write_result(found.summary())
    return found


def _is_result(plan: ComparePlan, number: int, record: Mapping[str, Any]) -> bool:
    """Whether a line of the journal is what `_train_losses` writes."""
    count = len(plan.losses) * len(plan.entries)
    names, losses, top1 = (record.get(name) for name in ("names", "losses", "top1"))
    if not all(isinstance(found, list) and len(found) == count for found in (names, losses, top1)):
        return False
    if record.get("seed") != plan.config.seed + number or not (record.get("teacher") is None or is_number(record.get("teacher"))):
        return False
    texts = [record.get("measured_on"), *(names or ()), *(losses or ())]
    return is_count(record.get("images")) and all(map(is_number, top1 or ())) and all(isinstance(text, str) for text in texts)


def _train_here(plan: ComparePlan, folder: Path, execution: Execution, seeds: range) -> Iterator[dict[str, Any]]:
    for seed in seeds:
        logger.info("seed %s (%s of %s)", seed, seed - plan.config.seed + 1, plan.config.seeds)
        yield _train_losses(plan, folder, seed, execution)


def _train_elsewhere(plan: ComparePlan, folder: Path, execution: Execution, seeds: range) -> Iterator[dict[str, Any]]:
    """The seeds by workers, side by side; yields their records in order. What cannot be trained fails before any worker has begun. The
    teacher of them all is trained before by this process; where workers are elsewhere, by the first of them."""
    for group in plan.groups if seeds else ():
        context = TrainingContext.load(plan.training(seeds.start, group), replace(execution, device=execution.choose_device()))
        if execution.executor == LOCAL and context.plan.scheme.uses_teacher and plan.config.teacher_weights is None:
            trained_teacher(context)
    found: dict[int, dict[str, Any]] = {}
    with train_side_by_side(execution, _train_seed, folder) as dispatcher:
        numbers = {dispatcher.add((folder.resolve(), plan, seed)): seed for seed in seeds}
        execution.reporter.start(len(plan.trainings(folder)) * plan.config.epochs, _epochs_done(plan, folder), "epoch")
        for seed in seeds:
            while seed not in found:
                found |= {numbers[number]: record for number, record in dispatcher.completed(TICK)}
                ended = plan.config.seeds - len(seeds) + len(found)
                execution.reporter.update(_epochs_done(plan, folder), partial("{} of {} seeds".format, ended, plan.config.seeds))
            if error := found[seed].get("error"):
                raise RunError(f"seed {seed}: {error}")
            yield found[seed]
    execution.reporter.stop()


def _epochs_done(plan: ComparePlan, folder: Path) -> int:
    return sum(map(epochs_done, plan.trainings(folder)))


def _train_seed(device: str, item: tuple[Path, ComparePlan, int]) -> dict[str, Any]:
    """Train the students of one seed, and return its record."""
    folder, plan, seed = item
    return _train_losses(plan, folder, seed, Execution(device))


def _comparison(plan: ComparePlan, records: Sequence[Mapping[str, Any]], folder: Path, device: str) -> Comparison:
    spec = load_data(str(plan.config.data), **plan.config.image_options()).spec
    rows = []
    models = [build_student(entry.arch, spec, 0, plan.config.space == entry.arch.space) for entry in plan.entries]
    timings = measure_networks(models, [spec.shape] * len(models), Setup(device)).timings
    for index, (name, loss) in enumerate(zip(records[0]["names"], records[0]["losses"], strict=True)):
        number = index % len(plan.entries)
        arch = plan.entries[number].arch
        cost = cost_of(load_space(arch.space, trusted=plan.config.space == arch.space), arch, spec)
        top1 = [record["top1"][index] for record in records]
        rows.append(ComparedStudent(name, loss, arch, top1, cost, timings[number].median))
    teacher = [record["teacher"] for record in records if record["teacher"] is not None]
    return Comparison(rows, teacher, records[0]["measured_on"], records[0]["images"], folder)
