"""Images that are read, decoded and augmented one by one, by processes of their own."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from diswot.config.training import Recipe
from diswot.devices import cpu_count
from diswot.errors import ConfigError, brief_repr, first_line
from diswot.training.augment import PADDING, cut_out
from diswot.training.batches import Batch, BatchRequirements, TrainingSet, epoch_batches
from diswot.training.distributed import DistributedContext

Seed = tuple[int, ...]


class DecodingLoader:
    """Images that are read, decoded and augmented one by one, by processes of their own: timm's transforms, torch's loader, timm's
    prefetching onto the device. What an image looks like depends on the seed, the epoch and its position, not on the process that
    decodes it."""

    def __init__(
        self, source: TrainingSet, recipe: Recipe, device: str, distributed: DistributedContext, needs: BatchRequirements, workers: int
    ) -> None:
        from timm.data.loader import PrefetchLoader, fast_collate
        from timm.data.random_erasing import RandomErasing

        self.recipe, self.distributed, self.needs, self.num_classes = recipe, distributed, needs, source.num_classes
        self.labels = torch.from_numpy(source.labels)
        self._order = _Planned()
        side, _, channels = source.images.shape
        dataset = _Samples(source, training_transform(side, recipe), _min_side(side, recipe))
        loader: Any = DataLoader(
            dataset,  # type: ignore[arg-type]  # its items are asked for by number and seed
            batch_sampler=self._order,
            num_workers=min(workers, cpu_count()),  # more would wait for each other, and torch warns of it
            collate_fn=fast_collate,
            persistent_workers=workers > 0,
            pin_memory=device.startswith("cuda"),
        )
        plain = {"mean": (0.0,) * channels, "std": (1.0,) * channels, "channels": channels}
        self._loader = PrefetchLoader(loader, device=torch.device(device), **plain)
        self._erase = RandomErasing(recipe.reprob, mode="const", device=device) if recipe.reprob else None

    def epoch(self, number: int) -> Iterator[Batch]:
        _, steps = epoch_batches(len(self.labels), self.recipe, number, self.needs)
        parts = [self.distributed.shard(len(indices), self.needs.repeat_half) for indices, _ in steps]
        seeds = [[(self.recipe.seed, number, step, int(i)) for i in part] for step, part in enumerate(parts)]
        self._order.batches = [
            [(int(indices[i]), seed) for i, seed in zip(part, own, strict=True)]
            for (indices, _), part, own in zip(steps, parts, seeds, strict=True)
        ]
        for (pixels, target), (indices, repeated), part, own in zip(self._loader, steps, parts, seeds, strict=True):
            no_views = torch.zeros(len(part), dtype=torch.int64)
            yield Batch(self._black_out(pixels, own), target, torch.from_numpy(indices[part]), no_views, repeated)

    def _black_out(self, pixels: Tensor, seeds: Sequence[Seed]) -> Tensor:
        """Black out a square of each image (`cut_out`), and a random rectangle of some (Zhong et al. 2020, random erasing)."""
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
    """Gives torch's loader the batches of the coming epoch."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []

    def __iter__(self) -> Iterator[list[Any]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Samples:
    """Gives torch's loader an image and its label, by index and seed."""

    def __init__(self, source: TrainingSet, transform: Callable[[Any], Any], min_side: int) -> None:
        self.source, self.transform, self.min_side = source, transform, min_side

    def __len__(self) -> int:
        return len(self.source.chosen)

    def __getitem__(self, key: tuple[int, Sequence[int]]) -> tuple[Any, int]:
        index, seed = key
        with _drawing_from(seed):
            image = self.source.images.open(int(self.source.chosen[index]), self.min_side)
            return self.transform(image), int(self.source.labels[index])


@contextlib.contextmanager
def _drawing_from(seed: Sequence[int]) -> Iterator[None]:
    """Inside, the global generators, from which timm and torchvision draw, are seeded; afterwards they are as before."""
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


def _min_side(side: int, recipe: Recipe) -> int:
    """The shortest side that an image decoded at a reduced size may have. The sides of a random crop, 8 % of the area or more, are a
    quarter of the image's or more, and no crop is to be enlarged that would not have been."""
    return (4 if recipe.augment == "resized" else 2) * side


def training_transform(side: int, recipe: Recipe) -> Callable[[Any], Any]:
    """The function from a PIL image to a uint8 array (C, H, W) that the recipe's augmentation is.

    Raises:
        ConfigError: a policy of automatic augmentation that timm does not know.
    """
    from timm.data.transforms import ToNumpy
    from timm.data.transforms_factory import create_transform
    from torchvision import transforms

    policy = recipe.aa or None
    options: Any = {"is_training": True, "use_prefetcher": True, "auto_augment": policy, "color_jitter": None, "interpolation": "random"}
    try:
        resized, automatic, _ = create_transform(side, **options, separate=True)
    except (AssertionError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ConfigError(f"--aa {brief_repr(policy)}: timm does not know it ({first_line(error, 80)}); rand-m7-mstd0.5 is one") from None
    if recipe.augment == "resized":
        return transforms.Compose([resized, automatic, ToNumpy()])
    steps: list[Any] = [transforms.Resize(side, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(side)]
    steps += [transforms.RandomCrop(side, PADDING)] if recipe.augment == "crop" else []
    steps += [transforms.RandomHorizontalFlip()] if recipe.augment in ("crop", "flip") else []
    return transforms.Compose([*steps, automatic, ToNumpy()])
