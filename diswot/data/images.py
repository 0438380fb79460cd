"""Data sets of labelled images, which lie in memory or are decoded on demand behind one interface."""

from __future__ import annotations

import functools
import hashlib
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from diswot.data.synthetic import dead_leaves
from diswot.devices import cpu_count
from diswot.errors import ConfigError, DataError, first_line
from diswot.space import ImageSpec

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
_BLOCK = 8  # synthetic images that are generated together
_STATISTICS_FROM = 5000  # the most images from which channel statistics are computed
_STATISTICS_AT_ONCE = 500  # of these images, how many are in memory at once
_LEVELS = np.arange(256) / 255
_MAX_CLASSES = 100_000
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm", ".tif", ".tiff"}
IN_MEMORY = 2**31  # the most bytes of decoded images that are kept in memory
_DECODED_AT_ONCE = 8  # the fewest images for which threads are worth their start
_LARGE = 2**25  # pixels of an image from which on one is decoded at a time: each takes hundreds of megabytes
_OVERSAMPLING = 2  # a JPEG that is decoded at a reduced size has at least so many pixels for each pixel of the scaled image, along a side


class ImageSet(Protocol):
    """The interface of a set of labelled images.

    Attributes:
        labels: (n,) int64 labels.
        shape: (H, W, C), the shape of each image.
    """

    labels: Labels
    shape: tuple[int, int, int]

    def images(self, indices: NDArray[np.int64]) -> Images:
        """Return some images as a (len(indices), H, W, C) uint8 array."""

    def open(self, index: int, min_side: int | None = None) -> Any:
        """Return one image as a PIL image in RGB, in its original size; where `min_side` is given, one that is stored as a JPEG may be
        smaller, but neither of its sides is shorter than so many pixels."""


@dataclass
class ArrayImages:
    """A set of images that lie in memory.

    Attributes:
        array: (n, H, W, C) uint8 images.
        labels: (n,) int64 labels.
    """

    array: Images
    labels: Labels

    def __post_init__(self) -> None:
        height, width, channels = self.array.shape[1:]
        self.shape = (height, width, channels)

    def images(self, indices: NDArray[np.int64]) -> Images:
        return self.array[indices]

    def open(self, index: int, min_side: int | None = None) -> Any:
        return _as_pil(self.array[index])


class GeneratedImages:
    """A set of synthetic images, which are generated when they are first used.

    They are generated in blocks of 8. Image i is the same whatever other images were used before.

    Args:
        labels: (n,) int64 labels.
        side: height and width of the images in pixels.
        seed: integers that the seeds of the blocks begin with.
        draw: function of the labels of a block, the side and a random generator, which returns the images of the block.
    """

    def __init__(self, labels: Labels, side: int, seed: Sequence[int], draw: Callable[..., Images]) -> None:
        self.labels, self.shape = labels, (side, side, 3)
        self._seed, self._draw = list(seed), draw
        self._blocks: dict[int, Images] = {}

    def _block(self, block: int) -> Images:
        if block not in self._blocks:
            rng = np.random.default_rng([*self._seed, block])
            labels = self.labels[block * _BLOCK : (block + 1) * _BLOCK]
            self._blocks[block] = self._draw(labels, self.shape[0], rng)
        return self._blocks[block]

    def images(self, indices: NDArray[np.int64]) -> Images:
        return np.stack([self._block(int(i) // _BLOCK)[int(i) % _BLOCK] for i in indices])

    def open(self, index: int, min_side: int | None = None) -> Any:
        return _as_pil(self.images(np.array([index]))[0])


class ImageSource(Protocol):
    """The interface of a source of image files, from which `DecodedImages` reads.

    Attributes:
        threadsafe: whether several threads may call `open` at once.
    """

    threadsafe: bool

    def open(self, index: int, min_side: int | None = None) -> Any:
        """Return image `index` as PIL opens it, or a reduced version of which neither side is shorter than `min_side`; see `read_image`."""

    def name(self, index: int) -> str:
        """Return what to call image `index` in an error message."""


class DecodedImages:
    """A set of images that are decoded when they are used, such as image files.

    Each is converted to RGB, its central square is cut out and is scaled to the size of the set. A JPEG that is much larger than that is
    decoded at a half, a quarter or an eighth of its size. Decoded images are kept in memory if all of them fit into 2 GiB.

    Args:
        labels: (n,) int64 labels.
        side: height and width of the scaled images in pixels.
        opener: source of the images.
        crop_pct: side of the central square as a share of the shorter side of the image.
    """

    def __init__(self, labels: Labels, side: int, opener: ImageSource, crop_pct: float = 1.0) -> None:
        self.labels, self.shape = labels, (side, side, 3)
        self.opener, self.crop_pct = opener, crop_pct
        self._kept: dict[int, Images] | None = {} if len(labels) * side * side * 3 <= IN_MEMORY else None

    def _decode(self, index: int) -> Images:
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        side = self.shape[0]
        pixels = fit_square(self.open(index, math.ceil(_OVERSAMPLING * side / self.crop_pct)), side, self.crop_pct)
        if self._kept is not None:
            self._kept[index] = pixels
        return pixels

    def open(self, index: int, min_side: int | None = None) -> Any:
        try:
            return to_rgb(self.opener.open(index, min_side))
        except _Large:
            raise
        except Exception as error:  # whatever a damaged file makes a decoder raise
            raise DataError(f"{self.opener.name(index)}: not a readable image ({first_line(error)}): remove or replace it") from None

    def images(self, indices: NDArray[np.int64]) -> Images:
        numbers = [int(index) for index in indices]
        if len(numbers) < _DECODED_AT_ONCE or not self.opener.threadsafe:
            return np.stack([self._decode(number) for number in numbers])
        with ThreadPoolExecutor(cpu_count(), initializer=_leave_large_images) as threads:  # PIL works without holding the interpreter
            found = list(threads.map(self._decode_small, numbers))
        return np.stack([self._decode(number) if one is None else one for number, one in zip(numbers, found, strict=True)])

    def _decode_small(self, index: int) -> Images | None:
        """The image, or None for a large one: of these one at a time is decoded, in the thread that asked."""
        try:
            return self._decode(index)
        except _Large:
            return None


class JoinedImages:
    """A set of images that consists of several sets, one after the other; all must have images of the same shape."""

    def __init__(self, parts: Sequence[ImageSet]) -> None:
        self.parts, self.shape = list(parts), parts[0].shape
        self.labels: Labels = np.concatenate([part.labels for part in parts])
        self._starts = np.cumsum([0] + [len(part.labels) for part in parts])

    def _part(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return for each image the number of the set that it is in."""
        return np.searchsorted(self._starts, indices, side="right") - 1

    def images(self, indices: NDArray[np.int64]) -> Images:
        images = np.empty((len(indices), *self.shape), np.uint8)
        numbers = self._part(indices)
        for number, part in enumerate(self.parts):
            in_part = numbers == number
            if in_part.any():
                images[in_part] = part.images(indices[in_part] - self._starts[number])
        return images

    def open(self, index: int, min_side: int | None = None) -> Any:
        number = int(self._part(np.array([index]))[0])
        return self.parts[number].open(index - int(self._starts[number]), min_side)


class RelabelledImages:
    """A set of images with other labels than the set that they come from."""

    def __init__(self, source: ImageSet, labels: Labels) -> None:
        self.source, self.labels, self.shape = source, labels, source.shape

    def images(self, indices: NDArray[np.int64]) -> Images:
        return self.source.images(indices)

    def open(self, index: int, min_side: int | None = None) -> Any:
        return self.source.open(index, min_side)


def with_crop_pct(images: ImageSet, share: float) -> ImageSet:
    """Return the same images, with another share of the shorter side kept if they are decoded from files.

    Images that are not decoded on demand are returned as they are, since they are always shown whole.

    Args:
        images: the images.
        share: side of the central square that is kept, as a share of the shorter side, in (0, 1].

    Raises:
        ConfigError: the share is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise ConfigError(f"--crop-pct {share}: use a share that is more than 0 and at most 1")
    if share == 1 or not isinstance(images, DecodedImages):
        return images
    return DecodedImages(images.labels, images.shape[0], images.opener, share)


class _Large(Exception):
    """A large image, met by one of several threads."""


_thread = threading.local()


def _leave_large_images() -> None:
    """Have this thread raise `_Large` for those."""
    _thread.leaves_large_images = True


def read_image(file: Any, min_side: int | None = None) -> Any:
    """Return a PIL image that has been read from a file.

    Args:
        file: an open binary file.
        min_side: where given, a JPEG is decoded at the smallest of a half, a quarter and an eighth of its size at which neither side is
            shorter than so many pixels, which takes a fraction of the time. Other formats are decoded whole.
    """
    from PIL import Image

    with Image.open(file) as image:
        if min_side is not None:
            image.draft(None, (min_side, min_side))
        if image.width * image.height > _LARGE and hasattr(_thread, "leaves_large_images"):
            raise _Large
        image.load()
        return image


def to_rgb(image: Any) -> Any:
    """Return a PIL image in RGB, rotated according to its EXIF data; of 16 bits per channel the upper 8 are kept."""
    from PIL import Image, ImageOps

    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


def fit_square(image: Any, side: int, share: float = 1.0) -> Images:
    """Return the central square of a PIL image, scaled to a (side, side, 3) uint8 array.

    Args:
        image: a PIL image in RGB.
        side: height and width of the result in pixels.
        share: side of the square as a share of the shorter side of the image.
    """
    from PIL import Image, ImageOps

    return np.array(ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC, bleed=(1 - share) / 2), dtype=np.uint8)


def _as_pil(pixels: Images) -> Any:
    """Return a PIL image of an (H, W, C) array with one or three channels."""
    from PIL import Image

    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


@dataclass
class Dataset:
    """A data set with training images and, if there are any, test images.

    Attributes:
        name: name of the data set, as given with `--data`.
        train: the training split.
        test: the test split, or None. It is never used to choose anything.
        class_names: name of each class.
        learnable: whether there is something to learn from the images; not so for the data set `noise`.
    """

    name: str
    train: ImageSet
    test: ImageSet | None
    class_names: list[str]
    learnable: bool = field(default=True)

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def in_chans(self) -> int:
        """The number of channels of the images."""
        return self.train.shape[2]

    @property
    def input_size(self) -> int:
        """The side of the images in pixels."""
        return self.train.shape[0]

    @property
    def spec(self) -> ImageSpec:
        """The number of classes, the number of channels and the size of the images, in one value."""
        return ImageSpec(self.num_classes, self.in_chans, self.input_size)

    @functools.cached_property
    def statistics(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The mean and the standard deviation of each channel, over the training images; see `channel_statistics`."""
        return channel_statistics(self.train, np.arange(len(self.train.labels)))

    def describe(self) -> str:
        """The numbers and the size of the images in words, and what files are shrunk from."""
        test = f" and {len(self.test.labels):,} test" if self.test is not None else ""
        found = f"{len(self.train.labels):,} training{test} images of {self.num_classes:,} classes, {self.input_size} x {self.input_size}"
        if not isinstance(self.train, DecodedImages):
            return found
        width, height = self.train.open(0).size
        if min(width, height) <= self.input_size:
            return found
        return f"{found}, cut square and shrunk to that (the first from {width} x {height}; --input-size chooses another size)"

    def digest(self) -> str:
        """Return a short hash of the training images, which distinguishes data sets; see `digest_of`."""
        return digest_of([self.train])


def digest_of(sets: Sequence[ImageSet]) -> str:
    """Return a short hash of the labels and the images; of images that do not lie in memory it takes at most 64."""
    digest = hashlib.sha256()
    for images in sets:
        labels = images.labels
        if isinstance(images, ArrayImages):
            pixels = np.ascontiguousarray(images.array)
        else:
            pixels = images.images(np.linspace(0, len(labels) - 1, min(64, len(labels))).astype(np.int64))
        digest.update(labels.tobytes() + hashlib.sha256(pixels.data).digest())
    return digest.hexdigest()[:12]


def channel_statistics(images: ImageSet, chosen: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean and the standard deviation of each channel of some images, for pixels in [0, 1].

    Args:
        images: a set of images.
        chosen: indices of the images to use. If there are more than 5,000, that many are drawn from them; of generated images only the
            first 64 are used.

    Returns:
        (C,) means and (C,) standard deviations. The latter are at least 0.001.
    """
    if len(chosen) > _STATISTICS_FROM:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, _STATISTICS_FROM, replace=False))
    if isinstance(images, GeneratedImages):
        chosen = chosen[: 8 * _BLOCK]
    sums, squares, count = np.zeros(images.shape[2]), np.zeros(images.shape[2]), 0
    for begin in range(0, len(chosen), _STATISTICS_AT_ONCE):
        pixels = images.images(chosen[begin : begin + _STATISTICS_AT_ONCE]).reshape(-1, images.shape[2])
        tally = np.stack([np.bincount(channel, minlength=256) for channel in pixels.T])  # integers, so that nothing is rounded
        sums += tally @ _LEVELS
        squares += tally @ _LEVELS**2
        count += len(pixels)
    mean = sums / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return mean.astype(np.float32), np.maximum(std, 1e-3).astype(np.float32)


def check_labels(name: str, labels: NDArray[Any], num_classes: int | None = None) -> Labels:
    """Return the labels as int64 after checking them.

    Args:
        name: what to call the labels in an error message.
        labels: (n,) labels.
        num_classes: number of classes, if known.

    Raises:
        DataError: the labels are not whole numbers, are outside of 0 to `num_classes` - 1, or belong to fewer than two classes.
    """
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{name}: labels must be whole numbers, one per image, but they are {labels.dtype} of shape {labels.shape}")
    if len(np.unique(labels)) < 2:
        raise DataError(f"{name}: {len(np.unique(labels))} class(es) in {len(labels)} images: add images of at least two classes")
    highest = int(labels.max())
    num_classes = num_classes or _MAX_CLASSES
    if labels.min() < 0 or highest >= num_classes:
        raise DataError(f"{name}: labels run from {int(labels.min())} to {highest}, but they must be 0 to {num_classes - 1}")
    return labels.astype(np.int64)


@functools.lru_cache(maxsize=4)
def generate_dataset(name: str, num_classes: int, side: int, seed: int, train: int = 5000, test: int = 1000) -> Dataset:
    """Return a data set that is generated in code and needs no files. The last few are kept, with the images that were used.

    Args:
        name: `synthetic` (dead leaves, see `dead_leaves`) or `noise` (Gaussian pixels, from which nothing can be learned).
        num_classes: number of classes.
        side: height and width of the images in pixels.
        seed: seed of the images.
        train, test: number of training and test images; at least one per class is generated.
    """
    draw = dead_leaves if name == "synthetic" else _noise
    splits = [
        GeneratedImages(np.arange(count, dtype=np.int64) * 7919 % num_classes, side, (seed, split), draw)
        for split, count in enumerate((max(train, num_classes), max(test, num_classes)))
    ]
    names = [str(i) for i in range(num_classes)]
    return Dataset(name, splits[0], splits[1], names, learnable=name == "synthetic")


def _noise(labels: Labels, side: int, rng: np.random.Generator) -> Images:
    """Return images of Gaussian pixels, clipped at 3.2 standard deviations."""
    return (128 + 40 * rng.standard_normal((len(labels), side, side, 3))).clip(0, 255).round().astype(np.uint8)
