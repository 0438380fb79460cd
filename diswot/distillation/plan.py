"""The plan of a distillation: what it is going to do, with every check that needs no images. Making one has no side effects."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from diswot import losses
from diswot.architecture import arch_json, read_arch_json
from diswot.config import DistillConfig, Recipe, TrainConfig, resolve, to_dict
from diswot.data import GENERATED_SOURCES, REMOTE
from diswot.distillation.students import StudentEntry, display_name, numbered, student_names
from diswot.errors import ConfigError, TeacherError, brief_repr
from diswot.files import is_file
from diswot.losses import Loss, SupervisedLoss
from diswot.losses.together import common_scheme, trained_together
from diswot.models.weights import file_digest
from diswot.plugins import is_reference
from diswot.schemes import Scheme
from diswot.space import load_space

C = TypeVar("C", bound=DistillConfig)
_DEFAULT_TEACHER, DEFAULT_DATA = "resnet56", "cifar100"


@dataclass(frozen=True)
class PlannedStudent:
    """A student that is going to be trained: its name, for the log and its folder, its architecture, and its loss."""

    name: str
    entry: StudentEntry
    loss: str


@dataclass(frozen=True)
class DistillPlan:
    """The checked plan of `diswot distill` or `diswot train`; `plan_distillation` makes one.

    Attributes:
        config: the options, with what arch.json knows filled in.
        entries: the students that were asked for.
        kind: the verb: distill or train.
    """

    config: DistillConfig
    entries: tuple[StudentEntry, ...]
    kind: str = "distill"

    @property
    def losses(self) -> tuple[str, ...]:
        """The losses: one, or several that each train every student, side by side."""
        return planned_losses(self.config)

    def make_loss(self, expression: str | None = None) -> Loss:
        """Create one of the losses, by default the first, whose supervised part is the recipe's."""
        loss = losses.create(expression or self.losses[0])
        loss.set_supervised_loss(SupervisedLoss(self.config.supervised_loss, self.config.smoothing))
        return loss

    def make_losses(self) -> list[Loss]:
        """Create every loss once."""
        return [self.make_loss(expression) for expression in self.losses]

    @property
    def scheme(self) -> type[Scheme]:
        """The training scheme that the losses name: that of the first with a teacher, under whom `none` is trained too."""
        return common_scheme(self.make_losses())

    @property
    def recipe(self) -> Recipe:
        """The recipe that the students are trained by."""
        return self.config.recipe()

    @property
    def students(self) -> list[PlannedStudent]:
        """The students that are trained: those asked for, completed by the scheme, by each loss in turn."""
        entries = self.scheme().complete_students(self.entries)
        named, labels = list(zip(student_names(entries), entries, strict=True)), [""]
        if len(self.losses) > 1:
            labels = [f"-{label}" for label in numbered([_folder_name(loss) for loss in self.losses])]
        by_loss = zip(labels, self.losses, strict=True)
        return [PlannedStudent(name + label, entry, loss) for label, loss in by_loss for name, entry in named]

    @property
    def assistants(self) -> list[str]:
        """The names of the networks between teacher and student."""
        return [name.strip() for name in (self.config.assistants or "").split(",") if name.strip()]

    def trusts(self, space: str) -> bool:
        """Whether a space may be imported: the user said its name."""
        return self.config.space == space

    def document(self) -> dict[str, Any]:
        """Return the part of the plan that is kept with the run; also digests of weights files, so that a resume notices changed ones."""
        return {**to_dict(self.config), **weights_digests(self.config)}

    def files(self) -> dict[str, str]:
        """Texts that are kept with the run, by file name: the arch.json of every student."""
        numbers = range(1, len(self.entries) + 1)
        names = ["arch.json"] if len(self.entries) == 1 else [f"arch-{number}.json" for number in numbers]
        return {name: arch_json(entry.arch, entry.provenance) for name, entry in zip(names, self.entries, strict=True)}

    @classmethod
    def restore(cls, document: Mapping[str, Any], folder: Path) -> DistillPlan:
        """The plan of a distillation that is resumed."""
        return cls(restore_config(document, DistillConfig), read_entries(folder))


class TrainPlan(DistillPlan):
    """The checked plan of `diswot train`: a distillation without a teacher."""

    @classmethod
    def restore(cls, document: Mapping[str, Any], folder: Path) -> TrainPlan:
        """The plan of a training that is resumed."""
        return cls(restore_config(document, DistillConfig), read_entries(folder), kind="train")


def plan_distillation(config: DistillConfig, entries: Sequence[StudentEntry], kind: str = "distill") -> DistillPlan:
    """Plan a distillation.

    Raises:
        DiswotError: options that cannot be, or not with this loss, these students or each other; a name that is not known.
    """
    config.check()
    made = [losses.create(expression) for expression in planned_losses(config)]
    _check_together(made, config)
    scheme = common_scheme(made)
    config = _with_provenance(config, entries[0].provenance, scheme)
    for entry in entries:
        load_space(entry.arch.space, trusted=config.space == entry.arch.space).check(entry.arch)
    for loss in made:
        scheme.check(config, loss, len(entries))
    archs = [entry.arch for entry in entries]
    again = next((arch for number, arch in enumerate(archs) if arch in archs[:number]), None)
    if again is not None and scheme.independent_students:
        raise ConfigError(f"{display_name(again)} is named twice, and would be trained to the same weights twice: name it once")
    return (TrainPlan if kind == "train" else DistillPlan)(config, tuple(entries), kind)


def planned_losses(config: DistillConfig) -> tuple[str, ...]:
    """The losses that a configuration asks for: with `sweep` that of `loss` in several strengths, and none.

    >>> planned_losses(DistillConfig(loss="dist", sweep="0.3,1"))
    ('none', '0.3*dist', 'dist')
    """
    named = losses.split_expressions(config.loss)
    return ("none", *(losses.scaled(one, factor) for one in named for factor in config.strengths)) if config.sweep else named


def _folder_name(expression: str) -> str:
    return re.sub(r"[^\w.]+", "-", expression).strip("-")[:40]


def _check_together(made: Sequence[Loss], config: DistillConfig) -> None:
    names = "; ".join(loss.label for loss in made)
    if not trained_together(made):
        raise ConfigError(f"loss {names}: these cannot be trained side by side; use diswot compare --losses {names!r}")
    if len(made) > 1 and config.assistants:
        raise ConfigError(f"--assistants {config.assistants}: they are distilled by one loss, and {names} are {len(made)}: name one")


def plan_training(config: TrainConfig, entries: Sequence[StudentEntry]) -> DistillPlan:
    """Plan a training by the labels alone: a distillation without a teacher."""
    return plan_distillation(DistillConfig(**to_dict(config), loss="none"), entries, kind="train")


def _with_provenance(config: DistillConfig, provenance: Mapping[str, Any], scheme: type[Scheme]) -> DistillConfig:
    """The configuration with what arch.json knows filled in: the teacher, and the data where the search had real images."""
    searched = provenance.get("search")
    searched = searched if isinstance(searched, dict) else {}
    if not scheme.uses_teacher:
        return _with_data(config, searched)
    teacher = config.teacher or str(searched.get("teacher", _DEFAULT_TEACHER))
    if config.teacher is None and is_reference(teacher):
        raise ConfigError(f"arch.json names the teacher {brief_repr(teacher)}, which is Python code: allow it with --teacher {teacher:.60}")
    return _with_data(replace(config, teacher=teacher), searched)


def _with_data(config: DistillConfig, searched: Mapping[str, Any]) -> DistillConfig:
    if config.data is not None or searched.get("data") in (None, *GENERATED_SOURCES):
        return replace(config, data=config.data or DEFAULT_DATA)
    where = {name: searched.get(name) for name in ("data", "data_dir", "input_size")}
    if str(where["data"]).startswith(REMOTE) or is_reference(str(where["data"])):
        raise ConfigError(f"arch.json names the data {brief_repr(where['data'])}, which may be fetched or run code: allow it with --data")
    given = {name: value for name, value in to_dict(config).items() if value is not None}
    return resolve(DistillConfig, None, [], {**where, **given})


def weights_digests(config: DistillConfig) -> dict[str, str]:
    """The digests of the weights files that a configuration names."""
    given = {
        "teacher_weights": [member.weights for member in config.teacher_members],
        "teacher_classes": [config.teacher_classes],
        "weights": [config.weights],
    }
    digests = {}
    for name, values in given.items():
        files = [Path(value) for value in values if value not in (None, "random", "pretrained")]
        if missing := next((file for file in files if not is_file(file)), None):
            raise TeacherError(f"{missing}: no such {'file' if name == 'teacher_classes' else 'weights file'}")
        if files:
            digests[f"{name}_digest"] = "+".join(map(file_digest, files))
    return digests


def restore_config(stored: Mapping[str, Any], kind: type[C]) -> C:
    """The configuration of a run that is resumed.

    Raises:
        TeacherError: a weights file has changed.
    """
    fields = dict(stored)
    kept = {name: fields.pop(name) for name in list(fields) if name.endswith("_digest")}
    config = resolve(kind, fields, [], {})
    now = weights_digests(config) if kept else {}
    for name, before in kept.items():
        if now.get(name) != before:
            value = fields[name.removesuffix("_digest")]
            raise TeacherError(f"{value} is not the file this run began with: bring that one back, or start a new run")
    return config


def read_entries(folder: Path) -> tuple[StudentEntry, ...]:
    """The students of a run, from the arch.json files that are kept with it."""
    numbered = (folder / f"arch-{number}.json" for number in itertools.count(1))
    several = list(itertools.takewhile(Path.exists, numbered))
    return tuple(StudentEntry(*read_arch_json(path)) for path in several or [folder / "arch.json"])
