"""`Feed`: the batches of every epoch, the same for a seed however often a training is stopped and on however many processes it runs."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from diswot.data.images import IN_MEMORY, ImageSet
from diswot.devices import cores
from diswot.errors import ConfigError, first_line, shown
from diswot.training.augment import PADDING, Views, cut_out, padded, show
from diswot.training.parallel import Parallel
from diswot.training.recipe import Recipe

Ints = NDArray[np.int64]
Seed = tuple[int, ...]
_CHUNK = 1000  # images decoded between two looks at the clock


@dataclass(frozen=True)
class Batch:
    """A step's images.

    Attributes:
        pixels: (B, C, H, W) uint8, or float in [0, 1].
        target: (B,) classes; -1 where there is no label.
        places: (B,) numbers of the images among those that train.
        mirrored: (B,) whether each is shown mirrored.
        repeated: how many of the first images the step before had too.
    """

    pixels: Tensor
    target: Tensor
    places: Tensor
    mirrored: Tensor
    repeated: int = 0

    def part(self, which: slice) -> Batch:
        """Some of the images."""
        return Batch(self.pixels[which], self.target[which], self.places[which], self.mirrored[which], self.repeated)


@dataclass(frozen=True)
class TrainingSet:
    """What trains: `chosen` tells which of the images, `labels` (len(chosen),) what they are taken for, -1 for nothing."""

    images: ImageSet
    chosen: Ints
    labels: Ints
    num_classes: int


class Feed(Protocol):
    """Batches for a training: `epoch(number)` gives those of this process, always the same."""

    num_classes: int

    def epoch(self, number: int) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class Steps:
    """What losses ask of the batches: `repeat_half`, that half of each is that of the step before; `least`, the fewest images in one."""

    repeat_half: bool = False
    least: int = 2


def plan(count: int, recipe: Recipe, epoch: int, steps: Steps) -> tuple[np.random.Generator, list[tuple[Ints, int]]]:
    """The order of an epoch: for each step the numbers of its images, and how many of them, the first ones, the step before had too.

    Args:
        count: images that train.
        steps: where half of each batch is that of the step before, an epoch takes half of the images, each twice; two epochs after
            each other take all. A last batch of fewer than the fewest images is left out.

    Returns:
        The generator, for what is then drawn, and the steps.

    >>> [len(batch) for batch, _ in plan(10, Recipe(batch=4), 0, Steps())[1]]
    [4, 4, 2]
    >>> halves = plan(16, Recipe(batch=4), 0, Steps(repeat_half=True))[1]
    >>> all((before[2:] == now[:2]).all() for (before, _), (now, _) in zip(halves, halves[1:]))
    True
    """
    rng = np.random.default_rng([recipe.seed, epoch])
    if not steps.repeat_half:
        order = rng.permutation(count).repeat(recipe.repeats)[:count]
        batches = [order[begin : begin + recipe.batch] for begin in range(0, len(order), recipe.batch)]
        if recipe.repeats > 1:  # or mixup, which mixes neighbours, would mix an image with itself
            batches = [rng.permutation(batch) for batch in batches]
        return rng, [(batch, 0) for batch in batches if len(batch) >= steps.least]
    both = np.random.default_rng([recipe.seed, epoch // 2, 1]).permutation(count)
    order = rng.permutation(both[epoch % 2 :: 2])
    half = max(recipe.batch // 2, 1)
    chunks = [order[begin : begin + half] for begin in range(0, len(order), half)]
    if len(chunks) > 1 and len(chunks[-1]) < half:
        chunks.pop()
    return rng, [(np.concatenate(pair), half if step else 0) for step, pair in enumerate(itertools.pairwise(chunks))]


class MemoryFeed:
    """Images held in memory, where the network is, and augmented there in batches.

    Args:
        device: where they are held.
        steps: see `plan`.
    """

    def __init__(self, source: TrainingSet, recipe: Recipe, device: str, parallel: Parallel, steps: Steps) -> None:
        self.recipe, self.parallel, self.steps, self.num_classes = recipe, parallel, steps, source.num_classes
        images, chosen = source.images, source.chosen
        self.side = images.shape[:2]
        chunks = [images.images(chosen[begin : begin + _CHUNK]) for begin in range(0, len(chosen), _CHUNK)]
        self.pixels = padded(torch.from_numpy(np.concatenate(chunks)).to(device), recipe)
        self.labels = torch.from_numpy(source.labels).to(device)

    def epoch(self, number: int) -> Iterator[Batch]:
        rng, steps = plan(len(self.labels), self.recipe, number, self.steps)
        for places, repeated in steps:
            views = Views.draw(len(places), self.side, self.recipe, rng)
            part = self.parallel.part(len(places), self.steps.repeat_half)
            yield self.batch(places[part], views.take(part), repeated)

    def batch(self, places: Ints, views: Views, repeated: int = 0) -> Batch:
        """Some images as these views show them."""
        where = torch.from_numpy(np.ascontiguousarray(places)).to(self.pixels.device)
        pixels = show(self.pixels, where, views, self.side, self.recipe.cutout)
        return Batch(pixels, self.labels[where], where, torch.from_numpy(views.mirrored), repeated)

    def plain(self, places: Ints, mirrored: bool) -> Tensor:
        """Some images without shifts, mirrored or not: (B, C, H, W) uint8."""
        still = np.zeros(len(places), np.int64)
        return self.batch(places, Views(still, still, np.full(len(places), mirrored), None)).pixels


class LoaderFeed:
    """Images that are read, decoded and augmented one by one, by processes of their own: timm's transforms, torch's loader, timm's
    prefetching onto the device. What an image looks like depends on the seed, the epoch and its place, not on who decodes it."""

    def __init__(self, source: TrainingSet, recipe: Recipe, device: str, parallel: Parallel, steps: Steps, workers: int) -> None:
        from timm.data.loader import PrefetchLoader, fast_collate
        from timm.data.random_erasing import RandomErasing

        self.recipe, self.parallel, self.steps, self.num_classes = recipe, parallel, steps, source.num_classes
        self.labels = torch.from_numpy(source.labels)
        self._order = _Planned()
        side, _, channels = source.images.shape
        dataset = _Samples(source, training_transform(side, recipe))
        loader: Any = DataLoader(
            dataset,  # type: ignore[arg-type]  # its items are asked for by number and seed
            batch_sampler=self._order,
            num_workers=min(workers, cores()),  # more would wait for each other, and torch warns of it
            collate_fn=fast_collate,
            persistent_workers=workers > 0,
            pin_memory=device.startswith("cuda"),
        )
        plain = {"mean": (0.0,) * channels, "std": (1.0,) * channels, "channels": channels}
        self._loader = PrefetchLoader(loader, device=torch.device(device), **plain)
        self._erase = RandomErasing(recipe.erase, mode="const", device=device) if recipe.erase else None

    def epoch(self, number: int) -> Iterator[Batch]:
        _, steps = plan(len(self.labels), self.recipe, number, self.steps)
        parts = [self.parallel.part(len(places), self.steps.repeat_half) for places, _ in steps]
        seeds = [[(self.recipe.seed, number, step, int(i)) for i in part] for step, part in enumerate(parts)]
        self._order.batches = [
            [(int(places[i]), seed) for i, seed in zip(part, own, strict=True)]
            for (places, _), part, own in zip(steps, parts, seeds, strict=True)
        ]
        for (pixels, target), (places, repeated), part, own in zip(self._loader, steps, parts, seeds, strict=True):
            still = torch.zeros(len(part), dtype=torch.bool)
            yield Batch(self._blackened(pixels, own), target, torch.from_numpy(places[part]), still, repeated)

    def _blackened(self, pixels: Tensor, seeds: Sequence[Seed]) -> Tensor:
        """Of each image a square (`cut_out`), and of some a random rectangle (Zhong et al. 2020, random erasing)."""
        if self.recipe.cutout:
            rngs = [np.random.default_rng([*seed, 1]) for seed in seeds]
            centres = np.array([rng.integers(pixels.shape[2:]) for rng in rngs]).T
            pixels = cut_out(pixels, centres, self.recipe.cutout)
        if self._erase is not None:
            for image, seed in zip(pixels, seeds, strict=True):
                with _drawing_from([*seed, 2]):
                    self._erase(image)
        return pixels


class _Planned(Sampler[Any]):
    """The batches of the epoch that comes."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []

    def __iter__(self) -> Iterator[list[Any]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Samples:
    """Image and label by number and seed."""

    def __init__(self, source: TrainingSet, transform: Callable[[Any], Any]) -> None:
        self.source, self.transform = source, transform

    def __len__(self) -> int:
        return len(self.source.chosen)

    def __getitem__(self, key: tuple[int, Sequence[int]]) -> tuple[Any, int]:
        place, seed = key
        with _drawing_from(seed):
            return self.transform(self.source.images.open(int(self.source.chosen[place]))), int(self.source.labels[place])


@contextlib.contextmanager
def _drawing_from(seed: Sequence[int]) -> Iterator[None]:
    """Inside, the global generators, from which timm and torchvision draw, begin at a seed; after it they are as before."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence(seed).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.default_generator.manual_seed(int(words[2]))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def training_transform(side: int, recipe: Recipe) -> Callable[[Any], Any]:
    """PIL image -> uint8 array (C, H, W), as the recipe augments; `ConfigError` for a policy that timm does not know."""
    from timm.data.transforms import ToNumpy
    from timm.data.transforms_factory import create_transform
    from torchvision import transforms

    policy = recipe.auto_augment or None
    options: Any = {"is_training": True, "use_prefetcher": True, "auto_augment": policy, "color_jitter": None, "interpolation": "random"}
    try:
        resized, automatic, _ = create_transform(side, **options, separate=True)
    except (AssertionError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ConfigError(
            f"--auto-augment {shown(policy)}: timm does not know it ({first_line(error, 80)}); rand-m7-mstd0.5 is one"
        ) from None
    if recipe.augment == "resized":
        return transforms.Compose([resized, automatic, ToNumpy()])
    steps: list[Any] = [transforms.Resize(side, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(side)]
    steps += [transforms.RandomCrop(side, PADDING)] if recipe.augment == "crop" else []
    steps += [transforms.RandomHorizontalFlip()] if recipe.augment in ("crop", "flip") else []
    return transforms.Compose([*steps, automatic, ToNumpy()])


def fits_in_memory(images: ImageSet, recipe: Recipe) -> bool:
    """Whether images are held in memory and augmented in batches: they are not too many, and the augmentation is made for that."""
    height, width, channels = images.shape
    small = len(images.labels) * height * width * channels <= IN_MEMORY
    return small and recipe.augment != "resized" and not recipe.auto_augment and not recipe.erase
