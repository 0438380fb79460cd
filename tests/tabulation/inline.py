"""The trainings of a table in this process in place of processes of their own, which take seconds to start."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from diswot.tabulation import trainings


class InlineProcess:
    """What `GroupRunner` uses of a process; it runs when it is started, and has ended then."""

    exitcode = -9  # of one that leaves no outcome

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...], daemon: bool) -> None:
        self._target, self._args = target, args
        self.sentinel, write = os.pipe()
        os.close(write)  # as when a process ends

    def start(self) -> None:
        self._target(*self._args)

    def join(self) -> None:
        os.close(self.sentinel)


def train_inline(monkeypatch: pytest.MonkeyPatch, train: Callable[..., None] | None = None) -> None:
    """Run trainings in this process; `train` in place of the function that a process runs."""
    context = type("Context", (), {"Process": InlineProcess})
    monkeypatch.setattr(trainings.multiprocessing, "get_context", lambda method: context)
    monkeypatch.setattr(trainings, "obey_parent", lambda: None)
    if train is not None:
        monkeypatch.setattr(trainings, "_train_group", train)
