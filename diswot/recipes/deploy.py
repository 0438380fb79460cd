"""After training: how good a network is on other data, what it sees in an image, and files that others can run."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diswot.architecture import read_arch_json
from diswot.data import Dataset, load_data
from diswot.data.images import ImageSet, RelabelledImages, cropped, square, upright
from diswot.data.sources import DRAWN, LIST_SUFFIXES, Files
from diswot.devices import place
from diswot.errors import ConfigError, DataError, first_line, shown
from diswot.recipes.students import WEIGHTS, load_student, of_teacher, write_student
from diswot.teacher import build_teacher
from diswot.training.checkpoint import load_tensors
from diswot.training.evaluation import Accuracy, Network, Normalise, evaluate

SUFFIXES = {".onnx": "ONNX", ".pt2": "torch.export"}
_TOLERANCE = 1e-4  # of exported logits, relative to the largest


@dataclass(frozen=True)
class Model:
    """A network that is ready to be used: what images it takes and what its classes are called."""

    network: Network
    input_size: tuple[int, int, int]
    class_names: list[str]
    folder: Path
    crop_share: float = 1.0


def student_model(folder: str | Path, space: str | None = None) -> Model:
    """The student in a folder; the folder of its run will do as well.

    Raises:
        DiswotError: nothing is there, or it is damaged.
    """
    path = Path(folder)
    if not (path / WEIGHTS).is_file() and (path / "student" / WEIGHTS).is_file():
        path = path / "student"
    if not (path / WEIGHTS).is_file():
        raise ConfigError(f"{path}: no student is there (a folder with arch.json and {WEIGHTS}, as runs/NAME/student)")
    model = load_student(path, space=space)
    cfg: Any = model.pretrained_cfg
    normalise = Normalise(torch.tensor(cfg["mean"]), torch.tensor(cfg["std"]))
    return Model(Network(model, normalise), tuple(cfg["input_size"]), list(cfg["class_names"]), path, cfg["crop_pct"])


@dataclass(frozen=True)
class Evaluation:
    """Accuracy of a network on a split of a data set."""

    data: str
    split: str
    accuracy: Accuracy


def run_evaluate(
    what: str,
    data: str,
    *,
    weights: str | None = None,
    norm: str | None = None,
    crop_share: float | None = None,
    split: str | None = None,
    device: str = "cpu",
    space: str | None = None,
    **image_options: Any,
) -> Evaluation:
    """Measures a student's folder, or a network by name with its weights.

    Args:
        what: a folder, or a teacher's name.
        weights: of a name: a file, or pretrained.
        norm, crop_share: of a name: as `--teacher-norm` (data) and `--crop-share` (1); a student knows its own.
        split: test or train; test where there is one.
    """
    model = student_model(what, space) if weights is None else None
    if model is not None and (norm is not None or crop_share is not None):
        raise ConfigError(f"{'--norm' if norm is not None else '--crop-share'}: a student knows its own; leave it out")
    if model is None and Path(what).is_dir():
        raise ConfigError(f"--weights: {what} is a student's folder and has its own; leave it out")
    if model is not None and _takes_a_size(data):
        image_options["input_size"] = model.input_size[1]
    if model is not None and data in DRAWN:
        image_options["num_classes"] = len(model.class_names)
    loaded = load_data(data, **image_options)
    split = split or ("test" if loaded.test is not None else "train")
    images = {"test": loaded.test, "train": loaded.train}.get(split)
    if images is None:
        raise DataError(f"--split {split}: {data} has {'no test images' if split == 'test' else 'the splits train and test'}")
    if model is not None:
        network, images = model.network, _as_known(model, images, loaded.class_names, data)
    else:
        network = _named(what, str(weights), norm or "data", loaded)
    images = cropped(images, model.crop_share if model is not None else 1.0 if crop_share is None else crop_share)
    place(network.model, device)
    return Evaluation(data, split, evaluate(network, images, device))


def _named(name: str, weights: str, norm: str, data: Dataset) -> Network:
    model = build_teacher(name, data.num_classes, data.in_chans, data.input_size, weights, needs=("logits",))
    return Network(model, of_teacher(norm, weights, data, "--norm"))


def _takes_a_size(data: str) -> bool:
    """Whether its images are drawn or decoded at the size that is asked for."""
    return data in DRAWN or Path(data).is_dir() or Path(data).suffix in LIST_SUFFIXES


def _as_known(model: Model, images: ImageSet, names: list[str], data: str) -> ImageSet:
    """The images with the student's own numbers for their classes: by name, or, where one side has but numbers, in the same order.

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
        raise DataError(f"{data}: the student does not know its class {shown(unknown[0])}; it knows {shown(', '.join(known))}")
    places = np.array([known.index(name) for name in names])
    return RelabelledImages(images, places[images.labels])


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
    """What a network sees in image files: each is scaled and cut to the size it takes.

    Raises:
        DataError: a file that is no image.
    """
    place(model.network.model, device)
    channels, side, _ = model.input_size
    predictions = []
    for path in images:
        pixels = torch.from_numpy(_read(Path(path), side, channels, model.crop_share))[None].to(device).permute(0, 3, 1, 2)
        shares = model.network.model(model.network.normalise(pixels)).softmax(1)[0]
        best = shares.topk(min(top, len(shares)))
        found = [(model.class_names[i], p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]
        predictions.append(Prediction(str(path), found))
    return predictions


def _read(path: Path, side: int, channels: int, crop_share: float) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if not path.is_file():
        raise DataError(f"{path}: {'a folder; name the images in it' if path.is_dir() else 'no such image'}")
    try:
        pixels = square(upright(Files([path]).open(0)), side, crop_share)
    except Exception as error:  # whatever a damaged file makes a decoder raise
        raise DataError(f"{path}: not a readable image ({first_line(error)})") from None
    return pixels if channels == 3 else pixels.mean(2, keepdims=True).round().astype(np.uint8).repeat(channels, 2)


@dataclass(frozen=True)
class Exported:
    """A file or folder that was written, and how far the outputs of what is in it are from torch's, relative to the largest."""

    path: Path
    kind: str
    difference: float


def run_export(model: Model, target: Path) -> Exported:
    """Writes a student for others: `NAME.onnx`, `NAME.pt2` (torch.export), or a folder that timm loads.

    ONNX and torch.export take normalised images (B, C, H, W), any B; what is written is run and compared with torch before it is kept.

    Raises:
        ConfigError: an unknown suffix, a package that is missing, a file that is there, or outputs that differ.
    """
    if target.exists():
        raise ConfigError(f"{target} exists: remove it, or choose another name")
    if target.suffix and target.suffix not in SUFFIXES:
        raise ConfigError(f"{shown(str(target))}: a name ending in {', '.join(SUFFIXES)}, or a folder for timm, is needed")
    if not target.parent.is_dir():
        raise ConfigError(f"{target}: there is no folder {target.parent}")
    net = model.network.model.to("cpu").eval()
    images = torch.randn(2, *model.input_size, generator=torch.Generator().manual_seed(0))
    write = {".onnx": _export_onnx, ".pt2": _export_torch}.get(target.suffix, _export_timm)
    temporary = target.with_name(f".tmp-{target.name}")
    _remove(temporary)  # of an export that was killed
    _try_to_write(temporary)
    try:
        outputs = write(model, net, images, temporary)
        difference = _difference(net, images, outputs)
        if not difference <= _TOLERANCE:
            raise ConfigError(f"{target}: not written, its outputs differ from torch's by {difference:.2g} of the largest")
        temporary.rename(target)
    finally:
        _remove(temporary)
    return Exported(target, SUFFIXES.get(target.suffix, "timm"), difference)


def _try_to_write(path: Path) -> None:
    """The writers of torch say little of a folder that takes nothing."""
    try:
        path.touch()
        path.unlink()
    except OSError as error:
        raise ConfigError(f"{path.parent}: nothing can be written there ({error.strerror}): choose another folder") from None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


@torch.inference_mode()
def _difference(net: nn.Module, images: Tensor, outputs: Tensor) -> float:
    expected = net(images)
    return float((outputs - expected).abs().max() / expected.abs().max().clamp_min(1e-12))


def _export_onnx(model: Model, net: nn.Module, images: Tensor, target: Path) -> Tensor:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise ConfigError(f"ONNX needs the package {error.name}: pip install 'diswot[export]'") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, on its own insides
        names: dict[str, Any] = {"input_names": ["images"], "output_names": ["logits"]}
        batch = torch.export.Dim("batch", min=1)
        torch.onnx.export(net, (images,), str(target), dynamo=True, dynamic_shapes=({0: batch},), verbose=False, **names)
    written = onnx.load(str(target))
    onnx.helper.set_model_props(written, {key: json.dumps(value) for key, value in _images(model).items()})
    onnx.save_model(written, str(target), save_as_external_data=False)
    target.with_name(f"{target.name}.data").unlink(missing_ok=True)  # the weights are in the file itself
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _export_torch(model: Model, net: nn.Module, images: Tensor, target: Path) -> Tensor:
    program = torch.export.export(net, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    torch.export.save(program, str(target.with_suffix(".pt2")), extra_files={"images.json": json.dumps(_images(model))})
    return torch.export.load(str(target)).module()(images)


def _images(model: Model) -> dict[str, Any]:
    """What who runs the file must know of its images."""
    mean, std = model.network.normalise.mean.tolist(), model.network.normalise.std.tolist()
    return {"mean": mean, "std": std, "crop_pct": model.crop_share, "class_names": model.class_names}


def _export_timm(model: Model, net: nn.Module, images: Tensor, target: Path) -> Tensor:
    arch, found_by = read_arch_json(model.folder / "arch.json")
    tensors, notes = load_tensors(model.folder / WEIGHTS)
    net.load_state_dict(tensors)
    write_student(target, arch, found_by, net, notes)
    return load_student(target)(images)
