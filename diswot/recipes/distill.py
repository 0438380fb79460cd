"""The distillation recipe: from an arch.json and a teacher to a trained student."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from diswot import losses, runs
from diswot.architecture import Architecture, arch_json, canonical_json, read_arch_json
from diswot.budget import cost_of
from diswot.config import resolve, to_dict
from diswot.data import REMOTE, Dataset, home, load_data
from diswot.data.images import ArrayImages, ImageSet, channel_statistics
from diswot.devices import choose_device, place
from diswot.errors import ConfigError, DataError, RunError, TeacherError, shown
from diswot.models.init import initialise, seeded
from diswot.observe import batch_statistics, observe
from diswot.options import DistillConfig, check_seed
from diswot.progress import Reporter, Silent
from diswot.recipes.scoring import refuse_giant
from diswot.recipes.training import (
    METRICS,
    Accuracy,
    Network,
    Normalise,
    Recipe,
    Trainer,
    check_recipe,
    evaluate,
    fit,
    load_tensors,
    save_tensors,
    split,
)
from diswot.space import load_space
from diswot.teacher import build_teacher, file_digest, normalisation

STUDENT = "student"
WEIGHTS = "model.safetensors"
_DRAWN = ("synthetic", "noise")
_HELD_OUT = 0.1  # of the training images, where there is no test split


def make_recipe(config: DistillConfig) -> Recipe:
    """The recipe of a configuration, checked."""
    recipe = Recipe(config.epochs, config.batch, config.lr, config.momentum, config.weight_decay, config.augment, config.seed)
    check_recipe(recipe)
    check_seed(config.seed)
    return recipe


def make_loss(config: DistillConfig) -> losses.Loss:
    """The loss of a configuration, with those of its options that it knows."""
    if not 0 < config.temperature < math.inf:
        raise ConfigError(f"temperature {config.temperature}: more than 0 is needed")
    for name in ("ce_weight", "kd_weight", "semantic_weight", "relation_weight"):
        if not 0 <= getattr(config, name) < math.inf:
            raise ConfigError(f"{name.replace('_', '-')} {getattr(config, name)}: 0 or more is needed")
    options: dict[str, float] = {}
    if config.loss in ("kd", "diswot"):
        options = {"temperature": config.temperature, "ce_weight": config.ce_weight, "kd_weight": config.kd_weight}
    if config.loss == "diswot":
        options |= {"semantic_weight": config.semantic_weight, "relation_weight": config.relation_weight}
    return losses.create(config.loss, **options)


@dataclass(frozen=True)
class DistillResult:
    """What a distillation gave.

    Attributes:
        student: accuracy after the last epoch, on `measured_on`.
        measured_on: `test`, or `validation` (held-out training images) where the data has no test split.
        teacher: the teacher's accuracy on the same images, or None where there was no teacher.
        history: the lines of metrics.jsonl.
        folder: the run's folder; the student lies in `folder / "student"`.
    """

    student: Accuracy
    measured_on: str
    teacher: Accuracy | None
    history: list[dict[str, Any]]
    folder: Path


@dataclass(frozen=True)
class Material:
    """Data, and which part of it trains and which part measures."""

    data: Dataset
    chosen: np.ndarray[Any, np.dtype[np.int64]]
    measured_on: str
    tests: dict[str, ImageSet]

    @functools.cached_property
    def normalise(self) -> Normalise:
        """By the images that train, not by those held out."""
        mean, std = channel_statistics(self.data.train, self.chosen)
        return Normalise(torch.from_numpy(mean), torch.from_numpy(std))


def complete_config(config: DistillConfig, found_by: Mapping[str, Any]) -> DistillConfig:
    """The configuration with what arch.json knows filled in: the teacher, and the data where the search had real images."""
    searched = found_by.get("search")
    searched = searched if isinstance(searched, dict) else {}
    teacher = config.teacher or str(searched.get("teacher", "resnet56"))
    if config.teacher is None and ":" in teacher:
        raise ConfigError(f"arch.json names the teacher {shown(teacher)}, which is Python code: allow it with --teacher {teacher:.60}")
    if config.data is not None or searched.get("data") in (None, *_DRAWN):
        return replace(config, teacher=teacher, data=config.data or "cifar100")
    where = {name: searched.get(name) for name in ("data", "data_dir", "input_size")}
    if str(where["data"]).startswith(REMOTE):
        raise ConfigError(f"arch.json names the data {shown(where['data'])}, which may be fetched and run code: allow it with --data")
    given = {name: value for name, value in to_dict(config).items() if value is not None}
    return resolve(DistillConfig, None, [], {**where, **given, "teacher": teacher})


def load_material(config: DistillConfig) -> Material:
    """The images, split as the configuration asks."""
    assert config.data is not None
    data = load_data(config.data, **config.image_options())
    if not data.learnable:
        raise DataError(f"--data {config.data}: there is nothing to learn in it; use synthetic, or real images")
    if config.limit is not None and config.limit < config.batch:
        raise ConfigError(f"--limit {config.limit}: fewer than the batch of {config.batch}")
    held_out = config.held_out if config.held_out is not None else (0.0 if data.test is not None else _HELD_OUT)
    if not 0 <= held_out < 1:
        raise ConfigError(f"--held-out {held_out}: a share from 0 to below 1")
    chosen, kept = split(len(data.train.labels), config.limit, held_out, config.seed)
    if len(chosen) < config.batch:
        raise DataError(f"{data.name}: {len(chosen)} training images, fewer than the batch: write --batch {max(len(chosen), 2)} or less")
    tests: dict[str, ImageSet] = {}
    if len(kept):
        tests["validation"] = ArrayImages(data.train.images(kept), data.train.labels[kept])
    if data.test is not None:
        tests["test"] = data.test
    if not tests:
        raise ConfigError(f"{data.name} has no test images and --held-out is 0: nothing is left to measure on")
    return Material(data, chosen, "test" if "test" in tests else "validation", tests)


def build_student(arch: Architecture, num_classes: int, in_chans: int, seed: int, trusted: bool = False) -> nn.Module:
    """The network of an architecture, freshly initialised (Kaiming) by the seed."""
    space = load_space(arch.space, trusted=trusted)
    space.check(arch)
    with seeded(seed):
        model = space.build(arch, num_classes, in_chans)
    initialise(model, "kaiming", seed)
    return model


def run_distill(
    config: DistillConfig,
    arch: Architecture,
    found_by: Mapping[str, Any],
    run: runs.RunDir,
    *,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> DistillResult:
    """Distils, or goes on where `run` was left. `config` must be complete (`complete_config`)."""
    reporter = reporter or Silent()
    device = choose_device(device)
    loss, recipe = make_loss(config), make_recipe(config)
    trusted = config.space == arch.space
    space = load_space(arch.space, trusted=trusted)
    space.check(arch)
    material = load_material(config)
    data = material.data
    refuse_giant(arch, cost_of(space, arch, data.num_classes, data.in_chans, data.input_size))
    student = Network(build_student(arch, data.num_classes, data.in_chans, config.seed, trusted), material.normalise)
    run.hold_to("inputs.json", {"images": data.digest(), "device": device})
    if loss.needs_teacher:
        _check_loss(loss, student, config, data)
    teacher = _teacher(config, material, device, reporter) if loss.needs_teacher else None
    trainer = Trainer(student, teacher, loss, data.train, material.chosen, recipe, device)
    teacher_accuracy = None
    if teacher is not None:
        teacher_accuracy = evaluate(teacher, material.tests[material.measured_on], device)
        reporter.say(f"teacher {config.teacher}: {teacher_accuracy} on {material.measured_on}")
    reporter.say(f"student {arch.digest} of {arch.space}, loss {config.loss}, {len(material.chosen):,} training images")
    history = fit(trainer, run, {"arch": arch.digest, "data": data.digest()}, material.tests, reporter)
    accuracy = evaluate(student, material.tests[material.measured_on], device)
    save_student(run.path / STUDENT, arch, found_by, student, data)
    return DistillResult(accuracy, material.measured_on, teacher_accuracy, history, run.path)


def _teacher(config: DistillConfig, material: Material, device: str, reporter: Reporter) -> Network:
    assert config.teacher is not None
    data = material.data
    if config.teacher_weights == "random":
        raise TeacherError(
            "a random teacher has nothing to teach: give --teacher-weights, or leave it out and the teacher is trained first"
        )
    if config.teacher_weights is None:
        return _trained_teacher(config, material, device, reporter)
    model = build_teacher(config.teacher, data.num_classes, data.in_chans, data.input_size, config.teacher_weights)
    mean, std = normalisation(config.teacher_norm, material.normalise.mean, material.normalise.std)
    return _frozen(Network(model, Normalise(mean, std)), device)


def _check_loss(loss: losses.Loss, student: Network, config: DistillConfig, data: Dataset) -> None:
    """One step of shapes with an untrained teacher: what does not fit together fails before hours of training."""
    assert config.teacher is not None
    teacher = build_teacher(config.teacher, data.num_classes, data.in_chans, data.input_size)
    images = torch.zeros(2, data.in_chans, data.input_size, data.input_size)
    with torch.inference_mode(), batch_statistics(student.model), batch_statistics(teacher):
        loss(observe(student.model, images), observe(teacher, images), torch.zeros(2, dtype=torch.int64))


def _frozen(network: Network, device: str) -> Network:
    place(network.model.eval().requires_grad_(False), device)
    return network


def _trained_teacher(config: DistillConfig, material: Material, device: str, reporter: Reporter) -> Network:
    """A teacher trained alone by the same loop on the same images, kept under `home() / "teachers"` and resumed if it was cut off."""
    assert config.teacher is not None
    data = material.data
    recipe = replace(make_recipe(config), epochs=config.epochs if config.teacher_epochs is None else config.teacher_epochs)
    check_recipe(recipe)
    notes = {
        "teacher": config.teacher,
        "classes": data.num_classes,
        "versions": runs.versions(),
        "data": data.digest(),
        "images": _digest(material.chosen.tolist()),
        "recipe": to_dict(recipe),
    }
    folder = home() / "teachers" / f"{config.teacher.replace('/', '_').replace(':', '_')}-{_digest(notes)}"
    model = build_teacher(config.teacher, data.num_classes, data.in_chans, data.input_size)
    network = Network(model, material.normalise)
    weights = folder / WEIGHTS
    if weights.exists():
        try:
            model.load_state_dict(load_tensors(weights)[0])
        except RuntimeError:
            raise TeacherError(f"{weights}: the kept teacher does not fit {config.teacher}: remove {folder}") from None
        reporter.say(f"teacher {config.teacher}: the one trained before, from {folder}")
        return _frozen(network, device)
    reporter.say(f"teacher {config.teacher}: no weights were given, so it is trained first; it is kept in {folder}")
    initialise(model, "kaiming", config.seed)
    with _teacher_run(folder, notes, device) as run:
        trainer = Trainer(network, None, losses.create("none"), data.train, material.chosen, recipe, device)
        fit(trainer, run, {"teacher": _digest(notes)}, material.tests, reporter)
        save_tensors(weights, model.state_dict(), notes)
    return _frozen(network, device)


def _teacher_run(folder: Path, notes: Mapping[str, Any], device: str) -> runs.RunDir:
    if (folder / "config.yaml").exists():
        return runs.RunDir.open(folder, "teacher")[0]
    return runs.RunDir.create(folder, "teacher", notes, runs.environment(device))


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:12]


def save_student(folder: Path, arch: Architecture, found_by: Mapping[str, Any], student: Network, data: Dataset) -> None:
    """The student alone: its weights, its arch.json, and what it must know of its images."""
    folder.mkdir(exist_ok=True)
    notes = {
        "num_classes": data.num_classes,
        "in_chans": data.in_chans,
        "input_size": data.input_size,
        "mean": student.normalise.mean.tolist(),
        "std": student.normalise.std.tolist(),
        "class_names": data.class_names,
    }
    runs.write_atomic(folder / "arch.json", arch_json(arch, found_by))
    save_tensors(folder / WEIGHTS, student.model.state_dict(), notes)


def load_student(folder: str | Path, *, space: str | None = None) -> nn.Module:
    """The student that a distillation left in `runs/<name>/student`, in evaluation mode.

    Its `pretrained_cfg` says, as timm's do, what images it takes: input_size (C, H, W), mean, std, num_classes, and class_names.

    Args:
        folder: holds arch.json and model.safetensors.
        space: name of a space of your own, to allow it to be imported.

    Raises:
        DiswotError: a file is missing or damaged, or the weights do not fit the architecture.
    """
    folder = Path(folder)
    arch, _ = read_arch_json(folder / "arch.json")
    tensors, notes = load_tensors(folder / WEIGHTS)
    try:
        model = build_student(arch, notes["num_classes"], notes["in_chans"], 0, trusted=space == arch.space)
        model.load_state_dict(tensors)
    except (KeyError, RuntimeError, TypeError, ValueError):
        raise RunError(f"{folder}: the weights are not those of its arch.json: is it whole?") from None
    side = notes["input_size"]
    model.pretrained_cfg = {  # type: ignore[assignment]
        "input_size": (notes["in_chans"], side, side),
        **{key: notes[key] for key in ("mean", "std", "num_classes", "class_names")},
    }
    return model.eval()


def identity(config: DistillConfig) -> dict[str, Any]:
    """The configuration as it is kept with the run; a weights file by its digest too, so that a changed file is noticed on resume."""
    kept = to_dict(config)
    if config.teacher_weights not in (None, "random", "pretrained"):
        path = Path(str(config.teacher_weights))
        if not path.is_file():
            raise TeacherError(f"{path}: no such weights file")
        kept["teacher_digest"] = file_digest(path)
    return kept


def resume_config(stored: Mapping[str, Any]) -> DistillConfig:
    """The configuration of a run that is resumed."""
    fields = dict(stored)
    digest = fields.pop("teacher_digest", None)
    config = resolve(DistillConfig, fields, [], {})
    if digest is not None and identity(config)["teacher_digest"] != digest:
        raise TeacherError(f"{config.teacher_weights} is not the file this run began with: bring that one back, or start a new run")
    return config


__all__ = [
    "METRICS",
    "DistillConfig",
    "DistillResult",
    "complete_config",
    "load_student",
    "resume_config",
    "run_distill",
]
