"""The images that networks are shown and measured for, as a user or an arch.json says them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import rich_click as click

from diswot.errors import ConfigError, brief_repr
from diswot.space import ALIASES, ImageSpec, SearchSpace

F = TypeVar("F", bound=Callable[..., Any])
_MAX = 100_000  # classes, channels or pixels that a file may ask for


def sizes(function: F) -> F:
    """Give a command the flags of the classes and the size of the images."""
    size = click.option("--input-size", type=int, help="side of the images in pixels \\[the search's, else the space's]")
    return click.option("--num-classes", type=int, help="number of classes \\[the search's, else 100]")(size(function))


def image_spec(space: SearchSpace, provenance: Mapping[str, Any], num_classes: int | None, input_size: int | None) -> ImageSpec:
    """The images: as asked for, else those of the search that found the network, else the space's.

    Raises:
        ConfigError: a number that cannot be.
    """
    searched = provenance.get("data")
    searched = searched if isinstance(searched, dict) else {}
    values = {
        "num-classes": searched.get("num_classes", 100) if num_classes is None else num_classes,
        "in-chans": searched.get("in_chans", 3),
        "input-size": searched.get("input_size", space.input_size) if input_size is None else input_size,
    }
    for name, value in values.items():
        if type(value) is not int or not 1 <= value <= _MAX:
            raise ConfigError(f"--{name} {brief_repr(value)}: a whole number from 1 to {_MAX:,} is needed")
    return ImageSpec(*values.values())


def is_named(said: str | None, name: str) -> bool:
    """Whether the space that the user said, by whatever name, is this one, and may be imported."""
    return said is not None and ALIASES.get(said.lower(), said) == name
