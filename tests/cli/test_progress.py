"""What the terminal shows while a command works: on stderr alone, and no more than was asked for."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from rich.console import Console

from diswot.cli.progress import LiveLine, make_reporter, progress_shown
from diswot.progress import NullReporter, PlainLines

LOGGER = logging.getLogger("diswot")


@pytest.fixture(autouse=True)
def _logger_is_left_as_it_was() -> Iterator[None]:
    before = LOGGER.level, LOGGER.propagate, list(LOGGER.handlers)
    yield
    assert (LOGGER.level, LOGGER.propagate, list(LOGGER.handlers)) == before


def speak() -> None:
    """What the library may log."""
    child = logging.getLogger("diswot.training.loop")
    child.debug("a detail")
    child.info("a teacher is trained first")
    child.warning("the checkpoint is %s", "damaged")


def test_lines_and_warnings_stand_between_the_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_shown(quiet=False) as reporter:
        reporter.start(2, 1, "epoch")
        speak()
        reporter.update(2, lambda: "kd 0.5")
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[:3] == ["resumed at 1 of 2 epochs", "a teacher is trained first", "warning: the checkpoint is damaged"]
    assert lines[3].startswith("2/2 epochs") and lines[3].endswith("; kd 0.5") and len(lines) == 4


def test_quiet_shows_warnings_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_shown(quiet=True) as reporter:
        assert isinstance(reporter, NullReporter)
        reporter.start(2, 1, "epoch")
        speak()
    assert capsys.readouterr() == ("", "warning: the checkpoint is damaged\n")


@pytest.mark.parametrize("quiet", [True, False])
def test_silent_shows_nothing(quiet: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """As the processes beside the first one are, which log the same."""
    with progress_shown(quiet, silent=True) as reporter:
        reporter.start(2, 1, "epoch")
        speak()
        reporter.update(2, lambda: "")
    assert capsys.readouterr() == ("", "")


def test_the_last_progress_is_shown_even_after_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), progress_shown(quiet=False) as reporter:
        reporter.start(9, 0, "candidate")
        reporter.update(1, lambda: "best 1.0")  # held back: a line every few seconds is enough
        assert capsys.readouterr().err == ""
        raise RuntimeError
    assert "1/9 candidates" in capsys.readouterr().err


def test_outside_of_a_command_a_programs_own_logging_counts(caplog: pytest.LogCaptureFixture) -> None:
    with progress_shown(quiet=True), caplog.at_level(logging.INFO):
        speak()
    assert caplog.messages == [], "inside, the command shows them"
    with caplog.at_level(logging.INFO, "diswot"):
        speak()
    assert caplog.messages == ["a teacher is trained first", "the checkpoint is damaged"]


def test_a_bar_is_for_terminals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(make_reporter(False)) is PlainLines
    assert type(make_reporter(True)) is NullReporter
    monkeypatch.setattr(Console, "is_terminal", True)
    assert type(make_reporter(False)) is LiveLine
    assert type(make_reporter(True)) is NullReporter


def test_a_bar_is_drawn_and_taken_away_again() -> None:
    now, stream = [0.0], io.StringIO()
    line = LiveLine(Console(file=stream, force_terminal=True, width=100), clock=lambda: now[0])
    line.start(4, 1, "epoch")
    for done in (2, 3, 4):
        now[0] += 10.0
        line.update(done, lambda done=done: f"kd 0.{done}")  # type: ignore[misc]
    line.log("[bold] is no markup here")
    line.stop()
    line.stop()  # again does nothing
    shown = stream.getvalue()
    assert "resumed at 1 of 4 epochs" in shown and "4/4 epochs, 10.0 s per epoch, 0 s left; kd 0.4" in shown
    assert "[bold] is no markup here" in shown
    line.update(5, lambda: "after the end")
    assert "after the end" not in stream.getvalue()


def test_details_are_made_only_where_they_are_shown() -> None:
    """They may take longer than a step."""
    now, made = [0.0], []
    line = LiveLine(Console(file=io.StringIO(), force_terminal=True), clock=lambda: now[0])
    line.start(100, 0, "step")
    for done in range(1, 51):
        now[0] += 0.01
        line.update(done, lambda done=done: made.append(done) or "")  # type: ignore[misc, func-returns-value]
    line.stop()
    assert 1 <= len(made) <= 6
