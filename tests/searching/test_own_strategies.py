"""A strategy of a user's own drives a search, in a folder and out of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diswot.errors import ConfigError, RunError
from diswot.searching.trial import JOURNAL
from diswot.space import load_space
from tests.searching.samples import Stop, StopAt, begin_search, resume_search, search, search_config

CODE = """
from diswot.searching.strategies import Strategy

class Climb(Strategy):
    \"\"\"The neighbours of the best, the deepest first.\"\"\"

    def candidates(self, state):
        best = max(state.history, key=lambda member: member.fitness).arch
        for near in sorted(state.space.neighbours(best), key=lambda arch: -sum(arch.choices["depths"])):
            yield near, best

class Nothing(Strategy):
    \"\"\"It knows nothing better than a random candidate.\"\"\"

    def candidates(self, state):
        return iter(())
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of strategies; a new one for each test, since modules are imported once."""
    name = f"mylab_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def options(strategy: str, **more: object) -> dict[str, object]:
    return {"space": "s0", "params": "none", "proxy": "flops", "population_size": 3, "generation_size": 1, "strategy": strategy, **more}


def test_a_strategy_of_ones_own_says_what_is_tried_next(tmp_path: Path, lab: str) -> None:
    result = begin_search(tmp_path / "run", search_config(**options(f"{lab}:Climb", iterations=12)))
    space, trials = load_space("s0"), result.trials
    digests = {trial.arch.digest: trial.arch for trial in trials}
    assert [trial.parent for trial in trials[:3]] == [None] * 3, "the population is random"
    for number, trial in enumerate(trials[3:], 3):
        best = max(trials[:number], key=lambda earlier: earlier.cost.flops).arch
        tried = {earlier.arch for earlier in trials[:number]}
        left = [arch for arch in space.neighbours(best) if arch not in tried]
        assert digests[trial.parent] == best
        assert sum(trial.arch.choices["depths"]) == max(sum(arch.choices["depths"]) for arch in left)
    assert result.provenance["search"]["strategy"] == f"{lab}:Climb"
    assert result.winner.choices == {"depths": [7, 7, 7]}


def test_where_it_has_no_candidate_a_random_one_is_taken(lab: str) -> None:
    own, plain = (search(search_config(**options(strategy, iterations=9))) for strategy in (f"{lab}:Nothing", "random"))
    assert [trial.record() for trial in own.trials] == [trial.record() for trial in plain.trials]
    assert all(trial.parent is None for trial in own.trials)


def test_a_search_by_it_is_resumed_to_the_same_and_not_by_other_code(tmp_path: Path, lab: str) -> None:
    wanted = search_config(**options(f"{lab}:Climb", iterations=10))
    begin_search(tmp_path / "whole", wanted)
    with pytest.raises(Stop):
        begin_search(tmp_path / "cut", wanted, reporter=StopAt(6))
    resume_search(tmp_path / "cut")
    for name in (JOURNAL, "arch.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert f"code of {lab}:Climb" in json.loads((tmp_path / "cut" / "inputs.json").read_text())
    (tmp_path / f"{lab}.py").write_text(CODE + "# changed\n")
    with pytest.raises(RunError, match=f"begun with other code of {lab}:Climb"):
        resume_search(tmp_path / "cut")


def test_what_is_no_strategy_is_refused_before_anything_is_loaded(lab: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diswot.searching.setup.prepare_scoring", None)
    for strategy, says in (
        ("evolutoin", "unknown strategy 'evolutoin': did you mean evolution"),
        (f"{lab}:Climbing", "has no 'Climbing': did you mean Climb"),
        (f"{lab}:CODE", "has no 'CODE'"),
        ("pathlib:Path", "no subclass of diswot.searching.strategies.Strategy"),
        ("mylab_nowhere:Climb", "cannot be imported .*is its folder on PYTHONPATH"),
    ):
        with pytest.raises(ConfigError, match=says):
            search(search_config(**options(strategy)))


def test_the_command_line_takes_it(diswot, lab: str) -> None:  # type: ignore[no-untyped-def]
    words = ["--space", "s0", "--proxy", "flops", "--iterations", "6", "--population-size", "2", "--generation-size", "1"]
    code, out, err = diswot("search", *words, "--strategy", f"{lab}:Climb", "--num-classes", "10", "--workers", "1", "--json", "--quiet")
    assert code == 0, err
    assert json.loads(out)["provenance"]["search"]["strategy"] == f"{lab}:Climb"
