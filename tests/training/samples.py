"""What the tests of training share: images, loaders, small networks, and trainers made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diswot.config.training import Recipe
from diswot.data.images import ArrayImages
from diswot.losses import Loss, create
from diswot.models.base import ImageClassifier
from diswot.models.zoo import ZOO
from diswot.observe import Observation, observe_without_gradients
from diswot.training.batches import BatchRequirements, MemoryLoader, TrainingSet
from diswot.training.distributed import DistributedContext
from diswot.training.evaluation import Network, Normalise
from diswot.training.frozen_teacher import FrozenTeacher
from diswot.training.loop import Trainer
from diswot.training.student import StudentSpec, make_adapters

ONE = DistributedContext()
NORMALISE = Normalise(torch.full((3,), 0.4), torch.full((3,), 0.3))


def make_recipe(**options: Any) -> Recipe:
    """A short training with the augmentation of CIFAR's recipe, unless told otherwise."""
    return Recipe(**{"epochs": 4, "batch_size": 16, "lr": 0.02, "augment": "crop", **options})


def images(count: int = 48, side: int = 8, classes: int = 4) -> ArrayImages:
    """Images whose colours give their classes away."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    pixels = rng.integers(0, 120, (count, side, side, 3)) + 130 * np.eye(classes, 3)[labels][:, None, None]
    return ArrayImages(pixels.astype(np.uint8), labels)


def training_set(source: ArrayImages) -> TrainingSet:
    """All of it."""
    return TrainingSet(source, np.arange(len(source.labels)), source.labels, int(source.labels.max()) + 1)


def memory_loader(
    recipe: Recipe, source: ArrayImages | None = None, needs: BatchRequirements | None = None, distributed: DistributedContext = ONE
) -> MemoryLoader:
    return MemoryLoader(training_set(source or images()), recipe, "cpu", distributed, needs or BatchRequirements())


def normalised(pixels: Tensor) -> Tensor:
    """uint8 pixels as `NORMALISE` makes them."""
    return (pixels / 255 - 0.4) / 0.3


class Small(ImageClassifier):
    """Without batch norm, so that a batch is no more than its images; with dropout, if asked for."""

    def __init__(self, num_classes: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.dropout = nn.Dropout(dropout)
        self.init_classifier(8, num_classes, [])

    def forward_features(self, x: Tensor) -> Tensor:
        return self.dropout(torch.tanh(self.conv(x)))


def build(name: str, seed: int, **options: float) -> nn.Module:
    torch.manual_seed(seed)
    return Small(**options) if name == "small" else ZOO[name](num_classes=4)  # type: ignore[arg-type]


def trainer(
    loss: str = "kd",
    recipe: Recipe | None = None,
    students: Sequence[str] = ("resnet8",),
    teacher: str = "resnet14",
    *,
    seed: int = 0,
    distill_fraction: float = 1.0,
    teacher_cache: bool = False,
    dtype: torch.dtype = torch.float32,
    distributed: DistributedContext = ONE,
    **options: float,
) -> Trainer:
    """Students of these names from the seed, trained by the scheme of the loss; the teacher is there where the scheme has one."""
    recipe = recipe or make_recipe()
    made = create(loss)
    scheme = made.scheme()
    normalise = Normalise(NORMALISE.mean.to(dtype), NORMALISE.std.to(dtype))

    def observe(model: nn.Module, needs: frozenset[str]) -> Observation:
        return replace(observe_without_gradients(model, torch.zeros(4, 3, 8, 8, dtype=dtype), needs), indices=torch.arange(4))

    networks = [Network(build(name, seed + number, **options).to(dtype), normalise) for number, name in enumerate(students)]
    frozen = of_teacher = None
    if scheme.uses_teacher:
        model = build(teacher, 77).to(dtype)
        of_teacher = observe(model, made.needs)
        frozen = FrozenTeacher(Network(model, normalise), [made], recipe, "cpu", distill_fraction=distill_fraction, distributed=distributed)
    seen = {number: observe(network.model, made.student_fields) for number, network in enumerate(networks)}
    specs = []
    for number, network in enumerate(networks):
        references = scheme.references(number, seen, of_teacher)
        losses: list[Loss] = [create(loss) for _ in references]
        make_adapters(losses, seen[number], references, 0)
        specs.append(StudentSpec(f"{students[number]}-{number}", network, losses))
    needs = BatchRequirements(repeat_half=scheme.repeats_half_batch, min_size=made.min_batch_size)
    loader = memory_loader(recipe, needs=needs, distributed=distributed)
    if teacher_cache:
        assert frozen is not None and frozen.cache(loader, recipe)
    return Trainer(specs, frozen, loader, recipe, "cpu", distributed)


def weights(one: Trainer, student: int = 0) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in one.students[student].model.state_dict().items()}


def same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())
