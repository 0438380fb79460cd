"""Reading files that somebody else may have written: no more of them than there can sensibly be."""

from __future__ import annotations

import errno
import hashlib
import stat
from pathlib import Path

_AT_ONCE = 1 << 20  # bytes


def read_bytes(path: str | Path, most: int) -> bytes:
    """The content of a file, a pipe or whatever else can be opened.

    Args:
        path: of the file.
        most: bytes that it may have. Of an endless one, as /dev/zero, no more are read.

    Raises:
        OSError: it cannot be read, or is larger; `strerror` says so.

    >>> read_bytes("/dev/zero", 1000)
    Traceback (most recent call last):
    OSError: [Errno 27] more than 1,000 bytes: '/dev/zero'
    """
    try:
        with open(path, "rb") as file:
            found = file.read(most + 1)
    except (ValueError, MemoryError) as error:  # a name with a zero byte in it
        raise OSError(errno.EINVAL, str(error) or "too large", str(path)) from None
    if len(found) > most:
        raise OSError(errno.EFBIG, f"more than {most:,} bytes", str(path))
    return found


def read_text(path: str | Path, most: int) -> str:
    """The content of a file as UTF-8 text; see `read_bytes`.

    Raises:
        OSError: as `read_bytes`.
        UnicodeDecodeError: it is no text.
    """
    return read_bytes(path, most).decode("utf-8").replace("\r\n", "\n")


def is_there(path: str | Path) -> bool:
    """Whether a word that a user typed names a file or a folder; one that is too long for a name does not.

    >>> is_there("/"), is_there("x" * 5000)
    (True, False)
    """
    return _mode(path) is not None


def is_file(path: str | Path) -> bool:
    """Whether a word that a user typed names a file."""
    mode = _mode(path)
    return mode is not None and stat.S_ISREG(mode)


def is_folder(path: str | Path) -> bool:
    """Whether a word that a user typed names a folder."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def _mode(path: str | Path) -> int | None:
    try:
        return Path(path).stat().st_mode
    except (OSError, ValueError):
        return None


def digest(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    require_regular(path)
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(_AT_ONCE):
            found.update(part)
    return found.hexdigest()


def require_regular(path: str | Path) -> None:
    """Refuse what is no file on a disk, before something reads it that knows no limit.

    Raises:
        OSError: it is missing, a folder, a pipe or a device.

    >>> require_regular("/dev/zero")
    Traceback (most recent call last):
    OSError: [Errno 22] no regular file: '/dev/zero'
    """
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise OSError(errno.EINVAL, "no regular file", str(path))
