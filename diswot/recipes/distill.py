"""The distillation recipe: from an arch.json and a teacher to a trained student; from several, to students side by side or among peers."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from diswot import losses, runs
from diswot.architecture import Architecture
from diswot.budget import cost_of
from diswot.config import resolve, to_dict
from diswot.data import REMOTE
from diswot.data.sources import DRAWN
from diswot.devices import deterministic
from diswot.errors import ConfigError, TeacherError, first_line, shown
from diswot.losses import Loss
from diswot.observe import batch_statistics
from diswot.options import DistillConfig, check_seed
from diswot.progress import Reporter, Silent
from diswot.recipes.material import Material, load_material
from diswot.recipes.scoring import refuse_giant
from diswot.recipes.students import STUDENT, STUDENTS, build_student, save_student
from diswot.recipes.teachers import (
    Classroom,
    assistants,
    bare_teacher,
    check_teacher,
    digest,
    make_loss,
    make_teacher,
    shapes,
)
from diswot.space import load_space
from diswot.teacher import file_digest, load_weights
from diswot.training.evaluation import Accuracy, Network, evaluate
from diswot.training.feed import training_transform
from diswot.training.learner import Pupil, check_optimizer, prepare
from diswot.training.logs import Logs
from diswot.training.loop import faults_of_the_machine
from diswot.training.parallel import Parallel
from diswot.training.recipe import Recipe

Subject = tuple[Architecture, Mapping[str, Any]]  # and what its arch.json says of how it was found


@dataclass(frozen=True)
class Trained:
    """A student after its last epoch; it lies in `folder`."""

    name: str
    arch: Architecture
    accuracy: Accuracy
    folder: Path


@dataclass(frozen=True)
class DistillResult:
    """What a distillation gave.

    Attributes:
        students: one, or as many as were trained side by side.
        measured_on: `test`, or `validation` (held-out training images) where the data has no test split.
        taught_by: the teacher, or the last of the assistants; None where nobody taught.
        teacher: its accuracy on the same images.
        history: the lines of metrics.jsonl.
        folder: the run's folder; a single student lies in `folder / "student"`, several in `folder / "students" / name`.
    """

    students: list[Trained]
    measured_on: str
    taught_by: str | None
    teacher: Accuracy | None
    history: list[dict[str, Any]]
    folder: Path

    @property
    def student(self) -> Accuracy:
        """Of the only student, or the first."""
        return self.students[0].accuracy


def complete_config(config: DistillConfig, found_by: Mapping[str, Any]) -> DistillConfig:
    """The configuration with what arch.json knows filled in: the teacher, and the data where the search had real images."""
    searched = found_by.get("search")
    searched = searched if isinstance(searched, dict) else {}
    if losses.create(config.loss).partner != "teacher":
        return _with_data(config, searched)
    teacher = config.teacher or str(searched.get("teacher", "resnet56"))
    if config.teacher is None and ":" in teacher:
        raise ConfigError(f"arch.json names the teacher {shown(teacher)}, which is Python code: allow it with --teacher {teacher:.60}")
    return _with_data(replace(config, teacher=teacher), searched)


def _with_data(config: DistillConfig, searched: Mapping[str, Any]) -> DistillConfig:
    if config.data is not None or searched.get("data") in (None, *DRAWN):
        return replace(config, data=config.data or "cifar100")
    where = {name: searched.get(name) for name in ("data", "data_dir", "input_size")}
    if str(where["data"]).startswith(REMOTE):
        raise ConfigError(f"arch.json names the data {shown(where['data'])}, which may be fetched and run code: allow it with --data")
    given = {name: value for name, value in to_dict(config).items() if value is not None}
    return resolve(DistillConfig, None, [], {**where, **given})


def run_distill(
    config: DistillConfig,
    subjects: Sequence[Subject],
    run: runs.RunDir,
    *,
    device: str = "cpu",
    parallel: Parallel | None = None,
    reporter: Reporter | None = None,
    tensorboard: bool = False,
) -> DistillResult:
    """Distils, or goes on where `run` was left.

    Args:
        config: must be complete (`complete_config`).
        subjects: the students. With a loss of peers a single one is trained beside a twin of other initial weights.
        device, parallel: from `choose_device` and `diswot.training.parallel.join`.
    """
    reporter, parallel = reporter or Silent(), parallel or Parallel()
    recipe = Recipe.of(config)
    loss = make_loss(config, recipe)
    _check(config, loss, subjects)
    material = load_material(config, config.unlabelled)
    recipe = material.augmented(recipe, config)
    if recipe.auto_augment:
        training_transform(material.data.input_size, recipe)  # refuses what timm cannot make
    room = Classroom(config, material, recipe, device, parallel, reporter)
    if loss.partner == "peers" and len(subjects) == 1:
        subjects = [subjects[0], subjects[0]]
    _check_loss(room, loss, subjects)
    logs = Logs(run.path, tensorboard) if parallel.main else None
    if parallel.main:
        run.hold_to("inputs.json", {"images": material.digest, "device": torch.device(device).type})
    with faults_of_the_machine(), deterministic(recipe.deterministic):
        return _train(room, loss, subjects, run, logs)


def _train(room: Classroom, loss: Loss, subjects: Sequence[Subject], run: runs.RunDir, logs: Logs | None) -> DistillResult:
    """The teacher, then the students; everything has been checked."""
    config, material, parallel, reporter = room.config, room.material, room.parallel, room.reporter
    arch = subjects[0][0]
    teacher = make_teacher(room, arch, run) if loss.partner == "teacher" else None
    pupils = make_pupils(room, subjects, teacher)
    reached, taught_by = None, None
    if teacher is not None:
        taught_by = str([config.teacher, *assistants(config)][-1])
        reached = evaluate(teacher, material.tests[material.measured_on], room.device, parallel)
        reporter.say(f"teacher {taught_by}: {reached} on {material.measured_on}")
    reporter.say(f"student {', '.join(_names(subjects))}, loss {config.loss}, {len(material.chosen):,} training images")
    how = digest([to_dict(room.recipe), config.loss, config.until, config.limit, config.held_out, config.label_noise])
    notes = {"students": [one.digest for one, _ in subjects], "data": material.digest, "how": how}
    teaching = room.teaching(teacher, loss) if teacher is not None else None
    trainer, history = room.train(run, notes, pupils, teaching, room.recipe, logs)
    if logs is not None:
        logs.close()
    students = []
    for (one, found_by), learner in zip(subjects, trainer.learners, strict=True):
        folder = run.path / STUDENT if len(subjects) == 1 else run.path / STUDENTS / learner.name
        accuracy = evaluate(learner.result, material.tests[material.measured_on], room.device, parallel)
        if parallel.main:
            save_student(folder, one, found_by, learner.result, material.data, config.crop_share)
        students.append(Trained(learner.name, one, accuracy, folder))
    parallel.barrier()
    return DistillResult(students, material.measured_on, taught_by, reached, history, run.path)


def _check(config: DistillConfig, loss: Loss, subjects: Sequence[Subject]) -> None:
    """`ConfigError` for options that cannot be, or not with this loss, before anything is loaded."""
    for arch, _ in subjects:
        load_space(arch.space, trusted=config.space == arch.space).check(arch)
    check_seed(config.seed)
    check_seed(config.teacher_seed)
    if not 0 <= config.drop_path < 1:
        raise ConfigError(f"drop-path {config.drop_path}: 0 or more, and below 1")
    if not 0 < config.until <= 1:
        raise ConfigError(f"until {config.until}: a share of the training, more than 0 and at most 1")
    if config.loader_workers < 0:
        raise ConfigError(f"loader-workers {config.loader_workers}: 0 or more")
    if config.teacher_epochs is not None and config.teacher_epochs < 1:
        raise ConfigError(f"teacher-epochs {config.teacher_epochs}: 1 or more; a teacher with weights is given by --teacher-weights")
    _check_scheme(config, loss, len(subjects))
    again = next((arch for number, (arch, _) in enumerate(subjects) if arch in [one for one, _ in subjects[:number]]), None)
    if again is not None and loss.partner != "peers":
        raise ConfigError(f"{name_of(again)} is named twice, and would be trained to the same weights twice: name it once")


def _check_scheme(config: DistillConfig, loss: Loss, students: int) -> None:
    """`ConfigError` for a loss that cannot be had with these options, or with so many students."""
    if loss.labels and config.unlabelled is not None:
        raise ConfigError(f"--unlabelled: the loss {loss.label} looks at labels; use one that does not, as ssld")
    if loss.partner == "teacher":
        check_teacher(config, students)
    elif config.assistants:
        raise ConfigError(f"--assistants: the loss {loss.label} looks at no teacher; use one that does, as kd")
    if config.until < 1 and loss.partner != "teacher":
        raise ConfigError(f"--until {config.until}: it ends what a teacher teaches; {loss.label} looks at none, use kd")
    if config.until < 1 and config.unlabelled is not None:
        raise ConfigError(f"--until {config.until}: the labels alone are left then, and --unlabelled images have none; leave one out")
    if loss.partner == "previous" and config.accumulate > 1:
        raise ConfigError(f"--accumulate {config.accumulate}: the loss {loss.label} repeats half of each batch; a part has no half")
    if loss.partner in ("nobody", "previous") and not loss.ce_weight:
        raise ConfigError(f"loss {loss.label}: with ce_weight 0 there are steps without anything to learn from; more than 0 is needed")
    if loss.partner == "peers" and students == 1 and config.weights is not None:
        raise ConfigError(f"--weights: the peers of {loss.label} would begin as one; name a second network, or leave the weights out")


def _check_loss(room: Classroom, loss: Loss, subjects: Sequence[Subject]) -> None:
    """One step of shapes with untrained networks: what does not fit together fails before hours of training."""
    config, material = room.config, room.material
    data = material.data
    for arch, _ in subjects:
        space = load_space(arch.space, trusted=config.space == arch.space)
        try:
            cost = cost_of(space, arch, data.num_classes, data.in_chans, data.input_size)
        except (AssertionError, RuntimeError) as error:  # as timm's transformers, which are made for one size
            size = f"{data.input_size}x{data.input_size}"
            raise ConfigError(f"{name_of(arch)} cannot take {size} images ({first_line(error, 80)}): use a convolutional network") from None
        refuse_giant(arch, cost)
    partners: list[nn.Module] = []
    if loss.partner == "teacher":
        partners = [bare_teacher(room, subjects[0][0], name) for name in (None, *assistants(config))]
    networks = [_beginner(room, arch, config.seed) for arch, _ in subjects]
    check_optimizer(room.recipe)
    for network in networks:
        room.recipe.make_optimizer(network, [])
        for partner in partners[-1:] or ([networks[-1]] if loss.partner == "peers" else []):
            _try(make_loss(config, room.recipe), network, partner, material)
    for before, assistant in itertools.pairwise(partners):
        _try(make_loss(config, room.recipe), assistant, before, material)


def _beginner(room: Classroom, arch: Architecture, seed: int) -> nn.Module:
    """A student as it begins."""
    config, data = room.config, room.material.data
    model = build_student(arch, data.num_classes, data.in_chans, seed, config.space == arch.space, config.drop_path)
    if config.weights is not None:
        load_weights(model, Path(config.weights), name_of(arch))
    return model


def _try(loss: Loss, student: nn.Module, partner: nn.Module, material: Material) -> None:
    seen, other = (shapes(model, loss, material) for model in (student, partner))
    loss.prepare(seen, other)
    with torch.no_grad(), batch_statistics(loss):
        loss(seen, other, torch.zeros(len(seen.logits), dtype=torch.int64))


def make_pupils(room: Classroom, subjects: Sequence[Subject], teacher: Network | None) -> list[Pupil]:
    """The students, with their losses and the adapters of these."""
    config = room.config
    loss = make_loss(config, room.recipe)
    peers = loss.partner == "peers"
    networks = []
    for index, (arch, _) in enumerate(subjects):
        networks.append(Network(_beginner(room, arch, config.seed + (index if peers else 0)), room.material.normalise))
    seen = [shapes(network.model, loss, room.material) for network in networks]
    taught = [shapes(teacher.model, loss, room.material)] if teacher is not None else [None]
    pupils = []
    for index, (name, network) in enumerate(zip(_names(subjects), networks, strict=True)):
        partners = [other for place, other in enumerate(seen) if place != index] if peers else taught
        own = [make_loss(config, room.recipe) for _ in partners]
        prepare(own, seen[index], partners, config.seed)
        pupils.append(Pupil(name, network, own))
    return pupils


def name_of(arch: Architecture) -> str:
    """A hand-made network's own name, or the digest."""
    return str(arch.choices).removeprefix("timm/") if arch.space == "zoo" else arch.digest


def _names(subjects: Sequence[Subject]) -> list[str]:
    """Of the students, for the log and for folders; numbered where one comes again."""
    counts: Counter[str] = Counter()
    names = []
    for arch, _ in subjects:
        name = name_of(arch)
        counts[name] += 1
        names.append(name if counts[name] == 1 else f"{name}-{counts[name]}")
    return names


def identity(config: DistillConfig) -> dict[str, Any]:
    """The configuration as it is kept with the run; weights files by their digests too, so that a changed file is noticed on resume."""
    return {**to_dict(config), **digests(config)}


def digests(config: DistillConfig) -> dict[str, str]:
    """Of the weights files that a configuration names."""
    found = {}
    for name in ("teacher_weights", "weights"):
        value = getattr(config, name)
        if value in (None, "random", "pretrained"):
            continue
        if not Path(str(value)).is_file():
            raise TeacherError(f"{value}: no such weights file")
        found[f"{name}_digest"] = file_digest(Path(str(value)))
    return found


C = TypeVar("C", bound=DistillConfig)


def resume_config(stored: Mapping[str, Any], kind: type[C]) -> C:
    """The configuration of a run that is resumed."""
    fields = dict(stored)
    kept = {name: fields.pop(name) for name in list(fields) if name.endswith("_digest")}
    config = resolve(kind, fields, [], {})
    now = digests(config) if kept else {}
    for name, before in kept.items():
        if now.get(name) != before:
            value = fields[name.removesuffix("_digest")]
            raise TeacherError(f"{value} is not the file this run began with: bring that one back, or start a new run")
    return config


__all__ = [
    "DistillResult",
    "Trained",
    "complete_config",
    "make_pupils",
    "resume_config",
    "run_distill",
]
