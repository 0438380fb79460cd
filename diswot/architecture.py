"""The identity of a network (its space and its choices there), and the file that it travels in, arch.json."""

from __future__ import annotations

import functools
import hashlib
import json
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diswot.errors import ArchitectureError, first_line
from diswot.files import read_text

FORMAT = 2
MAX_BYTES = 1_000_000
_FIELDS = {"format", "space", "choices", "provenance"}


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values have equal text; NaN and infinity are a ValueError.

    >>> canonical_json({"b": 1, "a": [1.5, None]})
    '{"a":[1.5,null],"b":1}'
    """
    return _CANONICAL.encode(value)


def choices_text(choices: Any) -> str:
    """Choices for a table or a reader: as they are where they are text, else as canonical JSON.

    >>> choices_text("resnet20"), choices_text({"depths": [1, 3, 5]})
    ('resnet20', '{"depths":[1,3,5]}')
    """
    return choices if isinstance(choices, str) else canonical_json(choices)


def _plain_number(value: Any) -> Any:
    """A number of numpy as Python's own."""
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(f"{type(value).__name__} is not plain JSON")


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False, default=_plain_number)


@dataclass(frozen=True)
class Architecture:
    """A point of a search space: says which network it is, not where it came from or how it scored.

    Attributes:
        space: name of the space (`diswot.space.load_space` turns it into the space).
        choices: plain JSON (text, numbers, lists, dicts); the space says which are valid. They are kept as JSON would give them back: the
            keys of dicts sorted, tuples as lists. So a search that is resumed sees what an undisturbed one sees.

    Raises:
        ArchitectureError: the choices are not plain JSON.

    >>> a = Architecture("resnet_depth", {"depths": [5, 5, 7]})
    >>> a == Architecture("resnet_depth", {"depths": [5, 5, 7]}), a.digest
    (True, 'd488fa790e8c')
    """

    space: str
    choices: Any

    def __post_init__(self) -> None:
        if isinstance(self.choices, str):
            return
        try:
            text = canonical_json(self.choices)
            object.__setattr__(self, "choices", json.loads(text))
        except (TypeError, ValueError, RecursionError) as error:
            raise ArchitectureError(f"the choices of an architecture of {self.space} must be plain JSON: {first_line(error)}") from None
        self.__dict__["key"] = _key(self.space, text)  # the text is made already

    @functools.cached_property
    def key(self) -> str:
        """Canonical JSON of the identity: equal architectures share it."""
        return _key(self.space, canonical_json(self.choices))

    @property
    def digest(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of `key`."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:12]

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return f"{self.space}:{choices_text(self.choices)}"


def _key(space: str, choices: str) -> str:
    """Canonical JSON of an identity whose choices are canonical JSON."""
    return f'{{"choices":{choices},"space":{canonical_json(space)}}}'


def arch_json(arch: Architecture, provenance: Mapping[str, Any] | None = None) -> str:
    """The text of an arch.json. Equal values give equal text.

    Args:
        arch: the identity of the network.
        provenance: how it was found (the search, its scores, its cost); it stands beside the identity and is not hashed.
    """
    document: dict[str, Any] = {"format": FORMAT, "space": arch.space, "choices": arch.choices}
    if provenance is not None:
        document["provenance"] = _sorted(dict(provenance))
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _sorted(value: Any) -> Any:
    return json.loads(canonical_json(value))


def read_arch_json(path: str | Path) -> tuple[Architecture, dict[str, Any]]:
    """The architecture in an arch.json, and its `provenance` (empty where there is none).

    The choices are checked by the space, later; here only the format is. Any fault (missing, empty, truncated, too large, nested too
    deep, of another format version, unknown or missing fields) is an `ArchitectureError` that names the file.
    """
    document = _parse(Path(path))
    if not isinstance(document, dict):
        raise ArchitectureError(f"{path}: not an arch.json (a JSON object is expected); make one with `diswot search`")
    if document.get("format") != FORMAT:
        found = document.get("format", "missing")
        raise ArchitectureError(f"{path}: format {found!r} is not {FORMAT}, the one this version reads: search again or use its version")
    unknown = sorted(set(document) - _FIELDS)
    if unknown:
        raise ArchitectureError(f"{path}: unknown field {unknown[0]!r}: an arch.json has {', '.join(sorted(_FIELDS))}")
    if not isinstance(document.get("space"), str) or "choices" not in document:
        raise ArchitectureError(f"{path}: the fields 'space' (text) and 'choices' are needed")
    provenance = document.get("provenance", {})
    if not isinstance(provenance, dict):
        raise ArchitectureError(f"{path}: 'provenance' must be an object")
    return Architecture(document["space"], document["choices"]), provenance


def _parse(path: Path) -> Any:
    try:
        text = read_text(path, MAX_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ArchitectureError(f"{path}: cannot be read ({reason}): give the arch.json that `diswot search` wrote") from None
    if not text.strip():
        raise ArchitectureError(f"{path}: the file is empty: give the arch.json that `diswot search` wrote")
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
        canonical_json(document).encode()  # refuses 1e999, which is read as infinity, and halves of characters
        return document
    except RecursionError:
        raise ArchitectureError(f"{path}: nested too deep for an arch.json") from None
    except ValueError as error:
        raise ArchitectureError(f"{path}: not valid JSON ({error}): is the file cut short?") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
