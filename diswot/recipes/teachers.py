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
from diswot.devices import place
from diswot.errors import ConfigError, TeacherError
from diswot.losses import Loss
from diswot.models.init import initialise
from diswot.models.zoo import ZOO, zoo_name
from diswot.observe import Observation, glance
from diswot.options import DistillConfig
from diswot.progress import Reporter
from diswot.recipes.material import Material
from diswot.recipes.students import WEIGHTS, build_student, of_teacher
from diswot.teacher import build_teacher
from diswot.training.checkpoint import load_tensors, save_tensors
from diswot.training.evaluation import Network
from diswot.training.feed import fits_in_memory
from diswot.training.learner import Pupil, prepare
from diswot.training.loop import Trainer, fit
from diswot.training.parallel import Parallel
from diswot.training.recipe import Recipe
from diswot.training.teaching import Teaching

SELF = "self"  # a teacher like the student
LOGITS = frozenset({"logits"})  # what any teacher must show; the loss tells what else


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
        example = teacher.normalise(torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2))
        return Teaching(teacher, needs, self.recipe, self.device, until=until, by_batch=by_batch, example=example, parallel=self.parallel)

    def settle(self, network: Network) -> Network:
        """A teacher that has learned: on the device, where it stays as it is."""
        place(network.model, self.device, self.recipe.channels_last).eval().requires_grad_(False)
        return network

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
    """What a network, wherever it lies, shows the loss of black images, as few as it can be computed on; on the CPU."""
    side, channels = material.data.input_size, material.data.in_chans
    images = torch.zeros(max(2, loss.least_batch), channels, side, side, device=next(model.parameters()).device)
    return glance(model, images, loss.needs).map(Tensor.cpu)


def check_teacher(config: DistillConfig, students: int) -> None:
    """`TeacherError` for a teacher that has nothing to teach, or not to all of so many students."""
    if config.teacher_weights == "random":
        raise TeacherError(
            "a random teacher has nothing to teach: give --teacher-weights, or leave it out and the teacher is trained first"
        )
    if config.teacher == SELF and config.teacher_weights is not None:
        raise ConfigError("--teacher self is trained first, from nothing: leave --teacher-weights out")
    if config.teacher_weights is None and config.teacher_norm != "data":
        raise TeacherError(
            f"--teacher-norm {config.teacher_norm}: a teacher that is trained first sees its images as the student does; leave it out"
        )
    if config.teacher == SELF and students > 1:
        raise ConfigError(f"--teacher self is like the student, and there are {students}: distil them one by one, or name a teacher")


def bare_teacher(room: Classroom, arch: Architecture, name: str | None = None, seed: int = 0) -> nn.Module:
    """A teacher or an assistant by name, initialised as a student would be by the seed; `self` is the student's own architecture."""
    name, data = name or room.config.teacher, room.material.data
    assert name is not None
    if name == SELF:
        return build_student(arch, data.num_classes, data.in_chans, seed, trusted=room.config.space == arch.space)
    model = build_teacher(name, data.num_classes, data.in_chans, data.input_size, needs=LOGITS, seed=seed)
    if zoo_name(name) in ZOO:
        initialise(model, "kaiming", seed)
    return model


def make_teacher(room: Classroom, arch: Architecture, run: runs.RunDir) -> Network:
    """The network that the students learn from: the teacher, or the last of the assistants."""
    teacher = _first_teacher(room, arch)
    for number, name in enumerate(assistants(room.config), 1):
        teacher = _assistant(room, arch, run.path / "assistants" / f"{number}-{_folder_name(name)}", name, teacher)
    return teacher


def assistants(config: DistillConfig) -> list[str]:
    """Their names.

    >>> assistants(DistillConfig(assistants="resnet32, resnet20"))
    ['resnet32', 'resnet20']
    """
    return [name.strip() for name in (config.assistants or "").split(",") if name.strip()]


def _first_teacher(room: Classroom, arch: Architecture) -> Network:
    config, data = room.config, room.material.data
    assert config.teacher is not None
    if config.teacher_weights is None:
        return _trained_teacher(room, arch)
    model = build_teacher(config.teacher, data.num_classes, data.in_chans, data.input_size, config.teacher_weights, needs=LOGITS)
    return room.settle(Network(model, of_teacher(config.teacher_norm, config.teacher_weights, data)))


def _trained_teacher(room: Classroom, arch: Architecture) -> Network:
    """A teacher trained alone by the same loop on the same labelled images, kept under `home() / "teachers"` and resumed if it was cut
    off."""
    room = replace(room, material=room.material.labelled())
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
    folder = home() / "teachers" / f"{_folder_name(name)}-{digest(notes)}"
    network = Network(bare_teacher(room, arch, seed=config.teacher_seed), material.normalise)
    if _kept(folder / WEIGHTS, network.model, name):
        room.reporter.say(f"teacher {config.teacher}: the one trained before, from {folder}")
        return room.settle(network)
    room.reporter.say(f"teacher {config.teacher}: no weights were given, so it is trained first; it is kept in {folder}")
    room.parallel.barrier()

    def train(run: runs.RunDir) -> dict[str, Tensor]:
        pupil = Pupil("teacher", network, [_held(losses.create("none"), recipe)])
        trainer, _ = room.train(run, {"teacher": digest(notes)}, [pupil], None, recipe)
        return trainer.learners[0].result.model.state_dict()

    return room.settle(_train_and_keep(room, folder, "teacher", notes, network, train))


def _assistant(room: Classroom, arch: Architecture, folder: Path, name: str, teacher: Network) -> Network:
    """A network distilled from the teacher before it, by the run's own loss and recipe, kept in the run's folder."""
    network = Network(bare_teacher(room, arch, name, room.config.seed), room.material.normalise)
    if _kept(folder / WEIGHTS, network.model, name):
        return room.settle(network)
    room.reporter.say(f"assistant {name}: distilled first, in {folder}")
    room.parallel.barrier()
    loss = make_loss(room.config, room.recipe)
    seen = [shapes(model, loss, room.material) for model in (network.model, teacher.model)]
    prepare([loss], seen[0], seen[1:], room.config.seed)

    def train(run: runs.RunDir) -> dict[str, Tensor]:
        pupil = Pupil("assistant", network, [loss])
        trainer, _ = room.train(run, {"assistant": name}, [pupil], room.teaching(teacher, loss), room.recipe)
        return trainer.learners[0].result.model.state_dict()

    return room.settle(_train_and_keep(room, folder, "assistant", {"assistant": name}, network, train))


def make_loss(config: DistillConfig, recipe: Recipe) -> Loss:
    """The loss of a configuration, which holds students to the labels as the recipe does."""
    return _held(losses.create(config.loss), recipe)


def _held(loss: Loss, recipe: Recipe) -> Loss:
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
    with runs.RunDir.open_or_create(folder, kind, notes, runs.environment(room.device)) as run:
        weights = train(run)
        save_tensors(folder / WEIGHTS, weights, notes)
    network.model.load_state_dict(weights)
    return network


def _folder_name(name: str) -> str:
    return name.replace("/", "_").replace(":", "_").replace(" ", "_")


def digest(value: Any) -> str:
    """Twelve hexadecimal digits that tell plain values apart."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:12]
