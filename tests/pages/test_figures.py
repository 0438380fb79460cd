"""The numbers behind the figures of the pages, held against scipy and against enumeration."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from scipy import stats

from diswot.pages.confusions import Confusions, gains_picture, most_confused
from diswot.pages.search_figures import median_best_of


def test_random_search_is_the_median_over_every_way_to_draw() -> None:
    ranks = np.array([9.0, 2.0, 7.0, 4.0, 5.0])
    for count in range(1, 6):
        best = [min(drawn) for drawn in itertools.combinations(ranks, count)]
        assert median_best_of(ranks)[count - 1] == statistics.median_low(best)


def two_networks() -> Confusions:
    a, b = np.array([[8, 2], [1, 9]]), np.array([[6, 4], [1, 9]])
    return Confusions(["cat", "dog"], {"a": a, "b": b})


def test_gains_by_class_are_differences_of_shares_with_their_interval() -> None:
    table = gains_picture([two_networks()], "a", "b").data
    assert table is not None
    cat, dog = (row["gain"] for row in table.rows)
    assert cat["value"] == pytest.approx(20) and dog["value"] == 0
    width = stats.norm.ppf(0.975) * math.sqrt(0.8 * 0.2 / 10 + 0.6 * 0.4 / 10)
    assert cat["high"] - cat["value"] == pytest.approx(100 * width)


def test_gains_over_seeds_have_the_interval_of_a_paired_t_test() -> None:
    other = Confusions(["cat", "dog"], {"a": np.array([[9, 1], [2, 8]]), "b": np.array([[5, 5], [1, 9]])})
    table = gains_picture([two_networks(), other], "a", "b").data
    assert table is not None
    gains = [[20.0, 40.0], [0.0, -10.0]]
    for row, values in zip(table.rows, gains, strict=True):
        interval = stats.ttest_1samp(values, 0).confidence_interval()
        assert (row["gain"]["low"], row["gain"]["high"]) == pytest.approx((interval.low, interval.high))


def test_what_is_confused_most_is_off_the_diagonal() -> None:
    found = [(row["class"], row["taken_for"], row["images"], row["share"]) for row in most_confused(two_networks(), "b").rows]
    assert found == [("cat", "dog", 4, 40.0), ("dog", "cat", 1, 10.0)]
