"""Times of units that were not measured, where the law is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from diswot.budget import Budget
from diswot.latency.design import _spread, design
from diswot.latency.fill_in import FillIn, held_out_error, places_of
from diswot.latency.units import Unit, UnitReader
from diswot.space import load_space
from tests.latency.samples import SPEC, by_flops

READER = UnitReader(load_space("s1"), SPEC)
LIMITS = Budget.parse({"params": "0.05M..1M"})


@pytest.fixture(scope="module")
def units() -> list[Unit]:
    return [example.unit for example in design(READER, LIMITS, 120, 0, np.random.default_rng(0)).examples]


def test_a_sum_of_parts_is_found_exactly(units: list[Unit]) -> None:
    model = FillIn(units[:80], [by_flops(unit) for unit in units[:80]])
    assert model(units[80:]) == pytest.approx([by_flops(unit) for unit in units[80:]], rel=0.02)


def test_what_is_no_sum_is_followed_smoothly(units: list[Unit]) -> None:
    """Narrow convolutions are slower for their FLOPs, as on every processor; by the FLOPs alone a unit is far off."""

    def law(unit: Unit) -> float:
        return 0.02 + unit.flops / 1e7 * (1 + 16 / unit.inputs[0])

    times = [law(unit) for unit in units]
    rate = np.median([ms / unit.flops for ms, unit in zip(times, units, strict=True)])
    by_rate = np.median([abs(rate * unit.flops / ms - 1) for ms, unit in zip(times, units, strict=True)])
    assert held_out_error(units, times) < min(0.08, by_rate / 3)


def test_noise_is_smoothed_and_never_makes_a_time_negative(units: list[Unit]) -> None:
    rng = np.random.default_rng(1)
    noisy = [by_flops(unit) * float(rng.lognormal(0, 0.1)) for unit in units]
    found = FillIn(units, noisy)(units)
    true = np.array([by_flops(unit) for unit in units])
    assert np.median(np.abs(found / true - 1)) < 0.8 * np.median(np.abs(np.array(noisy) / true - 1))
    assert (found > 0).all()


def test_few_units_are_enough_for_a_figure_but_not_for_an_error(units: list[Unit]) -> None:
    assert (FillIn(units[:3], [1.0, 1.0, 1.0])(units[:3]) > 0).all()
    assert math.isnan(held_out_error(units[:9], [1.0] * 9))


def test_a_design_holds_the_smallest_and_the_largest_and_all_of_few(units: list[Unit]) -> None:
    everything = [example.unit for example in design(READER, LIMITS, 5000, 0, np.random.default_rng(0)).examples]
    assert len(units) == 120 < len(everything) and len({unit.kind for unit in units}) == len({unit.kind for unit in everything})
    blocks = [[unit for unit in some if unit.kind == "ResidualBlock"] for some in (units, everything)]
    few, all_of_them = map(places_of, blocks)
    assert (few.min(axis=0) <= np.quantile(all_of_them, 0.01, axis=0)).all()
    assert (few.max(axis=0) >= np.quantile(all_of_them, 0.99, axis=0)).all()
    s0 = design(UnitReader(load_space("s0"), SPEC), Budget(), 50, 4, np.random.default_rng(0))
    assert len(s0.examples) == s0.kinds_seen == 7 and len(s0.networks) == 4


def test_units_are_spread_farthest_first(units: list[Unit]) -> None:
    """Each is at least as near to those before it as the one before it was to those before that one."""
    blocks = [unit for unit in units if unit.kind == "ResidualBlock"]
    order = places_of(_spread(blocks, 30))
    nearest = [min(float(np.linalg.norm(order[i] - order[j])) for j in range(i)) for i in range(1, 30)]
    assert nearest == sorted(nearest, reverse=True)


@pytest.mark.slow
def test_examples_are_where_they_are_said_to_be() -> None:
    for example in design(READER, LIMITS, 20, 0, np.random.default_rng(3)).examples:
        assert READER.units(example.arch)[example.position] == example.unit
