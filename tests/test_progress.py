"""Progress as plain lines: how far, how fast and how long."""

from __future__ import annotations

import os
import sys

import pytest

from diswot.progress import Forecast, PlainLines


def test_plain_progress_says_how_far_how_fast_and_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    lines = PlainLines(sys.stderr, every=10, clock=lambda: now[0])
    lines.start(100, 20, "candidate")
    for done in range(21, 61):
        now[0] += 0.5
        lines.update(done, lambda: "best 0.9")
    lines.stop()
    out = capsys.readouterr().err.splitlines()
    assert out[0] == "resumed at 20 of 100 candidates"
    assert out[1] == "40/100 candidates, 2.0 candidates/s, 30 s left; best 0.9"
    assert out[2] == "60/100 candidates, 2.0 candidates/s, 20 s left; best 0.9"
    assert len(out) == 3


def test_progress_does_not_take_the_start_for_the_pace(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    lines = PlainLines(sys.stderr, every=10, clock=lambda: now[0])
    lines.start(100, unit="network")
    for step in (13.0, 13.5, 23.5):
        now[0] = step
        lines.update(round(step - 12) if step < 14 else 21, lambda: "")
    assert capsys.readouterr().err.splitlines() == ["1/100 networks, after 13 s", "21/100 networks, 1.9 networks/s, 41 s left"]


def test_work_goes_on_when_nobody_reads_its_progress() -> None:
    """As under `diswot distill ... 2>&1 | head`."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        lines = PlainLines(stream, clock=lambda: 0.0)
        lines.start(1)
        lines.update(1, lambda: "")
        lines.stop()
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # what is left in the buffer can be closed


def test_a_forecast_says_what_it_takes_once_all_steps_are_as_dear_as_the_dearest() -> None:
    times = iter([0.0, 10.0])
    forecast = Forecast(121, "candidate", clock=lambda: next(times))
    for seconds in [0.0, *[0.2] * 18, 1.0, 1.2]:  # the first was known already; the mean of the others is 0.29, of the dearest two 1.1
        forecast.note_cost(seconds)
    assert forecast.line(1) == ""
    line = "0.5 s a candidate: about 50 s for the 100 that are left, 3 min 10 s once all are as dear as the dearest tenth so far"
    assert forecast.line(21) == line
