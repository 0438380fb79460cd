"""Fields of configurations: defaults, ranges and help in one place; values from YAML, `key=value` words and flags, checked all at once."""

from __future__ import annotations

import dataclasses
import math
import os
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from diswot.errors import ConfigError, brief_repr, first_line, suggest
from diswot.files import read_text

C = TypeVar("C")
_MOST_YAML = 100_000  # bytes of a file of options
_TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def option(default: Any, help: str = "", group: str = "", **limits: float) -> Any:
    """A field of a configuration, or an option of a loss.

    Args:
        default: its value where none is given.
        help: the line that explains it.
        group: the panel of `--help` that it stands in.
        limits: `ge`, `gt`, `le`, `lt`: a number must be at least, above, at most, below these. A choice among values is the field's type,
            `Literal`.
    """
    if unknown := set(limits) - {"ge", "gt", "le", "lt"}:
        raise TypeError(f"option() knows no limit {sorted(unknown)}")
    return dataclasses.field(default=default, metadata={"help": help, "group": group, "limits": limits})


def flag_of(name: str) -> str:
    """The flag of a field: `batch_size` is `--batch-size`."""
    return "--" + name.replace("_", "-")


def resolve(cls: type[C], file: str | Path | Mapping[str, Any] | None, words: Sequence[str], flags: Mapping[str, Any]) -> C:
    """A configuration from its defaults, then a file (or what was read of one), then `key=value` words, then flags; later ones win.

    Raises:
        ConfigError: one line that names every fault: unknown keys with the nearest known, values of the wrong type or outside their range.

    >>> @dataclasses.dataclass
    ... class Recipe:
    ...     epochs: int = option(240, "passes over the data", ge=1)
    >>> resolve(Recipe, None, ["epochs=3"], {})
    Recipe(epochs=3)
    >>> resolve(Recipe, None, ["epoch=3"], {})
    Traceback (most recent call last):
    diswot.errors.ConfigError: unknown key 'epoch': did you mean epochs?
    >>> resolve(Recipe, None, [], {"epochs": 0})
    Traceback (most recent call last):
    diswot.errors.ConfigError: epochs 0: at least 1 is needed
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
        given[key.strip().replace("-", "_")] = _yaml_scalar(text)
    given |= {key: value for key, value in flags.items() if value is not None}
    values, more_faults = checked_values(cls, given)
    if faults := [*faults, *more_faults]:
        raise ConfigError("; ".join(faults))
    return cls(**values)


def checked_values(cls: type, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values as the types of the fields, and a line for each that is unknown, of the wrong type or outside its range."""
    hints, values, faults = typing.get_type_hints(cls), {}, []
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for key, value in given.items():
        if key not in fields:
            faults.append(f"unknown key {key!r}: {suggest(str(key), fields)}")
            continue
        try:
            values[key] = coerce(hints[key], value)
        except ValueError as error:
            faults.append(f"{flag_of(key)} {brief_repr(value)} is not {error}")
            continue
        if fault := range_fault(fields[key], values[key]):
            faults.append(f"{flag_of(key)} {brief_repr(values[key])}: {fault}")
    return values, faults


def check_ranges(config: Any) -> None:
    """Refuse a configuration, however it was made, with a number outside its range; every one is named.

    Raises:
        ConfigError: as `resolve` has it.
    """
    pairs = ((field, getattr(config, field.name)) for field in dataclasses.fields(config))
    faults = [f"{flag_of(field.name)} {brief_repr(value)}: {fault}" for field, value in pairs if (fault := range_fault(field, value))]
    if faults:
        raise ConfigError("; ".join(faults))


def range_fault(field: dataclasses.Field[Any], value: Any) -> str:
    """Return the range that a number should be in, in words, where it is outside; else "".

    >>> @dataclasses.dataclass
    ... class Shares:
    ...     share: float = option(0.5, ge=0, lt=1)
    >>> range_fault(dataclasses.fields(Shares)[0], 1.0)
    '0 or more and below 1 is needed'
    """
    limits = field.metadata.get("limits")
    if limits is None or not isinstance(value, int | float) or isinstance(value, bool):
        return ""
    ge, gt, le, lt = map(limits.get, ("ge", "gt", "le", "lt"))
    inside = (ge is None or value >= ge) and (gt is None or value > gt) and (le is None or value <= le) and (lt is None or value < lt)
    return "" if inside and (isinstance(value, int) or math.isfinite(value)) else f"{_range_text(ge, gt, le, lt)} is needed"


def _range_text(ge: float | None, gt: float | None, le: float | None, lt: float | None) -> str:
    if ge is not None and le is not None and ge != 0:
        return f"from {ge:,} to {le:,}"
    low = f"more than {gt:,}" if gt is not None else "0 or more" if ge == 0 else f"at least {ge:,}" if ge is not None else ""
    high = f"below {lt:,}" if lt is not None else f"at most {le:,}" if le is not None else ""
    return " and ".join(filter(None, (low, high))) or "a finite number"


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(read_text(path, _MOST_YAML))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read ({reason})") from None
    except (yaml.YAMLError, ValueError, AttributeError, KeyError, TypeError) as error:  # the latter of a tag without its value
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


def _yaml_scalar(text: str) -> Any:
    """The YAML scalar that a text is, so that 3 is a number and true is a truth value; other text stays text."""
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError, KeyError):  # the middle one of `!!timestamp x`
        return text
    return value if isinstance(value, str | int | float | bool) or value is None else text


def coerce(hint: Any, value: Any) -> Any:
    """The value as the type that a field asks for.

    Raises:
        ValueError: says what is asked for.

    >>> coerce(float | None, "1e-3"), coerce(int, 3.0), coerce(int | None, None)
    (0.001, 3, None)
    """
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        return coerce(next(one for one in options if one is not type(None)), value)
    if origin is Literal:
        if value not in typing.get_args(hint):
            known = ", ".join(map(str, typing.get_args(hint)))
            raise ValueError(f"one of {known}")
        return value
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and not isinstance(value, bool) and isinstance(value, int | float) and value == value // 1:
        return int(value)
    if hint is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    if hint is str and isinstance(value, str | int | float | os.PathLike) and not isinstance(value, bool):
        text = str(value)
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError("text that a file can hold")
        return text
    raise ValueError(_TYPES.get(hint, str(hint)))


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain YAML values."""
    return dataclasses.asdict(config)
