"""After training: how good a network is on other data, and what it sees in an image."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diswot.data import Dataset, load_data
from diswot.data.images import IMAGE_SUFFIXES, DecodedImages, ImageSet, RelabelledImages, with_crop_pct
from diswot.data.sources import GENERATED_SOURCES, LIST_SUFFIXES, Files
from diswot.devices import to_device
from diswot.distillation.students import load_student, student_folder, teacher_normalisation
from diswot.errors import ConfigError, DataError, brief_repr
from diswot.files import is_file, is_folder
from diswot.models.teachers import build_teacher
from diswot.progress import NullReporter, Reporter
from diswot.training.evaluation import Accuracy, Network, Normalise, evaluate

_AT_ONCE = 64  # images that are read before they are looked at


@dataclass(frozen=True)
class Model:
    """A network that is ready to be used.

    Attributes:
        network: the model, and how its images are normalised.
        input_size: (channels, height, width) of its images.
        class_names: one for each class.
        folder: where it was loaded from.
        crop_pct: fraction of the shorter side of an image file that it is shown.
        space: the name of its space, where that is a module of the user's own that may be imported.
    """

    network: Network
    input_size: tuple[int, int, int]
    class_names: list[str]
    folder: Path
    crop_pct: float = 1.0
    space: str | None = None


def student_model(folder: str | Path, space: str | None = None) -> Model:
    """Load the student in a folder; the folder of its run will do as well.

    Raises:
        DiswotError: nothing is there, or it is damaged.
    """
    path = student_folder(Path(folder))
    model = load_student(path, space=space)
    cfg: Any = model.pretrained_cfg
    normalise = Normalise(torch.tensor(cfg["mean"]), torch.tensor(cfg["std"]))
    return Model(Network(model, normalise), tuple(cfg["input_size"]), list(cfg["class_names"]), path, cfg["crop_pct"], space)


@dataclass(frozen=True)
class Evaluation:
    """The accuracy of a network on a split of a data set."""

    data: str
    split: str
    accuracy: Accuracy


@dataclass(frozen=True)
class EvaluateOptions:
    """The options of a measurement.

    Attributes:
        split: test or train; test where there is one.
        weights: of a network that is named: a file, or pretrained. A student's folder has its own.
        norm, crop_pct: of a network that is named: as `--teacher-norm` (data) and `--crop-pct` (1); a student knows its own.
        data_dir, input_size: as `load_data` takes them.
        space: a space of the user's own that may be imported.
    """

    split: str | None = None
    weights: str | None = None
    norm: str | None = None
    crop_pct: float | None = None
    data_dir: str | None = None
    input_size: int | None = None
    space: str | None = None


def run_evaluate(
    what: str, data: str, options: EvaluateOptions | None = None, device: str = "cpu", reporter: Reporter | None = None
) -> Evaluation:
    """Measure a student's folder, or a network by name with its weights.

    Args:
        what: a folder, or a teacher's name.
        data: the images.
        options: how it is measured.
        device: where.
        reporter: shown the progress.
    """
    reporter = reporter or NullReporter()
    reporter.within("reading the network and the images")
    options = options or EvaluateOptions()
    weights, norm, crop_pct, split = options.weights, options.norm, options.crop_pct, options.split
    model = student_model(what, options.space) if weights is None else None
    if model is not None and (norm is not None or crop_pct is not None):
        raise ConfigError(f"{'--norm' if norm is not None else '--crop-pct'}: a student knows its own; leave it out")
    image_options: dict[str, Any] = {"data_dir": options.data_dir, "input_size": options.input_size}
    if model is None and is_folder(what):
        raise ConfigError(f"--weights: {what} is a student's folder and has its own; leave it out")
    if model is not None and _has_any_size(data):
        image_options["input_size"] = model.input_size[1]
    if model is not None and data in GENERATED_SOURCES:
        image_options["num_classes"] = len(model.class_names)
    loaded = load_data(data, **image_options)
    split = split or ("test" if loaded.test is not None else "train")
    images = {"test": loaded.test, "train": loaded.train}.get(split)
    if images is None:
        raise DataError(f"--split {split}: {data} has {'no test images' if split == 'test' else 'the splits train and test'}")
    if model is not None:
        network, images = model.network, _relabelled(model, images, loaded.class_names, data)
    else:
        network = _named(what, str(weights), norm or "data", loaded)
    images = with_crop_pct(images, model.crop_pct if model is not None else 1.0 if crop_pct is None else crop_pct)
    to_device(network.model, device)
    return Evaluation(data, split, evaluate(network, images, device, reporter=reporter))


def images_for(model: Model, data: str, split: str, **options: Any) -> ImageSet:
    """The images of a split, as a student takes them: at its size, with its own numbers for their classes.

    Args:
        model: the student.
        data: the images.
        split: test (train where there is no other) or train.
        options: data_dir, as `load_data` takes it.
    """
    if _has_any_size(data):
        options["input_size"] = model.input_size[1]
    if data in GENERATED_SOURCES:
        options["num_classes"] = len(model.class_names)
    loaded = load_data(data, **options)
    images = loaded.test if split == "test" and loaded.test is not None else loaded.train
    return with_crop_pct(_relabelled(model, images, loaded.class_names, data), model.crop_pct)


def _named(name: str, weights: str, norm: str, data: Dataset) -> Network:
    model = build_teacher(name, data.spec, weights, needs=("logits",))
    return Network(model, teacher_normalisation(norm, weights, data, "--norm"))


def _has_any_size(data: str) -> bool:
    """Whether the images of a source are generated or decoded at the size that is asked for."""
    return data in GENERATED_SOURCES or is_folder(data) or Path(data).suffix in LIST_SUFFIXES


def _relabelled(model: Model, images: ImageSet, names: list[str], data: str) -> ImageSet:
    """The images with the student's own numbers for their classes: by name, or, where one side has only numbers, in the same order.

    Raises:
        DataError: images of another shape, or classes that the student does not know.
    """
    height, width, channels = images.shape
    if (channels, height, width) != model.input_size:
        raise DataError(f"{data}: images of {height}x{width}x{channels}; the student takes {_size(model)}")
    known = model.class_names
    if len(names) > len(known):
        raise DataError(f"{data}: {len(names)} classes; the student knows {len(known)}")
    if names == known[: len(names)] or any(every == [str(i) for i in range(len(every))] for every in (names, known)):
        return images
    if unknown := [name for name in names if name not in known]:
        raise DataError(f"{data}: the student does not know its class {brief_repr(unknown[0])}; it knows {brief_repr(', '.join(known))}")
    numbers = np.array([known.index(name) for name in names])
    return RelabelledImages(images, numbers[images.labels])


def _size(model: Model) -> str:
    channels, height, width = model.input_size
    return f"{height}x{width}x{channels}"


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of an image, with their probabilities."""

    image: str
    classes: list[tuple[str, float]]


@torch.inference_mode()
def run_predict(model: Model, images: Sequence[str | Path], device: str = "cpu", top: int = 5) -> list[Prediction]:
    """Name the likeliest classes of image files; each is scaled and cut to the size that the network takes.

    Args:
        model: the student.
        images: files, and folders of which all images are meant, sorted by their paths.
        device: where.
        top: how many classes.

    Raises:
        DataError: a file that is no image, or a folder without any.
    """
    to_device(model.network.model, device)
    channels, side, _ = model.input_size
    paths = [path for image in images for path in _image_files(Path(image))]
    predictions = []
    for begin in range(0, len(paths), _AT_ONCE):
        several = paths[begin : begin + _AT_ONCE]
        batch = torch.from_numpy(_pixels(several, side, channels, model.crop_pct)).to(device).permute(0, 3, 1, 2)
        shares = model.network.model(model.network.normalise(batch)).softmax(1)
        best = shares.topk(min(top, shares.shape[1]))
        for path, values, classes in zip(several, best.values.tolist(), best.indices.tolist(), strict=True):
            found = [(model.class_names[i], p) for p, i in zip(values, classes, strict=True)]
            predictions.append(Prediction(str(path), found))
    return predictions


def _image_files(path: Path) -> list[Path]:
    """The image itself, or all images in a folder and in those below it."""
    if not is_folder(path):
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise DataError(f"{path}: a folder without images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def predictions_csv(predictions: Sequence[Prediction]) -> str:
    """A line for each image: its path, then each class with its probability, the likeliest first.

    >>> predictions_csv([Prediction("a.png", [("cat", 0.75), ("dog", 0.25)])]).splitlines()
    ['image,class_1,probability_1,class_2,probability_2', 'a.png,cat,0.75,dog,0.25']
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    count = max((len(one.classes) for one in predictions), default=0)
    writer.writerow(["image", *(f"{name}_{number}" for number in range(1, count + 1) for name in ("class", "probability"))])
    for one in predictions:
        writer.writerow([one.image, *(f"{value:.6g}" if isinstance(value, float) else value for pair in one.classes for value in pair)])
    return text.getvalue()


def _pixels(paths: Sequence[Path], side: int, channels: int, crop_pct: float) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The images as evaluation shows them: (n, side, side, channels) uint8."""
    missing = next((path for path in paths if not is_file(path)), None)
    if missing:
        raise DataError(f"{missing}: no such image")
    everything = np.arange(len(paths))
    pixels = DecodedImages(np.full(len(paths), -1, np.int64), side, Files(paths), crop_pct).images(everything)
    return pixels if channels == 3 else pixels.mean(3, keepdims=True).round().astype(np.uint8).repeat(channels, 3)
