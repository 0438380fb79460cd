"""Modules of a user's own, written by a test and importable inside it."""

from __future__ import annotations

import importlib
import itertools
import os
import textwrap
from pathlib import Path

_numbers = itertools.count()


def write_module(folder: Path, source: str) -> str:
    """Write a module under a name that no other test has, for modules stay imported; return the name."""
    name = f"own_{os.getpid()}_{next(_numbers)}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(textwrap.dedent(source))
    importlib.invalidate_caches()  # the folder may have been listed a moment before
    return name
