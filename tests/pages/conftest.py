"""Runs that the pages are made of, each carried out once."""

from __future__ import annotations

from pathlib import Path

import pytest

import diswot
from diswot.execution import Execution
from diswot.searching.recipe import SearchPlan
from diswot.sessions import Session
from tests.conftest import write_small_npz
from tests.searching.samples import search_config


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short search, with its page."""
    folder = tmp_path_factory.mktemp("search") / "run"
    plan = SearchPlan(search_config(space="resnet_depth", iterations=24))
    with Session.create(plan, folder, Execution("cpu", workers=1, cache=False, report=True)) as session:
        session.run()
    return folder


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison of three losses with two seeds; `seed-0` is a training of three students."""
    folder = tmp_path_factory.mktemp("compare")
    data = write_small_npz(folder / "small.npz")
    options = {"losses": "none; kd; rkd", "seeds": 2, "epochs": 2, "teacher": "resnet8", "teacher_epochs": 1, "batch_size": 16, "lr": 0.02}
    diswot.compare(["resnet8"], data=str(data), folder=folder / "run", device="cpu", **options)
    return folder / "run"
