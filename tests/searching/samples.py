"""Quick searches that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diswot.config import SearchConfig
from diswot.execution import Execution
from diswot.progress import NullReporter
from diswot.runs import RunDir
from diswot.searching.recipe import SearchPlan, SearchResult, run_search

QUICK: dict[str, Any] = {
    "num_classes": 10,
    "seeds": 1,
    "batch_size": 2,
    "population_size": 8,
    "tournament_size": 4,
    "top_k": 2,
    "generation_size": 4,
    "teacher": "resnet8",
    "flops": "none",  # a small teacher is quick, and its size should not bound the students
    "proxy": "diswot",
}


def search_config(**options: Any) -> SearchConfig:
    return SearchConfig(**{**QUICK, "params": "0.3M", "iterations": 24, **options})


def search(config: SearchConfig, run: RunDir | None = None, **execution: Any) -> SearchResult:
    """In one process, where nothing else is asked for."""
    return run_search(SearchPlan(config), run, Execution(**{"workers": 1, **execution}))


def begin_search(folder: Path, config: SearchConfig, **execution: Any) -> SearchResult:
    """A search that is kept in a new folder."""
    plan = SearchPlan(config)
    with RunDir.create(folder, plan.kind, plan.document(), {}) as run:
        return search(config, run, **execution)


def resume_search(folder: Path, **execution: Any) -> SearchResult:
    """A search that is gone on with, by what its folder says."""
    run, document = RunDir.open(folder, "search")
    with run:
        return search(SearchPlan.restore(document, folder).config, run, **execution)


class Stop(Exception):
    """What `StopAt` raises."""


class StopAt(NullReporter):
    """Breaks a run off after a number of steps, as Ctrl-C would."""

    def __init__(self, done: int) -> None:
        self.done = done

    def update(self, done: int, detail: object) -> None:
        if done >= self.done:
            raise Stop
