"""What is in an .npz, before any of it is unpacked."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diswot.errors import DataError, brief_repr

MOST_UNPACKED = 1 << 30
"""Bytes that may come of an archive whatever its size."""
MOST_RATIO = 20
"""Times the size of the archive that may come of a larger one; of images no compression makes more."""
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def check_members(path: Path, archive: zipfile.ZipFile, names: Sequence[str]) -> None:
    """Refuse an archive that says one thing and holds another, or out of which far more comes than is in it.

    Args:
        path: of the archive.
        archive: opened.
        names: of the members that are going to be read, as `x_train.npy`.

    Raises:
        DataError: names the member, or the size.
    """
    members = [archive.getinfo(name) for name in names if name in archive.NameToInfo]
    for member in members:
        claimed = _array_bytes(path, archive, member)
        if claimed != member.file_size:
            raise DataError(
                f"{path}: {brief_repr(member.filename)} says that it has {claimed:,} bytes and has {member.file_size:,}: it is damaged"
            )
    packed, unpacked = path.stat().st_size, sum(member.file_size for member in members)
    if unpacked > MOST_UNPACKED and unpacked > MOST_RATIO * packed:
        raise DataError(
            f"{path}: its {packed:,} bytes would become {unpacked:,}, more than {MOST_RATIO} times as many: "
            "save the arrays by np.savez, not compressed, if that is what they are"
        )


def _array_bytes(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """The bytes of an array and of its header, as the header has them."""
    with archive.open(member) as file:
        version: Any = np.lib.format.read_magic(file)
        if version not in _READERS:
            raise DataError(f"{path}: {brief_repr(member.filename)} is of version {version} of the .npy format: save it by np.savez")
        shape, _, dtype = _READERS[version](file)
        if dtype.hasobject:
            raise DataError(f"{path}: {brief_repr(member.filename)} holds Python objects: plain arrays of numbers are needed")
        return file.tell() + math.prod(shape) * dtype.itemsize
