"""Architectures by what a user types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diswot.architecture import Architecture, read_arch_json
from diswot.errors import ArchitectureError, brief_repr, suggest
from diswot.files import is_file, is_folder


def read_architecture(text: str) -> tuple[Architecture, dict[str, Any]]:
    """An architecture from what a user types: a file (arch.json), a NAS-Bench-201 string, or the name of a hand-made network; and
    how it was found, where the file says.

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
    if zoo_name(text) in ZOO:
        return Architecture("zoo", zoo_name(text)), {}
    import timm  # not before a name is sought there: it takes seconds

    if timm.is_model(timm_name(text)):
        return Architecture("zoo", f"timm/{text.removeprefix('timm/').replace(' ', '')}"), {}
    raise ArchitectureError(f"{brief_repr(text)} is no file, no NAS-Bench-201 string and no hand-made network: {suggest(text, ZOO)}"[:300])


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
