"""The finals of a search: where the user spends epochs on it, its finalists are trained briefly, by successive halving."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from diswot import runs
from diswot.architecture import read_arch_json
from diswot.config import DistillConfig, SearchConfig, to_dict
from diswot.distillation.plan import DistillPlan, plan_distillation
from diswot.distillation.recipe import distill_in
from diswot.distillation.students import StudentEntry, student_names
from diswot.errors import ConfigError
from diswot.execution import Execution
from diswot.runs import RunDir
from diswot.searching.finalists import Trained
from diswot.searching.recipe import FINALISTS, SearchPlan, SearchResult, run_search

logger = logging.getLogger(__name__)
_FINALS = "finals"
_HELD_OUT = 0.1  # of the training images, which the finalists are measured on


def run_search_and_finals(plan: SearchPlan, run: RunDir | None, execution: Execution) -> SearchResult:
    """Search, and train the finalists where `--trial-epochs` asks for it, or go on where the run was left.

    Raises:
        DiswotError: whatever a user can mend, in one line.
    """
    if plan.config.trial_epochs and run is None:
        raise ConfigError("--trial-epochs trains the finalists, and needs a folder to keep them in")
    result = run_search(plan, run, execution)
    if not plan.config.trial_epochs or run is None:
        return result
    return _hold_finals(plan.config, result, run, execution)


def halvings(entrants: int, epochs: int) -> list[tuple[int, int]]:
    """Return for each round of successive halving how many networks are trained, and for how many epochs; the last has two, for all of them
    (Jamieson & Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016).

    Where there are too few epochs to double in every round, rounds of equal length are one, which decides among all of them.

    >>> halvings(5, 8), halvings(2, 8), halvings(1, 8)
    ([(5, 2), (3, 4), (2, 8)], [(2, 8)], [])
    >>> halvings(5, 2), halvings(5, 1)
    ([(5, 1), (2, 2)], [(5, 1)])
    """
    counts = []
    while entrants > 1:
        counts.append(entrants)
        entrants = math.ceil(entrants / 2)
    entrants_of: dict[int, int] = {}
    for number, count in enumerate(counts):
        entrants_of.setdefault(max(1, epochs >> (len(counts) - 1 - number)), count)
    return [(count, length) for length, count in entrants_of.items()]


def _hold_finals(config: SearchConfig, result: SearchResult, run: RunDir, execution: Execution) -> SearchResult:
    """Train the finalists in rounds, of which each keeps the better half; the last that is left is the winner."""
    left = [StudentEntry(*read_arch_json(path)) for path in sorted((run.path / FINALISTS).glob("*.json"))]
    trained: dict[str, Trained] = {}
    for count, epochs in halvings(len(left), config.trial_epochs):
        accuracies = _round(config, left[:count], epochs, run.path / _FINALS / f"{epochs}-epochs", execution)
        trained |= {name: Trained(epochs, accuracy) for name, accuracy in accuracies.items()}
        order = sorted(zip(left[:count], student_names(left[:count]), strict=True), key=lambda pair: -accuracies[pair[1]])
        left = [entry for entry, _ in order]
    crowned = _with_final_winner(result, left[0], trained, run.path)
    run.write_result(crowned.summary())
    return crowned


def _round(config: SearchConfig, entries: Sequence[StudentEntry], epochs: int, folder: Path, execution: Execution) -> dict[str, float]:
    """Train students side by side; return their accuracies on held-out training images, in percent."""
    logger.info("finals: %s, %s epochs each", ", ".join(student_names(entries)), epochs)
    last = distill_in(folder, _plan(config, entries, epochs), execution).history[-1]
    if len(entries) == 1:
        return {student_names(entries)[0]: float(last["validation_top1"])}
    return {name: float(last[f"{name}/validation_top1"]) for name in student_names(entries)}


def _plan(config: SearchConfig, entries: Sequence[StudentEntry], epochs: int) -> DistillPlan:
    """The plan of a round: the short recipe of `diswot tabulate`."""
    images: dict[str, Any] = {name: getattr(config, name) for name in ("data", "data_dir", "download", "num_classes", "input_size")}
    weights = None if config.teacher_weights == "random" else config.teacher_weights
    teacher = {"teacher": config.teacher, "teacher_weights": weights, "teacher_norm": config.teacher_norm}
    recipe = {"epochs": epochs, "teacher_epochs": config.trial_epochs, "val_interval": epochs, "sched": "cosine", "augment": "flip"}
    options: dict[str, Any] = {**images, **teacher, **recipe, "val_fraction": _HELD_OUT, "seed": config.seed, "space": config.space}
    return plan_distillation(DistillConfig(**options), entries)


def _with_final_winner(result: SearchResult, entry: StudentEntry, trained: dict[str, Trained], folder: Path) -> SearchResult:
    """The result with the winner of the finals in the winner's place, in arch.json too."""
    table = [replace(row, trained=trained.get(row.role)) for row in result.table]
    finals = {row.role: to_dict(row.trained) for row in table if row.trained is not None}
    kept = {key: value for key, value in entry.provenance.items() if key != "role"}
    crowned = replace(result, winner=entry.arch, table=table, provenance={**kept, "finals": finals})
    runs.write_atomic(folder / "arch.json", crowned.arch_json())
    return crowned
