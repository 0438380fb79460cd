"""A table of cells, and a study of it, made once for each file of tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from diswot.studies.recipe import StudyResult
from tests.studies import samples


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 rows: 30 random cells, and 10 of them again in another writing."""
    return samples.write_cells(tmp_path_factory.mktemp("table") / "cells.csv")


@pytest.fixture(scope="session")
def result(table: Path) -> StudyResult:
    """A study of the table by `relation` and `az_nas`."""
    return samples.study(table)
