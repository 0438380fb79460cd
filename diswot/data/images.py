"""`Dataset`: labelled images, in memory or decoded on demand, behind one small interface."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from diswot.data.synthetic import dead_leaves
from diswot.errors import ConfigError, DataError, first_line

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
_BLOCK = 8  # synthetic images drawn together
_STATISTICS_FROM = 5000  # images the channel means are taken from
_STATISTICS_AT_ONCE = 500  # of them
_LEVELS = np.arange(256) / 255
_MAX_CLASSES = 100_000
IN_MEMORY = 2**31  # bytes of decoded images that are kept


class ImageSet(Protocol):
    """`labels` is (n,) int64; `shape` is (H, W, C); `images` gives (len(indices), H, W, C) uint8."""

    labels: Labels
    shape: tuple[int, int, int]

    def images(self, indices: NDArray[np.int64]) -> Images: ...

    def open(self, index: int) -> Any:
        """Image `index` for PIL's transforms, in RGB, and as large as it is."""


@dataclass
class ArrayImages:
    """Images that lie in memory."""

    array: Images
    labels: Labels

    def __post_init__(self) -> None:
        height, width, channels = self.array.shape[1:]
        self.shape = (height, width, channels)

    def images(self, indices: NDArray[np.int64]) -> Images:
        return self.array[indices]

    def open(self, index: int) -> Any:
        return _as_pil(self.array[index])


class DrawnImages:
    """Synthetic images, drawn block by block when they are first asked for; image i is the same however it is reached."""

    def __init__(self, labels: Labels, side: int, seed: Sequence[int], draw: Callable[..., Images]) -> None:
        self.labels, self.shape = labels, (side, side, 3)
        self._seed, self._draw = list(seed), draw
        self._blocks: dict[int, Images] = {}

    def _block(self, number: int) -> Images:
        if number not in self._blocks:
            rng = np.random.default_rng([*self._seed, number])
            labels = self.labels[number * _BLOCK : (number + 1) * _BLOCK]
            self._blocks[number] = self._draw(labels, self.shape[0], rng)
        return self._blocks[number]

    def images(self, indices: NDArray[np.int64]) -> Images:
        return np.stack([self._block(int(i) // _BLOCK)[int(i) % _BLOCK] for i in indices])

    def open(self, index: int) -> Any:
        return _as_pil(self.images(np.array([index]))[0])


class Opener(Protocol):
    """Gives images by number, as PIL opens them, and says what to call them in an error."""

    def open(self, index: int) -> Any: ...

    def name(self, index: int) -> str: ...


class DecodedImages:
    """Image files, or anything else that an `Opener` gives: the shorter side scaled, the centre cut out, RGB.

    What is decoded is kept, as long as all of it fits into 2 GiB.

    Attributes:
        crop_share: share of the shorter side that the centre is.
    """

    def __init__(self, labels: Labels, side: int, opener: Opener, crop_share: float = 1.0) -> None:
        self.labels, self.shape = labels, (side, side, 3)
        self.opener, self.crop_share = opener, crop_share
        self._kept: dict[int, Images] | None = {} if len(labels) * side * side * 3 <= IN_MEMORY else None

    def _decode(self, index: int) -> Images:
        if self._kept is None:
            return square(self.open(index), self.shape[0], self.crop_share)
        if index not in self._kept:
            self._kept[index] = square(self.open(index), self.shape[0], self.crop_share)
        return self._kept[index]

    def open(self, index: int) -> Any:
        try:
            return upright(self.opener.open(index))
        except Exception as error:  # whatever a damaged file makes a decoder raise
            raise DataError(f"{self.opener.name(index)}: not a readable image ({first_line(error)}): remove it or mend it") from None

    def images(self, indices: NDArray[np.int64]) -> Images:
        return np.stack([self._decode(int(i)) for i in indices])


class JoinedImages:
    """Sets of images of one shape, one after the other."""

    def __init__(self, parts: Sequence[ImageSet]) -> None:
        self.parts, self.shape = list(parts), parts[0].shape
        self.labels: Labels = np.concatenate([part.labels for part in parts])
        self._starts = np.cumsum([0] + [len(part.labels) for part in parts])

    def _part(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self._starts, indices, side="right") - 1

    def images(self, indices: NDArray[np.int64]) -> Images:
        found = np.empty((len(indices), *self.shape), np.uint8)
        owner = self._part(indices)
        for number, part in enumerate(self.parts):
            mine = owner == number
            if mine.any():
                found[mine] = part.images(indices[mine] - self._starts[number])
        return found

    def open(self, index: int) -> Any:
        number = int(self._part(np.array([index]))[0])
        return self.parts[number].open(index - int(self._starts[number]))


class RelabelledImages:
    """Images under other labels."""

    def __init__(self, source: ImageSet, labels: Labels) -> None:
        self.source, self.labels, self.shape = source, labels, source.shape

    def images(self, indices: NDArray[np.int64]) -> Images:
        return self.source.images(indices)

    def open(self, index: int) -> Any:
        return self.source.open(index)


def cropped(images: ImageSet, share: float) -> ImageSet:
    """Image files with another share of the shorter side; of other images all is always shown. `ConfigError` for what is no share."""
    if not 0 < share <= 1:
        raise ConfigError(f"crop-share {share}: more than 0, at most 1")
    if share == 1 or not isinstance(images, DecodedImages):
        return images
    return DecodedImages(images.labels, images.shape[0], images.opener, share)


def upright(image: Any) -> Any:
    """A PIL image in RGB, turned as its EXIF says; of 16 bits a channel the upper 8."""
    from PIL import Image, ImageOps

    turned = ImageOps.exif_transpose(image)
    if turned.mode.startswith("I"):
        turned = Image.fromarray((np.asarray(turned) // 256).clip(0, 255).astype(np.uint8))
    return turned.convert("RGB")


def square(image: Any, side: int, share: float = 1.0) -> Images:
    """A PIL image as (side, side, 3): the centre, a share of the shorter side, cut out and scaled."""
    from PIL import Image, ImageOps

    return np.array(ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC, bleed=(1 - share) / 2), dtype=np.uint8)


def _as_pil(pixels: Images) -> Any:
    """Of one channel or of three."""
    from PIL import Image

    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


@dataclass
class Dataset:
    """Training images, test images where there are any, and what a network must know of them.

    Attributes:
        name: as `--data` gave it.
        train, test: the two splits. Nothing here ever chooses by the test split.
        class_names: one for each class.
    """

    name: str
    train: ImageSet
    test: ImageSet | None
    class_names: list[str]
    learnable: bool = field(default=True)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def in_chans(self) -> int:
        return self.train.shape[2]

    @property
    def input_size(self) -> int:
        return self.train.shape[0]

    @functools.cached_property
    def statistics(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """`channel_statistics` of all training images."""
        return channel_statistics(self.train, np.arange(len(self.train.labels)))

    def digest(self) -> str:
        """`digest_of` the training images: tells data sets apart."""
        return digest_of([self.train])


def digest_of(sets: Sequence[ImageSet]) -> str:
    """Short hash of labels and images (of some of the images, where they do not lie in memory)."""
    found = hashlib.sha256()
    for images in sets:
        labels = images.labels
        if isinstance(images, ArrayImages):
            pixels = np.ascontiguousarray(images.array)
        else:
            pixels = images.images(np.linspace(0, len(labels) - 1, min(64, len(labels))).astype(np.int64))
        found.update(labels.tobytes() + hashlib.sha256(pixels.data).digest())
    return found.hexdigest()[:12]


def channel_statistics(images: ImageSet, chosen: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of each channel of the chosen images, in [0, 1]; of 5,000 of them where there are more."""
    if len(chosen) > _STATISTICS_FROM:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, _STATISTICS_FROM, replace=False))
    if isinstance(images, DrawnImages):
        chosen = chosen[: 8 * _BLOCK]
    sums, squares, count = np.zeros(images.shape[2]), np.zeros(images.shape[2]), 0
    for begin in range(0, len(chosen), _STATISTICS_AT_ONCE):
        pixels = images.images(chosen[begin : begin + _STATISTICS_AT_ONCE]).reshape(-1, images.shape[2])
        tally = np.stack([np.bincount(channel, minlength=256) for channel in pixels.T])  # whole numbers, so nothing is rounded
        sums += tally @ _LEVELS
        squares += tally @ _LEVELS**2
        count += len(pixels)
    mean = sums / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return mean.astype(np.float32), np.maximum(std, 1e-3).astype(np.float32)


def check_labels(name: str, labels: NDArray[Any], num_classes: int | None = None) -> Labels:
    """The labels as int64, or a `DataError`: not whole numbers, out of range, or of fewer than two classes."""
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{name}: labels must be whole numbers, one an image; they are {labels.dtype} of shape {labels.shape}")
    if len(np.unique(labels)) < 2:
        raise DataError(f"{name}: {len(np.unique(labels))} class(es) in {len(labels)} images: at least two are needed")
    top = int(labels.max())
    num_classes = num_classes or _MAX_CLASSES
    if labels.min() < 0 or top >= num_classes:
        raise DataError(f"{name}: labels run from {int(labels.min())} to {top}; they must be 0 to {num_classes - 1}")
    return labels.astype(np.int64)


def drawn(name: str, num_classes: int, side: int, seed: int, train: int = 5000, test: int = 1000) -> Dataset:
    """The data sets made in code: `synthetic` (dead leaves) and `noise` (Gaussian pixels, nothing to learn)."""
    draw = dead_leaves if name == "synthetic" else _noise
    splits = [
        DrawnImages(np.arange(count, dtype=np.int64) * 7919 % num_classes, side, (seed, split), draw)
        for split, count in enumerate((max(train, num_classes), max(test, num_classes)))
    ]
    names = [str(i) for i in range(num_classes)]
    return Dataset(name, splits[0], splits[1], names, learnable=name == "synthetic")


def _noise(labels: Labels, side: int, rng: np.random.Generator) -> Images:
    """Gaussian pixels, cut off at 3.2 standard deviations."""
    return (128 + 40 * rng.standard_normal((len(labels), side, side, 3))).clip(0, 255).round().astype(np.uint8)
