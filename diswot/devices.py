"""Which device networks run on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from diswot.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str) -> str:
    """`auto` is CUDA where there is one, else the CPU; a device that is not there is a `ConfigError`.

    >>> choose_device("cpu")
    'cpu'
    """
    import torch

    if name not in DEVICES:
        raise ConfigError(f"--device {name!r}: known: {', '.join(DEVICES)}")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return "cuda" if available["cuda"] else "cpu"
    if not available[name]:
        raise ConfigError(f"--device {name}: not available on this machine; use --device cpu")
    return name


def cores() -> int:
    """How many processor cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextlib.contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Inside, where it is wanted, torch uses only algorithms that give the same to the bit, and raises where it has none."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS has none
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def place(model: nn.Module, device: str, channels_last: bool = True) -> nn.Module:
    """The model on the device, its weights in the channels-last layout: the faster one for convolutions, on a CPU by two to four times."""
    import torch

    layout = torch.channels_last if channels_last else torch.contiguous_format
    return model.to(device=torch.device(device), memory_format=layout)  # type: ignore[call-overload]
