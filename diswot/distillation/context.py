"""The training context: the images, the recipe, the device, the processes."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diswot.architecture import Architecture
from diswot.budget import check_buildable, cost_of
from diswot.config import Recipe
from diswot.data import GENERATED_SOURCES
from diswot.data.images import DecodedImages
from diswot.devices import to_device
from diswot.distillation.plan import DistillPlan
from diswot.distillation.students import PRETRAINED, build_student, display_name, load_pretrained
from diswot.distillation.teacher_networks import given_teacher
from diswot.errors import ConfigError, first_line
from diswot.execution import Execution
from diswot.losses import Loss
from diswot.models.init import initialise
from diswot.models.teachers import build_teacher
from diswot.models.weights import load_weights
from diswot.models.wrapped import wrapped
from diswot.models.zoo import ZOO, zoo_name
from diswot.observe import Observation, batch_statistics, observe_without_gradients
from diswot.progress import Reporter
from diswot.runs import RunDir
from diswot.schemes import SELF
from diswot.space import is_built_in, load_space
from diswot.training.batches import fits_in_memory
from diswot.training.decoding import training_transform
from diswot.training.distributed import DistributedContext, init_distributed
from diswot.training.evaluation import Network
from diswot.training.frozen_teacher import FrozenTeacher
from diswot.training.logs import Logs
from diswot.training.loop import Trainer, fit
from diswot.training.optim import make_optimizer
from diswot.training.optimizer_state import check_optimizer
from diswot.training.splits import DataSplits, load_splits
from diswot.training.student import StudentSpec

logger = logging.getLogger(__name__)
LOGITS = frozenset({"logits"})  # what any teacher must show; the loss tells what else


@dataclass(frozen=True)
class TrainingContext:
    """The images, the recipe, the device and the processes, which every training of a run shares.

    Attributes:
        plan: what the run is going to do.
        splits: the images.
        recipe: how networks are trained, with the augmentation for these images.
        device: where.
        distributed: this process among those of the run.
        reporter: shown the progress.
    """

    plan: DistillPlan
    splits: DataSplits
    recipe: Recipe
    device: str
    distributed: DistributedContext
    reporter: Reporter

    @classmethod
    def load(cls, plan: DistillPlan, execution: Execution) -> TrainingContext:
        """Load the images, and try every network of the plan on shapes: what does not fit together fails here, before any training.

        Raises:
            DiswotError: names what does not fit.
        """
        distributed, device = init_distributed(execution.only_device())
        execution.reporter.within("reading the images")
        splits = load_splits(plan.config, plan.config.unlabelled, choosing=plan.config.sweep is not None)
        if distributed.is_main and plan.config.data not in GENERATED_SOURCES:
            logger.info("%s: %s", plan.config.data, splits.data.describe())
        recipe = plan.recipe.for_images(splits.data.input_size)
        if recipe.aa:
            training_transform(splits.data.input_size, recipe)  # refuses what timm cannot make
        context = cls(plan, splits, recipe, device, distributed, execution.reporter)
        if any(loss.reuses_classifier for loss in plan.make_losses()):
            context = replace(context, plan=context.reusing_plan())
        execution.reporter.within("trying the networks on black images")
        context.check_networks()
        return context

    def reusing_plan(self) -> DistillPlan:
        """The plan with students that end in the teacher's classifier.

        Raises:
            ConfigError: a student, or a teacher, that this cannot be made of.
        """
        plan = self.plan
        if plan.assistants or plan.config.teacher == SELF:
            raise ConfigError("loss simkd: assistants, and --teacher self, have no classifier to hand on: name the teacher alone")
        if own := next((entry.arch.space for entry in plan.entries if not is_built_in(load_space(entry.arch.space, trusted=True))), ""):
            raise ConfigError(f"loss simkd: students of {own} cannot be kept with a teacher's classifier; those of built-in spaces can")
        seen = self.observe_zeros(self.untrained_teacher(str(plan.config.teacher)), plan.make_loss(), of_teacher=True)
        width, side = seen.features.shape[1], seen.features.shape[-1]
        if seen.weight.shape[1:] != (width,):
            raise ConfigError("loss simkd: the teacher's classifier is not fed by its last map: use srrl")
        entries = tuple(replace(entry, arch=wrapped(entry.arch, width, side)) for entry in plan.entries)
        return replace(plan, entries=entries)

    def check_networks(self) -> None:
        """Take one step on black images with untrained networks.

        Raises:
            DiswotError: a network that cannot take the images, a loss that cannot be computed, an optimizer that cannot be used, a batch
                size that cannot be.
        """
        plan = self.plan
        self.splits.batch_requirements(self.recipe, self.distributed, plan.make_losses())
        for entry in plan.entries:
            self._check_size(entry.arch)
        teachers: list[nn.Module] = []
        if plan.scheme.uses_teacher:
            teachers = [self.untrained_teacher(name) for name in (str(plan.config.teacher), *plan.assistants)]
        students = [self.initial_student(entry.arch, plan.config.seed) for entry in plan.entries]
        check_optimizer(self.recipe)
        for student in students:
            make_optimizer(self.recipe, student)
            for reference in teachers[-1:] or ([] if plan.scheme.independent_students else students[-1:]):
                for loss in plan.make_losses():
                    self._try_loss(loss, student, reference)
        for before, assistant in itertools.pairwise(teachers):
            self._try_loss(plan.make_loss(), assistant, before)

    def _check_size(self, arch: Architecture) -> None:
        spec = self.splits.data.spec
        try:
            cost = cost_of(load_space(arch.space, trusted=self.plan.trusts(arch.space)), arch, spec)
        except (AssertionError, RuntimeError) as error:  # as timm's transformers, which are made for one size
            size = f"{spec.input_size}x{spec.input_size}"
            name = display_name(arch)
            remedy = f"write {name.partition('(')[0]}(img_size={spec.input_size}), or use a convolutional network"
            raise ConfigError(f"{name} cannot take {size} images ({first_line(error, 80)}): {remedy}") from None
        check_buildable(arch, cost)

    def _try_loss(self, loss: Loss, student: nn.Module, reference: nn.Module) -> None:
        seen, other = self.observe_zeros(student, loss), self.observe_zeros(reference, loss, of_teacher=self.plan.scheme.uses_teacher)
        loss.make_adapters(seen, other)
        loss.begin_training(self.recipe.epochs, torch.arange(len(seen.logits)) % seen.logits.shape[1])
        with torch.no_grad(), batch_statistics(loss):
            loss(seen, other, torch.zeros(len(seen.logits), dtype=torch.int64))

    def observe_zeros(self, model: nn.Module, loss: Loss, of_teacher: bool = False) -> Observation:
        """Observe a network on black images, as few as the loss can be computed on; the observation is on the CPU.

        Args:
            of_teacher: only what the loss reads of a teacher.
        """
        device = next(model.parameters()).device
        images = torch.zeros(max(2, loss.min_batch_size), *self.splits.data.spec.shape, device=device)
        needs = loss.needs if of_teacher else loss.student_fields
        return replace(observe_without_gradients(model, images, needs).map(Tensor.cpu), indices=torch.arange(len(images)))

    def initial_student(self, arch: Architecture, seed: int) -> nn.Module:
        """Build a student as it begins: with random weights, or those of `--weights`."""
        config = self.plan.config
        model = build_student(arch, self.splits.data.spec, seed, self.plan.trusts(arch.space), config.drop_path)
        if config.weights == PRETRAINED:
            load_pretrained(model, arch, self.splits.data.spec)
        elif config.weights is not None:
            load_weights(getattr(model, "backbone", model), Path(config.weights), display_name(arch))
        return model

    def untrained_teacher(self, name: str, seed: int = 0) -> nn.Module:
        """Build a teacher or an assistant by name, initialised as a student would be by the seed; `self` is a twin of the student."""
        spec = self.splits.data.spec
        if name == SELF:
            arch = self.plan.entries[0].arch
            return build_student(arch, spec, seed, trusted=self.plan.trusts(arch.space))
        if name == self.plan.config.teacher and self.plan.config.teacher_weights is not None:
            return given_teacher(self.plan.config, self.splits.data, self.needs_of_teacher(name), load=False).model
        model = build_teacher(name, spec, needs=self.needs_of_teacher(name), seed=seed)
        if zoo_name(name) in ZOO:
            initialise(model, "kaiming", seed)
        return model

    def needs_of_teacher(self, name: str) -> frozenset[str]:
        """What a teacher must show: logits, unless it comes with weights and the loss looks at its features alone."""
        config = self.plan.config
        if name != config.teacher or config.teacher_weights is None or self.plan.assistants:
            return LOGITS
        return frozenset[str]().union(*(loss.needs for loss in self.plan.make_losses()))

    def freeze(self, network: Network) -> Network:
        """Move a trained teacher to the device, and freeze it."""
        to_device(network.model, self.device, self.recipe.channels_last).eval().requires_grad_(False)
        return network

    def frozen_teacher(self, teacher: Network, losses: Sequence[Loss]) -> FrozenTeacher:
        """The teacher as the losses want it."""
        images = self.splits.images.images(np.arange(min(4, len(self.splits.labels))))
        example = teacher.normalise(torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2))
        fraction = self.plan.config.distill_fraction
        return FrozenTeacher(
            teacher, losses, self.recipe, self.device, distill_fraction=fraction, example=example, distributed=self.distributed
        )

    def train(
        self,
        run: RunDir,
        notes: Mapping[str, Any],
        specs: Sequence[StudentSpec],
        teacher: FrozenTeacher | None = None,
        recipe: Recipe | None = None,
        logs: Logs | None = None,
    ) -> tuple[Trainer, list[dict[str, Any]]]:
        """Train students in a folder, from where it was left; return the trainer and the lines of metrics.

        Args:
            run: the folder.
            notes: what tells this training from others.
            specs: the students.
            teacher: the frozen teacher, where the loss looks at one.
            recipe: another one than the run's.
            logs: writes the metrics in other formats.
        """
        recipe = recipe or self.recipe
        losses = [loss for spec in specs for loss in spec.losses]
        if isinstance(self.splits.data.train, DecodedImages) and fits_in_memory(self.splits.images, recipe):
            logger.info("reading %s images into memory", f"{len(self.splits.labels):,}")
        loader = self.splits.batch_loader(recipe, self.device, self.distributed, losses, self.plan.config.loader_workers)
        if teacher is not None and self.plan.config.teacher_cache and teacher.cache(loader, recipe, self.reporter):
            logger.info("the teacher's outputs are kept: each image is shown in few ways")
        trainer = Trainer(specs, teacher, loader, recipe, self.device, self.distributed, self.reporter)
        return trainer, fit(trainer, run, notes, self.splits.tests, self.reporter, logs)
