"""Students as networks and as folders: built from an architecture, kept with what they must know of their images, loaded again."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diswot import runs
from diswot.architecture import Architecture, arch_json, read_arch_json
from diswot.data import Dataset
from diswot.errors import ConfigError, RunError, brief_repr, first_line
from diswot.files import is_file
from diswot.models.init import initialise, seeded
from diswot.models.named import read_architecture
from diswot.models.teachers import normalisation
from diswot.models.timm_choice import TIMM, create_timm
from diswot.models.wrapped import student_of
from diswot.space import ImageSpec, load_space
from diswot.training.checkpoint import load_tensors, save_tensors
from diswot.training.evaluation import Network, Normalise

STUDENT, STUDENTS = "student", "students"
PRETRAINED = "pretrained"
WEIGHTS = "model.safetensors"
_MOST = 100_000  # classes, channels or pixels that a file may name
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,39}")  # of a student, which its folder is called too


@dataclass(frozen=True)
class StudentEntry:
    """A student that is asked for: its architecture, and what its arch.json says of how it was found."""

    arch: Architecture
    provenance: Mapping[str, Any] = field(default_factory=dict)


def read_entry(text: str, space: str | None = None) -> StudentEntry:
    """A student from what a user types (`diswot.models.named.read_architecture`); one in a file is called as the file is.

    Args:
        text: what was typed.
        space: the space of choices that are typed.
    """
    arch, provenance = read_architecture(text, space)
    stem = Path(text).stem
    is_named = text.endswith(".json") and _NAME.fullmatch(stem)
    return StudentEntry(arch, {**provenance, "name": stem} if is_named else provenance)


def display_name(arch: Architecture) -> str:
    """The name of a hand-made network, or the digest of any other.

    >>> display_name(Architecture("zoo", "timm/resnet18")), display_name(Architecture("resnet_depth", {"depths": [1, 1, 1]}))
    ('resnet18', '61ba557344e0')
    """
    if arch.space == "simkd":
        return display_name(student_of(arch))
    return str(arch.choices).removeprefix("timm/") if arch.space == "zoo" else arch.digest


def _said_name(entry: StudentEntry) -> str:
    """The name of the file that the user gave, else what an arch.json of a search's finalists says that the network is, as winner; else
    ""."""
    said = (entry.provenance.get(key) for key in ("name", "role"))
    return next((name for name in said if isinstance(name, str) and _NAME.fullmatch(name)), "")


def student_names(entries: Sequence[StudentEntry]) -> list[str]:
    """The names of students, for the log and for folders: of their files, the roles of finalists, else of the networks; numbered where one
    comes again."""
    return numbered([_said_name(entry) or display_name(entry.arch) for entry in entries])


def numbered(names: Sequence[str]) -> list[str]:
    """Return names of which no two are alike: one that comes again is numbered.

    >>> numbered(["kd", "dkd", "kd"])
    ['kd', 'dkd', 'kd-2']
    """
    counts: Counter[str] = Counter()
    found = []
    for name in names:
        counts[name] += 1
        found.append(name if counts[name] == 1 else f"{name}-{counts[name]}")
    return found


def build_student(arch: Architecture, spec: ImageSpec, seed: int, trusted: bool = False, drop_path: float = 0.0) -> nn.Module:
    """Build the network of an architecture, freshly initialised by the seed: Kaiming, but timm's networks as timm does it.

    Args:
        arch: the architecture.
        spec: classes and channels of the images.
        seed: random seed of the weights.
        trusted: whether the space may be a module of the user's own.
        drop_path: probability that timm's networks drop a residual path in training.
    """
    space = load_space(arch.space, trusted=trusted)
    space.check(arch)
    hand_made = arch.space == "zoo"
    if drop_path and not hand_made:
        raise ConfigError(f"--drop-path {drop_path}: the networks of {arch.space} have no paths to drop; timm's have")
    options = {"drop_path": drop_path} if hand_made else {}
    with seeded(seed):
        model = space.build(arch, spec.num_classes, spec.in_chans, **options)
    if not (hand_made and str(arch.choices).startswith("timm/")):
        initialise(model, "kaiming", seed)
    return model


def load_pretrained(model: nn.Module, arch: Architecture, spec: ImageSpec) -> None:
    """Load timm's weights into a network of timm; a classifier of other classes than theirs stays as it is.

    Raises:
        ConfigError: the network is not timm's, or its weights cannot be had.
    """
    choice, flag = str(arch.choices), f"--weights {PRETRAINED}"
    if not (arch.space == "zoo" and choice.startswith(TIMM)):
        raise ConfigError(f"{flag}: {display_name(arch)} has no weights to download, networks of timm have: give a file, or leave it out")
    try:
        pretrained = create_timm(choice, spec.num_classes, spec.in_chans, pretrained=True)
    except (RuntimeError, OSError, ValueError, AssertionError, KeyError) as error:
        raise ConfigError(f"{flag}: the weights of {display_name(arch)} cannot be had: {first_line(error, 160)}") from None
    tensors = pretrained.state_dict()
    cfg = getattr(model, "pretrained_cfg", {})
    if cfg.get("num_classes") != spec.num_classes:
        heads = (cfg.get("classifier"),) if isinstance(cfg.get("classifier"), str) else tuple(cfg.get("classifier") or ())
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(tuple(f"{head}." for head in heads))}
    model.load_state_dict({**model.state_dict(), **tensors})


def save_student(folder: Path, entry: StudentEntry, student: Network, data: Dataset, crop_pct: float = 1.0) -> None:
    """Write a student alone: its weights, its arch.json, and what it must know of its images."""
    image_facts = {
        "num_classes": data.num_classes,
        "in_chans": data.in_chans,
        "input_size": data.input_size,
        "crop_pct": crop_pct,
        "mean": student.normalise.mean.tolist(),
        "std": student.normalise.std.tolist(),
        "class_names": data.class_names,
    }
    write_student(folder, entry, student.model, image_facts)


def write_student(folder: Path, entry: StudentEntry, model: nn.Module, image_facts: Mapping[str, Any]) -> None:
    """Write the files of a student's folder: arch.json, timm's config.json, and the weights with the facts on its images."""
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_atomic(folder / "arch.json", arch_json(entry.arch, entry.provenance))
    runs.write_atomic(folder / "config.json", json.dumps(_timm_config(entry.arch, model, image_facts), indent=2) + "\n")
    save_tensors(folder / WEIGHTS, model.state_dict(), image_facts)


def _timm_config(arch: Architecture, model: nn.Module, image_facts: Mapping[str, Any]) -> dict[str, Any]:
    """timm's own description of a network, which makes of the folder one that `timm.create_model("local-dir:...")` loads."""
    side = image_facts["input_size"]
    return {
        "architecture": "diswot_student",  # of diswot.models.student, which imports timm: not here, since that takes seconds
        "num_classes": image_facts["num_classes"],
        "num_features": model.num_features,
        "model_args": {"space": arch.space, "choices": arch.choices},
        "pretrained_cfg": {
            "input_size": [image_facts["in_chans"], side, side],
            "mean": image_facts["mean"],
            "std": image_facts["std"],
            "interpolation": "bicubic",
            "crop_pct": image_facts["crop_pct"],
            "label_names": image_facts["class_names"],
        },
    }


def teacher_normalisation(norm: str, weights: str, data: Dataset, option: str = "--teacher-norm") -> Normalise:
    """Return the mean and the deviation that a teacher's images are normalised by.

    Args:
        norm: see `diswot.models.teachers.normalisation`; `data` means as the weights file says, where a student of ours is in it, else by
            all training images, whichever of them train.
        weights: a file, or pretrained.
        data: the images.
        option: the flag that the user said it with.
    """
    if norm == "data" and weights.endswith(".safetensors"):
        _, facts = load_tensors(Path(weights))
        if _are_numbers(facts.get("mean"), data.in_chans) and _are_numbers(facts.get("std"), data.in_chans):
            return Normalise(torch.tensor(facts["mean"]), torch.tensor(facts["std"]))
    mean, std = (torch.from_numpy(values) for values in data.statistics)
    return Normalise(*normalisation(norm, mean, std, option))


def _are_numbers(value: Any, count: int) -> bool:
    """Whether something read from a file is a list of so many finite numbers."""
    return isinstance(value, list) and len(value) == count and all(type(one) in (int, float) and abs(one) < _MOST for one in value)


def _fault_of_facts(facts: Mapping[str, Any]) -> str:
    """What of the facts on its images that a student's file holds cannot be used, or ""."""
    for name in ("num_classes", "in_chans", "input_size"):
        if type(facts.get(name)) is not int or not 1 <= facts[name] <= _MOST:
            return f"{name} {brief_repr(facts.get(name))}"
    if not _are_numbers([facts.get("crop_pct")], 1) or not 0 < facts["crop_pct"] <= 1:
        return f"crop_pct {brief_repr(facts.get('crop_pct'))}"
    for name in ("mean", "std"):
        if not _are_numbers(facts.get(name), facts["in_chans"]) or (name == "std" and min(facts[name]) <= 0):
            return f"{name} {brief_repr(facts.get(name))}"
    names = facts.get("class_names")
    fit = isinstance(names, list) and len(names) >= facts["num_classes"] and all(isinstance(one, str) for one in names)
    return "" if fit else f"class_names, {brief_repr(names)},"


def student_folder(folder: Path) -> Path:
    """The folder of a student: the one that is given, or inside of it, where that is the folder of a run.

    Raises:
        ConfigError: no student is there.
    """
    for found in (folder, folder / "student"):
        if is_file(found / WEIGHTS):
            return found
    raise ConfigError(f"{folder}: no student is there (a folder with arch.json and {WEIGHTS}, as runs/NAME/student)")


def load_student(folder: str | Path, *, space: str | None = None) -> nn.Module:
    """Load the student that a training left in `runs/<name>/student`, in evaluation mode.

    Its `pretrained_cfg` says, as timm's do, what images it takes: input_size (C, H, W), crop_pct (fraction of an image's shorter side),
    mean, std, num_classes, and class_names.

    Args:
        folder: holds arch.json and model.safetensors; or the folder of the run.
        space: name of a space of your own, to allow it to be imported.

    Raises:
        DiswotError: a file is missing or damaged, or the weights do not fit the architecture.
    """
    for name, value, kinds in (("folder", folder, str | Path), ("space", space, str | None)):
        if not isinstance(value, kinds):
            raise ConfigError(f"{name} {brief_repr(value)}: {'a path' if name == 'folder' else 'text'} is needed")
    folder = student_folder(Path(folder))
    arch, _ = read_arch_json(folder / "arch.json")
    tensors, facts = load_tensors(folder / WEIGHTS)
    if fault := _fault_of_facts(facts):
        raise RunError(f"{folder / WEIGHTS}: its {fault} cannot be used: was it written by `diswot distill`?")
    try:
        spec = ImageSpec(facts["num_classes"], facts["in_chans"], facts["input_size"])
        model = build_student(arch, spec, 0, trusted=space == arch.space)
        if any(tensors[name].dtype != tensor.dtype for name, tensor in model.state_dict().items()):
            raise TypeError
        model.load_state_dict(tensors)
        model.pretrained_cfg = {  # type: ignore[assignment]
            "input_size": spec.shape,
            **{key: facts[key] for key in ("crop_pct", "mean", "std", "num_classes", "class_names")},
        }
    except (KeyError, RuntimeError, TypeError, ValueError):
        raise RunError(f"{folder}: the weights are not those of its arch.json: is it whole?") from None
    return model.eval()
