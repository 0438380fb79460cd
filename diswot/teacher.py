"""Teachers: any network of the CIFAR zoo, of timm, or of your own, and the weights they come with."""

from __future__ import annotations

import hashlib
import importlib
import pickle
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diswot.errors import TeacherError, first_line
from diswot.models.init import seeded
from diswot.models.zoo import ZOO, zoo_name
from diswot.observe import FINAL, batch_statistics, observe
from diswot.registry import suggest

NORMS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
_WRAPPERS = ("state_dict", "model", "net", "model_state", "state_dict_ema", "model_ema")
_PREFIXES = ("module.", "_orig_mod.")
_CLASSIFIERS = ("linear.", "fc.", "head.", "classifier.", "head.fc.", "out.")


def build_teacher(
    name: str,
    num_classes: int,
    in_chans: int,
    input_size: int,
    weights: str = "random",
    *,
    needs: Collection[str] = FINAL,
    seed: int = 0,
) -> nn.Module:
    """The teacher called `name`, with the weights asked for; it has been run once on shapes, so it fits the images.

    Args:
        name: of the CIFAR zoo (`resnet56`), of timm (`resnet34`, or `timm/vgg13` where the zoo has the name too), or your own function as
            `mylab.models:net`, called with num_classes and in_chans.
        num_classes, in_chans, input_size: of the data.
        weights: `random`, `pretrained` (timm's own, downloaded), or a file.
        needs: the fields of `Observation` that it must show; for logits alone any network will do.
        seed: of weights that are not loaded.

    Raises:
        TeacherError: unknown name, weights that do not fit, or a network that cannot take the images.

    >>> build_teacher("resnet20", 10, 3, 32).num_features
    64
    """
    with seeded(seed):
        model = _create(name, num_classes, in_chans, input_size, weights)
    if weights not in ("random", "pretrained"):
        load_weights(model, Path(weights), name)
    _check_runs(model, name, (in_chans, input_size, input_size), num_classes, needs)
    return model


def _create(name: str, num_classes: int, in_chans: int, input_size: int, weights: str) -> nn.Module:
    if ":" in name:
        return _own(name, num_classes, in_chans)
    if zoo_name(name) in ZOO:
        if weights == "pretrained":
            raise TeacherError(f"{name} has no weights to download: give a file, or random")
        return ZOO[zoo_name(name)](num_classes=num_classes, in_chans=in_chans)
    return _timm(name.removeprefix("timm/"), num_classes, in_chans, input_size, weights)


def _own(name: str, num_classes: int, in_chans: int) -> nn.Module:
    module, _, attribute = name.partition(":")
    try:
        model = getattr(importlib.import_module(module), attribute)(num_classes=num_classes, in_chans=in_chans)
    except Exception as error:  # it is the user's own code
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise TeacherError(f"the teacher {name!r} cannot be made ({reason}): give module:function(num_classes, in_chans)") from None
    if not isinstance(model, nn.Module):
        raise TeacherError(f"the teacher {name!r} gave {type(model).__name__}, not a torch.nn.Module")
    return model


def _timm(name: str, num_classes: int, in_chans: int, input_size: int, weights: str) -> nn.Module:
    import timm

    if not timm.is_model(name):
        raise TeacherError(f"unknown teacher {name!r}: {suggest(name, [*ZOO, *timm.list_models()])}"[:300])
    kwargs: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_chans}
    cfg = timm.models.get_pretrained_cfg(name, allow_unregistered=True)
    if weights == "pretrained":
        kwargs |= {"pretrained": True}
        if cfg is not None and cfg.num_classes != num_classes:
            raise TeacherError(f"{name}: its weights know {cfg.num_classes} classes, the data has {num_classes}: fine-tune it first")
    elif cfg is not None and cfg.fixed_input_size:
        kwargs |= {"img_size": input_size}  # a transformer's position embedding is made for one size
    try:
        return timm.create_model(name, **kwargs)
    except (RuntimeError, OSError, ValueError, AssertionError, TypeError) as error:
        raise TeacherError(f"teacher {name} for {input_size}x{input_size} images cannot be made: {first_line(error)}") from None


def _check_runs(model: nn.Module, name: str, shape: tuple[int, int, int], num_classes: int, needs: Collection[str]) -> None:
    """One pass of shapes alone: a teacher for other images or classes fails here, in one line."""
    try:
        with torch.inference_mode(), batch_statistics(model):
            seen = observe(model, torch.zeros(2, *shape), needs)
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        raise TeacherError(f"teacher {name} cannot take {'x'.join(map(str, shape))} images: {first_line(error)}") from None
    if seen.logits.shape[1] != num_classes:
        raise TeacherError(f"teacher {name} knows {seen.logits.shape[1]} classes, the data has {num_classes}")


def normalisation(norm: str, mean: Tensor, std: Tensor, option: str = "--teacher-norm") -> tuple[Tensor, Tensor]:
    """What a teacher's images are normalised by: (mean, std), each (in_chans,).

    Args:
        norm: `data` (the data set's own, given as `mean` and `std`), `imagenet`, `half`, or numbers as `m,m,m/s,s,s`.
        option: what the user said it with.

    >>> normalisation("half", torch.zeros(3), torch.ones(3))[0].tolist()
    [0.5, 0.5, 0.5]
    """
    if norm == "data":
        return mean, std
    try:
        pair = NORMS.get(norm) or [[float(v) for v in part.split(",")] for part in norm.split("/")]
        new_mean, new_std = (torch.tensor(values, dtype=mean.dtype) for values in pair)
    except ValueError:
        raise TeacherError(f"{option} {norm!r}: write data, imagenet, half, or m,m,m/s,s,s") from None
    if (
        new_mean.shape != mean.shape
        or new_std.shape != mean.shape
        or not bool((new_std > 0).all() and (new_mean + new_std).isfinite().all())
    ):
        raise TeacherError(f"{option} {norm!r}: {len(mean)} means and {len(mean)} positive deviations are needed")
    return new_mean, new_std


def file_digest(path: str | Path) -> str:
    """First 12 hexadecimal digits of a file's SHA-256."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name: safetensors, or a torch file that holds nothing but tensors and plain values.

    Unwraps the usual keys (`state_dict`, `model`, `net`, ...) and strips the prefixes that wrappers leave (`module.`, `_orig_mod.`).
    """
    from safetensors.torch import load_file

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch.load, on how an old or a foreign file was pickled
            loaded = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TeacherError(f"{path}: no such weights file") from None
    except pickle.UnpicklingError:
        raise TeacherError(f"{path}: refused, it holds more than tensors (a pickle can run code): save the state_dict alone") from None
    except Exception as error:  # whatever a damaged or a hostile file makes the readers raise
        reason = first_line(error, 120)
        raise TeacherError(f"{path}: not a readable weights file ({reason}); a .safetensors or a torch.save of a state_dict is") from None
    for key in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    tensors = {str(k): v for k, v in loaded.items() if isinstance(v, Tensor)} if isinstance(loaded, Mapping) else {}
    if not tensors:
        raise TeacherError(f"{path}: it holds no tensors by name; the state_dict of a network is needed")
    return {_strip(key): value for key, value in tensors.items()}


def _strip(key: str) -> str:
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    return key


def load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Loads a checkpoint into `model`, all of it or nothing.

    A classifier under another of the usual names (linear, fc, head, classifier) is taken for the model's.

    Raises:
        TeacherError: says which keys are missing, which are not known and which have another shape.
    """
    weights = _rename_classifier(read_weights(path), model)
    wanted = model.state_dict()
    missing = [k for k in wanted if k not in weights and not k.endswith("num_batches_tracked")]
    unknown = [k for k in weights if k not in wanted]
    unlike = [k for k in wanted if k in weights and weights[k].shape != wanted[k].shape]
    if not (missing or unknown or unlike):
        model.load_state_dict(weights, strict=False)
        return
    if unlike and not (missing or unknown) and all(wanted[k].shape[1:] == weights[k].shape[1:] for k in unlike):
        theirs, ours = len(weights[unlike[0]]), len(wanted[unlike[0]])
        raise TeacherError(f"{path}: these weights know {theirs} classes, the data has {ours}: use data of {theirs} classes")
    faults = [
        f"{label} {keys[0]}" + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
        for label, keys in (("missing", missing), ("unknown", unknown), ("of another shape", unlike))
        if keys
    ]
    raise TeacherError(f"{path} does not fit {name}: {'; '.join(faults)}{_remedy(name, missing, unknown)}")


def _remedy(name: str, missing: list[str], unknown: list[str]) -> str:
    other = f"{zoo_name(name)}_pad"
    if missing and not unknown and other in ZOO and all("downsample" in key for key in missing):
        return f": its shortcuts have no parameters, use {other}"
    if unknown and not missing and all("downsample" in key for key in unknown):
        return f": its shortcuts are convolutions, use {zoo_name(name).removesuffix('_pad')}"
    return ""


def _rename_classifier(weights: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    wanted = model.state_dict()
    ours = next((p for p in _CLASSIFIERS if p + "weight" in wanted and p + "weight" not in weights), None)
    theirs = next((p for p in _CLASSIFIERS if p + "weight" in weights and p + "weight" not in wanted), None)
    if ours is None or theirs is None:
        return weights
    return {(ours + k.removeprefix(theirs) if k.startswith(theirs) else k): v for k, v in weights.items()}
