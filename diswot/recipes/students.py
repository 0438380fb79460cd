"""Students as networks and as folders: built by their architecture, kept with what they must know of their images, loaded again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diswot import runs
from diswot.architecture import Architecture, arch_json, read_arch_json
from diswot.data import Dataset
from diswot.errors import ConfigError, RunError
from diswot.models.init import initialise, seeded
from diswot.models.student import ENTRY
from diswot.space import load_space
from diswot.teacher import normalisation
from diswot.training.checkpoint import load_tensors, save_tensors
from diswot.training.evaluation import Network, Normalise

STUDENT, STUDENTS = "student", "students"
WEIGHTS = "model.safetensors"


def build_student(
    arch: Architecture, num_classes: int, in_chans: int, seed: int, trusted: bool = False, drop_path: float = 0.0
) -> nn.Module:
    """The network of an architecture, freshly initialised by the seed: Kaiming, but timm's networks as timm does it.

    Args:
        trusted: whether the space may be a module of the user's own.
        drop_path: share of residual paths that timm's networks drop in training.
    """
    space = load_space(arch.space, trusted=trusted)
    space.check(arch)
    hand_made = arch.space == "zoo"
    if drop_path and not hand_made:
        raise ConfigError(f"--drop-path {drop_path}: the networks of {arch.space} have no paths to drop; timm's have")
    options = {"drop_path": drop_path} if hand_made else {}
    with seeded(seed):
        model = space.build(arch, num_classes, in_chans, **options)
    if not (hand_made and str(arch.choices).startswith("timm/")):
        initialise(model, "kaiming", seed)
    return model


def save_student(
    folder: Path, arch: Architecture, found_by: Mapping[str, Any], student: Network, data: Dataset, crop_share: float = 1.0
) -> None:
    """The student alone: its weights, its arch.json, and what it must know of its images."""
    notes = {
        "num_classes": data.num_classes,
        "in_chans": data.in_chans,
        "input_size": data.input_size,
        "crop_share": crop_share,
        "mean": student.normalise.mean.tolist(),
        "std": student.normalise.std.tolist(),
        "class_names": data.class_names,
    }
    write_student(folder, arch, found_by, student.model, notes)


def write_student(folder: Path, arch: Architecture, found_by: Mapping[str, Any], model: nn.Module, notes: Mapping[str, Any]) -> None:
    """The files of a student's folder: arch.json, timm's config.json, and the weights with `notes` on its images."""
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_atomic(folder / "arch.json", arch_json(arch, found_by))
    runs.write_atomic(folder / "config.json", json.dumps(_for_timm(arch, model, notes), indent=2) + "\n")
    save_tensors(folder / WEIGHTS, model.state_dict(), notes)


def _for_timm(arch: Architecture, model: nn.Module, notes: Mapping[str, Any]) -> dict[str, Any]:
    """timm's own description of a network, which makes of the folder one that `timm.create_model("local-dir:...")` loads."""
    side = notes["input_size"]
    share = notes.get("crop_share", 1.0)  # the first students that were kept do not say
    images = {"input_size": [notes["in_chans"], side, side], "crop_pct": share, "mean": notes["mean"], "std": notes["std"]}
    return {
        "architecture": ENTRY,
        "num_classes": notes["num_classes"],
        "num_features": model.num_features,
        "model_args": {"space": arch.space, "choices": arch.choices},
        "pretrained_cfg": {
            **images,
            "interpolation": "bicubic",
            "crop_pct": notes.get("crop_share", 1.0),
            "label_names": notes["class_names"],
        },
    }


def of_teacher(norm: str, weights: str, data: Dataset, option: str = "--teacher-norm") -> Normalise:
    """How a teacher's images are normalised: as `norm` says; `data` means as the weights file says, where a student of ours is in it, else
    by all training images, whichever of them train.

    Args:
        norm: see `diswot.teacher.normalisation`.
        weights: a file, or pretrained.
        option: what the user said it with.
    """
    if norm == "data" and weights.endswith(".safetensors"):
        _, notes = load_tensors(Path(weights))
        if len(notes.get("mean", ())) == len(notes.get("std", ())) == data.in_chans:
            return Normalise(torch.tensor(notes["mean"]), torch.tensor(notes["std"]))
    mean, std = (torch.from_numpy(values) for values in data.statistics)
    return Normalise(*normalisation(norm, mean, std, option))


def load_student(folder: str | Path, *, space: str | None = None) -> nn.Module:
    """The student that a distillation left in `runs/<name>/student`, in evaluation mode.

    Its `pretrained_cfg` says, as timm's do, what images it takes: input_size (C, H, W), crop_pct (share of an image's shorter side), mean,
    std, num_classes, and class_names.

    Args:
        folder: holds arch.json and model.safetensors.
        space: name of a space of your own, to allow it to be imported.

    Raises:
        DiswotError: a file is missing or damaged, or the weights do not fit the architecture.
    """
    folder = Path(folder)
    arch, _ = read_arch_json(folder / "arch.json")
    tensors, notes = load_tensors(folder / WEIGHTS)
    try:
        model = build_student(arch, notes["num_classes"], notes["in_chans"], 0, trusted=space == arch.space)
        model.load_state_dict(tensors)
        side = notes["input_size"]
        model.pretrained_cfg = {  # type: ignore[assignment]
            "input_size": (notes["in_chans"], side, side),
            "crop_pct": notes.get("crop_share", 1.0),
            **{key: notes[key] for key in ("mean", "std", "num_classes", "class_names")},
        }
    except (KeyError, RuntimeError, TypeError, ValueError):
        raise RunError(f"{folder}: the weights are not those of its arch.json: is it whole?") from None
    return model.eval()
