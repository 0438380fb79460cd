"""The cost of an architecture is counted once in a search, however often it is looked at; a network is built to be scored, and not else."""

from __future__ import annotations

from pathlib import Path

import pytest

from diswot.searching.recipe import SearchResult
from tests.searching.samples import search, search_config
from tests.spaces.own import builds, write_own_space

WIDTHS = {8, 16, 24, 32}


def check_builds(folder: Path, result: SearchResult, space: str) -> None:
    found = builds(folder)
    assert dict(found["meta"]) == dict.fromkeys(WIDTHS, 1), "each once, without memory, for its cost"
    scored = [trial.arch.choices for trial in result.trials]
    scored += [row.arch.choices for row in result.table if row.arch.space == space and row.role not in ("winner", "alternative")]
    scored += [result.winner.choices, *(row.arch.choices for row in result.table if row.role == "random")]  # under another seed
    assert sorted(found["cpu"].elements()) == sorted(scored), "once for each candidate that is scored"


def test_a_network_of_a_space_without_count_is_built_once_for_its_cost_and_once_for_each_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With parts that ask for the cost (`effective_flops`) and a budget that has to be checked for every network that comes up."""
    write_own_space(tmp_path, "mylab_counted", monkeypatch)
    wanted = search_config(space="mylab_counted:Logged", params="12k", proxy="diswot_nb201,params,flops", iterations=4, population_size=2)
    result = search(wanted)
    widths = {trial.arch.choices: trial.cost.params for trial in result.trials}
    assert set(widths) == {8, 16, 24} and all(params <= 12_000 for params in widths.values())
    check_builds(tmp_path, result, "mylab_counted:Logged")


@pytest.mark.slow
def test_a_space_of_ones_own_is_searched_in_other_processes_that_count_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_own_space(tmp_path, "mylab_processes", monkeypatch)
    result = search(search_config(space="mylab_processes:Logged", params="none", iterations=4, generation_size=2), workers=2)
    assert {trial.arch.choices for trial in result.trials} == WIDTHS
    assert result.winner.space == "mylab_processes:Logged"
    check_builds(tmp_path, result, "mylab_processes:Logged")


def test_an_instance_in_a_module_is_a_space_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_own_space(tmp_path, "mylab_instance", monkeypatch)
    result = search(search_config(space="mylab_instance:own", params="none", iterations=3, proxy="params"))
    assert result.winner.space == "mylab_instance:own" and len(result.trials) == 3
