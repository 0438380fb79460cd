"""A pretended accelerator, for machines without one: tensors that were sent there are told apart from those that were not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda:0")
_CPU = torch.device("cpu")
_COPIES = ("copy_", "__set__", "_has_compatible_shallow_copy_type")  # between devices
_INDEXING = ("__getitem__", "__setitem__", "index_select", "index_put_")


def _is_there(device: Any) -> bool:
    return isinstance(device, torch.device | str) and str(device).startswith("cuda")


def _real(value: Any) -> Any:
    return _CPU if _is_there(value) else value


class Pretend(TorchFunctionMode):
    """Inside, `cuda` is the CPU, but as on the real thing an operation on tensors of both devices, or numpy on one of `cuda`, fails.

    Storages are told apart by where they lie; all that were marked are held, so that no place is used again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[int, Any] = {}

    def there(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self.held

    def send(self, found: Any) -> Any:
        if isinstance(found, Tensor) and found.untyped_storage().nbytes():
            self.held[found.untyped_storage().data_ptr()] = found.untyped_storage()
        return found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        owner = getattr(getattr(func, "__self__", None), "__name__", "")  # of a property
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [tensor for tensor in tensors if self.there(tensor)]
        if name == "__get__" and owner in ("device", "is_cuda", "grad", "data"):
            found = func(*args, **kwargs)
            if owner in ("grad", "data"):
                return self.send(found) if there else found
            return found if not there else DEVICE if owner == "device" else True
        if name in ("numpy", "__array__") and there:
            raise TypeError("can't convert a tensor of cuda:0 to numpy")
        if name in ("to", "cpu", "cuda"):
            return self._moved(func, name, args, kwargs)
        if _is_there(kwargs.get("device")) and name != "_parse_to":
            found = func(*args, **{**kwargs, "device": "cpu"})
            return tree_map(self.send, found)
        self._refuse_mixture(name, tensors, there)
        found = func(*args, **kwargs)
        stays = name in _COPIES and not self.there(tensors[0])
        return tree_map(self.send, found) if there and not stays else found

    def _moved(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """What `to`, `cpu` and `cuda` give: a copy where the device changes."""
        if name != "to":
            func, args = torch.Tensor.to, (args[0], DEVICE if name == "cuda" else _CPU)
        tensor, *others = args
        goals = [value for value in (*others, kwargs.get("device")) if isinstance(value, torch.device | str)]
        goals += [DEVICE if self.there(value) else _CPU for value in others if isinstance(value, Tensor)]
        away = _is_there(goals[0]) if goals else self.there(tensor)
        found = func(tensor, *map(_real, others), **{key: _real(value) for key, value in kwargs.items()})
        if away != self.there(found):
            found = found.clone()
        return self.send(found) if away else found

    def _refuse_mixture(self, name: str, tensors: list[Tensor], there: list[Tensor]) -> None:
        if not there or name in _COPIES or (name in _INDEXING and self.there(tensors[0])):
            return
        here = [tensor for tensor in tensors if tensor.ndim and tensor.numel() and not self.there(tensor)]
        if here:
            raise RuntimeError(f"expected all tensors to be on the same device: {name} of {[tuple(one.shape) for one in here]} on the cpu")


@contextlib.contextmanager
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pretend]:
    """Inside, `cuda` is there."""
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "current_device", lambda: 0)
        patch.setattr(torch.cuda, "device_count", lambda: 2)
        patch.setattr(torch.cuda, "max_memory_allocated", lambda: 0)
        patch.setattr(torch.cuda, "default_generators", (torch.Generator(),))
        patch.setattr(torch.cuda, "get_rng_state", lambda device=None: torch.get_rng_state())
        patch.setattr(torch.cuda, "set_rng_state", lambda state, device=None: None)
        patch.setattr(torch.cuda, "get_device_name", lambda device=None: "pretended")
        patch.setattr(torch.cuda, "synchronize", lambda device=None: None)
        with Pretend() as mode:
            yield mode
