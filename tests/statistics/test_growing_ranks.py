"""Ranks of a table that grows, against scipy's of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from diswot.statistics.growing_ranks import GrowingRanks


@pytest.mark.parametrize("values", [3, 40, 10**9])
def test_ranks_are_those_of_the_whole_table_whatever_is_equal(values: int) -> None:
    rng = np.random.default_rng(values)
    table, ranks, length = rng.integers(0, values, (300, 3)) / 7 - 1, GrowingRanks(3), 0
    table[rng.random(300) < 0.05, 1] = -np.inf
    while length < len(table):
        grown = min(length + int(rng.integers(1, 40)), len(table))
        ranks.extend(table[length:grown])
        length = grown
        assert len(ranks) == length
        np.testing.assert_array_equal(ranks.table(), rankdata(table[:length], axis=0))


def test_nothing_has_no_ranks() -> None:
    assert GrowingRanks(2).table().shape == (0, 2) and len(GrowingRanks(0)) == 0
