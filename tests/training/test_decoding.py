"""Images that are decoded one by one: the same whoever decodes them, on however many processes, and the augmentation that was asked for."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from diswot.config.training import Recipe
from diswot.data.images import ArrayImages
from diswot.errors import ConfigError
from diswot.training.batches import BatchRequirements
from diswot.training.decoding import DecodingLoader, training_transform
from diswot.training.distributed import DistributedContext
from tests.training.samples import ONE, images, training_set

AUGMENTED = [{"augment": "crop"}, {"augment": "resized", "cutout": 4}, {"augment": "crop", "aa": "rand-m7-mstd0.5", "reprob": 0.5}]


def decoding_loader(recipe: Recipe, source: ArrayImages, distributed: DistributedContext = ONE, workers: int = 0) -> DecodingLoader:
    return DecodingLoader(training_set(source), recipe, "cpu", distributed, BatchRequirements(), workers)


@pytest.mark.parametrize("options", AUGMENTED)
def test_the_loader_gives_the_same_whoever_decodes(options: dict[str, Any]) -> None:
    source, recipe = images(20, 16), Recipe(batch_size=8, **options)

    def batches(workers: int, epoch: int) -> list[tuple[Tensor, Tensor]]:
        return [(batch.pixels, batch.target) for batch in decoding_loader(recipe, source, workers=workers).epoch(epoch)]

    alone, helped, other = batches(0, 1), batches(2, 1), batches(0, 2)
    assert [len(target) for _, target in alone] == [8, 8, 4]
    for (pixels, target), (theirs, labels) in zip(alone, helped, strict=True):
        assert torch.equal(pixels, theirs) and torch.equal(target, labels)
        assert pixels.shape[1:] == (3, 16, 16)
        assert pixels.min() >= 0 and pixels.max() <= 1
    assert not torch.equal(alone[0][0], other[0][0])


@pytest.mark.parametrize("options", AUGMENTED)
def test_two_processes_load_what_one_does(options: dict[str, Any]) -> None:
    recipe = Recipe(batch_size=8, **options)

    def pixels(distributed: DistributedContext) -> list[Tensor]:
        return [batch.pixels for batch in decoding_loader(recipe, images(16, 16), distributed).epoch(1)]

    for whole, first, second in zip(pixels(ONE), pixels(DistributedContext(0, 2)), pixels(DistributedContext(1, 2)), strict=True):
        assert torch.equal(whole, torch.cat([first, second]))


def test_without_augmentation_images_are_what_they_are() -> None:
    """In the order of the epoch, each with its own index and label."""
    source = images(16, 16)
    for batch in decoding_loader(Recipe(batch_size=8, augment="none"), source).epoch(0):
        expected = torch.from_numpy(source.array[batch.indices]).permute(0, 3, 1, 2) / 255
        torch.testing.assert_close(batch.pixels, expected)
        assert (batch.target.numpy() == source.labels[batch.indices]).all()
        assert not batch.views.any() and batch.repeated == 0


def test_loading_leaves_the_global_generators_alone() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    recipe = Recipe(batch_size=8, augment="crop", aa="rand-m7-mstd0.5", reprob=0.5, cutout=2)
    loader = iter(decoding_loader(recipe, images(16, 16)).epoch(0))
    assert len(list(loader)) == 2
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index, union-attr]


def test_cutout_blacks_out_loaded_images_too() -> None:
    source = ArrayImages(np.full((8, 16, 16, 3), 255, np.uint8), np.arange(8) % 4)
    recipe = Recipe(batch_size=8, augment="flip", cutout=4, reprob=1e-9)  # which has them loaded one by one
    (batch,) = decoding_loader(recipe, source).epoch(0)
    black = (batch.pixels == 0).flatten(1).sum(1) // 3
    assert ((black > 0) & (black <= 16)).all() and black.max() == 16
    assert len({tuple(image.flatten().tolist()) for image in batch.pixels == 0}) > 5, "each image has its own"


def test_random_erasing_blacks_out_a_rectangle_of_some_images() -> None:
    source = ArrayImages(np.full((32, 16, 16, 3), 255, np.uint8), np.arange(32) % 4)
    for reprob, erased in ((0.5, range(5, 28)), (1.0, [32])):
        (batch,) = decoding_loader(Recipe(batch_size=32, augment="none", reprob=reprob), source).epoch(0)
        touched = [image for image in batch.pixels if (image == 0).any()]
        assert len(touched) in erased
        for image in touched:
            black = (image == 0).all(0)
            rows, columns = black.any(1).nonzero(), black.any(0).nonzero()
            assert black[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all(), "a rectangle"
        assert len({tuple(image.flatten().tolist()) for image in touched}) > len(touched) - 3, "each its own"


def test_a_policy_comes_after_the_crop_that_was_asked_for() -> None:
    """RandAugment with the shifts of CIFAR's recipe: pixels are moved or changed in colour, never enlarged."""
    transform: Any = training_transform(32, Recipe(augment="crop", aa="rand-m7-mstd0.5"))
    names = [type(step).__name__ for step in transform.transforms]
    assert "RandomCrop" in names and "RandAugment" in str(transform) and "RandomResizedCrop" not in str(transform)
    assert "RandomResizedCrop" in str(training_transform(32, Recipe(augment="resized", aa="rand-m7-mstd0.5")))
    with pytest.raises(ConfigError, match=r"--aa 'foo': timm does not know it .*rand-m7-mstd0.5 is one"):
        training_transform(32, Recipe(aa="foo"))


@pytest.mark.parametrize("augment", ["resized", "crop"])
def test_photographs_are_decoded_as_small_as_their_crops_allow(augment: str) -> None:
    asked = set()

    class Recorder(ArrayImages):
        def open(self, index: int, min_side: int | None = None) -> Any:
            asked.add(min_side)
            return super().open(index, min_side)

    source = images(16, 16)
    list(decoding_loader(Recipe(batch_size=8, augment=augment), Recorder(source.array, source.labels)).epoch(0))
    (min_side,) = asked
    assert min_side is not None and min_side >= 16
    if augment == "resized":
        crop = training_transform(16, Recipe(augment=augment)).transforms[0].transforms[0]  # type: ignore[attr-defined]
        whole = Image.new("RGB", (min_side, min_side))
        sides = [crop.get_params(whole, crop.scale, crop.ratio)[2:] for _ in range(300)]
        assert np.min(sides) >= 15 and np.min(sides) < 24
