"""Quick studies of a table of 40 cells that the tests of this folder share."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from diswot.architecture import Architecture
from diswot.config import StudyConfig
from diswot.execution import Execution
from diswot.runs import RunDir
from diswot.space import load_space
from diswot.studies.dataset_report import DatasetReport
from diswot.studies.recipe import StudyPlan, StudyResult, run_study, score_table
from diswot.studies.study import Study
from search_spaces.nasbench201 import KERNELS, parse

SPACE = load_space("nasbench201")
QUICK: dict[str, Any] = {
    "proxy": "relation,az_nas",
    "teacher": "resnet8",
    "num_classes": 5,
    "seeds": 2,
    "batch_size": 2,
    "input_size": 8,
    "bootstrap_resamples": 30,
    "num_budgets": 3,
    "num_bands": 2,
}


def quality(arch: Architecture) -> float:
    """An accuracy that an architecture might have: the more convolutions, the better, up to a little noise of its own."""
    noise = int(arch.digest[:4], 16) / 65536
    return 40 + 5 * sum(KERNELS.get(name, 0) for name in parse(arch.choices)) / 3 + 2 * noise


def write_cells(path: Path) -> Path:
    """40 rows: 30 random cells, and 10 of them again in another writing."""
    rng = np.random.default_rng(0)
    archs = [SPACE.sample(rng) for _ in range(30)]
    archs += [SPACE.canonical(arch) for arch in archs[:10]]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arch_str", "toy_test_acc", "toy_valid_acc"])
        writer.writerows([arch.choices, f"{quality(arch):.3f}", f"{100 - quality(arch):.3f}"] for arch in archs)
    return path


def study_config(**options: Any) -> StudyConfig:
    return StudyConfig(**{**QUICK, **options})


def study_plan(table: Path, scores_of: Path | None = None, **options: Any) -> StudyPlan:
    return StudyPlan(study_config(**options), str(table), scores_of)


def study(table: Path, run: RunDir | None = None, **options: Any) -> StudyResult:
    """A study in one process; the options are those of the configuration."""
    return run_study(study_plan(table, **options), run, Execution(workers=1))


def score(table: Path, run: RunDir | None = None, **options: Any) -> Study:
    """The scores alone, without figures and report."""
    return score_table(study_plan(table, **options), run, Execution(workers=1))


def begin_scores(folder: Path, table: Path, **options: Any) -> Study:
    """The scores, kept in a new folder."""
    plan = study_plan(table, **options)
    with RunDir.create(folder, plan.kind, plan.document(), {}) as run:
        return score_table(plan, run, Execution(workers=1))


def resume_scores(folder: Path) -> Study:
    """Gone on with, by what the folder says."""
    run, document = RunDir.open(folder, "study")
    with run:
        return score_table(StudyPlan.restore(document, folder), run, Execution(workers=1))


def only_report(result: StudyResult) -> DatasetReport:
    (report,) = result.reports
    return report
