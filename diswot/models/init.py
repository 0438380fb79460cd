"""Initialisation from a seed, the same in every process and at any order of networks."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from diswot.errors import ConfigError
from diswot.options import Init
from diswot.registry import suggest

INITS: tuple[str, ...] = get_args(Init)
_BLOCK = 1 << 20
_lock = threading.RLock()  # the streams, and the patch of `without_weights`, belong to one thread at a time


class NormalStream:
    """Standard normal numbers of one seed, kept as they are drawn, so that the second network costs a copy and not a draw.

    Number i depends on the seed and on i alone: every network of a seed reads the same numbers from the start.

    >>> stream = NormalStream(0)
    >>> bool((stream.take(0, 3_000_000)[2_999_000:] == NormalStream(0).take(2_999_000, 1000)).all())
    True
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._numbers = torch.empty(0)

    def take(self, start: int, count: int) -> Tensor:
        """Numbers start .. start + count - 1, as a view that must not be written to."""
        with _lock:
            blocks = range(self._numbers.numel() // _BLOCK, -(-(start + count) // _BLOCK))
            if blocks:
                self._numbers = torch.cat([self._numbers, *(self._block(block) for block in blocks)])
            return self._numbers[start : start + count]

    def _block(self, number: int) -> Tensor:
        digest = hashlib.sha256(f"{self.seed}/{number}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        return torch.randn(_BLOCK, generator=generator)


_streams: dict[int, NormalStream] = {}


def _stream(seed: int) -> NormalStream:
    return _streams.setdefault(seed, NormalStream(seed))


class Initialiser:
    """Initialises one model again and again: what is the same for every seed is set and looked up once.

    Args:
        init: `kaiming` N(0, 2 / fan-in); `gaussian` N(0, 1); `orthogonal`; `torch`, each layer's own default. Biases are 0 and
            normalisation layers 1 and 0 except with `torch`, whose layers choose for themselves. Parameters outside of convolutions,
            linear and normalisation layers stay as they are.

    Raises:
        ConfigError: an unknown `init`.
    """

    @torch.no_grad()
    def __init__(self, model: nn.Module, init: Init) -> None:
        if init not in INITS:
            raise ConfigError(f"unknown initialisation {init!r}: {suggest(init, INITS)}")
        self.model, self.init = model, init
        self._weights: list[Tensor] = []
        if init == "torch":
            return
        for layer in _layers(model):
            if layer.bias is not None:
                layer.bias.zero_()
            if isinstance(layer, nn.Conv2d | nn.Linear):
                self._weights.append(layer.weight)
            elif layer.weight is not None:
                layer.weight.fill_(1.0)
            if isinstance(layer, _NormBase):
                layer.reset_running_stats()

    @torch.no_grad()
    def __call__(self, seed: int) -> None:
        """Sets the weights that belong to `seed`: the same on every run, in every process, in any memory layout."""
        if self.init == "torch":
            _default(self.model, seed)
            return
        generator = torch.Generator().manual_seed(seed)
        start = 0
        for weight in self._weights:
            if self.init == "orthogonal":
                weight.copy_(nn.init.orthogonal_(torch.empty(weight.shape), generator=generator))
                continue
            std = 1.0 if self.init == "gaussian" else (2.0 / weight[0].numel()) ** 0.5
            numbers = _stream(seed).take(start, weight.numel()).view(weight.shape)
            if weight.device == numbers.device:
                torch.mul(numbers, std, out=weight)
            else:
                weight.copy_(numbers * std)
            start += weight.numel()


@contextlib.contextmanager
def without_weights() -> Iterator[None]:
    """Inside, 2d convolutions and linear layers are built without drawing the weights that an `Initialiser` is about to set: a tenth of
    the time of scoring a small network. Whatever else is drawn comes from a seed, and the global generator is left as it was."""
    kinds: tuple[Any, ...] = (nn.Conv2d, nn.Linear)
    kept = [kind.reset_parameters for kind in kinds]
    with _lock, seeded(0):
        for kind in kinds:
            kind.reset_parameters = lambda self: None
        try:
            yield
        finally:
            for kind, original in zip(kinds, kept, strict=True):
                kind.reset_parameters = original


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch's global generator on the CPU is seeded; outside, it goes on as if nothing had been."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def initialise(model: nn.Module, init: Init, seed: int) -> None:
    """`Initialiser` for a single time.

    >>> a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    >>> initialise(a, "kaiming", 1)
    >>> initialise(b, "kaiming", 1)
    >>> bool((a.weight == b.weight).all())
    True
    """
    Initialiser(model, init)(seed)


def _layers(model: nn.Module) -> Iterator[Any]:
    kinds = (nn.Conv2d, nn.Linear, _NormBase, nn.LayerNorm, nn.GroupNorm)
    return (m for m in model.modules() if isinstance(m, kinds))


def _default(model: nn.Module, seed: int) -> None:
    with seeded(seed):
        for layer in model.modules():
            if callable(reset := getattr(layer, "reset_parameters", None)):
                reset()
