"""Files that others can run: ONNX, torch.export, and a folder that timm loads."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diswot.architecture import read_arch_json
from diswot.distillation.students import WEIGHTS, StudentEntry, load_student, write_student
from diswot.errors import ConfigError, brief_repr
from diswot.inference import Model
from diswot.latency.runtimes import write_onnx
from diswot.model_card import model_card
from diswot.runs import write_atomic
from diswot.training.checkpoint import load_tensors

SUFFIXES = {".onnx": "ONNX", ".pt2": "torch.export"}
_TOLERANCE = 1e-4  # of exported logits, relative to the largest


@dataclass(frozen=True)
class Exported:
    """A file or folder that was written; `difference` is how far its outputs are from torch's, relative to the largest."""

    path: Path
    kind: str
    difference: float


def run_export(model: Model, target: Path) -> Exported:
    """Write a student for others: `NAME.onnx`, `NAME.pt2` (torch.export), or a folder that timm loads, with a model card (README.md), as
    the Hugging Face hub takes it.

    ONNX and torch.export take normalised images (B, C, H, W), any B; what is written is run and compared with torch before it is kept.

    Raises:
        ConfigError: an unknown suffix, a package that is missing, a file that is there, or outputs that differ.
    """
    check_target(target)
    if target.suffix and target.suffix not in SUFFIXES:
        raise ConfigError(f"{brief_repr(str(target))}: a name ending in {', '.join(SUFFIXES)}, or a folder for timm, is needed")
    net = model.network.model.to("cpu").eval()
    images = torch.randn(2, *model.input_size, generator=torch.Generator().manual_seed(0))
    write = {".onnx": _export_onnx, ".pt2": _export_torch}.get(target.suffix, _export_timm)
    temporary = target.with_name(f".tmp-{target.name}")
    _remove(temporary)  # of an export that was killed
    _check_writable(temporary)
    try:
        outputs = write(model, net, images, temporary)
        difference = _difference(net, images, outputs)
        if not difference <= _TOLERANCE:
            raise ConfigError(f"{target}: not written, its outputs differ from torch's by {difference:.2g} of the largest")
        temporary.rename(target)
    finally:
        _remove(temporary)
    return Exported(target, SUFFIXES.get(target.suffix, "timm"), difference)


def check_target(target: Path) -> None:
    """Refuse a target that is there, or whose folder is not.

    Raises:
        ConfigError: names it.
    """
    if target.exists():
        raise ConfigError(f"{target} exists: remove it, or choose another name")
    if not target.parent.is_dir():
        raise ConfigError(f"{target}: there is no folder {target.parent}")


def _check_writable(path: Path) -> None:
    """Refuse a folder that nothing can be written to, of which torch's writers say little."""
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
    return relative_difference(outputs, net(images))


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference between two tensors, relative to the largest value that is expected.

    >>> relative_difference(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 4.0]))
    0.25
    """
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12))


def _export_onnx(model: Model, net: nn.Module, images: Tensor, target: Path) -> Tensor:
    write_onnx(net, images, target, any_batch=True, facts={key: json.dumps(value) for key, value in _images(model).items()})
    import onnxruntime

    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _export_torch(model: Model, net: nn.Module, images: Tensor, target: Path) -> Tensor:
    program = torch.export.export(net, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    content = io.BytesIO()  # torch ends the process where it meets a full disk
    torch.export.save(program, content, extra_files={"images.json": json.dumps(_images(model))})
    write_atomic(target, content.getvalue())
    return torch.export.load(str(target)).module()(images)


def _images(model: Model) -> dict[str, Any]:
    """Return what a user of the exported file must know of its images."""
    mean, std = model.network.normalise.mean.tolist(), model.network.normalise.std.tolist()
    return {"mean": mean, "std": std, "crop_pct": model.crop_pct, "class_names": model.class_names}


def _export_timm(model: Model, net: nn.Module, images: Tensor, target: Path) -> Tensor:
    entry = StudentEntry(*read_arch_json(model.folder / "arch.json"))
    tensors, facts = load_tensors(model.folder / WEIGHTS)
    net.load_state_dict(tensors)
    write_student(target, entry, net, facts)
    write_atomic(target / "README.md", model_card(model.folder, trusted=model.space is not None))
    return load_student(target, space=model.space)(images)
