"""The sources of a teacher: a file, timm, or a training of its own that is kept; and the assistants between it and the students."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from diswot import losses, runs
from diswot.architecture import canonical_json
from diswot.config import to_dict
from diswot.data import cache_dir
from diswot.distillation.context import TrainingContext
from diswot.distillation.students import WEIGHTS
from diswot.distillation.teacher_networks import given_teacher
from diswot.errors import TeacherError
from diswot.losses import SupervisedLoss
from diswot.runs import RunDir
from diswot.schemes import SELF
from diswot.training.checkpoint import load_tensors, save_tensors
from diswot.training.evaluation import Network
from diswot.training.student import StudentSpec, make_adapters

logger = logging.getLogger(__name__)
_ELSEWHERE = "set DISWOT_HOME to a folder that can be written, or give --teacher-weights"
_POLL = 0.5  # seconds between two looks at what another process trains


def make_teacher(context: TrainingContext, run: RunDir) -> Network:
    """The network that the students learn from: the teacher, or the last of the assistants. What has no weights is trained first."""
    config = context.plan.config
    if config.teacher_weights is None:
        teacher = trained_teacher(context)
    else:
        teacher = context.freeze(given_teacher(config, context.splits.data, context.needs_of_teacher(str(config.teacher))))
    for number, name in enumerate(context.plan.assistants, 1):
        teacher = _assistant(context, run.path / "assistants" / f"{number}-{_folder_name(name)}", name, teacher)
    return teacher


def trained_teacher(context: TrainingContext) -> Network:
    """A teacher trained by the same loop on the same labelled images, kept under `cache_dir() / "teachers"`, and resumed if it was cut
    off. Where another process trains it, that one is waited for."""
    context = replace(context, splits=context.splits.labelled())
    config, splits, arch = context.plan.config, context.splits, context.plan.entries[0].arch
    epochs = config.epochs if config.teacher_epochs is None else config.teacher_epochs
    recipe = replace(context.recipe, epochs=epochs, seed=config.teacher_seed)
    recipe.check_combinations()
    name = f"self {arch.space} {arch.digest}" if config.teacher == SELF else str(config.teacher)
    notes = {
        "teacher": name,
        "classes": splits.data.num_classes,
        "versions": runs.versions(),
        "data": splits.data.digest(),
        "images": digest([splits.chosen.tolist(), splits.labels.tolist()]),
        "recipe": to_dict(recipe),
    }
    folder = cache_dir() / "teachers" / f"{_folder_name(name)}-{digest(notes)}"
    network = Network(context.untrained_teacher(str(config.teacher), config.teacher_seed), splits.normalise)
    _wait_for_others(context, folder)
    if _load_kept(folder / WEIGHTS, network.model, name):
        logger.info("teacher %s: the one trained before, from %s", config.teacher, folder)
        return context.freeze(network)
    logger.info("teacher %s: no weights were given, so it is trained first; it is kept in %s", config.teacher, folder)
    context.distributed.barrier()

    def train(run: RunDir) -> dict[str, Tensor]:
        loss = losses.create("none")
        loss.set_supervised_loss(SupervisedLoss(recipe.supervised_loss, recipe.smoothing))
        trainer, _ = context.train(run, {"teacher": digest(notes)}, [StudentSpec("teacher", network, [loss])], recipe=recipe)
        return trainer.students[0].result.model.state_dict()

    return context.freeze(_train_and_keep(context, folder, "teacher", notes, network, train))


def _wait_for_others(context: TrainingContext, folder: Path) -> None:
    """Wait as long as another process trains the network in a folder."""
    if not runs.is_in_use(folder):
        return
    logger.info("teacher %s: another process is training it, and is waited for; it is kept in %s", context.plan.config.teacher, folder)
    context.reporter.within("waiting for the teacher that another process trains")
    while runs.is_in_use(folder):
        time.sleep(_POLL)


def _assistant(context: TrainingContext, folder: Path, name: str, teacher: Network) -> Network:
    """A network distilled from the teacher before it, by the run's own loss and recipe, kept in the run's folder."""
    seed = context.plan.config.seed
    network = Network(context.untrained_teacher(name, seed), context.splits.normalise)
    if _load_kept(folder / WEIGHTS, network.model, name):
        return context.freeze(network)
    logger.info("assistant %s: distilled first, in %s", name, folder)
    context.distributed.barrier()
    loss = context.plan.make_loss()
    seen, of_teacher = context.observe_zeros(network.model, loss), context.observe_zeros(teacher.model, loss, of_teacher=True)
    make_adapters([loss], seen, [of_teacher], seed)

    def train(run: RunDir) -> dict[str, Tensor]:
        spec = StudentSpec("assistant", network, [loss])
        trainer, _ = context.train(run, {"assistant": name}, [spec], context.frozen_teacher(teacher, [loss]))
        return trainer.students[0].result.model.state_dict()

    return context.freeze(_train_and_keep(context, folder, "assistant", {"assistant": name}, network, train))


def _load_kept(weights: Path, model: nn.Module, name: str) -> bool:
    """Load what an earlier training left; return whether there was any."""
    if not weights.exists():
        return False
    try:
        model.load_state_dict(load_tensors(weights)[0])
    except RuntimeError:
        raise TeacherError(f"{weights}: what is kept does not fit {name}: remove {weights.parent}") from None
    return True


def _train_and_keep(
    context: TrainingContext,
    folder: Path,
    kind: str,
    notes: Mapping[str, Any],
    network: Network,
    train: Callable[[RunDir], dict[str, Tensor]],
) -> Network:
    """Train a network in a run of its own, and keep its weights in the run's folder."""
    if not context.distributed.is_main:
        network.model.load_state_dict(train(RunDir(folder)))
        return network
    more = {"remedy": _ELSEWHERE} if folder.is_relative_to(cache_dir()) else {}
    with RunDir.open_or_create(folder, kind, notes, runs.environment(context.device), **more) as run:
        weights = train(run)
        save_tensors(folder / WEIGHTS, weights, notes)
    network.model.load_state_dict(weights)
    return network


def _folder_name(name: str) -> str:
    return name.replace("/", "_").replace(":", "_").replace(" ", "_")


def digest(value: Any) -> str:
    """Return twelve hexadecimal digits that tell plain values apart."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:12]
