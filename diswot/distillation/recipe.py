"""The distillation recipe: from a plan to trained students, under a teacher, among peers, or alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diswot import plugins, runs
from diswot.architecture import Architecture
from diswot.config import to_dict
from diswot.devices import deterministic
from diswot.distillation.context import TrainingContext
from diswot.distillation.plan import DistillPlan
from diswot.distillation.students import STUDENT, STUDENTS, save_student
from diswot.distillation.teachers import digest, make_teacher
from diswot.execution import Execution
from diswot.losses import LOSSES
from diswot.models.reused import reuse_classifier
from diswot.observe import has_classifier
from diswot.runs import RunDir
from diswot.training.evaluation import Accuracy, Network, evaluate
from diswot.training.logs import Logs
from diswot.training.loop import Trainer, device_errors
from diswot.training.splits import uneven_classes
from diswot.training.student import StudentSpec, make_adapters

logger = logging.getLogger(__name__)
CONFUSIONS = "confusions.npz"


@dataclass(frozen=True)
class TrainedStudent:
    """A student after its last epoch.

    Attributes:
        name: for the log and the folder.
        arch: its architecture.
        loss: that it was trained by.
        accuracy: on the set that results are reported on.
        folder: where it is kept.
    """

    name: str
    arch: Architecture
    loss: str
    accuracy: Accuracy
    folder: Path


@dataclass(frozen=True, repr=False)
class DistillResult:
    """The result of a distillation.

    Attributes:
        students: one, or as many as were trained side by side.
        measured_on: `test`, or `validation` (held-out training images) where the data has no test split.
        taught_by: the name of the teacher, or of the last assistant; None where nobody taught.
        teacher: its accuracy on the same images.
        history: the lines of metrics.jsonl.
        best: of a sweep, the student with the highest accuracy; test images had no part in it.
        folder: the run's folder; a single student lies in `folder / "student"`, several in `folder / "students" / name`.
    """

    students: list[TrainedStudent]
    measured_on: str
    taught_by: str | None
    teacher: Accuracy | None
    history: list[dict[str, Any]]
    best: TrainedStudent | None
    folder: Path

    def __repr__(self) -> str:
        """The accuracies after the last epoch, in a line."""
        students = ", ".join(f"{student.name} {student.accuracy.top1:.2f} %" for student in self.students)
        taught = f", taught by {self.taught_by}" if self.taught_by else ""
        return f"DistillResult({self.measured_on}: {students}{taught}; {len(self.history)} epochs; folder={str(self.folder)!r})"

    @property
    def student(self) -> Accuracy:
        """The accuracy of the only student, or of the first."""
        return self.students[0].accuracy

    def summary(self) -> dict[str, Any]:
        """The result as plain values, which JSON can hold, without the history."""
        best = {"best": {"loss": self.best.loss, "folder": str(self.best.folder)}} if self.best else {}
        return {
            "student": self.student.summary(),
            "students": {student.name: student.accuracy.summary() for student in self.students},
            "taught_by": self.taught_by,
            "teacher": None if self.teacher is None else self.teacher.summary(),
            "measured_on": self.measured_on,
            **best,
        }


def run_distill(plan: DistillPlan, run: RunDir, execution: Execution) -> DistillResult:
    """Distil, or go on where the run was left.

    Raises:
        DiswotError: whatever a user can mend, in one line.
    """
    context = TrainingContext.load(plan, execution)
    main = context.distributed.is_main
    logs = Logs(run.path, execution.tensorboard) if main else None
    if main:
        run.check_inputs("inputs.json", _input_digests(context))
    with device_errors(), deterministic(context.recipe.deterministic):
        teacher = make_teacher(context, run) if plan.scheme.uses_teacher else None
        of_teacher = _measure_teacher(context, teacher)
        trainer, history = _train_students(context, teacher, run, logs)
        students = _save_students(context, trainer, run)
    if main:
        _save_confusions(run.path, context, students, of_teacher)
    taught_by = str([plan.config.teacher, *plan.assistants][-1]) if teacher is not None else None
    best = max(students, key=lambda student: student.accuracy.top1) if plan.config.sweep is not None else None
    result = DistillResult(students, context.splits.measured_on, taught_by, of_teacher, history, best, run.path)
    if main:
        run.write_result(result.summary())
    return result


def distill_in(folder: Path, plan: DistillPlan, execution: Execution) -> DistillResult:
    """Distil in a folder of its own, which is made, or go on where that folder was left: a training that is a part of another run."""
    with RunDir.open_or_create(folder, plan.kind, plan.document(), runs.environment(execution.choose_device())) as run:
        return run_distill(plan, run, execution)


def _input_digests(context: TrainingContext) -> dict[str, Any]:
    """Digests of what decides the outcome and lies outside the configuration."""
    config = context.plan.config
    digests = {"images": context.splits.digest, "device": torch.device(context.device).type}
    losses = [name for name in LOSSES.loaded() if name in config.loss]
    spaces, teachers = [entry.arch.space for entry in context.plan.entries], [member.name for member in config.teacher_members]
    own = plugins.code_digests(*spaces, *teachers, str(config.data), *losses)
    return {**digests, **{f"code of {name}": code for name, code in own.items()}}


def _measure_teacher(context: TrainingContext, teacher: Network | None) -> Accuracy | None:
    if teacher is None or not has_classifier(teacher.model):
        return None
    splits, name = context.splits, [context.plan.config.teacher, *context.plan.assistants][-1]
    accuracy = evaluate(teacher, splits.tests[splits.measured_on], context.device, context.distributed, context.reporter)
    logger.info("teacher %s: %s on %s", name, accuracy, splits.measured_on)
    return accuracy


def _train_students(
    context: TrainingContext, teacher: Network | None, run: RunDir, logs: Logs | None
) -> tuple[Trainer, list[dict[str, Any]]]:
    config, splits = context.plan.config, context.splits
    names = ", ".join(student.name for student in context.plan.students)
    logger.info("student %s, loss %s, %s training images", names, config.loss, f"{len(splits.chosen):,}")
    if uneven := uneven_classes(splits.labels, splits.data.num_classes):
        logger.warning(uneven)
    specs = student_specs(context, teacher)
    how = digest([to_dict(context.recipe), config.loss, config.distill_fraction, config.limit, config.val_fraction, config.label_noise])
    notes = {"students": [student.entry.arch.digest for student in context.plan.students], "data": splits.digest, "how": how}
    frozen = context.frozen_teacher(teacher, [loss for spec in specs for loss in spec.losses]) if teacher is not None else None
    trainer, history = context.train(run, notes, specs, frozen, logs=logs)
    if logs is not None:
        logs.close()
    return trainer, history


def student_specs(context: TrainingContext, teacher: Network | None) -> list[StudentSpec]:
    """The students as they begin, with their losses and the adapters of these."""
    plan, scheme = context.plan, context.plan.scheme()
    seed, planned, specs = plan.config.seed, plan.students, []
    for expression in plan.losses:
        loss, students = plan.make_loss(expression), [student for student in planned if student.loss == expression]
        networks = [
            Network(context.initial_student(student.entry.arch, scheme.checked_init_seed(seed, number)), context.splits.normalise)
            for number, student in enumerate(students)
        ]
        if loss.reuses_classifier and teacher is not None:
            for network in networks:
                reuse_classifier(network.model, teacher.model)
        seen = {number: context.observe_zeros(network.model, loss) for number, network in enumerate(networks)}
        of_teacher = context.observe_zeros(teacher.model, loss, of_teacher=True) if teacher is not None else None
        for number, (student, network) in enumerate(zip(students, networks, strict=True)):
            references = scheme.initial_references(number, seen, of_teacher)
            losses = [plan.make_loss(expression) for _ in references]
            make_adapters(losses, seen[number], references, seed)
            specs.append(StudentSpec(student.name, network, losses))
    return specs


def _save_confusions(folder: Path, context: TrainingContext, students: Sequence[TrainedStudent], of_teacher: Accuracy | None) -> None:
    """Write what each network took the images of each class for: the names of classes and networks, and for each network, by its number, an
    array (classes, classes)."""
    measured = {student.name: student.accuracy for student in students} | ({"teacher": of_teacher} if of_teacher is not None else {})
    found = {name: accuracy.confusion for name, accuracy in measured.items() if accuracy.confusion is not None}
    counts = {f"network{number}": confusion for number, confusion in enumerate(found.values())}
    names = {"classes": np.array(context.splits.data.class_names, np.str_), "networks": np.array(list(found), np.str_)}
    runs.write_arrays(folder / CONFUSIONS, {**names, **counts})


def _save_students(context: TrainingContext, trainer: Trainer, run: RunDir) -> list[TrainedStudent]:
    splits, saved = context.splits, []
    for planned, student in zip(context.plan.students, trainer.students, strict=True):
        folder = run.path / STUDENT if len(trainer.students) == 1 else run.path / STUDENTS / student.name
        accuracy = trainer.accuracy(student, splits.measured_on, splits.tests[splits.measured_on])
        if context.distributed.is_main:
            save_student(folder, planned.entry, student.result, splits.data, context.plan.config.crop_pct)
        saved.append(TrainedStudent(student.name, planned.entry.arch, planned.loss, accuracy, folder))
    context.distributed.barrier()
    return saved
