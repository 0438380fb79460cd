"""Sessions: how every verb is created, run and resumed, from the command line and from Python.

A verb has a plan (what it is going to do, with every check that needs no images or networks) and a function that carries the plan out. A
session holds a plan to a folder, or to none.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from diswot import consent, runs
from diswot.errors import ConfigError, RunError, first_line
from diswot.execution import Execution
from diswot.runs import RESULT, RunDir
from diswot.training.distributed import init_distributed

logger = logging.getLogger(__name__)


class Plan(Protocol):
    """The checked plan of a verb. Its `kind` is the name of the verb."""

    @property
    def kind(self) -> str: ...

    def document(self) -> dict[str, Any]:
        """Return the part of the plan that is kept in the run's config.yaml."""

    def files(self) -> dict[str, str]:
        """Texts that are kept with the run, by file name."""


@dataclass(frozen=True)
class Verb:
    """A verb that can be begun and resumed.

    Attributes:
        restore: makes the plan of a run from its config.yaml and its folder.
        run: carries a plan out, or goes on where the run was left.
        needs_folder: whether it cannot do without one.
        distributes: whether several processes, started by torchrun, may carry it out together.
    """

    restore: Callable[[Mapping[str, Any], Path], Plan]
    run: Callable[[Any, Any, Execution], Any]
    needs_folder: bool = False
    distributes: bool = False


def _search() -> Verb:
    from diswot.finals import run_search_and_finals
    from diswot.searching.recipe import SearchPlan

    return Verb(SearchPlan.restore, run_search_and_finals)


def _score() -> Verb:
    from diswot.scoring.recipe import ScorePlan, run_score

    return Verb(ScorePlan.restore, run_score)


def _study() -> Verb:
    from diswot.studies.recipe import StudyPlan, run_study

    return Verb(StudyPlan.restore, run_study)


def _tabulate() -> Verb:
    from diswot.tabulation.recipe import TabulatePlan, run_tabulate

    return Verb(TabulatePlan.restore, run_tabulate, needs_folder=True)


def _train() -> Verb:
    from diswot.distillation.plan import TrainPlan
    from diswot.distillation.recipe import run_distill

    return Verb(TrainPlan.restore, run_distill, needs_folder=True, distributes=True)


def _distill() -> Verb:
    from diswot.distillation.plan import DistillPlan
    from diswot.distillation.recipe import run_distill

    return Verb(DistillPlan.restore, run_distill, needs_folder=True, distributes=True)


def _compare() -> Verb:
    from diswot.distillation.compare import ComparePlan, run_compare

    return Verb(ComparePlan.restore, run_compare, needs_folder=True)


# Functions, since the modules of a verb take seconds to import, and a process needs those of one.
VERBS: Mapping[str, Callable[[], Verb]] = {
    "search": _search,
    "score": _score,
    "study": _study,
    "tabulate": _tabulate,
    "train": _train,
    "distill": _distill,
    "compare": _compare,
}


class Session:
    """A run of a verb; use it in a `with` block.

    Attributes:
        plan: what is going to be done.
        folder: where it is kept, or None.
        is_main: whether this process is the one that writes; the others are those that torchrun started beside it.
    """

    def __init__(self, plan: Plan, run_dir: RunDir | None, execution: Execution, is_main: bool = True) -> None:
        self.plan, self._run_dir, self._execution, self.is_main = plan, run_dir, execution, is_main

    @property
    def folder(self) -> Path | None:
        """The folder that the run is kept in, or None."""
        return self._run_dir.path if self._run_dir is not None else None

    @classmethod
    def create(cls, plan: Plan, folder: str | Path | None, execution: Execution) -> Session:
        """Begin a run. Its folder must be new; without one nothing is kept.

        Raises:
            RunError: the folder exists, or cannot be written.
        """
        verb = VERBS[plan.kind]()
        if folder is None:
            if verb.needs_folder:
                raise ConfigError(f"{plan.kind} needs a folder to keep its students in")
            return cls(plan, None, execution)
        device, is_main, path = execution.choose_device(), True, Path(folder)
        if verb.distributes:
            distributed, device = init_distributed(device)
            is_main = distributed.is_main
        if is_main:
            run_dir = RunDir.create(path, plan.kind, plan.document(), runs.environment(device), plan.files())
            consent.remember_begun(path, plan.document())
        if verb.distributes:
            path = Path(distributed.broadcast(str(path)))  # the name may hold the time: all processes share the first one's
        return cls(plan, run_dir if is_main else RunDir(path), execution, is_main)

    @classmethod
    def resume(cls, folder: str | Path, execution: Execution, kind: str | None = None, allow: Collection[str] = ()) -> Session:
        """Go on with a run that was cut off.

        Args:
            folder: of the run.
            execution: how it is carried out.
            kind: the verb that must have begun it; any by default.
            allow: parts of the user's own, as `module:name`, that may be imported though the run was not begun on this machine.

        Raises:
            RunError: there is no run in the folder, it is another verb's, another version's, or in use.
        """
        path = Path(folder)
        kind = kind or runs.kind_of(path)
        if kind not in VERBS:
            raise RunError(f"{path}: a run of {kind!r}, which cannot be resumed by itself")
        verb, is_main = VERBS[kind](), True
        if verb.distributes:
            is_main = init_distributed(execution.choose_device())[0].is_main
        run_dir, document = RunDir.open(path, kind, lock=is_main)
        try:
            consent.check_allowed(path, document, allow)
            return cls(verb.restore(document, path), run_dir, execution, is_main)
        except BaseException:
            run_dir.close()
            raise

    def run(self) -> Any:
        """Carry the plan out, from where it was left, and return what it gave.

        Raises:
            DiswotError: whatever a user can mend. A new run that ends so before anything was computed leaves no folder behind.
        """
        verb = VERBS[self.plan.kind]()
        if self._run_dir is None:
            return verb.run(self.plan, None, self._execution)
        path = self._run_dir.path
        try:
            with runs.disk_errors(path), self._run_dir:
                result = verb.run(self.plan, self._run_dir, self._execution)
                if self.is_main and self._execution.report and (path / RESULT).exists():
                    self._write_page(path)
                return result
        finally:
            if self.is_main and not path.exists():
                consent.forget_begun(path)

    def _write_page(self, folder: Path) -> None:
        """Write the run's page. What was computed is on the disk already: a fault of the page is told, and costs nothing of it."""
        try:
            from diswot.pages import write_page

            write_page(folder)
        except Exception as error:
            if os.environ.get("DISWOT_TRACEBACK"):
                raise
            reason = first_line(error).partition(";")[0]  # not how to go on with the run, which has ended
            logger.warning("the page of the run could not be written (%s): diswot report %s tries again", reason, folder)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._run_dir is not None:
            self._run_dir.close()
