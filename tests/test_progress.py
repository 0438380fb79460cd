"""Progress: how far, how fast and how long, and that it is never silent."""

from __future__ import annotations

import math
import os
import random
import sys
from itertools import pairwise

import pytest

from diswot.progress import Detail, Forecast, PlainLines, TimeLeft


def test_plain_progress_says_how_far_how_fast_and_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    lines = PlainLines(sys.stderr, every=10, clock=lambda: now[0])
    lines.start(100, 20, "candidate")
    for done in range(21, 61):
        now[0] += 0.5
        lines.update(done, lambda: Detail("best 0.9", [("best", "0.9")]))
    lines.stop()
    out = capsys.readouterr().err.splitlines()
    assert out[0] == "resumed at 20 of 100 candidates"
    assert out[1].startswith("40/100 candidates, 2.0 candidates/s, 3") and out[1].endswith(" s left; best 0.9")
    assert out[2].startswith("60/100 candidates, 2.0 candidates/s, 2") and out[2].endswith(" s left; best 0.9")
    assert len(out) == 3


def test_progress_does_not_take_the_start_for_the_pace(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    lines = PlainLines(sys.stderr, every=10, clock=lambda: now[0])
    lines.start(100, unit="network")
    for step in range(21):
        now[0] = 13.0 + step / 2
        lines.update(1 + step, lambda: "")
    first, second = capsys.readouterr().err.splitlines()
    assert first == "1/100 networks, after 13 s" and second.startswith("21/100 networks, 2.0 networks/s, 4")


def test_a_pace_without_a_time_that_is_left_ends_the_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    lines = PlainLines(sys.stderr, every=1, clock=lambda: now[0])
    lines.start(9, unit="network")
    for done in (1, 2):
        now[0] += 2
        lines.update(done, lambda: "best 1")
    assert capsys.readouterr().err.splitlines()[-1] == "2/9 networks, 2.0 s per network; best 1"


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


def test_nothing_is_silent_for_longer_than_was_promised(capsys: pytest.CaptureFixture[str]) -> None:
    """An epoch of 17 minutes, images that are tested for 2, a teacher that nothing is heard of for 3: the thread calls `tick`."""
    now, printed = [0.0], [0.0]
    lines = PlainLines(sys.stderr, clock=lambda: now[0])

    def wait(seconds: int) -> None:
        for _ in range(seconds):
            now[0] += 1
            lines.tick()
            if said := capsys.readouterr().err:
                printed.append(now[0])
                spoken.extend(said.splitlines())

    spoken: list[str] = []
    lines.within("loading torch")
    wait(40)
    lines.start(240, 2, "epoch")
    for images in range(0, 50_001, 2_500):
        lines.within(f"training, {images:,} of 50,000 images", images / 50_000)
        wait(51)
    lines.update(3, lambda: "")
    for images in range(0, 10_001, 1_000):
        lines.within(f"testing, {images:,} of 10,000 images")
        wait(12)
    lines.within("the teacher looks at the images")
    wait(180)
    lines.stop()
    assert max(later - earlier for earlier, later in pairwise(printed)) <= 31
    assert spoken[0] == "loading torch, for 30 s" and "resumed at 2 of 240 epochs" in spoken
    training = next(line for line in spoken if "training, 5,000" in line)
    assert training.startswith("2/240 epochs") and training.endswith("left"), "from the first minutes on"
    assert sum("testing, " in line and "of 10,000 images, for" in line for line in spoken) >= 3
    assert "the teacher looks at the images, for 2 min" in spoken[-1]
    said = len(spoken)
    wait(100)
    assert len(spoken) == said, "nothing is said of work that has ended"


@pytest.mark.parametrize("dearer", [0.0, 0.2, -0.08])
@pytest.mark.parametrize("seed", range(5))
def test_the_time_that_is_left_never_grows(dearer: float, seed: int) -> None:
    """Steps of random length, which become dearer or cheaper on the way, after a slow start."""
    rng = random.Random(seed)
    ends, now = [], 10.0
    for step in range(1, 1001):
        now += (0.1 + dearer * min(1.0, step / 400)) * rng.uniform(0.5, 1.5) + (2.0 if step < 4 else 0.0)
        ends.append(now)
    left = TimeLeft(1000)
    shown = [left.note(step, end) for step, end in enumerate(ends, 1)]
    assert all(later <= earlier for earlier, later in pairwise(shown)) and shown[-1] == 0
    for step in (600, 750, 900):
        assert shown[step] == pytest.approx(ends[-1] - ends[step], rel=0.25, abs=3), "and it is right"
    assert sum(map(math.isinf, shown)) < 10


def test_a_line_that_was_kept_back_tells_no_time_before_now() -> None:
    """Where a run is stopped within a step, after much has been noted since the line's own moment."""
    left = TimeLeft(8)
    for step, now in ((0, 0.0), (1, 32.0), (2, 64.0), (2.1, 90.0)):
        left.note(step, now)
    assert 0 < left.note(2, 64.0) < 300


def test_a_time_that_has_become_too_short_is_not_claimed() -> None:
    left, now = TimeLeft(100), 0.0
    texts = []
    for step in range(1, 61):
        now += 1.0 if step < 30 else 20.0
        texts.append(left.text(step, now))
    assert texts[28].endswith("s left") and not texts[28].startswith("over")
    assert texts[-1].startswith("over ")


def test_a_forecast_says_what_it_takes_once_all_steps_are_as_dear_as_the_dearest() -> None:
    times = iter([0.0, 10.0])
    forecast = Forecast(121, "candidate", clock=lambda: next(times))
    for seconds in [0.0, *[0.2] * 18, 1.0, 1.2]:  # the first was known already; the mean of the others is 0.29, of the dearest two 1.1
        forecast.note_cost(seconds)
    assert forecast.line(1) == ""
    line = "0.5 s a candidate: about 50 s to 3 min 10 s for the 100 that are left, the more the dearer the candidates become"
    assert forecast.line(21) == line
