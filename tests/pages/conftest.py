"""Runs that the pages are made of, each carried out once."""

from __future__ import annotations

from pathlib import Path

import pytest

import diswot
from diswot.execution import Execution
from diswot.searching.recipe import SearchPlan
from diswot.sessions import Session
from tests.conftest import write_small_npz, write_teacher
from tests.searching.samples import search_config
from tests.studies.samples import QUICK, write_cells
from tests.tabulation.inline import train_inline


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


@pytest.fixture(scope="session")
def tabulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a table of sixteen networks, half of them trained with a second seed."""
    folder = tmp_path_factory.mktemp("tabulate")
    data, teacher = write_small_npz(folder / "small.npz"), write_teacher(folder / "teacher.pth")
    table = {"space": "s0", "networks": 16, "group_size": 24, "repeat_fraction": 0.5, "baseline_fraction": 0, "limit": 48}
    taught = {"data": str(data), "teacher": "resnet8", "teacher_weights": str(teacher), "epochs": 1, "batch_size": 16}
    with pytest.MonkeyPatch.context() as patch:
        train_inline(patch)
        diswot.tabulate(folder=folder / "run", device="cpu", workers=1, **table, **taught)
    return folder / "run"


@pytest.fixture(scope="session")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of a table of 40 cells, without a page yet."""
    folder = tmp_path_factory.mktemp("study")
    diswot.study(write_cells(folder / "toy.csv"), folder=folder / "run", device="cpu", workers=1, **QUICK)
    return folder / "run"
