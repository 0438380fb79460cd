"""The images of a training: which of them train, which measure, and what labels they have."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from diswot.config.training import Recipe, TrainConfig
from diswot.data import Dataset, load_data, load_unlabelled
from diswot.data.images import ArrayImages, ImageSet, JoinedImages, channel_statistics, digest_of, with_crop_pct
from diswot.errors import ConfigError, DataError
from diswot.losses import NO_LABEL, Loss
from diswot.training.batches import BatchLoader, BatchRequirements, MemoryLoader, TrainingSet, epoch_batches, fits_in_memory
from diswot.training.decoding import DecodingLoader
from diswot.training.distributed import DistributedContext
from diswot.training.evaluation import Normalise

Ints = NDArray[np.int64]
_MOST_NAMED = 5  # classes without images
_UNEVEN = 10  # times as many images in the largest class as in the smallest, and images of a class, on average, to speak of it
_VAL_FRACTION = 0.1  # of the training images, where there is no test split


@dataclass(frozen=True)
class DataSplits:
    """A data set, and which part of it trains and which part measures.

    Attributes:
        data: the data set.
        images: what trains: the training images of the data set, and unlabelled ones after them.
        chosen: indices of those that are used.
        labels: (len(chosen),) their classes; -1 for an image without a label.
        measured_on: the set that results are reported on: `test`, or `validation` where the data has no test split.
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
        """The normalisation by the labelled images that train, not by those held out."""
        mean, std = channel_statistics(self.data.train, self.chosen[self.chosen < len(self.data.train.labels)])
        return Normalise(torch.from_numpy(mean), torch.from_numpy(std))

    def labelled(self) -> DataSplits:
        """The splits without the images that have no label."""
        known = self.labels != NO_LABEL
        return replace(self, images=self.data.train, chosen=self.chosen[known], labels=self.labels[known])

    @functools.cached_property
    def digest(self) -> str:
        """Short hash of all images that train or measure, and of the data's labels."""
        trained = self.images.parts if isinstance(self.images, JoinedImages) else [self.images]
        return digest_of([*trained, *self.tests.values()])

    def batch_requirements(self, recipe: Recipe, distributed: DistributedContext, losses: Sequence[Loss]) -> BatchRequirements:
        """Return the requirements that losses have of the batches.

        Raises:
            ConfigError: batches of this size cannot be had, or not with this loss.
        """
        loss = max(losses, key=lambda loss: loss.min_batch_size)
        least = max(loss.min_batch_size, 2) * distributed.world_size * recipe.grad_accum_steps
        size = f"--batch-size {recipe.batch_size}"
        if recipe.batch_size < least:
            parts = "" if least == loss.min_batch_size else ", in every part of it"
            raise ConfigError(f"{size}: the loss {loss.label} needs {loss.min_batch_size} images at least{parts}: {least}")
        needs = BatchRequirements(repeat_half=loss.scheme.repeats_half_batch, min_size=least)
        if len(epoch_batches(len(self.labels), recipe, 0, needs)[1]) < (2 if needs.repeat_half else 1):
            raise ConfigError(f"{size}: too large for {len(self.labels):,} images, of which an epoch shows half twice")
        return needs

    def batch_loader(
        self, recipe: Recipe, device: str, distributed: DistributedContext, losses: Sequence[Loss], workers: int
    ) -> BatchLoader:
        """The batches of a training, from memory where that is possible.

        Raises:
            ConfigError: as `batch_requirements`.
        """
        needs = self.batch_requirements(recipe, distributed, losses)
        source = TrainingSet(self.images, self.chosen, self.labels, self.data.num_classes)
        if fits_in_memory(self.images, recipe):
            return MemoryLoader(source, recipe, device, distributed, needs)
        if recipe.crop_views:
            raise ConfigError(f"--crop-views {recipe.crop_views}: these images are read one by one, with new crops each time: leave it out")
        return DecodingLoader(source, recipe, device, distributed, needs, workers)


def split_indices(count: int, limit: int | None, val_fraction: float, seed: int) -> tuple[Ints, Ints]:
    """Draw which images train and which are held out, by the seed.

    >>> [len(part) for part in split_indices(100, 50, 0.1, 0)]
    [45, 5]
    """
    order = np.random.default_rng([seed, 0xD15]).permutation(count)[:limit]
    cut = round(len(order) * val_fraction)
    return np.sort(order[cut:]), np.sort(order[:cut])


def add_label_noise(labels: Ints, fraction: float, num_classes: int, seed: int) -> Ints:
    """Replace a fraction of the labels, drawn by the seed, by any other class.

    >>> labels = np.arange(1000) % 10
    >>> float((add_label_noise(labels, 0.2, 10, seed=0) != labels).mean())
    0.2
    """
    rng = np.random.default_rng([seed, 0x401])
    wrong = rng.permutation(len(labels))[: round(fraction * len(labels))]
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + rng.integers(1, num_classes, size=len(wrong))) % num_classes
    return noisy


def uneven_classes(labels: Ints, num_classes: int) -> str:
    """A line on classes without any image, which a mistake in the labels may be the reason of, or of very different sizes, for there
    accuracy says little of the small ones; empty where there are none.

    Args:
        labels: (n,) classes; -1 for an image without a label.

    >>> uneven_classes(np.array([0] * 30 + [1] * 3), 2)
    'classes are uneven: 3 to 30 images each; accuracy counts images, so that large classes decide it'
    >>> uneven_classes(np.array([1, 2, 1, 2]), 3)
    'no training image has class 0, of 3 classes: are the labels right?'
    >>> uneven_classes(np.arange(10) % 2, 2)
    ''
    """
    counts = np.bincount(labels[labels != NO_LABEL], minlength=num_classes)
    if (missing := np.flatnonzero(counts == 0)).size:
        more = f" and {len(missing) - _MOST_NAMED:,} more" if len(missing) > _MOST_NAMED else ""
        named = ", ".join(map(str, missing[:_MOST_NAMED]))
        return f"no training image has class {named}{more}, of {num_classes:,} classes: are the labels right?"
    few = counts.sum() < _UNEVEN * num_classes  # of which chance alone makes uneven classes
    if few or counts.max() < _UNEVEN * counts.min():
        return ""
    sizes = f"{counts.min():,} to {counts.max():,} images each"
    return f"classes are uneven: {sizes}; accuracy counts images, so that large classes decide it"


def load_splits(config: TrainConfig, unlabelled: str | None = None, *, choosing: bool = False) -> DataSplits:
    """Load the images, split as the options ask.

    Args:
        config: the options.
        unlabelled: more images, without labels.
        choosing: whether something is chosen by what is measured: then it is measured on held-out training images, never on test images.

    Raises:
        ConfigError, DataError: names the value and the remedy.
    """
    assert config.data is not None
    data = load_data(config.data, **config.image_options())
    if not data.learnable:
        raise DataError(f"--data {config.data}: there is nothing to learn in it; use synthetic, or real images")
    if config.limit is not None and config.limit < config.batch_size:
        raise ConfigError(f"--limit {config.limit}: fewer than the batch of {config.batch_size}; use more, or a smaller --batch-size")
    by_default = 0.0 if data.test is not None and not choosing else _VAL_FRACTION
    val_fraction = config.val_fraction if config.val_fraction is not None else by_default
    chosen, kept = split_indices(len(data.train.labels), config.limit, val_fraction, config.seed)
    if len(chosen) < config.batch_size:
        remedy = f"write --batch-size {len(chosen)} or less" if len(chosen) > 1 else "hold fewer of them out"
        raise DataError(f"{data.name}: {len(chosen)} training images, fewer than the batch: {remedy}")
    labels = add_label_noise(data.train.labels[chosen], config.label_noise, data.num_classes, config.seed)
    tests = _test_sets(replace(data, test=None) if choosing else data, kept, config.crop_pct)
    measured_on = "test" if "test" in tests else "validation"
    if unlabelled is None:
        return DataSplits(data, data.train, chosen, labels, measured_on, tests)
    more = load_unlabelled(unlabelled, data.train.shape)
    joined = JoinedImages([data.train, more])
    chosen = np.concatenate([chosen, np.arange(len(data.train.labels), len(joined.labels))])
    labels = np.concatenate([labels, np.full(len(more.labels), NO_LABEL)])
    return DataSplits(data, joined, chosen, labels, measured_on, tests)


def _test_sets(data: Dataset, kept: Ints, crop_pct: float) -> dict[str, ImageSet]:
    tests: dict[str, ImageSet] = {}
    if len(kept):
        tests["validation"] = ArrayImages(with_crop_pct(data.train, crop_pct).images(kept), data.train.labels[kept])
    if data.test is not None:
        tests["test"] = with_crop_pct(data.test, crop_pct)
    if not tests:
        raise ConfigError(f"{data.name} has no test images and --val-fraction is 0: nothing is left to measure on")
    return tests
