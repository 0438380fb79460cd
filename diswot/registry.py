"""One decorator registry: duplicate names raise, unknown names suggest the nearest."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from diswot.errors import ConfigError

T = TypeVar("T")

_MOST_LISTED = 100  # names that an error message has room for


def suggest(name: str, known: Iterable[str]) -> str:
    """The tail of an error message: the nearest known name, or, where none is near, all of them if there are not too many.

    >>> suggest("resnet65", ["resnet56", "vgg8"])
    'did you mean resnet56?'
    >>> suggest("x", ["b", "a"])
    'known: a, b'
    >>> suggest("x", map(str, range(1000)))
    '1,000 names are known, and none is like it'
    """
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"known: {', '.join(names)}" if len(names) <= _MOST_LISTED else f"{len(names):,} names are known, and none is like it"


class Registry(Generic[T]):
    """Things of one kind by name.

    >>> shapes = Registry[type]("shape")
    >>> @shapes.register("square")
    ... class Square: ...
    >>> shapes["square"].__name__
    'Square'
    >>> shapes["sqare"]
    Traceback (most recent call last):
    diswot.errors.ConfigError: unknown shape 'sqare': did you mean square?
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that stores what it decorates under `name`; a name taken already is a ValueError."""

        def add(item: T) -> T:
            if name in self._items:
                raise ValueError(f"the {self.kind} {name!r} is registered already")
            self._items[name] = item
            return item

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self._items:
            raise ConfigError(f"unknown {self.kind} {name!r}: {suggest(name, self._items)}")
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def items(self) -> Iterator[tuple[str, T]]:
        return iter(self._items.items())

    def __len__(self) -> int:
        return len(self._items)
