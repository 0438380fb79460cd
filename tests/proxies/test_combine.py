"""The scores of several proxies put together into one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diswot.errors import ConfigError
from diswot.proxies.combine import combine

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


def test_log_combination_from_the_definition() -> None:
    """AZ-NAS, equation 12: the sum over the proxies of log(rank / n)."""
    table = [[1.0, 5.0], [2.0, 5.0], [3.0, 1.0]]
    expected = [math.log(1 / 3) + math.log(2.5 / 3), math.log(2 / 3) + math.log(2.5 / 3), math.log(3 / 3) + math.log(1 / 3)]
    assert combine(table, "log") == pytest.approx(expected)


@given(tables)
def test_log_combination_forgets_monotone_transforms(table: list[tuple[int, ...]]) -> None:
    assert combine(np.exp(np.asarray(table, float)) * [1, 5, 9], "log") == pytest.approx(combine(table, "log"))


@given(tables, st.tuples(*[st.integers(0, 3)] * 3), st.sampled_from(["rank", "log", "sum"]))
def test_a_weight_counts_a_part_several_times(table: list[tuple[int, ...]], weights: tuple[int, ...], how: str) -> None:
    repeated = [combine(np.asarray(table)[:, [i]], how) for i in range(3) for _ in range(weights[i])]
    expected = sum(repeated, np.zeros(len(table))) / (3 if how == "rank" else 1)
    assert combine(table, how, weights) == pytest.approx(expected)


def test_an_unknown_combination_is_refused() -> None:
    with pytest.raises(ConfigError, match="'mean': known: rank, log, sum"):
        combine([[1.0]], "mean")
