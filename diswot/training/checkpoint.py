"""Files of tensors, and the last two checkpoints of a training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from diswot.errors import RunError, first_line
from diswot.files import require_regular
from diswot.runs import write_atomic

NEWEST, PREVIOUS = "last.safetensors", "before.safetensors"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
    """Write tensors as safetensors, with plain values beside them in the header, atomically."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, save(plain, metadata={"diswot": json.dumps(dict(notes), sort_keys=True)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises:
        RunError: the file is missing, damaged or not written by diswot.
    """
    try:
        require_regular(path)
        with safe_open(str(path), framework="pt") as file:
            notes = json.loads((file.metadata() or {}).get("diswot", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise RunError(f"{path}: no such file") from None
    except (OSError, SafetensorError, ValueError, RecursionError, KeyError, TypeError, RuntimeError) as error:
        raise RunError(f"{path}: damaged or no safetensors file ({getattr(error, 'strerror', None) or first_line(error, 80)})") from None
    if not isinstance(notes, dict):
        raise RunError(f"{path}: not written by diswot")
    return tensors, notes


def save_checkpoint(folder: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
    """Write the newest checkpoint; the one that was the newest is kept as the one before."""
    last = folder / NEWEST
    if last.exists():
        last.replace(folder / PREVIOUS)
    save_tensors(last, tensors, notes)


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any], str] | None:
    """The newest checkpoint that is whole, and a line that says so where it is not the newest; None where none was written.

    Raises:
        RunError: there are checkpoints, and none is whole.
    """
    fault: RunError | None = None
    for name in (NEWEST, PREVIOUS):
        if not (folder / name).exists():
            continue
        try:
            tensors, notes = load_tensors(folder / name)
        except RunError as error:
            fault = fault or error
            continue
        return tensors, notes, f"{fault}; going on from the checkpoint before it" if fault else ""
    if fault is not None:
        raise RunError(f"{fault}: start a new run")
    return None
