"""What a search says of its ranking is what was measured of it, where that was, and for networks of that size."""

from __future__ import annotations

import pytest

from diswot.proxies import RANKINGS
from diswot.searching import confidence
from diswot.searching.confidence import describe_confidence, measurements
from diswot.space import BUILT_IN, Cost

RECORD = {
    "space": "resnet_width",
    "table": "students",
    "networks": 40,
    "params": [1e5, 4e5],
    "flops": [5e6, 2e9],
    "spearman": [0.8, 0.7, 0.9],
    "bands": [{"flops": [5e6, 1e7], "networks": 20, "spearman": [0.5, 0.2, 0.7]}],
    "chosen_on": True,
}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confidence, "_records", lambda: {"mine": [RECORD]})


def test_a_measured_space_shows_its_figures_and_those_of_the_winners_size(measured: None) -> None:
    (line,) = describe_confidence("mine", "resnet_width", Cost(200_000, 8_000_000, 9))
    assert "0.80 (0.70 to 0.90) on 40 networks (students), some of which it was chosen on" in line
    assert "0.50 (0.20 to 0.70) among the 20 of about the winner's FLOPs" in line


def test_a_winner_outside_what_was_measured_is_told(measured: None) -> None:
    trust, outside = describe_confidence("mine", "resnet_width", Cost(900_000, 8_000_000, 9))
    assert trust.startswith("trust") and "0.1M to 0.4M parameters and 5M to 2G FLOPs" in outside


def test_a_space_without_a_table_shows_the_nearest(measured: None) -> None:
    never, trust = describe_confidence("mine", "resnet_mixed", Cost(200_000, 8_000_000, 9))
    assert "never measured in resnet_mixed; in resnet_width" in never and "0.80" in trust


@pytest.mark.parametrize(("value", "told"), [(0.89, False), (0.91, True)])
def test_a_ranking_that_is_better_there_beyond_the_interval_is_named(monkeypatch: pytest.MonkeyPatch, value: float, told: bool) -> None:
    rival = RECORD | {"spearman": [value, 0.8, 0.95], "chosen_on": False}
    elsewhere = RECORD | {"table": "of another kind", "spearman": [0.99, 0.98, 1.0]}
    monkeypatch.setattr(confidence, "_records", lambda: {"mine": [RECORD], "rival": [rival], "elsewhere": [elsewhere]})
    _, *better = describe_confidence("mine", "resnet_width", Cost(200_000, 8_000_000, 9))
    assert better == ["rival orders these networks better, ρ 0.91 (0.80 to 0.95): think of --proxy rival"] * told
    assert len(describe_confidence("rival", "resnet_width", Cost(200_000, 8_000_000, 9))) == 1  # the best has none above it


@pytest.mark.parametrize(("ranking", "space"), [("mine", "mylab:Space"), ("other", "resnet_width")])
def test_what_was_never_measured_is_said(measured: None, ranking: str, space: str) -> None:
    (line,) = describe_confidence(ranking, space, Cost(200_000, 8_000_000, 9))
    assert "never measured" in line and "diswot tabulate" in line


def test_the_measurements_that_come_with_diswot_are_whole() -> None:
    assert {found.space for found in measurements("diswot+")} >= {
        "nasbench201",
        "nasbench_macro",
        "channel_bench",
        "nasbench101",
        "resnet_width",
        "resnet_depth",
    }
    for ranking in RANKINGS:
        for found in measurements(ranking):
            assert found.space in BUILT_IN and found.networks >= 10
            assert -1 <= found.spearman.low <= found.spearman.value <= found.spearman.high <= 1
            assert not found.bands or sum(band.networks for band in found.bands) == found.networks
    assert set(confidence.NEAREST) <= set(BUILT_IN) and not set(confidence.NEAREST) & {found.space for found in measurements("diswot+")}
