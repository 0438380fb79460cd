"""The batches of an epoch: which images they hold, how these are augmented and mixed, and what each process has of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from diswot.config.training import Recipe
from diswot.data.images import ArrayImages, JoinedImages
from diswot.training.augment import Augmentations, apply_augmentation, mix_batch, pad_images, to_float
from diswot.training.batches import BatchRequirements, epoch_batches, fits_in_memory
from diswot.training.distributed import DistributedContext
from tests.training.samples import images, memory_loader

FIRST, SECOND = DistributedContext(0, 2), DistributedContext(1, 2)

# augmentation


def test_augmentation_shifts_and_mirrors_whole_images() -> None:
    """Every result is the padded image, cut somewhere and perhaps mirrored; found by trying all 162 ways."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 256, (40, 6, 6, 3)).astype(np.uint8)
    source = ArrayImages(pixels, np.arange(40))
    seen = set()
    for batch in memory_loader(Recipe(batch_size=8, augment="crop"), source).epoch(0):
        for index, result in zip(batch.indices, batch.pixels, strict=True):
            ways = _ways(pixels[index], result)
            assert ways
            seen.add(ways[0])
    assert len(seen) > 25
    assert {way for _, _, way in seen} == {-1, 1}


def _ways(pixels: np.ndarray, shown: torch.Tensor) -> list[tuple[int, int, int]]:
    """The ways in which an image of 6 pixels may have come to be shown like this: the corner of the crop, and 1, or -1 if mirrored."""
    padding, found = np.pad(pixels, ((4, 4), (4, 4), (0, 0))), shown.permute(1, 2, 0).numpy()
    ways = itertools.product(range(9), range(9), (-1, 1))
    return [(y, x, way) for y, x, way in ways if (padding[y : y + 6, x : x + 6][:, ::way] == found).all()]


def test_crop_views_show_an_image_in_as_many_crops_drawn_once() -> None:
    """Over many epochs all of them are seen, each image has its own, and the loader shows each again by its number."""
    pixels = np.random.default_rng(0).integers(1, 256, (24, 6, 6, 3)).astype(np.uint8)
    loader = memory_loader(Recipe(batch_size=8, augment="crop", crop_views=5), ArrayImages(pixels, np.arange(24) % 4))
    seen: dict[tuple[int, int], tuple[int, int, int]] = {}
    for batch in itertools.chain.from_iterable(map(loader.epoch, range(40))):
        for index, view, result in zip(batch.indices.tolist(), batch.views.tolist(), batch.pixels, strict=True):
            (way,) = _ways(pixels[index], result)
            assert seen.setdefault((index, view), way) == way
            assert torch.equal(loader.shown(np.array([index]), view)[0], result)
    assert set(seen) == set(itertools.product(range(24), range(5)))
    assert len(set(seen.values())) > 60


def test_crop_views_are_those_of_the_seed_and_shared_by_processes() -> None:
    recipe = Recipe(batch_size=8, augment="crop", crop_views=3)
    whole, halves = memory_loader(recipe), [memory_loader(recipe, distributed=process) for process in (FIRST, SECOND)]
    for one, *parts in zip(whole.epoch(1), *(half.epoch(1) for half in halves), strict=True):
        places = torch.cat([part.indices for part in parts]).argsort(), one.indices.argsort()
        assert torch.equal(torch.cat([part.pixels for part in parts])[places[0]], one.pixels[places[1]])


@pytest.mark.parametrize(("augment", "most"), [("none", 1), ("flip", 2)])
def test_other_augmentations_show_an_image_in_one_way_or_two(augment: str, most: int) -> None:
    source = images(40)
    ways: set[bool] = set()
    for batch in memory_loader(Recipe(batch_size=8, augment=augment), source).epoch(0):  # type: ignore[arg-type]
        for index, result, mirrored in zip(batch.indices, batch.pixels, batch.views, strict=True):
            expected = source.array[index][:, :: -1 if mirrored else 1]
            assert (result.permute(1, 2, 0).numpy() == expected).all()
            ways.add(bool(mirrored))
    assert len(ways) == most


def test_padding_is_black_and_there_for_crops_alone() -> None:
    ones = torch.ones(1, 2, 2, 3, dtype=torch.uint8)
    padded = pad_images(ones, Recipe(augment="crop"))
    assert padded.shape == (1, 10, 10, 3) and int(padded.sum()) == 12
    assert torch.equal(padded[:, 4:6, 4:6], ones)
    assert pad_images(ones, Recipe(augment="flip")) is ones


def test_cutout_blacks_out_a_square() -> None:
    pixels = torch.full((6, 9, 9, 3), 7, dtype=torch.uint8)
    still = np.zeros(6, np.int64)
    centre = np.array([[4, 0, 8, 4, 0, 2], [4, 0, 8, 0, 8, 6]])
    result = apply_augmentation(pixels, torch.arange(6), Augmentations(still, still, np.zeros(6, bool), centre), (9, 9), cutout=4)
    for image, y, x in zip(result, *centre, strict=True):
        expected = np.full((9, 9), 7)
        expected[max(y - 2, 0) : y + 2, max(x - 2, 0) : x + 2] = 0
        assert (image.numpy() == expected).all()


def test_the_same_is_drawn_whatever_is_then_used_of_it() -> None:
    """The augmentations of two processes are those of one, cut in two."""
    recipe = Recipe(augment="crop", cutout=3)
    whole = Augmentations.draw(10, (8, 8), recipe, np.random.default_rng(0))
    part = Augmentations.draw(10, (8, 8), recipe, np.random.default_rng(0)).take(np.arange(3, 7))
    assert whole.hole is not None and part.hole is not None
    for ours, theirs in ((part.top, whole.top), (part.left, whole.left), (part.mirrored, whole.mirrored)):
        assert (ours == theirs[3:7]).all()
    assert (part.hole == whole.hole[:, 3:7]).all()


@pytest.mark.parametrize("way", ["mixup", "cutmix"])
def test_mixing_mixes_labels_as_it_mixes_pixels(way: str) -> None:
    """Of images of one colour each, the mean colour tells the shares."""
    values = torch.arange(8, dtype=torch.uint8) * 30
    pixels = values[:, None, None, None].expand(8, 3, 16, 16)
    torch.manual_seed(3)
    mixed, shares = mix_batch(pixels, torch.arange(8), 8, Recipe(**{way: 1.0}))  # type: ignore[arg-type]
    torch.testing.assert_close(shares.sum(1), torch.ones(8))
    torch.testing.assert_close(mixed.mean((1, 2, 3)), shares @ (values.float() / 255))
    assert 0 < shares.diagonal()[0] < 1


def test_of_mixup_and_cutmix_one_is_chosen_at_random() -> None:
    """CutMix leaves every pixel as it is in one of two images; mixup leaves hardly any."""
    pixels = torch.arange(8, dtype=torch.uint8)[:, None, None, None].expand(8, 3, 16, 16) * 30
    plain = set(to_float(pixels).unique().tolist())
    ways = set()
    for seed in range(20):
        torch.manual_seed(seed)
        mixed, _ = mix_batch(pixels, torch.arange(8), 8, Recipe(mixup=1.0, cutmix=1.0))
        ways.add(set(mixed.unique().tolist()) <= plain)
    assert ways == {True, False}


def test_an_image_without_a_label_can_be_mixed() -> None:
    torch.manual_seed(0)
    _, shares = mix_batch(torch.zeros(4, 3, 4, 4, dtype=torch.uint8), torch.tensor([2, -1, 1, -1]), 3, Recipe(mixup=1.0))
    torch.testing.assert_close(shares.sum(1), torch.ones(4))


# the order of an epoch


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own() -> None:
    source = ArrayImages(np.arange(50, dtype=np.uint8).repeat(12).reshape(50, 2, 2, 3), np.arange(50))
    loader = memory_loader(Recipe(batch_size=8, augment="none"), source)
    orders = [[int(y) for batch in loader.epoch(epoch) for y in batch.target] for epoch in (0, 1, 0)]
    assert sorted(orders[0]) == list(range(50))
    assert orders[0] == orders[2] != orders[1]
    for batch in loader.epoch(0):
        assert (batch.pixels[:, 0, 0, 0] == batch.target).all() and torch.equal(batch.indices, batch.target)


def test_another_seed_has_another_order() -> None:
    def order(seed: int) -> list[int]:
        return [int(i) for indices, _ in epoch_batches(50, Recipe(seed=seed), 0, BatchRequirements())[1] for i in indices]

    assert order(0) == order(0) != order(1)


def test_a_last_batch_that_is_too_small_is_left_out() -> None:
    assert [len(indices) for indices, _ in epoch_batches(50, Recipe(batch_size=7), 0, BatchRequirements())[1]] == [7] * 7
    assert [len(indices) for indices, _ in epoch_batches(50, Recipe(batch_size=16), 0, BatchRequirements(min_size=3))[1]] == [16] * 3


def test_half_of_each_batch_repeats_and_exposure_is_as_ever() -> None:
    """The first half of a batch is the second of the one before; over two epochs every image is shown twice, as in two plain ones."""
    shown: list[int] = []
    for epoch in range(2):
        _, steps = epoch_batches(64, Recipe(batch_size=8), epoch, BatchRequirements(repeat_half=True))
        assert steps[0][1] == 0 and all(repeated == 4 for _, repeated in steps[1:])
        for (before, _), (now, _) in itertools.pairwise(steps):
            assert (now[:4] == before[4:]).all()
        shown += [int(index) for indices, _ in steps for index in indices]
    assert set(shown) == set(range(64))
    assert 2 * 64 - 2 * 8 <= len(shown) <= 2 * 64


def test_repeated_augmentation_keeps_the_epoch_as_long() -> None:
    _, steps = epoch_batches(60, Recipe(batch_size=12, aug_repeats=3), 0, BatchRequirements())
    assert sum(len(indices) for indices, _ in steps) == 60 and len({int(i) for indices, _ in steps for i in indices}) == 20
    for indices, _ in steps:
        assert set(np.unique(indices, return_counts=True)[1]) == {3}
        assert (indices != np.roll(indices, 1)).mean() > 0.5, "mixup mixes neighbours"


def test_a_part_of_a_batch_is_that_of_all_its_fields() -> None:
    batch = next(iter(memory_loader(Recipe(batch_size=8, augment="flip")).epoch(0)))
    part = batch.part(slice(2, 5))
    for name in ("pixels", "target", "indices", "views"):
        assert torch.equal(getattr(part, name), getattr(batch, name)[2:5]), name


# processes


@pytest.mark.parametrize("options", [{"augment": "crop", "cutout": 3}, {"augment": "flip"}])
@pytest.mark.parametrize("halves", [False, True])
def test_two_processes_see_what_one_does(options: dict[str, object], halves: bool) -> None:
    """Each its part of every batch, or, where half of it repeats, of each half."""
    recipe, needs = Recipe(batch_size=8, **options), BatchRequirements(repeat_half=halves)  # type: ignore[arg-type]
    epochs = [list(memory_loader(recipe, images(32), needs, context).epoch(1)) for context in (DistributedContext(), FIRST, SECOND)]
    assert [len(steps) for steps in epochs] == [3 if halves else 4] * 3
    for whole, first, second in zip(*epochs, strict=True):
        both = [torch.cat([getattr(first, name), getattr(second, name)]) for name in ("pixels", "target", "indices")]
        order = torch.tensor([0, 1, 4, 5, 2, 3, 6, 7]) if halves else torch.arange(8)
        for ours, name in zip(both, ("pixels", "target", "indices"), strict=True):
            assert torch.equal(ours, getattr(whole, name)[order])
        assert first.repeated == second.repeated == whole.repeated


def test_processes_have_equally_many_images_and_a_remainder_is_nobodys() -> None:
    parts = [DistributedContext(rank, 3).shard(11).tolist() for rank in range(3)]
    assert parts == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert DistributedContext(0, 1).shard(11).tolist() == list(range(11))


# what holds images


def test_joined_sets_are_one() -> None:
    first, second = images(6), images(10)
    joined = JoinedImages([first, second])
    indices = np.array([0, 7, 5, 15])
    assert (joined.images(indices) == np.concatenate([first.array, second.array])[indices]).all()
    assert (np.asarray(joined.open(7)) == second.array[1]).all() and len(joined.labels) == 16


@pytest.mark.parametrize(
    ("options", "fits"),
    [
        ({"augment": "crop"}, True),
        ({"augment": "none"}, True),
        ({"augment": "resized"}, False),
        ({"aa": "rand-m7"}, False),
        ({"reprob": 0.1}, False),
    ],
)
def test_augmentations_of_single_images_are_not_made_in_memory(options: dict[str, object], fits: bool) -> None:
    assert fits_in_memory(images(), Recipe(**options)) is fits  # type: ignore[arg-type]


def test_images_that_are_too_many_are_not_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diswot.training.batches.IN_MEMORY", 48 * 8 * 8 * 3)
    assert fits_in_memory(images(48), Recipe(augment="crop"))
    assert not fits_in_memory(images(49), Recipe(augment="crop"))
