"""Where a teacher comes from: a file, timm, a training of its own that is kept; and the assistants between it and the student."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diswot import losses, runs
from diswot.architecture import Architecture, canonical_json
from diswot.config import to_dict
from diswot.data import home
from diswot.data.images import DecodedImages
from diswot.errors import ConfigError, TeacherError
from diswot.losses import Loss
from diswot.models.init import initialise
from diswot.observe import Observation, glance
from diswot.options import DistillConfig
from diswot.progress import Reporter
from diswot.recipes.material import Material
from diswot.recipes.students import WEIGHTS, build_student
from diswot.teacher import build_teacher, normalisation
from diswot.training.checkpoint import load_tensors, save_tensors
from diswot.training.evaluation import Network, Normalise
from diswot.training.feed import fits_in_memory
from diswot.training.learner import Pupil, prepare
from diswot.training.loop import Trainer, fit
from diswot.training.parallel import Parallel
from diswot.training.recipe import Recipe
from diswot.training.teaching import Teaching

SELF = "self"  # a teacher like the student


@dataclass(frozen=True)
class Classroom:
    """What every training of a run shares."""

    config: DistillConfig
    material: Material
    recipe: Recipe
    device: str
    parallel: Parallel
    reporter: Reporter

    def teaching(self, teacher: Network, loss: Loss) -> Teaching:
        """The teacher as the loss wants it."""
        until, by_batch = self.config.until, loss.teacher_batch_statistics
        needs = loss.needs | {"logits"}
        images = self.material.images.images(np.arange(min(4, len(self.material.labels))))
        example = teacher.normalise(torch.from_numpy(images).permute(0, 3, 1, 2))
        return Teaching(teacher, needs, self.recipe, self.device, until=until, by_batch=by_batch, example=example)

    def train(
        self, run: runs.RunDir, notes: Mapping[str, Any], pupils: list[Pupil], teaching: Teaching | None, recipe: Recipe, logs: Any = None
    ) -> tuple[Trainer, list[dict[str, Any]]]:
        """A training in its folder, from where it was left."""
        loss = pupils[0].losses[0]
        if isinstance(self.material.data.train, DecodedImages) and fits_in_memory(self.material.images, recipe):
            self.reporter.say(f"reading {len(self.material.labels):,} images into memory")
        feed = self.material.feed(recipe, self.device, self.parallel, loss, self.config.loader_workers)
        if teaching is not None and self.config.cache and teaching.remember(feed, recipe):
            self.reporter.say("the teacher's outputs are kept: each image is shown in few ways")
        trainer = Trainer(pupils, teaching, feed, recipe, self.device, self.parallel)
        return trainer, fit(trainer, run, notes, self.material.tests, self.reporter, logs)


def shapes(model: nn.Module, loss: Loss, material: Material) -> Observation:
    """What a network shows the loss of black images, as few as it can be computed on."""
    side, channels = material.data.input_size, material.data.in_chans
    return glance(model, torch.zeros(max(2, loss.least_batch), channels, side, side), loss.needs)


def check_teacher(config: DistillConfig) -> None:
    """`TeacherError` for a teacher that has nothing to teach."""
    if config.teacher_weights == "random":
        raise TeacherError(
            "a random teacher has nothing to teach: give --teacher-weights, or leave it out and the teacher is trained first"
        )
    if config.teacher == SELF and config.teacher_weights is not None:
        raise ConfigError("--teacher self is trained first, from nothing: leave --teacher-weights out")


def bare_teacher(room: Classroom, arch: Architecture, name: str | None = None) -> nn.Module:
    """A teacher or an assistant by name, untrained; `self` is the student's own architecture."""
    name, data = name or room.config.teacher, room.material.data
    assert name is not None
    if name == SELF:
        return build_student(arch, data.num_classes, data.in_chans, room.config.seed, trusted=room.config.space == arch.space)
    return build_teacher(name, data.num_classes, data.in_chans, data.input_size)


def make_teacher(room: Classroom, arch: Architecture, run: runs.RunDir) -> Network:
    """The network that the students learn from: the teacher, or the last of the assistants."""
    teacher = _first_teacher(room, arch)
    for number, name in enumerate(assistants(room.config), 1):
        teacher = _assistant(room, arch, run.path / "assistants" / f"{number}-{_plain(name)}", name, teacher)
    return teacher


def assistants(config: DistillConfig) -> list[str]:
    """Their names.

    >>> assistants(DistillConfig(assistants="resnet32, resnet20"))
    ['resnet32', 'resnet20']
    """
    return [name.strip() for name in (config.assistants or "").split(",") if name.strip()]


def _first_teacher(room: Classroom, arch: Architecture) -> Network:
    config, material = room.config, room.material
    assert config.teacher is not None
    if config.teacher_weights is None:
        return _trained_teacher(room, arch)
    data = material.data
    model = build_teacher(config.teacher, data.num_classes, data.in_chans, data.input_size, config.teacher_weights)
    mean, std = normalisation(config.teacher_norm, material.normalise.mean, material.normalise.std)
    return _frozen(Network(model, Normalise(mean, std)))


def _frozen(network: Network) -> Network:
    network.model.eval().requires_grad_(False)
    return network


def _trained_teacher(room: Classroom, arch: Architecture) -> Network:
    """A teacher trained alone by the same loop on the same images, kept under `home() / "teachers"` and resumed if it was cut off."""
    config, material = room.config, room.material
    epochs = config.epochs if config.teacher_epochs is None else config.teacher_epochs
    recipe = replace(room.recipe, epochs=epochs, seed=config.teacher_seed)
    recipe.check()
    name = f"self {arch.space} {arch.digest}" if config.teacher == SELF else str(config.teacher)
    notes = {
        "teacher": name,
        "classes": material.data.num_classes,
        "versions": runs.versions(),
        "data": material.data.digest(),
        "images": digest([material.chosen.tolist(), material.labels.tolist()]),
        "recipe": to_dict(recipe),
    }
    folder = home() / "teachers" / f"{_plain(name)}-{digest(notes)}"
    network = Network(bare_teacher(room, arch), material.normalise)
    if _kept(folder / WEIGHTS, network.model, name):
        room.reporter.say(f"teacher {config.teacher}: the one trained before, from {folder}")
        return _frozen(network)
    room.reporter.say(f"teacher {config.teacher}: no weights were given, so it is trained first; it is kept in {folder}")
    initialise(network.model, "kaiming", config.teacher_seed)
    room.parallel.barrier()

    def train(run: runs.RunDir) -> dict[str, Tensor]:
        pupil = Pupil("teacher", network, [_plain_loss(recipe)])
        trainer, _ = room.train(run, {"teacher": digest(notes)}, [pupil], None, recipe)
        return trainer.learners[0].result.model.state_dict()

    return _frozen(_train_and_keep(room, folder, "teacher", notes, network, train))


def _plain_loss(recipe: Recipe) -> Loss:
    loss = losses.create("none")
    loss.hold_to(recipe.truth)
    return loss


def _assistant(room: Classroom, arch: Architecture, folder: Path, name: str, teacher: Network) -> Network:
    """A network distilled from the teacher before it, by the run's own loss and recipe, kept in the run's folder."""
    network = Network(bare_teacher(room, arch, name), room.material.normalise)
    if _kept(folder / WEIGHTS, network.model, name):
        return _frozen(network)
    room.reporter.say(f"assistant {name}: distilled first, in {folder}")
    initialise(network.model, "kaiming", room.config.seed)
    room.parallel.barrier()
    loss = make_loss(room.config, room.recipe)
    seen = [shapes(model, loss, room.material) for model in (network.model, teacher.model)]
    prepare([loss], seen[0], seen[1:], room.config.seed)

    def train(run: runs.RunDir) -> dict[str, Tensor]:
        pupil = Pupil("assistant", network, [loss])
        trainer, _ = room.train(run, {"assistant": name}, [pupil], room.teaching(teacher, loss), room.recipe)
        return trainer.learners[0].result.model.state_dict()

    return _frozen(_train_and_keep(room, folder, "assistant", {"assistant": name}, network, train))


def make_loss(config: DistillConfig, recipe: Recipe) -> Loss:
    """The loss of a configuration, which holds students to the labels as the recipe does."""
    loss = losses.create(config.loss)
    loss.hold_to(recipe.truth)
    return loss


def _kept(weights: Path, model: nn.Module, name: str) -> bool:
    """Loads what a training left, if it has ended."""
    if not weights.exists():
        return False
    try:
        model.load_state_dict(load_tensors(weights)[0])
    except RuntimeError:
        raise TeacherError(f"{weights}: what is kept does not fit {name}: remove {weights.parent}") from None
    return True


def _train_and_keep(
    room: Classroom, folder: Path, kind: str, notes: Mapping[str, Any], network: Network, train: Callable[[runs.RunDir], dict[str, Tensor]]
) -> Network:
    if not room.parallel.main:
        network.model.load_state_dict(train(runs.RunDir(folder)))
        return network
    if (folder / "config.yaml").exists():
        run = runs.RunDir.open(folder, kind)[0]
    else:
        run = runs.RunDir.create(folder, kind, notes, runs.environment(room.device))
    with run:
        weights = train(run)
        save_tensors(folder / WEIGHTS, weights, notes)
    network.model.load_state_dict(weights)
    return network


def _plain(name: str) -> str:
    """As a folder's name."""
    return name.replace("/", "_").replace(":", "_").replace(" ", "_")


def digest(value: Any) -> str:
    """Twelve hexadecimal digits that tell plain values apart."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:12]
