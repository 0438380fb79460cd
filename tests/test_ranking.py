from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from diswot.progress import PlainLines
from diswot.ranking import bootstrap_interval, combine, partial_spearman

tables = st.integers(2, 30).flatmap(lambda n: st.lists(st.tuples(*[st.integers(-9, 9)] * 3), min_size=n, max_size=n))


@given(tables)
def test_rank_combination_from_the_definition_with_ties(table: list[tuple[int, ...]]) -> None:
    n = len(table)
    expected = []
    for row in table:
        ranks = [sum(o[c] < row[c] for o in table) + (sum(o[c] == row[c] for o in table) + 1) / 2 for c in range(3)]
        expected.append(sum(ranks) / 3 / n)
    assert combine(table) == pytest.approx(expected)


@given(tables)
def test_rank_combination_forgets_scales(table: list[tuple[int, ...]]) -> None:
    scaled = np.asarray(table, float) * [1e-6, 3, 1e9] + [5, -2, 0]
    assert combine(scaled) == pytest.approx(combine(table))


def test_the_plain_sum_does_not() -> None:
    assert combine([[1.0, 1000.0], [2.0, 900.0]], "sum").argmax() == 0
    assert combine([[1.0, 1000.0], [2.0, 900.0]]).tolist() == [0.75, 0.75]


def test_partial_spearman_is_the_correlation_of_residuals() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=300)
    x, y = z + rng.normal(size=300), z**3 + rng.normal(size=300)
    ranks = [rankdata(v) for v in (x, y, z)]
    design = np.stack([ranks[2], np.ones(300)], 1)
    residuals = [r - design @ np.linalg.lstsq(design, r, rcond=None)[0] for r in ranks[:2]]
    assert partial_spearman(x, y, z) == pytest.approx(np.corrcoef(*residuals)[0, 1], abs=1e-9)


def test_bootstrap_intervals_cover() -> None:
    """95 % intervals of a mean hold the true mean in about 95 of 100 samples."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        low, high = bootstrap_interval(lambda x: float(x.mean()), rng.normal(size=60), rng=rng, repeats=300)
        hits += low < 0 < high
    assert 178 <= hits <= 199


def test_plain_progress_says_how_far_how_fast_and_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    now = [0.0]
    lines = PlainLines(sys.stderr, "candidate", every=10, clock=lambda: now[0])
    lines.start(100, 20)
    for done in range(21, 61):
        now[0] += 0.5
        lines.update(done, lambda: "best 0.9")
    lines.stop()
    out = capsys.readouterr().err.splitlines()
    assert out[0] == "resumed at 20 of 100 candidates"
    assert out[1] == "40/100 candidates, 2.0 candidates/s, 30 s left; best 0.9"
    assert out[2] == "60/100 candidates, 2.0 candidates/s, 20 s left; best 0.9"
    assert len(out) == 3
