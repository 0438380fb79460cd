"""The networks of a table: spread over the budget, all different, some of them from searches."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import diswot
from diswot.architecture import Architecture, arch_json
from diswot.budget import Budget
from diswot.config import TabulateConfig
from diswot.errors import BudgetError, RunError
from diswot.space import ImageSpec, load_space
from diswot.tabulation.networks import NetworkSampler, choose_networks, networks_json, read_networks

SPEC = ImageSpec(10, 3, 32)


def sampler(space: str, seed: int = 0, **limits: str) -> NetworkSampler:
    return NetworkSampler(load_space(space), Budget.parse(limits), SPEC, seed)


@pytest.mark.slow
def test_random_networks_are_spread_over_both_bounds() -> None:
    """In every eighth of the range of parameters lies an eighth of the networks, and their FLOPs differ more than usual."""
    drawing = sampler("s1", params="0.05M..0.4M", flops="2M..30M")
    found = drawing.spread(48)
    assert len({network.arch for network in found}) == 48
    params = np.array([network.cost.params for network in found])
    flops = np.array([network.cost.flops for network in found])
    assert params.min() >= 50_000 and params.max() <= 400_000 and flops.max() <= 30e6 and flops.min() >= 2e6
    counts, _ = np.histogram(np.log(params), np.log(np.geomspace(50_000, 400_000, 9)))
    assert counts.tolist() == [6] * 8
    drawn = (drawing.space.sample(np.random.default_rng(seed)) for seed in range(2000))
    sizes = [(cost.params, cost.flops) for arch in drawn if drawing.budget.admits(cost := drawing.cost(arch))]
    usual_ratio = np.log([flops / params for params, flops in sizes])
    assert np.log(flops / params).std() > 1.2 * usual_ratio.std()  # many FLOPs with few parameters, and few with many


@pytest.mark.slow
def test_the_seed_decides() -> None:
    def archs(seed: int) -> list[object]:
        return [network.arch for network in sampler("s1", seed, params="0.05M..0.2M").spread(6)]

    assert archs(0) == archs(0) != archs(1)


def test_a_small_space_is_taken_whole() -> None:
    found = sampler("s0", flops="50.3M").everything(32)
    assert found is not None and len(found) == 32
    assert sampler("s0", flops="50.3M").everything(31) is None
    assert sampler("s1", flops="50.3M").everything(10**6) is None


def test_too_few_networks_are_told() -> None:
    config = TabulateConfig(space="s0", networks=9, params="600k..800k")
    assert len(choose_networks(config, [], load_space("s0"), SPEC)) < 9
    with pytest.raises(BudgetError, match="networks of resnet_width have"):
        sampler("s1", params="1..2").spread(2)


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "zico"
    diswot.search(space="s1", params="0.1M", proxy="params", iterations=60, population_size=20, num_classes=10, folder=folder, workers=1)
    return folder


@pytest.mark.slow
def test_networks_of_searches_come_from_their_phases(search: Path) -> None:
    trials = [line["choices"] for line in map(_json, (search / "trials.jsonl").read_text().splitlines())]
    config = TabulateConfig(networks=12, params="0.01M..0.1M", search_fraction=0.5)
    found = choose_networks(config, [search], load_space("s1"), SPEC)
    assert len({network.arch for network in found}) == 12
    places = {"early": range(6), "middle": range(30, 36), "last": range(54, 60)}
    sources = [network.source for network in found if network.source != "random"]
    assert sorted(sources) == sorted(f"zico {phase}" for phase in places for _ in range(2))
    winner = diswot.load_arch(search / "arch.json")
    for network in found:
        phase = network.source.removeprefix("zico ")
        if phase in places:
            allowed = [trials[place] for place in places[phase]] + ([winner.choices] if phase == "last" else [])
            assert network.arch.choices in allowed
    assert winner in [network.arch for network in found if network.source == "zico last"]


def test_networks_of_searches_keep_to_the_budget_and_the_space(search: Path) -> None:
    config = TabulateConfig(networks=6, params="0.05M..0.06M", search_fraction=1.0)
    found = choose_networks(config, [search], load_space("s1"), SPEC)
    assert len(found) == 6 and all(50_000 <= network.cost.params <= 60_000 for network in found)
    with pytest.raises(RunError, match="a search in s1, and this table is of resnet_depth"):
        choose_networks(TabulateConfig(networks=6, params="0.4M"), [search], load_space("s0"), SPEC)


def test_a_search_won_by_a_hand_made_network_and_a_damaged_one(search: Path, tmp_path: Path) -> None:
    """Finals may crown a network of another space; a journal that is damaged is told in a line."""
    copied = tmp_path / "copied"
    shutil.copytree(search, copied)
    (copied / "arch.json").write_text(arch_json(Architecture("zoo", "resnet8")))
    config = TabulateConfig(networks=3, params="0.1M", search_fraction=1.0, search_phases="last")
    assert {network.source for network in choose_networks(config, [copied], load_space("s1"), SPEC)} == {"copied last"}
    (copied / "trials.jsonl").write_text('{"index": 0}\n{"index": 1}\n')
    with pytest.raises(RunError, match="line 1: damaged"):
        choose_networks(config, [copied], load_space("s1"), SPEC)


def test_kept_networks_are_read_again(tmp_path: Path) -> None:
    found = sampler("s1", params="0.05M..0.2M").spread(4)
    path = tmp_path / "networks.json"
    path.write_text(networks_json(found))
    assert read_networks(path, load_space("s1")) == found
    for damage in ('{"networks": 3}', '{"networks": [{"choices": {}}]}', "nothing"):
        path.write_text(damage)
        with pytest.raises(RunError, match="damaged"):
            read_networks(path, load_space("s1"))


def _json(line: str) -> dict:
    import json

    return json.loads(line)
