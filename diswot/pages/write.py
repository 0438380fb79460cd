"""Writing the page of a run, whichever verb began it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from diswot import runs
from diswot.errors import RunError
from diswot.pages.comparison import comparison_sections
from diswot.pages.run_files import RunFiles
from diswot.pages.search import search_sections
from diswot.pages.tabulation import tabulation_sections
from diswot.pages.training import training_sections
from diswot.report.html import Section
from diswot.report.html import write_page as write_html

Maker = Callable[[RunFiles], tuple[str, list[Section]]]
_MAKERS: dict[str, Maker] = {
    "search": search_sections,
    "train": training_sections,
    "distill": training_sections,
    "compare": comparison_sections,
    "tabulate": tabulation_sections,
}


def write_page(folder: Path) -> Path:
    """Write `report.html`, and the files of its figures, into the folder of a run; returns the page's path.

    Args:
        folder: of a search, a training, a comparison or a tabulation, which may be under way. (A study writes its page itself.)

    Raises:
        RunError: there is no such run, or a file of it is damaged.
    """
    kind = runs.kind_of(folder)
    if kind not in _MAKERS:
        raise RunError(f"{folder}: a run of `diswot {kind}` has no page of this kind; `diswot {kind} --resume {folder}` writes its report")
    title, sections = _MAKERS[kind](RunFiles(folder))
    return write_html(folder, title, sections)
