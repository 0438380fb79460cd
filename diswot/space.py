"""The contract of a search space, and finding one by name.

Nothing here imports torch, so that evolution and the command line's help stay light.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diswot import plugins
from diswot.architecture import Architecture
from diswot.errors import ConfigError, suggest

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


@dataclass(frozen=True)
class ImageSpec:
    """The classes, channels and size of the images that a network is made for.

    Attributes:
        num_classes: number of classes.
        in_chans: channels of an image.
        input_size: side of the square images in pixels.
    """

    num_classes: int
    in_chans: int
    input_size: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an image, (in_chans, input_size, input_size)."""
        return self.in_chans, self.input_size, self.input_size

    def __str__(self) -> str:
        return f"{self.num_classes} classes, {self.in_chans} x {self.input_size} x {self.input_size}"


@dataclass(frozen=True)
class Cost:
    """The cost of a network.

    Attributes:
        params: number of trainable parameters.
        flops: multiply-accumulates of convolutions and linear layers for one image (1 MAC = 1 FLOP; biases and normalisation not counted).
        depth: convolutions and linear layers on the longest path.
    """

    params: int
    flops: int
    depth: int


class SearchSpace(ABC):
    """Base class of the search spaces: a set of networks, each named by an `Architecture`.

    To write one, subclass it and define the abstract methods; `--space module:Class` finds it. `diswot.testing.check_space` tests what is
    promised here. `sample`, `mutate`, `canonical` and `count` are called thousands of times in a search and should take microseconds;
    `build` is called once for each candidate that is scored, in any process.

    Attributes:
        name: the `space` of its architectures; for a space of your own it is `module:Class`, and set for you.
        input_size: side in pixels of the square images that its networks are meant for.
    """

    name: str = ""
    input_size: int = 32

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):  # inherited, it would be another space's
            cls.name = f"{cls.__module__}:{cls.__qualname__}"

    @abstractmethod
    def size(self) -> int:
        """The number of architectures."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw a random architecture: `Architecture(self.name, choices)`, the choices plain JSON (text, numbers, lists, dicts)."""

    @abstractmethod
    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """Draw a random architecture near `arch`, and never `arch` itself."""

    @abstractmethod
    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        """Every architecture that is one elementary change away, each once, in a fixed order."""

    @abstractmethod
    def check(self, arch: Architecture) -> None:
        """Refuse choices that are not of this space; they may come out of a file and be anything that JSON can hold.

        Raises:
            ArchitectureError: names the value.
        """

    @abstractmethod
    def build(self, arch: Architecture, num_classes: int, in_chans: int = 3) -> nn.Module:
        """Build the network: timm's protocol (`forward_features` to (B, C, H, W), `forward_head`, `get_classifier`, `num_features`),
        which `diswot.models.base.ImageClassifier` gives to its subclasses. Its weights are drawn by the caller afterwards."""

    @abstractmethod
    def extremes(self) -> Sequence[Architecture]:
        """A few architectures, among them those with the fewest and with the most parameters, FLOPs and layers."""

    def canonical(self, arch: Architecture) -> Architecture:
        """The one representative of all architectures whose networks compute the same; `arch` itself by default."""
        return arch

    def count(self, arch: Architecture, num_classes: int, in_chans: int, input_size: int) -> Cost | None:
        """The cost by arithmetic alone, or None (the default): the network is then built without memory and traced, once a search."""
        return None

    def enumerate(self) -> Iterator[Architecture] | None:
        """Every architecture, in a fixed order, or None (the default) where there are too many to walk."""
        return None

    def sketch(self, arch: Architecture) -> Sequence[str]:
        """Lines of at most 80 characters that draw what the choices say, such as the graph of a cell; none by default."""
        return ()

    def size_text(self) -> str:
        """The number of architectures for a reader: exact up to ten million, else its order of magnitude."""
        size = self.size()
        return f"{size:,}" if size <= 10_000_000 else f"{size:.1e}"


BUILT_IN = {
    "resnet_depth": "search_spaces.resnet_depth:space",
    "resnet_width": "search_spaces.resnet_width:space",
    "resnet_width_imagenet": "search_spaces.resnet_width:imagenet",
    "resnet_mixed": "search_spaces.resnet_mixed:space",
    "resnet_mixed_imagenet": "search_spaces.resnet_mixed:imagenet",
    "nasbench101": "search_spaces.nasbench101:space",
    "nasbench201": "search_spaces.nasbench201:space",
    "nasbench_macro": "search_spaces.nasbench_macro:space",
    "nats_size": "search_spaces.nats_size:space",
    "channel_bench": "search_spaces.channel_bench:space",
    "zoo": "search_spaces.zoo:space",
}
NOT_SEARCHED = {"simkd": "search_spaces.simkd:space"}  # spaces of networks that come of something else
ALIASES = {"s0": "resnet_depth", "s1": "resnet_width", "s2": "resnet_mixed", "tss": "nasbench201", "sss": "nats_size"}


def load_space(name: str, *, trusted: bool = False) -> SearchSpace:
    """The space called `name`: a built-in one (or its alias s0, s1, s2, tss, sss), or `module:name` for your own.

    Args:
        name: `resnet_width`, `s1`, ..., or `mylab.spaces:MobileSpace`: a subclass of `SearchSpace`, or an instance.
        trusted: whether a module may be imported; False for names that come out of a file: importing runs code.

    Raises:
        ConfigError: for an unknown name, a module that cannot be imported or that holds no space of this name.

    >>> load_space("s0").size()
    64
    >>> load_space("resnet_dept")
    Traceback (most recent call last):
    diswot.errors.ConfigError: unknown space 'resnet_dept': did you mean resnet_depth?; module:name for one of your own
    """
    name = ALIASES.get(name.lower(), name)
    if (where := BUILT_IN.get(name) or NOT_SEARCHED.get(name)) is not None:
        return plugins.load_part(where, "space", SearchSpace)  # type: ignore[type-abstract]
    if not plugins.is_reference(name):
        raise ConfigError(f"unknown space {name!r}: {suggest(name, [*BUILT_IN, *ALIASES])}; module:name for one of your own")
    space = plugins.load_part(name, "space", SearchSpace, trusted=trusted)  # type: ignore[type-abstract]
    if space.name != name:
        space.name = name  # so that its architectures say where to find it
    return space


def is_built_in(space: SearchSpace) -> bool:
    """Whether a space comes with diswot, so that its code needs no watching."""
    return space.name in BUILT_IN or space.name in NOT_SEARCHED
