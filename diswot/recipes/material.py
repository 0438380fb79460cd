"""The images of a training: which of them train, which measure, and what they are taken for."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diswot.data import Dataset, load_data, load_unlabelled
from diswot.data.images import ArrayImages, ImageSet, JoinedImages, channel_statistics, cropped, digest_of
from diswot.errors import ConfigError, DataError
from diswot.losses import NO_LABEL, Loss
from diswot.options import RecipeOptions
from diswot.training.evaluation import Normalise
from diswot.training.feed import Feed, LoaderFeed, MemoryFeed, Steps, TrainingSet, fits_in_memory, plan
from diswot.training.parallel import Parallel
from diswot.training.recipe import Recipe

Ints = NDArray[np.int64]
_HELD_OUT = 0.1  # of the training images, where there is no test split
_SMALL = 64  # pixels: up to here images are shifted, above they are cropped at random sizes


@dataclass(frozen=True)
class Material:
    """Data, and which part of it trains and which part measures.

    Attributes:
        images: what trains: the data's training images, and unlabelled ones after them.
        chosen: which of them.
        labels: (len(chosen),) what they are taken for; -1 for those without a label.
        tests: the sets that are measured on, by name.
    """

    data: Dataset
    images: ImageSet
    chosen: Ints
    labels: Ints
    measured_on: str
    tests: dict[str, ImageSet]

    @functools.cached_property
    def normalise(self) -> Normalise:
        """By the labelled images that train, not by those held out."""
        mean, std = channel_statistics(self.data.train, self.chosen[self.chosen < len(self.data.train.labels)])
        return Normalise(torch.from_numpy(mean), torch.from_numpy(std))

    def labelled(self) -> Material:
        """Without the images that have no label."""
        known = self.labels != NO_LABEL
        return replace(self, images=self.data.train, chosen=self.chosen[known], labels=self.labels[known])

    @functools.cached_property
    def digest(self) -> str:
        """Short hash of all images that train or measure, and of the data's labels."""
        trained = self.images.parts if isinstance(self.images, JoinedImages) else [self.images]
        return digest_of([*trained, *self.tests.values()])

    def augmented(self, recipe: Recipe, options: RecipeOptions) -> Recipe:
        """The recipe with the augmentation for these images, where none was asked for."""
        if options.augment is not None:
            return recipe
        return replace(recipe, augment="crop" if self.data.input_size <= _SMALL else "resized")

    def feed(self, recipe: Recipe, device: str, parallel: Parallel, loss: Loss, workers: int) -> Feed:
        """The batches of a training, held in memory where that is possible."""
        least = max(loss.least_batch, 2) * parallel.world * recipe.accumulate
        if recipe.batch < least:
            parts = "" if least == loss.least_batch else ", in every part of it"
            raise ConfigError(f"--batch {recipe.batch}: the loss {loss.label} needs {loss.least_batch} images at least{parts}: {least}")
        steps = Steps(repeat_half=loss.partner == "previous", least=least)
        if len(plan(len(self.labels), recipe, 0, steps)[1]) < (2 if steps.repeat_half else 1):
            raise ConfigError(f"--batch {recipe.batch}: too large for {len(self.labels):,} images, of which an epoch shows half twice")
        source = TrainingSet(self.images, self.chosen, self.labels, self.data.num_classes)
        if fits_in_memory(self.images, recipe):
            return MemoryFeed(source, recipe, device, parallel, steps)
        return LoaderFeed(source, recipe, device, parallel, steps, workers)


def split(count: int, limit: int | None, held_out: float, seed: int) -> tuple[Ints, Ints]:
    """Which images train and which are held out, drawn once by the seed.

    >>> [len(part) for part in split(100, 50, 0.1, 0)]
    [45, 5]
    """
    order = np.random.default_rng([seed, 0xD15]).permutation(count)[:limit]
    cut = round(len(order) * held_out)
    return np.sort(order[cut:]), np.sort(order[:cut])


def with_noise(labels: Ints, share: float, num_classes: int, seed: int) -> Ints:
    """The labels, of which a share, drawn by the seed, is replaced by any other class.

    >>> labels = np.arange(1000) % 10
    >>> (with_noise(labels, 0.2, 10, seed=0) != labels).mean()
    np.float64(0.2)
    """
    rng = np.random.default_rng([seed, 0x401])
    wrong = rng.permutation(len(labels))[: round(share * len(labels))]
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + rng.integers(1, num_classes, size=len(wrong))) % num_classes
    return noisy


def load_material(options: RecipeOptions, unlabelled: str | None = None) -> Material:
    """The images, split as the options ask.

    Raises:
        ConfigError, DataError: names the value and the remedy.
    """
    assert options.data is not None
    data = load_data(options.data, **options.image_options())
    if not data.learnable:
        raise DataError(f"--data {options.data}: there is nothing to learn in it; use synthetic, or real images")
    if options.limit is not None and options.limit < options.batch:
        raise ConfigError(f"--limit {options.limit}: fewer than the batch of {options.batch}; use more, or a smaller --batch")
    held_out = options.held_out if options.held_out is not None else (0.0 if data.test is not None else _HELD_OUT)
    for name, share in (("held-out", held_out), ("label-noise", options.label_noise)):
        if not 0 <= share < 1:
            raise ConfigError(f"--{name} {share}: a share from 0 to below 1")
    chosen, kept = split(len(data.train.labels), options.limit, held_out, options.seed)
    if len(chosen) < options.batch:
        remedy = f"write --batch {len(chosen)} or less" if len(chosen) > 1 else "hold fewer of them out"
        raise DataError(f"{data.name}: {len(chosen)} training images, fewer than the batch: {remedy}")
    labels = with_noise(data.train.labels[chosen], options.label_noise, data.num_classes, options.seed)
    tests = _tests(data, kept, options.crop_share)
    measured_on = "test" if "test" in tests else "validation"
    if unlabelled is None:
        return Material(data, data.train, chosen, labels, measured_on, tests)
    more = load_unlabelled(unlabelled, data.train.shape)
    joined = JoinedImages([data.train, more])
    chosen = np.concatenate([chosen, np.arange(len(data.train.labels), len(joined.labels))])
    labels = np.concatenate([labels, np.full(len(more.labels), NO_LABEL)])
    return Material(data, joined, chosen, labels, measured_on, tests)


def _tests(data: Dataset, kept: Ints, crop_share: float) -> dict[str, Any]:
    tests: dict[str, ImageSet] = {}
    if len(kept):
        tests["validation"] = ArrayImages(cropped(data.train, crop_share).images(kept), data.train.labels[kept])
    if data.test is not None:
        tests["test"] = cropped(data.test, crop_share)
    if not tests:
        raise ConfigError(f"{data.name} has no test images and --held-out is 0: nothing is left to measure on")
    return tests
