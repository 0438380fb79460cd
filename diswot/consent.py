"""Who allowed the parts of one's own that a run names, when the run is resumed.

A run's config.yaml may name `module:name`, which resuming imports, and importing runs code. The folder may come from somebody else. So
what the user began on this machine is written down outside the folder, and of any other run each part must be allowed by name.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from diswot import plugins
from diswot.data.sources import cache_dir
from diswot.errors import ConfigError, brief_repr
from diswot.runs import write_atomic

_CHOICES = "choices"  # of an architecture: what stands there is never imported


def parts_of(document: Any) -> list[str]:
    """Every `module:name` in a configuration, sorted.

    >>> parts_of({"space": "mylab:Space", "loss": "kd + 0.5*mylab.losses:Mine(beta=2)", "epochs": 3, "archs": [{"choices": "a:b"}]})
    ['mylab.losses:Mine', 'mylab:Space']
    """
    return sorted({name for text in _texts(document) for name in plugins.find_references(text)})


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key != _CHOICES:
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def remember_begun(folder: Path, document: Any) -> None:
    """Note that the user has begun the run in this folder, with all the parts that it names."""
    if parts_of(document):
        note = _note_of(folder)
        with contextlib.suppress(OSError):  # without it a resume asks
            note.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(note, _digest(folder))


def forget_begun(folder: Path) -> None:
    """Take the note of a run away that has left nothing, and what was made for it."""
    note = _note_of(folder)
    with contextlib.suppress(OSError):  # there is none, or there are others beside it
        note.unlink()
        note.parent.rmdir()
        note.parent.parent.rmdir()


def check_allowed(folder: Path, document: Any, allowed: Collection[str]) -> None:
    """Refuse a run that names parts of somebody's own, unless the user has begun it in this folder or allows them.

    Raises:
        ConfigError: names the first part that is not allowed.
    """
    unknown = [name for name in parts_of(document) if name not in allowed]
    if unknown and not _begun_here(folder):
        raise ConfigError(
            f"{folder}: the run names {brief_repr(unknown[0])}, which is Python code, and it was not begun here: "
            f"allow it with --allow {unknown[0]:.100}"
        )


def _begun_here(folder: Path) -> bool:
    try:
        return _note_of(folder).read_text(encoding="utf-8") == _digest(folder)
    except (OSError, UnicodeDecodeError):
        return False


def _note_of(folder: Path) -> Path:
    return cache_dir() / "begun" / hashlib.sha256(str(folder.resolve()).encode(errors="surrogateescape")).hexdigest()[:32]


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / "config.yaml").read_bytes()).hexdigest()
