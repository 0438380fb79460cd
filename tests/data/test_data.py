"""Images: generated ones, files, folders and arrays; what they are normalised by, and what is refused."""

from __future__ import annotations

import hashlib
import pickle
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diswot.data import images as data_images
from diswot.data import load_data, proxy_batches, sources
from diswot.data.images import ArrayImages, DecodedImages, channel_statistics, fit_square, to_rgb
from diswot.data.sources import Indexed
from diswot.data.synthetic import dead_leaves
from diswot.errors import DataError


@pytest.mark.parametrize("channels", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_mean_and_deviation_are_those_of_all_pixels(channels: int) -> None:
    """So many that a sum in single precision would stop growing."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(100, 256, (700, 224, 224, channels), dtype=np.uint8)
    mean, std = channel_statistics(ArrayImages(pixels, np.zeros(700, np.int64)), np.arange(700))
    assert mean == pytest.approx(pixels.mean((0, 1, 2), dtype=np.float64) / 255, rel=1e-6)
    assert std == pytest.approx([pixels[..., channel].std(dtype=np.float64) / 255 for channel in range(channels)], rel=1e-6)


@pytest.mark.slow
def test_synthetic_images_have_the_spectrum_of_photographs() -> None:
    """Power falls as 1 / f^a with a near 2: Field 1987 and many after him."""
    images = dead_leaves(np.arange(200), 64, np.random.default_rng(0)).mean(3) / 255
    power = (np.abs(np.fft.fft2(images - images.mean((1, 2), keepdims=True))) ** 2).mean(0)
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(64) * 64] * 2))
    rings = [(r, power[(frequency >= r - 0.5) & (frequency < r + 0.5)].mean()) for r in range(2, 20)]
    slope = np.polyfit(np.log([r for r, _ in rings]), np.log([p for _, p in rings]), 1)[0]
    assert -2.6 < slope < -1.4


def test_synthetic_images_are_the_same_however_they_are_reached() -> None:
    a, b = (load_data("synthetic", num_classes=10, seed=3).train for _ in range(2))
    order = np.array([700, 3, 64, 3])
    assert np.array_equal(a.images(order), np.stack([b.images(np.array([i]))[0] for i in order]))
    other = load_data("synthetic", num_classes=10, seed=4).train
    assert not np.array_equal(a.images(order), other.images(order))


def test_synthetic_classes_differ_and_are_balanced() -> None:
    data = load_data("synthetic", num_classes=10)
    assert set(np.bincount(data.train.labels)) == {500}
    colours = [data.train.images(np.flatnonzero(data.train.labels == c)[:40]).mean((0, 1, 2)) for c in range(10)]
    distances = [np.abs(a - b).max() for i, a in enumerate(colours) for b in colours[:i]]
    assert np.median(distances) > 15


def test_proxy_batches_are_normalised_and_depend_on_the_seed_alone() -> None:
    data = load_data("synthetic", num_classes=10, input_size=8)
    a, b = proxy_batches(data, 64, [0, 1])
    (again,) = proxy_batches(load_data("synthetic", num_classes=10, input_size=8), 64, [1])
    assert torch.equal(b.images, again.images) and torch.equal(b.target, again.target)
    assert not torch.equal(a.images, b.images)
    assert a.images.mean().abs() < 0.15 and abs(a.images.std() - 1) < 0.15
    assert a.images.is_contiguous(memory_format=torch.channels_last)


def test_noise_is_white_and_gaussian() -> None:
    (batch,) = proxy_batches(load_data("noise", num_classes=10), 64, [0])
    assert abs(batch.images.mean()) < 0.02 and abs(batch.images.std() - 1) < 0.02
    neighbours = np.corrcoef(batch.images[..., 1:].flatten(), batch.images[..., :-1].flatten())[0, 1]
    assert abs(neighbours) < 0.02


def test_npz_reads_back(small_npz: Path) -> None:
    data = load_data(str(small_npz))
    assert (data.num_classes, data.input_size, data.in_chans) == (4, 16, 3)
    assert len(data.train.labels) == 80 and data.test is not None and len(data.test.labels) == 40
    with np.load(small_npz) as raw:
        assert np.array_equal(data.train.images(np.array([7, 0])), raw["x_train"][[7, 0]])
        expected = (raw["x_train"] / 255).mean((0, 1, 2))
    np.testing.assert_allclose(data.statistics[0], expected, rtol=1e-4)


def images(n: int = 8, side: int = 8, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, channels)).astype(np.uint8)


GOOD = {"x_train": images(), "y_train": np.arange(8) % 2}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"y_train": np.zeros(8, int)}, "1 class"),
        ({"y_train": np.arange(7) % 2}, "8 images but 7 labels"),
        ({"y_train": np.arange(8) / 2}, "whole numbers"),
        ({"y_train": np.arange(8) - 1}, "labels run from -1 to 6"),
        ({"x_train": images().astype(np.float32)}, "float32"),
        ({"x_train": images()[:, :, :4]}, "side, side"),
        ({"x_train": images()[0]}, "side, side|8 labels"),
        ({"y_train": None}, "x_train and y_train are needed"),
        ({"x_test": images(), "y_test": np.full(8, 5)}, "labels|1 class"),
        ({"x_test": images(), "y_test": np.array([0, 5] * 4)}, "0 to 1"),
        ({"x_test": images(side=4), "y_test": np.arange(8) % 2}, "test images are"),
        ({"classes": np.array(["a"])}, "1 class names for 2"),
    ],
)
def test_faults_of_an_npz_are_named(tmp_path: Path, change: dict, says: str) -> None:
    arrays = {k: v for k, v in {**GOOD, **change}.items() if v is not None}
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError, match=says) as caught:
        load_data(str(tmp_path / "d.npz"))
    assert "d.npz" in str(caught.value)


def test_objects_in_an_npz_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x_train=np.array([{"a": 1}], dtype=object), y_train=np.arange(1))
    with pytest.raises(DataError, match="plain arrays"):
        load_data(str(tmp_path / "d.npz"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello", pickle.dumps([1])])
def test_what_is_no_npz_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"d\.npz"):
        load_data(str(tmp_path / "d.npz"))


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x_train=images()[..., 0], y_train=np.arange(8) % 2)
    assert load_data(str(tmp_path / "d.npz")).in_chans == 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, count in (("train", 5), ("val", 3)):
        for label, name in enumerate(("cat", "dog")):
            for i in range(count):
                path = tmp_path / "pets" / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((20, 30, 3), 100 * label + i, np.uint8)).save(path)
    return tmp_path / "pets"


def test_a_folder_of_class_folders(folder: Path) -> None:
    data = load_data(str(folder), input_size=16)
    assert data.class_names == ["cat", "dog"] and data.train.shape == (16, 16, 3)
    assert data.test is not None and len(data.test.labels) == 6
    assert data.train.images(np.array([0, 7]))[:, 0, 0, 0].tolist() == [0, 102]


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Three classes of JPEGs of a megapixel and more, one of them turned by its EXIF data."""
    for label in range(3):
        (tmp_path / "photos" / f"c{label}").mkdir(parents=True)
        smooth = np.random.default_rng(label).integers(0, 256, (9, 12, 3)).astype(np.uint8)
        for i in range(4):
            image = Image.fromarray(smooth[:, i : i + 8]).resize((1600, 1200), Image.Resampling.BICUBIC)
            exif = image.getexif()
            exif[0x0112] = 6 if label == 2 else 1
            image.save(tmp_path / "photos" / f"c{label}" / f"{i}.jpg", exif=exif, quality=95)
    return tmp_path / "photos"


def test_large_photographs_are_decoded_at_a_reduced_size(photographs: Path) -> None:
    train = load_data(str(photographs), input_size=32).train
    assert [train.open(0, side).size for side in (64, 200, 301, 601, 10**6)] == [(200, 150), (400, 300), (800, 600), *[(1600, 1200)] * 2]
    assert train.open(0).size == (1600, 1200)
    assert train.open(11, 64).size == (150, 200)  # turned


def test_reduced_photographs_look_as_whole_ones_do(photographs: Path) -> None:
    """Against each whole image scaled by PIL; and several at a time, by threads, are as one after the other."""
    train = load_data(str(photographs), input_size=32).train
    seen = train.images(np.arange(12))
    whole = np.stack([fit_square(train.open(i), 32) for i in range(12)])
    assert np.abs(seen.astype(int) - whole).mean() < 0.5 and np.abs(seen.astype(int) - whole).max() <= 6
    again = load_data(str(photographs), input_size=32).train
    assert np.array_equal(seen, np.concatenate([again.images(np.array([i])) for i in range(12)]))


@pytest.mark.parametrize("large", [899, 900])
def test_of_large_images_one_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int) -> None:
    """A folder of images of 13,000 x 13,000 pixels took half a gigabyte for each core of the machine."""
    for number in range(16):
        (tmp_path / str(number % 2)).mkdir(exist_ok=True)
        Image.new("RGB", (30, 30), (number, 0, 0)).save(tmp_path / str(number % 2) / f"{number}.png")
    held, seen = [0], []

    def read(*arguments: Any) -> Any:
        image = data_images.read_image(*arguments)
        held[0] += 1
        seen.append(held[0])
        time.sleep(0.02)
        return image

    def fit(*arguments: Any) -> Any:
        held[0] -= 1
        return fit_square(*arguments)

    monkeypatch.setattr(sources, "read_image", read)
    monkeypatch.setattr(data_images, "fit_square", fit)
    monkeypatch.setattr(data_images, "_LARGE", large)
    monkeypatch.setattr(data_images, "cpu_count", lambda: 4)
    load_data(str(tmp_path), input_size=8).train.images(np.arange(12))
    assert len(seen) == 12 and (max(seen) == 1) == (large < 900) and max(seen) <= 4


def test_a_data_set_that_promises_nothing_is_read_by_one_thread() -> None:
    seen = set()

    class Noted:
        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            seen.add(threading.get_ident())
            return Image.new("RGB", (8, 8)), 0

    images = DecodedImages(np.zeros(32, np.int64), 8, Indexed("mine", Noted())).images(np.arange(32))
    assert images.shape == (32, 8, 8, 3) and seen == {threading.get_ident()}


def test_test_images_of_a_class_without_training_images_are_refused(folder: Path) -> None:
    (folder / "val" / "Cat").mkdir()
    (folder / "val" / "notes").mkdir()  # holds no image
    Image.new("RGB", (4, 4)).save(folder / "val" / "Cat" / "0.png")
    with pytest.raises(DataError, match=r"val/Cat: no training images are of this class: .*rename it, or take it away"):
        load_data(str(folder))


def test_a_folder_without_splits_is_training_data(folder: Path) -> None:
    data = load_data(str(folder / "train"))
    assert data.test is None and len(data.train.labels) == 10


def test_a_corrupt_image_is_named_when_it_is_read(folder: Path) -> None:
    path = folder / "train" / "dog" / "3.png"
    for content in (path.read_bytes()[:60], b"", b"text"):
        path.write_bytes(content)
        data = load_data(str(folder))
        with pytest.raises(DataError, match=r"3\.png: not a readable image"):
            data.train.images(np.arange(10))


def test_a_folder_of_one_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d" / "only").mkdir(parents=True)
    with pytest.raises(DataError, match=r"1 class folder\(s\)"):
        load_data(str(tmp_path / "d"))


def test_an_image_list(folder: Path) -> None:
    path = folder / "list.txt"
    path.write_text("train/cat/0.png 0\n\ntrain/dog/1.png\t1\n")
    data = load_data(str(path), input_size=8)
    assert data.train.labels.tolist() == [0, 1] and data.train.images(np.array([1]))[0, 0, 0, 0] == 101


@pytest.mark.parametrize(
    ("content", "says"), [("train/cat/0.png cat\n", "line 1"), ("\nnone.png 1\n", "none.png"), ("train/cat/0.png", "line 1"), ("", "class")]
)
def test_faults_of_an_image_list_are_named(folder: Path, content: str, says: str) -> None:
    (folder / "list.txt").write_text(content)
    with pytest.raises(DataError, match=says):
        load_data(str(folder / "list.txt"))


def test_fewer_images_than_the_batch() -> None:
    with pytest.raises(DataError, match="--batch-size"):
        proxy_batches(load_data("noise", num_classes=2), 10_000, [0])
    with pytest.raises(DataError, match="--batch-size 1"):
        proxy_batches(load_data("noise", num_classes=2), 1, [0])


def test_unknown_sources_are_suggested() -> None:
    with pytest.raises(DataError, match="did you mean synthetic"):
        load_data("syntetic")
    with pytest.raises(DataError, match="no such file"):
        load_data("/nowhere/at/all")


def test_sizes_and_classes_that_differ_are_refused(small_npz: Path) -> None:
    with pytest.raises(DataError, match="16 pixels wide, not 32"):
        load_data(str(small_npz), input_size=32)
    with pytest.raises(DataError, match="4 classes, not 10"):
        load_data(str(small_npz), num_classes=10)


def test_named_data_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--download"):
        load_data("cifar100", data_dir=tmp_path)


def official_layout(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small data set in the official layout of CIFAR-10, with checksums of its own in place of the official ones."""
    from torchvision import datasets

    base = root / "cifar-10-batches-py"
    base.mkdir(parents=True)

    def write(name: str, content: object) -> tuple[str, str]:
        (base / name).write_bytes(pickle.dumps(content))
        return name, hashlib.md5((base / name).read_bytes()).hexdigest()

    pixels = np.arange(20 * 3072).reshape(20, 3072).astype(np.uint8)
    labels = [i % 10 for i in range(20)]
    train = [write(f"data_batch_{i}", {"data": pixels, "labels": labels}) for i in range(1, 6)]
    test = [write("test_batch", {"data": pixels, "labels": labels})]
    meta = write("batches.meta", {"label_names": [f"class{i}" for i in range(10)]})
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [list(pair) for pair in train])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [list(pair) for pair in test])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})


def test_the_official_layout_of_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official_layout(tmp_path, monkeypatch)
    for source, options in (("cifar10", {"data_dir": tmp_path}), (str(tmp_path / "cifar-10-batches-py"), {})):
        data = load_data(source, **options)  # type: ignore[arg-type]
        assert len(data.train.labels) == 100 and data.class_names[3] == "class3" and data.train.shape == (32, 32, 3)


def test_a_changed_file_of_cifar_is_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official_layout(tmp_path, monkeypatch)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match="checksum"):
        load_data("cifar10", data_dir=tmp_path)


def test_what_timms_factory_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official_layout(tmp_path, monkeypatch)
    data = load_data("torch/cifar10", data_dir=tmp_path)
    assert data.num_classes == 10 and data.train.images(np.array([1])).shape == (1, 32, 32, 3)
    with pytest.raises(DataError, match="torch/nonsense"):
        load_data("torch/nonsense", data_dir=tmp_path)


@pytest.mark.slow
def test_statistics_of_real_images_are_the_published_ones(cifar10_test: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    x, y = cifar10_test
    np.savez(tmp_path / "c.npz", x_train=x, y_train=y)
    mean, std = load_data(str(tmp_path / "c.npz")).statistics
    np.testing.assert_allclose(mean, (0.4914, 0.4822, 0.4465), atol=0.01)
    np.testing.assert_allclose(std, (0.2470, 0.2435, 0.2616), atol=0.01)


def test_images_are_upright_and_of_eight_bits(tmp_path: Path) -> None:
    pixels = np.arange(12 * 3, dtype=np.uint8).reshape(4, 3, 3) * 7
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        assert (np.asarray(to_rgb(image)) == np.rot90(pixels, -1)).all()
    deep = (np.arange(12, dtype=np.uint16) * 5000).reshape(4, 3)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as image:
        assert (np.asarray(to_rgb(image))[:, :, 0] == deep // 256).all()
