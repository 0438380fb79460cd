"""WebDataset's shards, and streams that are copied into them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm.data
from PIL import Image
from torch.utils.data import IterableDataset

import diswot
from diswot.data import load_data, shards
from diswot.data.shards import copy_stream, list_shard
from diswot.errors import DataError
from tests.distillation.samples import QUICK, same_students

CLASSES = 4


def _pixels(count: int, seed: int = 0) -> list[np.ndarray]:
    """Images of which each class has its colour."""
    rng = np.random.default_rng(seed)
    return [(rng.integers(0, 120, (18, 20, 3)) + 130 * np.eye(CLASSES, 3)[i % CLASSES]).astype(np.uint8) for i in range(count)]


def _png(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def _write(path: Path, members: Sequence[tuple[str, bytes]], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def _samples(count: int, seed: int = 0, first: int = 0) -> list[tuple[str, bytes]]:
    found = []
    for number, pixels in enumerate(_pixels(count, seed)):
        found += [(f"{first + number:06d}.png", _png(pixels)), (f"{first + number:06d}.cls", str(number % CLASSES).encode())]
    return found


def _class_folders(root: Path, count: int, seed: int) -> None:
    """The same images, in the order of their classes."""
    for number, pixels in enumerate(_pixels(count, seed)):
        folder = root / str(number % CLASSES)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:06d}.png").write_bytes(_png(pixels))


def _ordered(samples: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """In the order of their classes, as folders have them."""
    pairs = list(zip(samples[::2], samples[1::2], strict=True))
    return [member for pair in sorted(pairs, key=lambda pair: int(pair[1][1])) for member in pair]


def test_a_student_of_shards_is_that_of_the_same_files(tmp_path: Path) -> None:
    """To the bit: images are reached by number, so that an epoch does not depend on how they are stored."""
    _class_folders(tmp_path / "files" / "train", 80, 0)
    _class_folders(tmp_path / "files" / "val", 40, 1)
    members = _ordered(_samples(80))
    _write(tmp_path / "shards" / "set-train-0000.tar", members[:60])
    _write(tmp_path / "shards" / "set-train-0001.tar", members[60:])
    _write(tmp_path / "shards" / "set-validation-0000.tar", _ordered(_samples(40, seed=1)))
    options = {key: value for key, value in QUICK.items() if key != "teacher"}
    for name in ("files", "shards"):
        diswot.train("resnet8", folder=tmp_path / name[0], data=str(tmp_path / name), input_size=16, **options)
    assert same_students(tmp_path / "f", tmp_path / "s")


def test_images_and_labels_of_every_layout(tmp_path: Path) -> None:
    expected = np.arange(12) % CLASSES
    as_json = [
        (name.replace(".cls", ".json"), content if name.endswith("png") else json.dumps({"label": int(content), "more": [1]}).encode())
        for name, content in _samples(12)
    ]
    _write(tmp_path / "a" / "train" / "0.tar", [("readme.txt", b"hello"), *as_json])
    _write(tmp_path / "a" / "test" / "0.tar", _samples(4))
    (tmp_path / "a" / "classnames.txt").write_text("red\ngreen\nblue\nblack\n")
    found = load_data(str(tmp_path / "a"), input_size=18)
    assert found.class_names == ["red", "green", "blue", "black"] and found.test is not None and len(found.test.labels) == 4
    assert (found.train.labels == expected).all()
    whole = _pixels(12)
    for number in (0, 7, 11):
        assert (np.asarray(found.train.open(number)) == whole[number]).all()
    _write(tmp_path / "b" / "x.tar", [(f"deep/er/{name}", content) for name, content in _samples(12)])
    named = load_data("wds/b", data_dir=tmp_path)
    assert (named.train.labels == expected).all() and named.test is None


def test_a_shard_is_listed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, calls = _write(tmp_path / "d" / "train.tar", _samples(8)), []

    def counted(path: Path) -> shards.Listing:
        calls.append(path)
        return list_shard(path)

    monkeypatch.setattr(shards, "list_shard", counted)
    first = load_data(str(path.parent)).train.labels
    assert (load_data(str(path.parent)).train.labels == first).all() and len(calls) == 1
    for kept in (tmp_path / "home" / "shards").glob("*.npy"):
        kept.write_bytes(b"damaged")
    assert (load_data(str(path.parent)).train.labels == first).all() and len(calls) == 2
    _write(path, _samples(12))
    assert len(load_data(str(path.parent)).train.labels) == 12 and len(calls) == 3


def test_a_listing_that_cannot_be_kept_is_made_anew(tmp_path: Path) -> None:
    path = _write(tmp_path / "d" / "train.tar", _samples(8))
    (tmp_path / "home").mkdir(exist_ok=True)
    (tmp_path / "home" / "shards").write_text("a file where a folder is wanted")
    assert all(len(load_data(str(path.parent)).train.labels) == 8 for _ in range(2))


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([("a.png", b"x")], "the image 'a' has no label beside it"),
        ([("a.png", b"x"), ("a.cls", b"cat")], "'a.cls' holds no label: a whole number"),
        ([("a.png", b"x"), ("a.cls", b"-1")], "'a.cls' holds no label"),
        ([("a.png", b"x"), ("a.cls", b"9" * 400)], "'a.cls' holds no label"),
        ([("a.png", b"x"), ("a.cls", b"1" * 70_000)], "'a.cls' holds no label"),
        ([("a.png", b"x"), ("a.json", b'{"label": [1, 2]}')], "'a.json' holds several labels"),
        ([("a.png", b"x"), ("a.json", b"[" * 100_000)], "'a.json' holds no label"),
        ([("a.png", b"x"), ("a.json", b'{"label": true}')], "'a.json' holds no label"),
        ([("a.txt", b"x")], "no images in it"),
        ([("a.png", b"x"), ("a.cls", b"0"), ("b.png", b"y"), ("b.cls", b"1")], "the image at byte 512: not a readable image"),
    ],
)
def test_faults_of_shards(tmp_path: Path, members: list[tuple[str, bytes]], says: str) -> None:
    _write(tmp_path / "d" / "train.tar", members)
    with pytest.raises(DataError, match=says) as raised:
        load_data(str(tmp_path / "d")).train.images(np.arange(1))
    assert "\n" not in str(raised.value)


def test_shards_that_are_cut_off_or_compressed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = _write(tmp_path / "whole.tar", _samples(8)).read_bytes()
    size = len(_samples(1)[0][1])
    between = 2 * (512 + -(-size // 512) * 512 + 1024)  # two samples: two headers, an image and a label each
    _write(tmp_path / "between" / "train.tar", []).write_bytes(whole[:between])
    assert len(load_data(str(tmp_path / "between")).train.labels) == 2
    assert "no end mark" in caplog.text
    for length in (100, 700, between - 600):
        path = tmp_path / f"{length}" / "train.tar"
        path.parent.mkdir()
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut off|no tar file|no label"):
            load_data(str(path.parent))
    _write(tmp_path / "gz" / "train.tar", _samples(4), "w:gz")
    with pytest.raises(DataError, match="must be unpacked first"):
        load_data(str(tmp_path / "gz"))
    _write(tmp_path / "only" / "test.tar", _samples(4))
    with pytest.raises(DataError, match="none of its shards holds training images"):
        load_data(str(tmp_path / "only"))


def _stream(count: int, fail_at: int | None = None) -> Iterator[tuple[Any, int]]:
    for number, pixels in enumerate(_pixels(count)):
        if number == fail_at:
            raise OSError("the connection is lost")
        yield Image.fromarray(pixels), number % CLASSES


def test_a_stream_is_copied_once_and_without_loss(tmp_path: Path) -> None:
    path = copy_stream("s", _stream(12), tmp_path / "s" / "train.tar")
    assert list_shard(path)[2].tolist() == [number % CLASSES for number in range(12)]
    before = path.read_bytes()
    copy_stream("s", _stream(8), path)
    assert path.read_bytes() == before
    images = load_data(str(path.parent)).train
    assert all((np.asarray(images.open(number)) == pixels).all() for number, pixels in enumerate(_pixels(12)))


def test_a_stream_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the connection is lost"):
        copy_stream("s", _stream(12, fail_at=5), tmp_path / "s" / "train.tar")
    assert not list((tmp_path / "s").glob("train.t*p")) and not (tmp_path / "s" / "train.tar").exists()


def test_a_stream_of_timm_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Streamed(IterableDataset):  # type: ignore[type-arg]
        def __init__(self, count: int) -> None:
            self.count, self.reader = count, type("Reader", (), {"class_to_idx": {"b": 1, "a": 0, "d": 3, "c": 2}})()

        def __iter__(self) -> Iterator[tuple[Any, int]]:
            return _stream(self.count)

    sizes = {"train": 80, "validation": 40}
    monkeypatch.setattr(timm.data, "create_dataset", lambda *_, split, **__: Streamed(sizes[split]))
    data = load_data("tfds/some/thing", data_dir=tmp_path)
    assert data.class_names == ["a", "b", "c", "d"] and data.test is not None and len(data.test.labels) == 40
    options = {key: value for key, value in QUICK.items() if key != "teacher"}
    result = diswot.train("resnet8", folder=tmp_path / "run", data="tfds/some/thing", data_dir=str(tmp_path), **options)
    assert result.student.count == 40
