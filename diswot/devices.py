"""The device that networks run on, and how."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from diswot.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str) -> str:
    """Choose the device: `auto` is CUDA where there is one, else the CPU. `cuda:1` is one of several.

    Raises:
        ConfigError: an unknown device, or one that is not there.

    >>> choose_device("cpu")
    'cpu'
    """
    import torch

    kind, colon, number = name.partition(":")
    if kind not in DEVICES or (colon and (kind != "cuda" or not number.isdecimal())):
        raise ConfigError(f"--device {name!r:.80}: known: {', '.join(DEVICES)}, and cuda:0, cuda:1, ...")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind == "auto":
        return "cuda" if available["cuda"] else "cpu"
    if not available[kind]:
        raise ConfigError(f"--device {name}: not available on this machine; use --device cpu")
    if colon and int(number) >= (count := torch.cuda.device_count()):
        raise ConfigError(f"--device {name}: this machine has {count}, cuda:0 to cuda:{count - 1}")
    return name


def choose_devices(names: str) -> tuple[str, ...]:
    """Choose several devices, separated by commas, of one kind.

    Raises:
        ConfigError: as `choose_device`; or they are of different kinds.

    >>> choose_devices("cpu")
    ('cpu',)
    """
    found = tuple(choose_device(name.strip()) for name in names.split(","))
    if len({kind_of_device(device) for device in found}) > 1:
        raise ConfigError(f"--device {names}: devices of different kinds give scores that are not bit-equal; name one kind")
    return found


def kind_of_device(device: str) -> str:
    """The kind of a device: cpu, cuda or mps.

    >>> kind_of_device("cuda:1")
    'cuda'
    """
    return device.partition(":")[0]


def cpu_count() -> int:
    """The number of processor cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextlib.contextmanager
def single_thread(device: str = "cpu") -> Iterator[None]:
    """Inside, torch uses one thread on a CPU: sums are then made in one order, and two networks on two cores outrun one on two threads."""
    import torch

    before = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Inside, Python looks for no reference cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Inside, if it is wanted, torch uses only algorithms that give the same to the bit, and raises where it has none."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS has none
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def to_device(model: nn.Module, device: str, channels_last: bool = True) -> nn.Module:
    """Move a model to the device, its weights in the channels-last layout: the faster one for convolutions, on a CPU two to four times."""
    import torch

    place, layout = torch.device(device), torch.channels_last if channels_last else torch.contiguous_format
    modules = list(model.modules())  # one walk: `to` takes as long as a small network's pass
    tensors = [tensor for m in modules for tensor in (*m._parameters.values(), *m._buffers.values()) if tensor is not None]
    if any(tensor.device != place for tensor in tensors):
        model.to(place)
    for module in modules:
        for parameter in module._parameters.values():
            if parameter is not None and parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=layout)
    return model
