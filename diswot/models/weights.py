"""Weights files: read safely, and loaded into a network all of them or not at all."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from diswot.errors import TeacherError, brief_repr, first_line
from diswot.files import digest, require_regular
from diswot.models.zoo import ZOO, zoo_name

_WRAPPERS = ("state_dict", "model", "net", "model_state", "state_dict_ema", "model_ema")
_PREFIXES = ("module.", "_orig_mod.")
_CLASSIFIERS = ("linear.", "fc.", "head.", "classifier.", "head.fc.", "out.")


def file_digest(path: str | Path) -> str:
    """First 12 hexadecimal digits of a file's SHA-256."""
    return digest(path)[:12]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file by name: safetensors, or a torch file that holds nothing but tensors and plain values.

    Unwraps the usual keys (`state_dict`, `model`, `net`, ...) and strips the prefixes that wrappers leave (`module.`, `_orig_mod.`).
    """
    from safetensors.torch import load_file

    try:
        require_regular(path)
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
    for key, value in tensors.items():
        if value.layout is not torch.strided or value.is_meta or value.is_complex() or value.is_quantized:
            kind = "without values" if value.is_meta else f"{value.dtype}, {value.layout}".replace("torch.", "")
            raise TeacherError(f"{path}: the tensor {brief_repr(key)} is {kind}: dense tensors of real numbers are needed")
    return {_strip(key): value for key, value in tensors.items()}


def _strip(key: str) -> str:
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    return key


def load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Load a checkpoint into `model`, all of it or nothing.

    A classifier under another of the usual names (linear, fc, head, classifier) is taken for the model's; a model without one leaves it.

    Raises:
        TeacherError: says which keys are missing, which are not known and which have another shape.
    """
    weights = _rename_classifier(read_weights(path), model)
    wanted = model.state_dict()
    missing = [k for k in wanted if k not in weights and not k.endswith("num_batches_tracked")]
    unknown = [k for k in weights if k not in wanted]
    unlike = [k for k in wanted if k in weights and weights[k].shape != wanted[k].shape]
    if whole := next((k for k in wanted if k in weights and wanted[k].is_floating_point() and not weights[k].is_floating_point()), None):
        raise TeacherError(f"{path}: {whole} holds {str(weights[whole].dtype).removeprefix('torch.')}: floating-point weights are needed")
    if not (missing or unknown or unlike):
        model.load_state_dict(weights, strict=False)
        return
    others_fit = all(weights[k].ndim and wanted[k].shape[1:] == weights[k].shape[1:] for k in unlike)
    if unlike and not (missing or unknown) and others_fit:
        theirs, ours = len(weights[unlike[0]]), len(wanted[unlike[0]])
        raise TeacherError(f"{path}: these weights know {theirs} classes, the data has {ours}: use data of {theirs} classes")
    faults = [
        f"{label} {keys[0]}" + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
        for label, keys in (("missing", missing), ("unknown", unknown), ("of another shape", unlike))
        if keys
    ]
    raise TeacherError(f"{path} does not fit {name}: {'; '.join(faults)}{_remedy(name, missing, unknown)}")


def _remedy(name: str, missing: list[str], unknown: list[str]) -> str:
    if missing and not unknown and all(key.startswith(_CLASSIFIERS) for key in missing):
        return ": it has no classifier, use a loss of features, as rkd, or the proxy relation"
    other = f"{zoo_name(name)}_pad"
    if missing and not unknown and other in ZOO and all("downsample" in key for key in missing):
        return f": its shortcuts have no parameters, use {other}"
    if unknown and not missing and all("downsample" in key for key in unknown):
        return f": its shortcuts are convolutions, use {zoo_name(name).removesuffix('_pad')}"
    return ""


def _rename_classifier(weights: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    wanted = model.state_dict()
    if not any(p + "weight" in wanted for p in _CLASSIFIERS):
        return {k: v for k, v in weights.items() if k in wanted or not k.startswith(_CLASSIFIERS)}
    ours = next((p for p in _CLASSIFIERS if p + "weight" in wanted and p + "weight" not in weights), None)
    theirs = next((p for p in _CLASSIFIERS if p + "weight" in weights and p + "weight" not in wanted), None)
    if ours is None or theirs is None:
        return weights
    return {(ours + k.removeprefix(theirs) if k.startswith(theirs) else k): v for k, v in weights.items()}
