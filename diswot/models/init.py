"""Initialisation of networks from a seed, with the same weights in every process and whatever networks were initialised before."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from diswot.config.scoring import Init
from diswot.errors import ConfigError, suggest

INITS: tuple[str, ...] = get_args(Init)
_BLOCK = 1 << 20  # numbers that a stream draws at once
building = threading.RLock()  # held by a thread that builds networks while the constructors of layers are other than torch's
_lock = threading.RLock()  # lets one thread at a time draw from the streams


class NormalStream:
    """A stream of standard normal numbers for one seed, which stay in memory once they are drawn.

    Number i depends on the seed and on i alone: all networks of a seed read the same numbers, from the first one on. For the second
    network the numbers only have to be copied, which is faster than drawing them.

    >>> stream = NormalStream(0)
    >>> bool((stream.take(0, 3_000_000)[2_999_000:] == NormalStream(0).take(2_999_000, 1000)).all())
    True
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._numbers = torch.empty(0)

    def take(self, start: int, count: int) -> Tensor:
        """Return the numbers `start` to `start + count - 1` as a view, which must not be written to."""
        with _lock:
            blocks = range(self._numbers.numel() // _BLOCK, -(-(start + count) // _BLOCK))
            if blocks:
                self._numbers = torch.cat([self._numbers, *(self._block(block) for block in blocks)])
            return self._numbers[start : start + count]

    def _block(self, block: int) -> Tensor:
        digest = hashlib.sha256(f"{self.seed}/{block}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        return torch.randn(_BLOCK, generator=generator)


_streams: dict[int, NormalStream] = {}


def _stream(seed: int) -> NormalStream:
    return _streams.setdefault(seed, NormalStream(seed))


class Initialiser:
    """A function that sets the weights of one model from a seed, and can be called many times.

    What is the same for all seeds, such as the biases, is set once, when the initialiser is made.

    Args:
        model: the model to initialise.
        init: distribution of the weights of convolutions and linear layers: `kaiming` is N(0, 2 / fan-in), `gaussian` is N(0, 1),
            `orthogonal` draws orthogonal matrices, and `torch` is each layer's own default. Except with `torch`, biases are set to 0 and
            the weights of normalisation layers to 1. Parameters of other layers stay as they are.

    Raises:
        ConfigError: `init` is unknown.
    """

    @torch.no_grad()
    def __init__(self, model: nn.Module, init: Init) -> None:
        if init not in INITS:
            raise ConfigError(f"unknown initialisation {init!r}: {suggest(init, INITS)}")
        self.model, self.init = model, init
        self._weights: list[Tensor] = []
        if init == "torch":
            return
        for layer in _initialised_layers(model):
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
        """Set the weights that belong to `seed`, which are the same in every run and process and for every memory layout."""
        if self.init == "torch":
            _reset_parameters(self.model, seed)
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
def skip_weight_init() -> Iterator[None]:
    """Build 2d convolutions, linear layers and batch norms without setting their weights while this context is active.

    It is meant for a model that an `Initialiser` is about to initialise, and saves a good part of the time of building it. Any other random
    numbers come from a fixed seed, and torch's global generator is left as it was.
    """
    kinds: tuple[Any, ...] = (nn.Conv2d, nn.Linear, _NormBase)
    originals = [kind.reset_parameters for kind in kinds]
    with building, seeded(0):
        for kind in kinds:
            kind.reset_parameters = lambda self: None
        try:
            yield
        finally:
            for kind, original in zip(kinds, originals, strict=True):
                kind.reset_parameters = original


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator while this context is active; afterwards it continues from where it was before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def initialise(model: nn.Module, init: Init, seed: int) -> None:
    """Set the weights of a model from a seed once; see `Initialiser`.

    >>> a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    >>> initialise(a, "kaiming", 1)
    >>> initialise(b, "kaiming", 1)
    >>> bool((a.weight == b.weight).all())
    True
    """
    Initialiser(model, init)(seed)


def _initialised_layers(model: nn.Module) -> Iterator[Any]:
    kinds = (nn.Conv2d, nn.Linear, _NormBase, nn.LayerNorm, nn.GroupNorm)
    return (module for module in model.modules() if isinstance(module, kinds))


def _reset_parameters(model: nn.Module, seed: int) -> None:
    with seeded(seed):
        for layer in model.modules():
            if callable(reset := getattr(layer, "reset_parameters", None)):
                with _contiguous(layer):
                    reset()


@contextlib.contextmanager
def _contiguous(layer: nn.Module) -> Iterator[None]:
    """Inside, the layer's own parameters lie in memory in their logical order, in which some versions of torch draw their numbers."""
    kept = [(p, p.data) for p in layer.parameters(recurse=False) if not p.is_contiguous()]
    for parameter, data in kept:
        parameter.data = data.contiguous()
    yield
    for parameter, data in kept:
        parameter.data = data.copy_(parameter.data)
