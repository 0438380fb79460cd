"""A disk that becomes full at the n-th of all writes of a command, for every n."""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock


@dataclass
class FullDisk:
    """Counts what a command does to the files below a folder: opening for writing, writing, flushing, renaming, making folders.

    Attributes:
        folder: where it counts.
        fails: the numbers of the steps that fail, by a test; none by default.
        steps: what was done so far.
    """

    folder: Path
    fails: Callable[[int], bool] = lambda number: False
    steps: list[str] = field(default_factory=list)

    def step(self, what: str, path: Any) -> None:
        """Count a step, or fail."""
        self.steps.append(f"{what} {path}")
        if self.fails(len(self.steps) - 1):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def _is_below(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and Path(path).absolute().is_relative_to(self.folder) and Path(path).name != "lock"

    def _open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if not set(mode) & set("wax+") or not self._is_below(file):
                return real(file, mode, *arguments, **options)
            self.step("open", file)
            return _Written(real(file, mode, *arguments, **options), lambda: self.step("write", file))

        return opened

    def _before(self, what: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def called(path: Any, *arguments: Any, **options: Any) -> Any:
            if what == "fsync" or self._is_below(path):
                self.step(what, path)
            return real(path, *arguments, **options)

        return called

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        """Inside, steps are counted and may fail."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.object(builtins, "open", self._open(builtins.open)))
            stack.enter_context(mock.patch.object(io, "open", self._open(io.open)))  # pathlib's
            for name in ("fsync", "replace", "rename", "mkdir"):
                stack.enter_context(mock.patch.object(os, name, self._before(name, getattr(os, name))))
            yield


class _Written:
    """A file whose every write is a step."""

    def __init__(self, file: Any, step: Callable[[], None]) -> None:
        self._file, self._step = file, step

    def write(self, data: Any) -> Any:
        self._step()
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Written:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)
