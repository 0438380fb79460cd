"""`SearchSpace`: what every space offers, and how one is found by name.

Nothing here imports torch, so that evolution and the command line's help stay light.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diswot.architecture import Architecture
from diswot.errors import ConfigError, first_line
from diswot.registry import suggest

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


@dataclass(frozen=True)
class Cost:
    """What a network costs. `params`: trainable parameters; `flops`: multiply-accumulates of convolutions and linear layers for one
    image (1 MAC = 1 FLOP, biases and normalisation not counted); `depth`: convolutions and linear layers on the longest path."""

    params: int
    flops: int
    depth: int


class SearchSpace(ABC):
    """A set of networks. Subclass it, put an instance named `space` in a module, and `--space your.module` finds it.

    `diswot.testing.check_space` is the suite that every space must pass.

    Attributes:
        name: what `Architecture.space` says for this space; for your own, the dotted name of its module.
        input_size: side of the square images its networks are meant for.
    """

    name: str
    input_size: int = 32

    @abstractmethod
    def size(self) -> int:
        """Number of architectures."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Architecture:
        """A random architecture."""

    @abstractmethod
    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """A random architecture near `arch`, and not `arch`."""

    @abstractmethod
    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        """Every architecture one elementary change away, each once, in a fixed order."""

    @abstractmethod
    def check(self, arch: Architecture) -> None:
        """Raises `ArchitectureError`, naming the value, where the choices are not of this space."""

    @abstractmethod
    def build(self, arch: Architecture, num_classes: int, in_chans: int = 3) -> nn.Module:
        """The network: timm's protocol (`forward_features` to (B, C, H, W), `forward_head`, `get_classifier`, `num_features`)."""

    @abstractmethod
    def extremes(self) -> Sequence[Architecture]:
        """A few architectures among which are those with the fewest and with the most parameters, FLOPs and layers."""

    def canonical(self, arch: Architecture) -> Architecture:
        """The one representative of all architectures whose networks compute the same; `arch` itself unless the space knows better."""
        return arch

    def count(self, arch: Architecture, num_classes: int, in_chans: int, input_size: int) -> Cost | None:
        """The cost by arithmetic alone, or None: then the network is built without memory and traced (`diswot.budget.count_network`)."""
        return None

    def size_text(self) -> str:
        """The size for a reader: exact up to ten million, else its order."""
        size = self.size()
        return f"{size:,}" if size <= 10_000_000 else f"{size:.1e}"

    def enumerate(self) -> Iterator[Architecture] | None:
        """Every architecture, in a fixed order, or None where there are too many to walk."""
        return None


BUILT_IN = {
    "resnet_depth": "search_spaces.resnet_depth:space",
    "resnet_width": "search_spaces.resnet_width:space",
    "resnet_width_imagenet": "search_spaces.resnet_width:imagenet",
    "resnet_mixed": "search_spaces.resnet_mixed:space",
    "resnet_mixed_imagenet": "search_spaces.resnet_mixed:imagenet",
    "nasbench101": "search_spaces.nasbench101:space",
    "nasbench201": "search_spaces.nasbench201:space",
    "nats_size": "search_spaces.nats_size:space",
    "zoo": "search_spaces.zoo:space",
}
ALIASES = {"s0": "resnet_depth", "s1": "resnet_width", "s2": "resnet_mixed", "tss": "nasbench201", "sss": "nats_size"}


def load_space(name: str, *, trusted: bool = False) -> SearchSpace:
    """The space called `name`: a built-in one (or its alias s0, s1, s2, tss, sss), or a module of your own.

    Args:
        name: `resnet_width`, `s1`, ..., or a dotted module `mylab.spaces.mbv2` holding `space`, or `mylab.spaces:mbv2`.
        trusted: whether a module may be imported for a dotted name. False for names that come out of a file: importing runs code.

    Raises:
        ConfigError: for an unknown name, a module that cannot be imported or that holds no space.

    >>> load_space("s0").size()
    64
    >>> load_space("resnet_dept")
    Traceback (most recent call last):
    diswot.errors.ConfigError: unknown space 'resnet_dept': did you mean resnet_depth?
    """
    name = ALIASES.get(name.lower(), name)
    if name in BUILT_IN:
        return _import_space(name, BUILT_IN[name])
    if "." not in name and ":" not in name:
        raise ConfigError(f"unknown space {name!r}: {suggest(name, [*BUILT_IN, *ALIASES])}")
    if not trusted:
        raise ConfigError(f"the space {name!r} is Python code of your own: allow it with --space {name}")
    return _import_space(name, name)


def _import_space(name: str, target: str) -> SearchSpace:
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a module of the user's may raise anything
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ConfigError(f"the space {name!r} cannot be imported ({reason}): is its folder on PYTHONPATH?") from None
    space = getattr(module, attribute or "space", None)
    if not isinstance(space, SearchSpace):
        raise ConfigError(f"{module_name} holds no SearchSpace named {attribute or 'space'!r}: see diswot.space.SearchSpace")
    return space
