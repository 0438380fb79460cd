"""Configuration: one dataclass a recipe, filled from a YAML file, `key=value` words and flags, checked all at once."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from diswot.errors import ConfigError, first_line, shown
from diswot.registry import suggest

C = TypeVar("C")


def option(default: Any, help: str, group: str = "") -> Any:
    """A field of a configuration: its default, the line that explains it, and the panel of the help that it stands in."""
    return dataclasses.field(default=default, metadata={"help": help, "group": group})


def resolve(cls: type[C], file: str | Path | Mapping[str, Any] | None, words: Sequence[str], flags: Mapping[str, Any]) -> C:
    """Defaults, then the file (or what was read of one), then `key=value` words, then flags; later ones win.

    Raises:
        ConfigError: one line that names every fault: unknown keys with the nearest known, values of the wrong type.

    >>> @dataclasses.dataclass
    ... class Recipe:
    ...     epochs: int = option(240, "passes over the data")
    >>> resolve(Recipe, None, ["epochs=3"], {})
    Recipe(epochs=3)
    >>> resolve(Recipe, None, ["epoch=3"], {})
    Traceback (most recent call last):
    diswot.errors.ConfigError: unknown key 'epoch': did you mean epochs?
    """
    given: dict[str, Any] = {}
    faults: list[str] = []
    if file is not None:
        given |= file if isinstance(file, Mapping) else _read_yaml(Path(file))
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            faults.append(f"{word!r} is not key=value")
            continue
        given[key.strip().replace("-", "_")] = _plain(text)
    given |= {key: value for key, value in flags.items() if value is not None}
    hints = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    values = {}
    for key, value in given.items():
        if key not in known:
            faults.append(f"unknown key {key!r}: {suggest(str(key), known)}")
            continue
        try:
            values[key] = _coerce(hints[key], value)
        except ValueError as error:
            faults.append(f"{key.replace('_', '-')} {shown(value)} is not {error}")
    if faults:
        raise ConfigError("; ".join(faults))
    return cls(**values)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read ({reason})") from None
    except (yaml.YAMLError, ValueError) as error:
        reason = getattr(error, "problem", None) or first_line(error)
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: not plain YAML ({reason})") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deep") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: a mapping of keys to values is expected")
    return {str(key).replace("-", "_"): value for key, value in document.items()}


def _plain(text: str) -> Any:
    """The YAML scalar in a word, so that 3 is a number and true is a truth value; other text stays text."""
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return text
    return value if isinstance(value, str | int | float | bool) or value is None else text


def _coerce(hint: Any, value: Any) -> Any:
    """The value as the type that the field asks for, or a ValueError that names the type."""
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        return _coerce(next(o for o in options if o is not type(None)), value)
    if origin is Literal:
        if value not in typing.get_args(hint):
            known = ", ".join(map(str, typing.get_args(hint)))
            raise ValueError(f"one of {known}")
        return value
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and not isinstance(value, bool) and isinstance(value, int | float) and float(value).is_integer():
        return int(value)
    if hint is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    if hint is str and isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    raise ValueError(names.get(hint, str(hint)))


def positive(config: Any, *names: str, least: int = 1) -> None:
    """A `ConfigError` that names every field of these that is below `least`."""
    faults = [f"{n.replace('_', '-')} {getattr(config, n)}: at least {least}" for n in names if not getattr(config, n) >= least]
    if faults:
        raise ConfigError("; ".join(faults))


def positive_number(name: str, value: Any, most: int) -> None:
    """A `ConfigError` where a value is no whole number from 1 to `most`."""
    if type(value) is not int or not 1 <= value <= most:
        raise ConfigError(f"{name} {shown(value)}: a whole number from 1 to {most:,} is needed")


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain YAML values."""
    return dataclasses.asdict(config)
