"""The trainings of a table in this process in place of processes of their own, which take seconds to start."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from diswot.distillation import side_by_side
from diswot.executors.named import Pool
from tests.executors.work import ScriptedExecutor, pool_of


def train_inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run trainings in this process."""

    @contextlib.contextmanager
    def inline(*_: Any) -> Iterator[Pool]:
        yield pool_of(ScriptedExecutor(), slots=1)

    monkeypatch.setattr(side_by_side, "open_pool", inline)
