"""The documentation site builds without a warning and holds what it must; the public names have docstrings."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = (
    "diswot",
    "diswot.losses",
    "diswot.proxies",
    "diswot.schemes",
    "diswot.data",
    "diswot.testing",
)  # what their __all__ names is public
BESIDES = {
    "diswot.errors": ("ConfigError", "ArchitectureError", "BudgetError", "DataError", "TeacherError", "RunError"),
    "diswot.space": ("Cost", "ImageSpec"),
    "diswot.searching.strategies": ("Strategy", "SearchState", "Member", "Evolution", "AgingEvolution", "RandomSearch"),
    "diswot.models.base": ("ImageClassifier", "stage_info"),
    "diswot.observe": ("Observation", "Observer"),
}
TO_IMPLEMENT = (  # the contracts of parts of one's own: every public member must say when it is called and what it gives
    "diswot.SearchSpace",
    "diswot.proxies.Proxy",
    "diswot.losses.Loss",
    "diswot.losses.SingleTermLoss",
    "diswot.schemes.Scheme",
    "diswot.data.DataSource",
    "diswot.searching.strategies.Strategy",
    "diswot.models.base.ImageClassifier",
)


def public_names() -> list[str]:
    named = {module: importlib.import_module(module).__all__ for module in MODULES}
    return [f"{module}.{name}" for module, names in {**named, **BESIDES}.items() for name in names]


def find(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def own_members(kind: type) -> Iterator[tuple[str, Any]]:
    """The public functions and properties that a class defines itself."""
    for name, member in vars(kind).items():
        member = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if inspect.isfunction(member) and not name.startswith("_"):
            yield name, member


@pytest.mark.slow
def test_every_public_name_has_a_docstring() -> None:
    """Of classes, functions and constants, as the site reads them: from the source."""
    package = griffe.load("diswot", search_paths=[str(ROOT)])
    found = {name: package[name.removeprefix("diswot.")] for name in public_names()}
    assert [name for name, item in found.items() if not item.has_docstring] == []
    assert len(found) > 80


def test_every_member_of_a_contract_has_a_docstring() -> None:
    members = {f"{name}.{member}": function for name in TO_IMPLEMENT for member, function in own_members(find(name))}
    assert [name for name, function in members.items() if not function.__doc__] == []
    assert len(members) > 40


def test_the_tables_of_parts_and_options_are_up_to_date(load_script: Any) -> None:
    """Else: python scripts/write_part_pages.py."""
    for path, text in load_script("write_part_pages").pages().items():
        assert path.read_text() == text, f"{path.relative_to(ROOT)} is old: run scripts/write_part_pages.py"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_what_the_pages_beside_docs_link_to_is_there(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", (ROOT / page).read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_the_site_builds_with_every_public_name_in_its_reference(site: Path) -> None:
    shown = {match for page in (site / "reference").glob("*.html") for match in re.findall(r'id="(diswot[\w.]*)"', page.read_text())}
    assert [name for name in public_names() if name not in shown] == []
    members = [f"{name}.{member}" for name in TO_IMPLEMENT for member, _ in own_members(find(name))]
    assert [member for member in members if member not in shown] == []


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = re.compile(
        r"<(?:script|img|iframe|link(?![^>]*rel=\"?canonical))[^>]*?(?:src|href)=\"?(?:https?:)?//[^\s\">]+|url\(['\"]?(?:https?:)?//"
    )
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(pages) > 40
    assert {page.name: match[0] for page in pages if (match := loaded.search(page.read_text()))} == {}


@pytest.mark.slow
def test_what_a_page_of_the_site_refers_to_is_there(site: Path) -> None:
    link = re.compile(r"(?:href|src)=\"([^\"#:/][^\"#:?]*)(?:[#?][^\"]*)?\"")
    found = {(page, match) for page in site.rglob("*.html") for match in link.findall(page.read_text())}
    assert len(found) > 1000
    assert [f"{page.relative_to(site)}: {to}" for page, to in sorted(found) if not (page.parent / to).exists()] == []
