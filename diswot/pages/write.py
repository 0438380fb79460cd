"""Writing the page of a run, whichever verb began it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from diswot import consent, runs
from diswot.errors import RunError
from diswot.pages.comparison import comparison_sections
from diswot.pages.run_files import RunFiles
from diswot.pages.search import search_sections
from diswot.pages.tabulation import tabulation_sections
from diswot.pages.training import training_sections
from diswot.progress import NullReporter
from diswot.report.html import PAGE, Section
from diswot.report.html import write_page as write_html
from diswot.runs import RunDir
from diswot.studies.dataset_report import dataset_reports
from diswot.studies.recipe import StudyPlan, study_so_far
from diswot.studies.report import write_report

Maker = Callable[[RunFiles], tuple[str, list[Section]]]
_UNHARMED = "the run itself is as it was: make room, or copy it to where it may be written"
_MAKERS: dict[str, Maker] = {
    "search": search_sections,
    "train": training_sections,
    "distill": training_sections,
    "compare": comparison_sections,
    "tabulate": tabulation_sections,
}


def write_page(folder: str | Path, allow: Collection[str] = ()) -> Path:
    """Write `report.html`, and the files of its figures, into the folder of a run, which may be under way.

    Args:
        folder: of a search, study, tabulation, training or comparison.
        allow: parts of your own, as `module:name`, that a study may import although it was begun elsewhere.

    Returns:
        The path of the page.

    Raises:
        RunError: there is no such run, or a file of it is damaged.
    """
    path = Path(folder)
    kind = runs.kind_of(path)
    if kind == "study":
        return _write_study_page(path, allow)
    if kind not in _MAKERS:
        raise RunError(f"{path}: a run of `diswot {kind}`, which has no page")
    with runs.disk_errors(path, _UNHARMED):
        return write_html(path, *_MAKERS[kind](RunFiles(path)))


def _write_study_page(folder: Path, allow: Collection[str]) -> Path:
    """Write the page of a study, by the rows that have been scored."""
    run, document = RunDir.open(folder, "study", lock=False)
    consent.check_allowed(folder, document, allow)
    study = study_so_far(StudyPlan.restore(document, folder), run)
    with runs.disk_errors(folder, _UNHARMED):
        write_report(study, dataset_reports(study, None, NullReporter()), folder)
    return folder / PAGE
