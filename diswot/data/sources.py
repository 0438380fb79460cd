"""Data sources: what `--data` understands."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diswot import plugins
from diswot.data.archives import check_members
from diswot.data.images import IMAGE_SUFFIXES, ArrayImages, Dataset, DecodedImages, ImageSet, check_labels, generate_dataset, read_image
from diswot.data.shards import CLASS_NAMES, copy_stream, load_shards, shards_in
from diswot.errors import DataError, DiswotError, brief_repr, first_line, suggest
from diswot.files import is_file, is_folder, is_there, read_text, require_regular

SOURCES = {
    "synthetic": "dead-leaves images generated in code: natural statistics, no download (the default of search and score)",
    "noise": "Gaussian pixels",
    "cifar10": "CIFAR-10 in its official layout under --data-dir; --download fetches it, checksum verified",
    "cifar100": "CIFAR-100, likewise",
    "FILE.npz": "arrays x_train (n, H, W, C) uint8 and y_train (n,), and x_test, y_test where there are any",
    "FOLDER": "FOLDER/train/<class>/<image> and FOLDER/test or val likewise, or FOLDER/<class>/<image>",
    "FOLDER of shards": "WebDataset's FOLDER/*.tar, or FOLDER/train/*.tar and FOLDER/test or val likewise; images are reached by number",
    "FILE.txt": "an image list: a path (from the list's folder) and a label on each line",
    "torch/..., hfds/..., hfids/..., tfds/...": "what timm's dataset factory knows by that name, under --data-dir; a stream is copied once",
    "wds/FOLDER": "shards in that folder of --data-dir",
}
"""What `--data` takes, each with what it is: the table behind `diswot list data`."""
_TIMM_PREFIXES = ("torch", "hfds", "hfids", "tfds", "wds")
REMOTE = tuple(f"{prefix}/" for prefix in _TIMM_PREFIXES)
"""How the names of sources begin that a file may not name on its own."""
_CIFAR_FOLDERS = {"cifar-10-batches-py": "cifar10", "cifar-100-python": "cifar100"}
GENERATED_SOURCES = ("synthetic", "noise")
"""The sources whose images are drawn in code."""
LIST_SUFFIXES = {".txt", ".lst", ".list", ".tsv"}
_DEFAULT_SIZE = 32  # pixels
_ARRAYS = ("x_train", "y_train", "x_test", "y_test", "classes")  # of an .npz
_MOST_TEXT = 1 << 30  # bytes of an image list
_TEST_FOLDERS = ("test", "val", "validation")


def cache_dir() -> Path:
    """The folder where diswot keeps data sets and trained teachers: $DISWOT_HOME, else ~/.cache/diswot."""
    return Path(os.environ.get("DISWOT_HOME") or Path.home() / ".cache" / "diswot")


@dataclass(frozen=True)
class DataRequest:
    """A request for the images of a data source.

    Attributes:
        source: what `--data` says.
        data_dir: the folder of named data sets.
        download: whether the data set may be downloaded.
        num_classes: number of classes that it must have, or, of generated images, is to have; None, where nobody asked, for its own.
        input_size: side in pixels that images are to be generated or decoded at; None, where nobody asked, for its own. A source that
            cannot give what is asked for may ignore both: the mismatch is refused with one line.
        seed: random seed of generated images.
    """

    source: str
    data_dir: Path
    download: bool = False
    num_classes: int | None = None
    input_size: int | None = None
    seed: int = 0


class DataSource(ABC):
    """Base class of data sources of your own. Subclass it and define `load`; `--data module:Class` finds it.

    `load` is called once in every process that needs images. It must give the same images for the same request: a run that is resumed with
    other images is refused.
    """

    @abstractmethod
    def load(self, request: DataRequest) -> Dataset:
        """Load the data set.

        Returns:
            A `Dataset` of training images, test images (or None) and class names; `diswot.data.images.ArrayImages` holds arrays in memory.

        Raises:
            DataError: it is missing or cannot be read; one line that names the remedy.
        """


def load_data(
    source: str,
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    num_classes: int | None = None,
    input_size: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Load the data set that `source` names; see `SOURCES`.

    Args:
        source: a name, a file, a folder, or `module:name` of your own.
        data_dir: folder of named data sets; `$DISWOT_HOME/data` by default.
        download: whether a named data set may be downloaded.
        num_classes: for generated images, how many classes (100); for others, what they must have.
        input_size: side in pixels that files are decoded to, and images generated at (32).
        seed: random seed of generated images.

    Raises:
        DataError: it is missing, cannot be read, or has faults; the message names the file and the remedy.

    >>> data = load_data("synthetic", num_classes=10)
    >>> data.num_classes, data.train.shape
    (10, (32, 32, 3))
    """
    for what, value, most in (("num-classes", num_classes, 100_000), ("input-size", input_size, 4096)):
        if value is not None and not 1 <= value <= most:
            raise DataError(f"--{what} {value}: 1 to {most:,}")
    if not source:
        raise DataError("--data is empty: name images, or leave it out")
    root = Path(data_dir) if data_dir else cache_dir() / "data"
    data = _load(DataRequest(source, root, download, num_classes, input_size, seed))
    if input_size not in (None, data.input_size):
        raise DataError(f"{source}: its images are {data.input_size} pixels wide, not {input_size}: leave --input-size out")
    if num_classes not in (None, data.num_classes):
        raise DataError(f"{source}: it has {data.num_classes} classes, not {num_classes}")
    return data


def _load(request: DataRequest) -> Dataset:
    source, path, side = request.source, Path(request.source), request.input_size or _DEFAULT_SIZE
    if source in GENERATED_SOURCES:
        return _generated(request)
    if source in ("cifar10", "cifar100"):
        return _cifar(source, request.data_dir, request.download)
    if path.name in _CIFAR_FOLDERS and is_folder(path):
        return _cifar(_CIFAR_FOLDERS[path.name], path.parent, download=False)
    if source.startswith("wds/") and not is_there(path):
        return _shards(source, request.data_dir / source.removeprefix("wds/"), side)
    if source.split("/")[0] in _TIMM_PREFIXES and "/" in source and not is_there(path):
        return _timm(source, request.data_dir, request.download, side)
    if path.suffix == ".npz":
        return _npz(path)
    if is_folder(path):
        return _folder(path, side)
    if path.suffix in LIST_SUFFIXES:
        return _image_list(path, side)
    if plugins.is_reference(source):
        return _own(request)
    names = [name for name in SOURCES if name.islower() and "/" not in name]
    raise DataError(f"--data {source!r}: no such file, folder or data set; {suggest(source, names)}; module:name for one of your own")


def _generated(request: DataRequest) -> Dataset:
    classes = 100 if request.num_classes is None else request.num_classes
    if classes < 2:
        raise DataError(f"--num-classes {classes}: at least 2 are needed")
    return generate_dataset(request.source, classes, request.input_size or _DEFAULT_SIZE, request.seed)


def _own(request: DataRequest) -> Dataset:
    source = plugins.load_part(request.source, "data", DataSource)  # type: ignore[type-abstract]
    try:
        data = source.load(request)
    except DiswotError:
        raise
    except Exception as error:  # it is the user's own code
        where = plugins.part_at_fault(error) or f"data {request.source}"
        raise DataError(f"the {where} failed with {type(error).__name__}: {first_line(error)}") from None
    if not isinstance(data, Dataset):
        raise DataError(f"--data {request.source}: load() gave {type(data).__name__}, not a diswot.data.Dataset")
    name = f"--data {request.source}"
    if not isinstance(data.class_names, list | tuple):
        raise DataError(f"{name}: the class names must be a list, not {type(data.class_names).__name__}")
    test = None if data.test is None else _checked(f"{name}: test", data.test, data.num_classes)
    return dataclasses.replace(data, train=_checked(f"{name}: train", data.train, data.num_classes), test=test)


def _checked(name: str, images: ImageSet, num_classes: int) -> ImageSet:
    """Return images of a user's own source, once labels and pixels (of sets that are not in memory, the first image's) are right."""
    if not hasattr(images, "labels"):
        raise DataError(f"{name}: images must be a set such as diswot.data.ArrayImages(pixels, labels), not {type(images).__name__}")
    labels = check_labels(name, np.asarray(images.labels), num_classes)
    if isinstance(images, ArrayImages):
        return ArrayImages(_check_images(name, images.array, labels), labels)
    _check_images(name, images.images(np.arange(1)), labels[:1])
    return images


def _npz_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        require_regular(path)
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            names = [key for key in archive.files if key in _ARRAYS]
            check_members(path, archive.zip, [f"{name}.npy" for name in names])
            return {key: archive[key] for key in names}
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Exception as error:  # whatever a damaged or a hostile file makes numpy raise
        reason = (
            "no .npz, or one with Python objects in it"
            if "pickle" in str(error)
            else getattr(error, "strerror", None) or first_line(error, 100)
        )
        raise DataError(f"{path}: not a readable .npz of plain arrays ({reason})") from None


def _npz(path: Path) -> Dataset:
    arrays = _npz_arrays(path)
    if not {"x_train", "y_train"} <= set(arrays):
        raise DataError(f"{path}: the arrays x_train and y_train are needed; it holds {', '.join(arrays) or 'none of them'}")
    labels = check_labels(f"{path}: y_train", arrays["y_train"])
    num_classes = int(labels.max()) + 1
    train = ArrayImages(_check_images(f"{path}: x_train", arrays["x_train"], labels), labels)
    test: ImageSet | None = None
    if "x_test" in arrays and "y_test" in arrays:
        test_labels = check_labels(f"{path}: y_test", arrays["y_test"], num_classes)
        test = ArrayImages(_check_images(f"{path}: x_test", arrays["x_test"], test_labels), test_labels)
        if test.shape != train.shape:
            raise DataError(f"{path}: test images are {test.shape}, training images {train.shape}")
    names = [str(name) for name in np.atleast_1d(arrays.get("classes", np.arange(num_classes)))]
    if len(names) < num_classes:
        raise DataError(f"{path}: {len(names)} class names for {num_classes} classes")
    return Dataset(str(path), train, test, names)


def _check_images(name: str, images: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != images.shape[2]:
        raise DataError(f"{name}: {images.dtype} of shape {images.shape}; uint8 of shape (n, side, side, channels) is needed")
    if len(images) != len(labels):
        raise DataError(f"{name}: {len(images)} images but {len(labels)} labels")
    return images


def _cifar(name: str, root: Path, download: bool) -> Dataset:
    """Load CIFAR by torchvision, which verifies the official checksums before it unpickles anything."""
    from torchvision import datasets

    kind = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100
    if download:
        root.mkdir(parents=True, exist_ok=True)
    try:
        train, test = (kind(str(root), train=train, download=download) for train in (True, False))
    except RuntimeError:
        raise DataError(f"{name} is not under {root}, or its checksum differs: add --download, or say --data-dir") from None
    except OSError as error:
        raise DataError(f"{name} cannot be downloaded ({error}): fetch it by hand into {root}") from None
    splits = [ArrayImages(split.data, np.asarray(split.targets, np.int64)) for split in (train, test)]
    return Dataset(name, splits[0], splits[1], list(train.classes))


def _folder(path: Path, side: int) -> Dataset:
    root = path / "train" if (path / "train").is_dir() else path
    classes = sorted(p.name for p in root.iterdir() if p.is_dir())
    if len(classes) < 2 and shards_in(root):
        return _shards(str(path), path, side)
    if len(classes) < 2:
        raise DataError(f"{root}: {len(classes)} class folder(s); at least two, with images in them, are needed")
    test_root = next((path / name for name in _TEST_FOLDERS if root != path and (path / name).is_dir()), None)
    test = _test_folders(test_root, classes, side) if test_root else None
    return Dataset(str(path), _class_folders(root, classes, side), test, classes)


def _test_folders(root: Path, classes: list[str], side: int) -> ImageSet:
    """The test images of the classes, which must be all that there are."""
    known = set(classes)
    for folder in sorted(root.iterdir()):
        if folder.is_dir() and folder.name not in known and any(p.suffix.lower() in IMAGE_SUFFIXES for p in folder.rglob("*")):
            raise DataError(f"{folder}: no training images are of this class: {suggest(folder.name, classes)}; rename it, or take it away")
    return _class_folders(root, classes, side)


def _shards(name: str, path: Path, side: int) -> Dataset:
    """WebDataset's shards in a folder, or in its folders train and test or val."""
    root = path / "train" if (path / "train").is_dir() else path
    train, test_root = shards_in(root), next((path / part for part in _TEST_FOLDERS if root != path and (path / part).is_dir()), None)
    if not train:
        raise DataError(f"--data {name}: no shards (*.tar) in {root}; say --data-dir")
    names = path / CLASS_NAMES
    return load_shards(
        name, train, shards_in(test_root) if test_root else (), side, cache_dir() / "shards", _lines(names) if names.is_file() else ()
    )


def _class_folders(root: Path, classes: list[str], side: int) -> ImageSet:
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(p for p in (root / name).rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        files += found
        labels += [label] * len(found)
    return _files(str(root), files, np.array(labels, np.int64), side)


def _files(name: str, files: list[Path], labels: NDArray[np.int64], side: int) -> ImageSet:
    return DecodedImages(check_labels(name, labels), side, Files(files))


def load_unlabelled(source: str, shape: tuple[int, int, int]) -> ImageSet:
    """Load images without labels, all labelled -1: a folder and all under it, an .npz with x_train (labels in it are not looked at), or a
    list with a path on each line.

    Args:
        shape: (H, W, C) of the images that they stand beside; files are decoded to it.

    Raises:
        DataError: it is missing, cannot be read, or holds other images.
    """
    path = Path(source)
    if path.suffix == ".npz":
        array = _npz_arrays(path).get("x_train")
        if array is None:
            raise DataError(f"{path}: the array x_train is needed")
        no_labels = np.full(len(array), -1, np.int64)
        found: ImageSet = ArrayImages(_check_images(f"{path}: x_train", array, no_labels), no_labels)
    elif is_folder(path):
        found = _unlabelled(source, sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES), shape[0])
    elif path.suffix in LIST_SUFFIXES and is_file(path):
        found = _unlabelled(source, [path.parent / line for line in _lines(path)], shape[0])
    else:
        raise DataError(f"--unlabelled {brief_repr(source)}: a folder of images, an .npz or a list of paths (.txt) is needed")
    if found.shape != shape:
        raise DataError(f"{source}: images of {found.shape}, beside training images of {shape}")
    return found


def _unlabelled(source: str, files: list[Path], side: int) -> ImageSet:
    if not files:
        raise DataError(f"{source}: no images in it")
    _refuse_missing(source, files)
    return DecodedImages(np.full(len(files), -1, np.int64), side, Files(files))


def _lines(path: Path) -> list[str]:
    """The lines of a file that are not empty."""
    return [line for _, line in _numbered_lines(path)]


def _numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a file that are not empty, with their numbers."""
    try:
        text = read_text(path, _MOST_TEXT)
        return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise DataError(f"{path}: cannot be read ({reason})") from None


def _refuse_missing(source: object, files: list[Path]) -> None:
    missing = next((file for file in files if not is_file(file)), None)
    if missing:
        raise DataError(f"{source}: it names {missing}, which is no file")


class Files:
    """Image files, by index."""

    threadsafe = True

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def open(self, index: int, min_side: int | None = None) -> Any:
        with open(self.paths[index], "rb") as file:
            return read_image(file, min_side)

    def name(self, index: int) -> str:
        return str(self.paths[index])


class Indexed:
    """The images of a map-style data set of (image, label)."""

    threadsafe = False  # no data set promises it

    def __init__(self, source: str, dataset: Any) -> None:
        self.source, self.dataset = source, dataset

    def open(self, index: int, min_side: int | None = None) -> Any:
        return self.dataset[index][0]  # it has been decoded

    def name(self, index: int) -> str:
        return f"{self.source}, image {index}"


def _image_list(path: Path, side: int) -> Dataset:
    files, labels = [], []
    for number, line in _numbered_lines(path):
        name, _, label = line.replace("\t", " ").rpartition(" ")
        if not name or not (label.isascii() and label.isdigit() and len(label) < 10):
            raise DataError(f"{path}, line {number}: {brief_repr(line)} is not a path and a label (a whole number)")
        files.append(path.parent / name.strip())
        labels.append(int(label))
    _refuse_missing(path, files)
    train = _files(str(path), files, np.array(labels, np.int64), side)
    return Dataset(str(path), train, None, [str(i) for i in range(int(train.labels.max()) + 1)])


def _timm(source: str, root: Path, download: bool, side: int) -> Dataset:
    from timm.data import create_dataset
    from torch.utils.data import IterableDataset

    # timm wants to know how long a stream of Hugging Face is, for a schedule that is not used here: it is read to its end
    length = {"num_samples": 1} if source.startswith("hfids/") else {}

    def split(name: str) -> Any:
        try:
            return create_dataset(source, root=str(root), split=name, download=download, **length)
        except (AssertionError, ImportError, OSError, RuntimeError, ValueError) as error:
            raise DataError(f"--data {source}: {first_line(error)}; say --data-dir, or add --download") from None

    train, test = split("train"), split("validation")
    if isinstance(train, IterableDataset):
        return _copied(source, root, train, test, side)
    names = [str(name) for name in getattr(train, "classes", [])]
    sets = [_indexed(source, dataset, side) for dataset in (train, test)]
    names = names or [str(i) for i in range(int(sets[0].labels.max()) + 1)]
    return Dataset(source, sets[0], sets[1], names)


def _copied(source: str, root: Path, train: Any, test: Any, side: int) -> Dataset:
    """A data set that can be read in one order only, as it is copied under `cache_dir() / "streams"`."""
    key = hashlib.sha256(f"{source} {root.resolve()}".encode()).hexdigest()[:12]
    folder = cache_dir() / "streams" / f"{re.sub(r'[^A-Za-z0-9]+', '-', source)[:60]}-{key}"
    copies = [copy_stream(f"{source}, {split}", dataset, folder / f"{split}.tar") for split, dataset in (("train", train), ("test", test))]
    known = getattr(train.reader, "class_to_idx", None)
    names = [str(name) for name in sorted(known, key=lambda name: known[name])] if isinstance(known, dict) else []
    return load_shards(source, copies[:1], copies[1:], side, cache_dir() / "shards", names)


def _indexed(source: str, dataset: Any, side: int) -> ImageSet:
    """The images of a map-style data set of (image, label)."""
    targets = getattr(dataset, "targets", None)
    labels = np.asarray(targets if targets is not None else [dataset[i][1] for i in range(len(dataset))])
    return DecodedImages(check_labels(source, labels), side, Indexed(source, dataset))
