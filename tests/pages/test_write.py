"""Pages at the end of runs, and by `diswot report`."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from diswot.execution import Execution
from diswot.searching.recipe import SearchPlan
from diswot.sessions import Session
from tests.report.test_html import Reader
from tests.searching.samples import search_config

CommandLine = Callable[..., tuple[int, str, str]]


@pytest.mark.slow
def test_the_command_writes_the_same_page_again(diswot: CommandLine, searched: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(searched, tmp_path / "run"))
    (run / "report.html").unlink()
    shutil.rmtree(run / "report")
    assert diswot("report", "run") == (0, "run/report.html\n", "")
    assert (run / "report.html").read_text() == (searched / "report.html").read_text().replace(str(searched), "run")
    assert {path.name for path in (run / "report").iterdir()} == {path.name for path in (searched / "report").iterdir()}


@pytest.mark.slow
def test_a_study_under_way_has_a_page_of_the_rows_that_are_scored(diswot: CommandLine, studied: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(studied, tmp_path / "run"))
    lines = (run / "scores.jsonl").read_text().splitlines(keepends=True)
    (run / "scores.jsonl").write_text("".join(lines[:15]) + lines[15][:20])
    assert diswot("report", "run") == (0, "run/report.html\n", "")
    assert f"{15:,} different networks" in " ".join(Reader((run / "report.html").read_text()).text["p"])
    assert (run / "scores.jsonl").read_text().endswith(lines[15][:20]), "a page changes nothing"


@pytest.mark.parametrize("damage", ["", "nothing: here", "format: 2\nkind: score\ndiswot: 0"])
def test_what_is_no_run_with_a_page_is_refused_in_a_line(diswot: CommandLine, tmp_path: Path, damage: str) -> None:
    (tmp_path / "run").mkdir()
    if damage:
        (tmp_path / "run" / "config.yaml").write_text(damage)
    code, out, err = diswot("report", "run")
    assert code == 2 and not out and err.count("\n") == 1 and "run" in err
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_fault_of_the_page_costs_nothing_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(folder: Path) -> Path:
        raise ValueError("no fonts here")

    monkeypatch.setattr("diswot.pages.write_page", fail)
    monkeypatch.delenv("DISWOT_TRACEBACK", raising=False)
    plan = SearchPlan(search_config(space="resnet_depth", iterations=4))
    execution = Execution("cpu", workers=1, cache=False, report=True)
    with caplog.at_level(logging.WARNING, "diswot"), Session.create(plan, tmp_path / "run", execution) as session:
        result = session.run()
    assert (tmp_path / "run" / "arch.json").read_text() == result.arch_json() and "no fonts here" in caplog.text
    assert f"diswot report {tmp_path / 'run'}" in caplog.text


@pytest.mark.slow
def test_pages_need_nothing_beside_them(searched: Path) -> None:
    path = searched / "report.html"
    assert path.stat().st_size < 5_000_000
    for tag, attributes in Reader(path.read_text()).tags:
        for key, value in attributes.items():
            assert tag != "script" and not key.startswith("on")
            if key in ("src", "href", "xlink:href"):
                assert value and value.startswith(("#", "report/", "data:image/png;base64,")), (tag, key, value)
