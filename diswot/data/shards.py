"""WebDataset shards: tar files whose images are reached by number, once their members have been listed; and streams copied into such."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import tarfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from diswot.data.images import IMAGE_SUFFIXES, Dataset, DecodedImages, ImageSet, check_labels, read_image
from diswot.errors import DataError, brief_repr, first_line

logger = logging.getLogger(__name__)
CLASS_NAMES = "classnames.txt"
_TEST_WORDS = {"test", "val", "valid", "validation"}
_LARGEST_LABEL = 65_536  # bytes of a file that holds a label
_TELL_EVERY = 20.0  # seconds
Listing = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


class Shards:
    """The images of tar files, by number.

    Args:
        paths: the files.
        shards: (n,) which of them an image lies in.
        offsets: (n,) its first byte in there.
        sizes: (n,) its number of bytes.
    """

    threadsafe = True  # each call opens the file for itself

    def __init__(self, paths: Sequence[Path], shards: NDArray[np.int64], offsets: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        self.paths, self.shards, self.offsets, self.sizes = list(paths), shards, offsets, sizes

    def open(self, index: int, min_side: int | None = None) -> Any:
        with open(self.paths[self.shards[index]], "rb") as file:
            file.seek(self.offsets[index])
            content = file.read(self.sizes[index])
        return read_image(io.BytesIO(content), min_side)

    def name(self, index: int) -> str:
        return f"{self.paths[self.shards[index]]}, the image at byte {self.offsets[index]}"


def shards_in(folder: Path) -> list[Path]:
    """The tar files of a folder, by name."""
    return sorted(path for path in folder.glob("*.tar") if path.is_file())


def load_shards(name: str, train: Sequence[Path], test: Sequence[Path], side: int, cache: Path, class_names: Sequence[str] = ()) -> Dataset:
    """Load a data set of shards.

    Args:
        name: of the data set.
        train: the shards of its training images; where `test` is empty, those whose names have the word test, val or validation are that.
        test: the shards of its test images.
        side: that images are scaled to, in pixels.
        cache: the folder where the listing of every shard is kept.
        class_names: of the classes; their numbers where there are none.

    Raises:
        DataError: a shard cannot be read, or an image in it has no label.
    """
    if not test:
        test = [path for path in train if _TEST_WORDS.intersection(re.findall("[a-z]+", path.stem.lower()))]
        train = [path for path in train if path not in test]
    if not train:
        raise DataError(f"{name}: none of its shards holds training images: {test[0].name if test else 'there are none'}")
    images = _images(f"{name}: training", train, side, cache, len(class_names) or None)
    names = list(class_names) or [str(label) for label in range(int(images.labels.max()) + 1)]
    return Dataset(name, images, _images(f"{name}: test", test, side, cache, len(names)) if test else None, names)


def _images(name: str, paths: Sequence[Path], side: int, cache: Path, num_classes: int | None) -> ImageSet:
    listings = [_listing(path, cache) for path in paths]
    shards = np.repeat(np.arange(len(paths)), [len(labels) for _, _, labels in listings])
    offsets, sizes, labels = (np.concatenate(columns) for columns in zip(*listings, strict=True))
    return DecodedImages(check_labels(name, labels, num_classes), side, Shards(paths, shards, offsets, sizes))


def _listing(path: Path, cache: Path) -> Listing:
    """The listing of a shard, which is made once and kept, where that can be, until the file changes."""
    state = path.stat()
    key = hashlib.sha256(f"{path.resolve()} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[:24]
    kept = cache / f"{key}.npy"
    try:
        table = np.load(kept, allow_pickle=False)
        if table.dtype == np.int64 and table.ndim == 2 and len(table) == 3:
            return table[0], table[1], table[2]
    except (OSError, ValueError, EOFError):
        pass  # none is kept, or it is damaged: it is made anew
    found = list_shard(path)
    part = cache / f"{key}.{os.getpid()}.tmp"
    with contextlib.suppress(OSError):  # a folder that is read-only, or a full disk, costs the next run a listing, and this one nothing
        cache.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            np.save(file, np.stack(found))
        os.replace(part, kept)
    return found


def list_shard(path: Path) -> Listing:
    """List the images of a shard in order: their offsets, their sizes in bytes, and their labels, each (n,).

    A sample is all members whose names are equal up to the first dot of the last part: an image, and its label as a number in `.cls`, or as
    `label` in `.json`.

    Raises:
        DataError: it is no plain tar file, it is cut off, or an image has no label.
    """
    places: dict[str, tuple[int, int]] = {}
    labels: dict[str, int] = {}
    length, end = path.stat().st_size, 0
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                folder, _, base = member.name.rpartition("/")
                stem, _, extension = base.partition(".")
                key, extension = f"{folder}/{stem}", extension.lower()
                if not member.isfile() or member.issparse():
                    continue
                if member.offset_data + member.size > length:
                    raise DataError(f"{path}: {brief_repr(member.name)} reaches beyond its end: it is cut off, fetch it again")
                if f".{extension}" in IMAGE_SUFFIXES:
                    places.setdefault(key, (member.offset_data, member.size))
                elif extension in ("cls", "json"):
                    labels[key] = _label(path, archive, member, extension)
                end = member.offset_data + member.size
    except (OSError, tarfile.TarError) as error:
        remedy = "a compressed one must be unpacked first"
        raise DataError(f"{path}: no tar file that can be read ({first_line(error, 80)}); {remedy}") from None
    if without := next((key for key in places if key not in labels), None):
        raise DataError(f"{path}: the image {brief_repr(without.lstrip('/'))} has no label beside it, in .cls or .json")
    if not places:
        raise DataError(f"{path}: no images in it")
    if length < end + tarfile.BLOCKSIZE:
        logger.warning("%s: it has no end mark, as one that is cut off between two files; %s images are in it", path, f"{len(places):,}")
    offsets, sizes = np.array(list(places.values()), np.int64).T
    return offsets, sizes, np.array([labels[key] for key in places], np.int64)


def _label(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo, extension: str) -> int:
    file = archive.extractfile(member) if member.size <= _LARGEST_LABEL else None
    content = file.read() if file is not None else b""
    try:
        label = json.loads(content)["label"] if extension == "json" else int(content)
    except (ValueError, KeyError, TypeError, RecursionError):
        label = None
    if isinstance(label, list):
        raise DataError(f"{path}: {brief_repr(member.name)} holds several labels: images of one class each can be learned from")
    if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < 2**31:
        raise DataError(f"{path}: {brief_repr(member.name)} holds no label: a whole number from 0 on is needed")
    return label


def copy_stream(name: str, samples: Iterable[tuple[Any, Any]], path: Path) -> Path:
    """Copy a stream of (PIL image, label), which can be read in one order only, into a shard, losslessly; once: it is kept.

    Raises:
        DataError: it fails, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if path.exists():
            logger.info("%s: the copy in %s; remove it to read the stream again", name, path)
            return path
        logger.info("%s is a stream: it is copied into %s once", name, path)
        part = path.with_suffix(".tmp")
        try:
            with tarfile.open(part, "w") as archive:
                told = time.monotonic()
                for number, (image, label) in enumerate(samples):
                    _add(archive, f"{number:09d}.png", _png(image))
                    _add(archive, f"{number:09d}.cls", str(int(label)).encode())
                    if time.monotonic() - told > _TELL_EVERY:
                        told = time.monotonic()
                        logger.info("%s: %s images, %.1f GB", name, f"{number + 1:,}", part.stat().st_size / 1e9)
            os.replace(part, path)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            part.unlink(missing_ok=True)
            raise DataError(f"{name}: the stream cannot be copied into {path.parent} ({first_line(error, 100)})") from None
    return path


def _png(image: Any) -> bytes:
    content = io.BytesIO()
    image.convert("RGB").save(content, "PNG", compress_level=1)
    return content.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
