"""A registry of parts by name: duplicate names are refused, unknown names suggest the nearest, `module:name` finds parts of your own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from diswot import plugins
from diswot.errors import ConfigError, suggest

T = TypeVar("T")


def _accept(name: str, item: Any) -> None:
    """Refuse nothing."""


class Registry(Generic[T]):
    """Parts of one kind by name.

    Args:
        kind: what they are, as error messages have it.
        load: makes a part of `module:name`; without it only registered names are known.
        check: called with the name and the part before it is taken up; raises `ConfigError` for what the part declares wrongly.

    >>> shapes = Registry[type]("shape")
    >>> @shapes.register("square")
    ... class Square: ...
    >>> shapes["square"].__name__
    'Square'
    >>> shapes["sqare"]
    Traceback (most recent call last):
    diswot.errors.ConfigError: unknown shape 'sqare': did you mean square?
    """

    def __init__(self, kind: str, *, load: Callable[[str], T] | None = None, check: Callable[[str, T], None] = _accept) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}
        self._loaded: dict[str, T] = {}
        self._load, self._check = load, check

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that stores what it decorates under `name`.

        Raises:
            ValueError: the name is taken.
            ConfigError: the part declares something that is not known.
        """

        def add(item: T) -> T:
            if name in self._items:
                raise ValueError(f"the {self.kind} {name!r} is registered already")
            self._check(name, item)
            self._items[name] = item
            return item

        return add

    def __getitem__(self, name: str) -> T:
        if name in self._items:
            return self._items[name]
        if self._load is None or not plugins.is_reference(name):
            own = "" if self._load is None else "; module:name for one of your own"
            raise ConfigError(f"unknown {self.kind} {name!r}: {suggest(name, self._items)}{own}")
        if name not in self._loaded:
            part = self._load(name)
            self._check(name, part)
            self._loaded[name] = part
        return self._loaded[name]

    def name_of(self, item: T) -> str | None:
        """The name that an item is known by, or None."""
        return next((name for items in (self._items, self._loaded) for name, known in items.items() if known is item), None)

    @contextlib.contextmanager
    def registered(self, name: str, item: T) -> Iterator[T]:
        """Inside, a part is known by a name; for tests of parts."""
        self.register(name)(item)
        try:
            yield item
        finally:
            del self._items[name]

    def loaded(self) -> list[str]:
        """The `module:name` of the parts of the user's own that have been asked for."""
        return list(self._loaded)

    def forget_loaded(self) -> None:
        """Forget the parts of the user's own, so that they are loaded anew; for tests whose modules come and go."""
        self._loaded.clear()

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def items(self) -> Iterator[tuple[str, T]]:
        """The registered names and parts."""
        return iter(self._items.items())

    def __len__(self) -> int:
        return len(self._items)
