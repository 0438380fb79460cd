"""Architectures by what a user types."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diswot.architecture import Architecture, read_arch_json
from diswot.errors import ArchitectureError, brief_repr, suggest
from diswot.files import is_file, is_folder
from diswot.space import load_space


def read_architecture(text: str, space: str | None = None) -> tuple[Architecture, dict[str, Any]]:
    """An architecture from what a user types: a file (arch.json), a NAS-Bench-201 string, the name of a hand-made network, or the choices
    themselves where their space is named; and how it was found, where the file says.

    Args:
        text: what was typed; choices as JSON, or as they are where they are text.
        space: the space that choices are of: a built-in one, or `module:name` of the user's own, which is imported.

    >>> read_architecture('{"depths": [1, 3, 5]}', "s0")[0].choices
    {'depths': [1, 3, 5]}
    >>> read_architecture("resnet20")
    (Architecture(space='zoo', choices='resnet20'), {})
    >>> read_architecture("vit_tiny_patch16_224(img_size=32, patch_size=4)")[0].choices
    'timm/vit_tiny_patch16_224(img_size=32,patch_size=4)'
    """
    from diswot.models.timm_choice import timm_name
    from diswot.models.zoo import ZOO, zoo_name

    if text.startswith("|"):
        return Architecture("nasbench201", text), {}
    if is_file(text) or text.endswith(".json"):
        return read_arch_json(text)
    of_space = _choices_of(text, space) if space is not None else None
    if isinstance(of_space, Architecture):
        return of_space, {}
    if zoo_name(text) in ZOO:
        return Architecture("zoo", zoo_name(text)), {}
    import timm  # not before a name is sought there: it takes seconds

    if timm.is_model(timm_name(text)):
        return Architecture("zoo", f"timm/{text.removeprefix('timm/').replace(' ', '')}"), {}
    if of_space is not None:
        raise of_space
    if text[:1] in ("{", "["):
        raise ArchitectureError(f"{brief_repr(text)}: of which space are these choices? Say --space NAME")
    raise ArchitectureError(f"{brief_repr(text)} is no file, no NAS-Bench-201 string and no hand-made network: {suggest(text, ZOO)}"[:300])


def _choices_of(text: str, name: str) -> Architecture | ArchitectureError:
    """The architecture of a space whose choices these are, or why there is none."""
    space = load_space(name, trusted=True)
    choices: list[Any] = [text]
    with contextlib.suppress(ValueError, RecursionError):
        choices.insert(0, json.loads(text))
    error = ArchitectureError(f"{space.name}: {brief_repr(text)} is no choice of it")
    for value in choices:
        try:
            arch = Architecture(space.name, value)
            space.check(arch)
            return arch
        except ArchitectureError as refused:
            error = refused
    return error


def expand_folders(texts: Sequence[str]) -> list[str]:
    """The texts, with the arch.json files of a folder (a search's `front` or `finalists`) in the place of its name, sorted by theirs.

    Raises:
        ArchitectureError: a folder without any.

    >>> expand_folders(["resnet20"])
    ['resnet20']
    """
    found: list[str] = []
    for text in texts:
        if not is_folder(text):
            found.append(text)
        elif files := sorted(str(path) for path in Path(text).glob("*.json")):
            found += files
        else:
            raise ArchitectureError(f"{brief_repr(text)} is a folder without a .json file of an architecture")
    return found
