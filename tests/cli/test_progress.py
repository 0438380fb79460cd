"""What the terminal shows while a command works: on stderr alone, and no more than was asked for."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from rich.console import Console

from diswot.progress import Detail, NullReporter, PlainLines
from diswot.progress.terminal import LiveView, make_reporter, progress_shown

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
    assert type(make_reporter(False)) is LiveView
    assert type(make_reporter(True)) is NullReporter


def view(now: list[float], width: int = 80) -> tuple[LiveView, Console, io.StringIO]:
    """A live view that draws itself only where it is asked to, on a terminal that is a buffer, under a clock that stands still."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, legacy_windows=False)
    return LiveView(console, clock=lambda: now[0], animate=False), console, stream


def drawn(live: LiveView, width: int = 80) -> list[str]:
    """What the view shows, without colours."""
    plain = Console(file=io.StringIO(), width=width, color_system=None)
    plain.print(live.render())
    return [line.rstrip() for line in plain.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_a_search_is_shown_on_80_columns() -> None:
    now = [0.0]
    live, _, _ = view(now)
    live.within("loading torch")
    now[0] = 7.0
    assert len(drawn(live)) == 1 and drawn(live)[0].endswith("loading torch, 7 s")
    live.start(1000, 0, "candidate")
    live.within("scoring the first candidates")
    now[0] = 19.0
    assert drawn(live)[0].endswith("0/1,000 candidates, 12 s") and drawn(live)[1].endswith("scoring the first candidates, 12 s")
    rows = [("best", "0.261M params, 38.8M FLOPs, score -1.2, candidate 12"), ("scores", "▁▂▃" * 13), ("budget", "120 outside of it " * 9)]
    for done in range(1, 201):
        now[0] += 0.5
        live.update(done, lambda: Detail("best", rows))
    bar, best, scores, budget = drawn(live)
    assert "200/1,000 candidates, 2.0/s, 6 min" in bar and bar.endswith(" s left")
    assert best.startswith("best    0.261M params") and scores.startswith("scores  ▁▂▃") and budget.endswith("…")
    assert all(len(line) <= 80 for line in drawn(live))
    now[0] += 3.0
    assert drawn(live)[1:] == [best, scores, budget], "between two steps nothing else moves"
    for width in (20, 40):
        assert all(len(line) <= width for line in drawn(live, width)), "nor does a narrow terminal break"
    live.stop()


def test_an_epoch_shows_its_images_and_the_time_that_is_left() -> None:
    now = [0.0]
    live, _, _ = view(now)
    live.start(10, 0, "epoch")
    for step in range(1, 11):
        now[0] = 6.0 * step
        live.within(f"training, {5_000 * step:,} of 50,000 images", step / 10)
    bar, inside = drawn(live)
    assert "0/10 epochs" in bar and bar.endswith(" s left") and " 1" in bar, "within the first minute"
    assert "training, 50,000 of 50,000 images" in inside
    live.stop()


def test_a_view_is_taken_away_again_and_leaves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    live, _, stream = view(now)
    with pytest.raises(KeyboardInterrupt):
        try:
            live.start(4, 1, "epoch")
            live.log("[bold] is no markup here")
            now[0] += 10.0
            live.update(2, lambda: "kd 0.2")
            raise KeyboardInterrupt
        finally:
            live.stop()
    live.stop()  # again does nothing
    shown = stream.getvalue()
    assert "resumed at 1 of 4 epochs" in shown and "[bold] is no markup here" in shown
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l"), "the cursor can be seen"
    first = shown.index("\x1b[?25l")
    assert shown.index("\x1b[?25h") < shown.index("resumed"), "and all the while, for who is killed"
    assert first >= 0 and capsys.readouterr() == ("", "")


def test_details_are_made_only_where_they_are_shown() -> None:
    """They may take longer than a step."""
    now, made = [0.0], []
    live, _, _ = view(now)
    live.start(100, 0, "step")
    for done in range(1, 51):
        now[0] += 0.01
        live.update(done, lambda done=done: made.append(done) or "")  # type: ignore[misc, func-returns-value]
    live.stop()
    assert 1 <= len(made) <= 6


def test_a_view_is_drawn_by_a_thread_while_work_goes_on() -> None:
    """Threads that draw and threads that report do not wait for each other for ever."""
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    live = LiveView(console)
    for _ in range(3):
        live.start(50, 1, "step")
        for done in range(1, 51):
            live.within(f"step {done}", 0.5)
            live.update(done, lambda: Detail("", [("a", "b")]))
            live.log("a line")
        live.stop()
    assert console.file.getvalue().count("a line") == 150  # type: ignore[attr-defined]
