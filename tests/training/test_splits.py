"""Which images train and which measure, label noise, and the batches that can be had of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diswot.config import Recipe, TrainConfig
from diswot.errors import ConfigError, DataError
from diswot.losses import NO_LABEL, create
from diswot.training.batches import MemoryLoader
from diswot.training.decoding import DecodingLoader
from diswot.training.distributed import DistributedContext
from diswot.training.splits import DataSplits, add_label_noise, load_splits, split_indices
from tests.training.samples import ONE


def test_label_noise_is_a_seeded_share_of_wrong_labels() -> None:
    labels = np.arange(2000) % 10
    noisy = add_label_noise(labels, 0.4, 10, seed=1)
    wrong = noisy != labels
    assert wrong.sum() == 800 and noisy.min() == 0 and noisy.max() == 9
    assert (add_label_noise(labels, 0.4, 10, seed=1) == noisy).all() and (add_label_noise(labels, 0.4, 10, seed=2) != noisy).any()
    steps = (noisy - labels)[wrong] % 10
    assert np.bincount(steps, minlength=10)[1:].min() > 50, "any other class"


def test_held_out_images_do_not_train() -> None:
    train, kept = split_indices(100, 60, 0.25, 3)
    assert len(train) == 45 and len(kept) == 15 and not set(train) & set(kept)
    assert [a.tolist() for a in split_indices(100, 60, 0.25, 3)] == [train.tolist(), kept.tolist()]
    assert split_indices(100, 60, 0.25, 4)[0].tolist() != train.tolist()


def splits_of(small_npz: Path, **options: Any) -> DataSplits:
    return load_splits(TrainConfig(data=str(small_npz), **{"batch_size": 16, **options}))


def test_all_training_images_train_where_there_are_test_images(small_npz: Path) -> None:
    splits = splits_of(small_npz)
    assert splits.chosen.tolist() == list(range(80)) and splits.measured_on == "test"
    assert {name: len(images.labels) for name, images in splits.tests.items()} == {"test": 40}


def test_results_are_reported_on_the_test_images_although_some_are_held_out(small_npz: Path) -> None:
    splits = splits_of(small_npz, val_fraction=0.25)
    assert len(splits.chosen) == 60 and splits.measured_on == "test"
    assert {name: len(images.labels) for name, images in splits.tests.items()} == {"validation": 20, "test": 40}
    held = sorted(set(range(80)) - set(splits.chosen.tolist()))
    assert (splits.tests["validation"].images(np.arange(20)) == splits.data.train.images(np.array(held))).all()


def test_a_tenth_is_held_out_where_there_are_no_test_images(small_npz: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(small_npz))
    np.savez(tmp_path / "train.npz", x_train=arrays["x_train"], y_train=arrays["y_train"])
    splits = splits_of(tmp_path / "train.npz")
    assert len(splits.chosen) == 72 and splits.measured_on == "validation" and list(splits.tests) == ["validation"]
    with pytest.raises(ConfigError, match="no test images and --val-fraction is 0: nothing is left to measure on"):
        splits_of(tmp_path / "train.npz", val_fraction=0.0)


def test_normalisation_is_by_the_labelled_images_that_train(small_npz: Path, tmp_path: Path) -> None:
    """Not by those held out, nor by those without a label."""
    np.savez(tmp_path / "more.npz", x_train=np.zeros((50, 16, 16, 3), np.uint8))
    config = TrainConfig(data=str(small_npz), batch_size=16, val_fraction=0.25)
    splits = load_splits(config, str(tmp_path / "more.npz"))
    assert len(splits.labels) == 110 and (splits.labels[60:] == NO_LABEL).all() and (splits.labels[:60] >= 0).all()
    labelled = splits.labelled()
    assert labelled.chosen.tolist() == splits.chosen[:60].tolist() and (labelled.labels >= 0).all()
    pixels = splits.data.train.images(splits.chosen[:60]) / 255
    for found in (splits.normalise, labelled.normalise):
        torch.testing.assert_close(found.mean, torch.from_numpy(pixels.mean((0, 1, 2))).float(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.std, torch.from_numpy(pixels.std((0, 1, 2))).float(), rtol=1e-3, atol=1e-4)


def test_the_digest_tells_images_apart(small_npz: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(small_npz))
    arrays["x_test"][0, 0, 0, 0] ^= 1
    np.savez(tmp_path / "other.npz", **arrays)
    digests = [splits_of(path).digest for path in (small_npz, small_npz, tmp_path / "other.npz")]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limit": 10}, "--limit 10: fewer than the batch of 16; use more, or a smaller --batch-size"),
        ({"batch_size": 81}, "80 training images, fewer than the batch: write --batch-size 80 or less"),
        ({"val_fraction": 0.99}, "1 training images, fewer than the batch: hold fewer of them out"),
    ],
)
def test_too_few_images_for_a_batch_are_refused(small_npz: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises((ConfigError, DataError), match=says):
        splits_of(small_npz, **options)


def test_there_is_nothing_to_learn_in_noise() -> None:
    with pytest.raises(DataError, match="--data noise: there is nothing to learn in it; use synthetic, or real images"):
        load_splits(TrainConfig(data="noise"))


def loader_of(splits: DataSplits, loss: str, distributed: DistributedContext = ONE, **options: Any) -> MemoryLoader | DecodingLoader:
    recipe = Recipe(**{"batch_size": 16, "augment": "crop", **options})
    loader = splits.batch_loader(recipe, "cpu", distributed, [create(loss)], 0)
    assert isinstance(loader, MemoryLoader | DecodingLoader)
    return loader


def test_batches_are_those_that_the_loss_asks_for(small_npz: Path) -> None:
    splits = splits_of(small_npz)
    assert (loader_of(splits, "kd").needs.repeat_half, loader_of(splits, "dlb").needs.repeat_half) == (False, True)
    assert [loader_of(splits, loss).needs.min_size for loss in ("kd", "rkd", "fitnets")] == [2, 3, 2]
    assert loader_of(splits, "rkd", DistributedContext(0, 2), grad_accum_steps=2).needs.min_size == 12
    assert isinstance(loader_of(splits, "kd"), MemoryLoader)
    assert isinstance(loader_of(splits, "kd", augment="resized"), DecodingLoader)


@pytest.mark.parametrize(
    ("loss", "world_size", "options", "says"),
    [
        ("rkd", 1, {"batch_size": 2}, "--batch-size 2: the loss rkd needs 3 images at least: 3$"),
        ("rkd", 2, {"batch_size": 4}, "--batch-size 4: the loss rkd needs 3 images at least, in every part of it: 6$"),
        ("kd", 1, {"batch_size": 4, "grad_accum_steps": 3}, "--batch-size 4: the loss kd needs 1 images at least, in every part of it: 6$"),
        ("dlb", 1, {"batch_size": 64}, "--batch-size 64: too large for 80 images, of which an epoch shows half twice"),
    ],
)
def test_batches_that_the_loss_cannot_be_computed_on_are_refused(
    small_npz: Path, loss: str, world_size: int, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        loader_of(splits_of(small_npz), loss, DistributedContext(0, world_size), **options)
