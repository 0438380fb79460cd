"""The batches of every epoch: the same for a seed, however often a training is stopped and on however many processes it runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diswot.config.training import Recipe
from diswot.data.images import IN_MEMORY, ImageSet
from diswot.training.augment import Augmentations, apply_augmentation, fixed_views, pad_images
from diswot.training.distributed import DistributedContext

Ints = NDArray[np.int64]
_CHUNK = 1000  # images decoded at a time


@dataclass(frozen=True)
class Batch:
    """The images of a training step.

    Attributes:
        pixels: (B, C, H, W) uint8, or float in [0, 1].
        target: (B,) classes; -1 where there is no label.
        indices: (B,) of the images among those that train.
        views: (B,) which of `MemoryLoader.views` each is shown in; 0 where there are none.
        repeated: how many of the first images the step before had too.
    """

    pixels: Tensor
    target: Tensor
    indices: Tensor
    views: Tensor
    repeated: int = 0

    def part(self, which: slice) -> Batch:
        """The batch of some of the images."""
        return Batch(self.pixels[which], self.target[which], self.indices[which], self.views[which], self.repeated)


@dataclass(frozen=True)
class TrainingSet:
    """The images that train.

    Attributes:
        images: all images.
        chosen: indices of those that train.
        labels: (len(chosen),) their classes, -1 for an image without a label.
        num_classes: number of classes.
    """

    images: ImageSet
    chosen: Ints
    labels: Ints
    num_classes: int


class BatchLoader(Protocol):
    """The batches of a training: `epoch(number)` gives those of this process, always the same; `labels` are those of all images."""

    num_classes: int
    labels: Tensor

    def epoch(self, number: int) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class BatchRequirements:
    """The requirements that losses have of the batches.

    Attributes:
        repeat_half: the first half of each batch is to be the second half of the batch before it.
        min_size: the fewest images in a batch.
    """

    repeat_half: bool = False
    min_size: int = 2


def epoch_batches(count: int, recipe: Recipe, epoch: int, needs: BatchRequirements) -> tuple[np.random.Generator, list[tuple[Ints, int]]]:
    """Plan an epoch: for each step the indices of its images, and how many of them, the first ones, the step before had too.

    Args:
        count: images that train.
        recipe: batch size, repeats and seed.
        epoch: its number, from 0.
        needs: what the losses ask of the batches. Where half of each batch is that of the step before, an epoch takes half of the images,
            each twice; two epochs after each other take all. A last batch of fewer than the fewest images is left out.

    Returns:
        The generator, for what is then drawn, and the steps.

    >>> [len(batch) for batch, _ in epoch_batches(10, Recipe(batch_size=4), 0, BatchRequirements())[1]]
    [4, 4, 2]
    >>> halves = epoch_batches(16, Recipe(batch_size=4), 0, BatchRequirements(repeat_half=True))[1]
    >>> all((before[2:] == now[:2]).all() for (before, _), (now, _) in zip(halves, halves[1:]))
    True
    """
    rng = np.random.default_rng([recipe.seed, epoch])
    if not needs.repeat_half:
        order = rng.permutation(count).repeat(recipe.aug_repeats)[:count]
        batches = [order[begin : begin + recipe.batch_size] for begin in range(0, len(order), recipe.batch_size)]
        if recipe.aug_repeats > 1:  # or mixup, which mixes neighbours, would mix an image with itself
            batches = [rng.permutation(batch) for batch in batches]
        return rng, [(batch, 0) for batch in batches if len(batch) >= needs.min_size]
    both = np.random.default_rng([recipe.seed, epoch // 2, 1]).permutation(count)
    order = rng.permutation(both[epoch % 2 :: 2])
    half = max(recipe.batch_size // 2, 1)
    chunks = [order[begin : begin + half] for begin in range(0, len(order), half)]
    if len(chunks) > 1 and len(chunks[-1]) < half:
        chunks.pop()
    return rng, [(np.concatenate(pair), half if step else 0) for step, pair in enumerate(itertools.pairwise(chunks))]


class MemoryLoader:
    """Images held in memory, where the network is, and augmented there in batches.

    Attributes:
        views: those that each image is shown in, where they are few; see `fixed_views`.

    Args:
        device: where they are held.
        needs: what the losses ask of the batches.
    """

    def __init__(self, source: TrainingSet, recipe: Recipe, device: str, distributed: DistributedContext, needs: BatchRequirements) -> None:
        self.recipe, self.distributed, self.needs, self.num_classes = recipe, distributed, needs, source.num_classes
        images, chosen = source.images, source.chosen
        self.side = images.shape[:2]
        chunks = [images.images(chosen[begin : begin + _CHUNK]) for begin in range(0, len(chosen), _CHUNK)]
        self.pixels = pad_images(torch.from_numpy(np.concatenate(chunks)).to(device), recipe)
        self.labels = torch.from_numpy(source.labels).to(device)
        self.views = fixed_views(len(chosen), recipe)

    def epoch(self, number: int) -> Iterator[Batch]:
        rng, steps = epoch_batches(len(self.labels), self.recipe, number, self.needs)
        for places, repeated in steps:
            augmentations, views = self._draw(places, rng)
            part = self.distributed.shard(len(places), self.needs.repeat_half)
            yield self._batch(places[part], augmentations.take(part), views[part], repeated)

    def _draw(self, places: Ints, rng: np.random.Generator) -> tuple[Augmentations, Ints]:
        """Draw how images are augmented, and which views that is."""
        if self.views is not None and self.recipe.crop_views:
            views = rng.integers(len(self.views.top), size=len(places))
            return self.views.take((views, places)), views
        augmentations = Augmentations.draw(len(places), self.side, self.recipe, rng)
        return augmentations, augmentations.mirrored.astype(np.int64) * (self.views is not None)

    def _batch(self, places: Ints, augmentations: Augmentations, views: Ints, repeated: int) -> Batch:
        where = torch.from_numpy(np.ascontiguousarray(places)).to(self.pixels.device)
        pixels = apply_augmentation(self.pixels, where, augmentations, self.side, self.recipe.cutout)
        return Batch(pixels, self.labels[where], where, torch.from_numpy(views), repeated)

    def shown(self, places: Ints, view: int) -> Tensor:
        """Return some images (B, C, H, W), uint8, in one of the views."""
        assert self.views is not None
        views = np.full(len(places), view)
        return self._batch(places, self.views.take((views, places)), views, 0).pixels


def fits_in_memory(images: ImageSet, recipe: Recipe) -> bool:
    """Whether images are held in memory and augmented in batches: they are not too many, and the augmentation is made for that."""
    height, width, channels = images.shape
    small = len(images.labels) * height * width * channels <= IN_MEMORY
    return small and recipe.augment != "resized" and not recipe.aa and not recipe.reprob
