"""What a strategy is given of a search's past, and how little is kept of it."""

from __future__ import annotations

import numpy as np
import pytest

from diswot.architecture import Architecture
from diswot.proxies import Ranking
from diswot.searching.history import ScoredTrials
from diswot.searching.proposals import TriedForms
from diswot.searching.strategies import Evolution, Member, SearchState
from diswot.searching.trial import Trial, Trials
from diswot.space import Cost, load_space

RANKING = Ranking(("params", "flops"), "log", (2.0, 1.0))


def trial(number: int, complete: bool = True) -> Trial:
    arch = Architecture("s", {"width": number, "depths": [number, 1]})
    scores = {"params": [0.1 * number, 1 / 3], "flops": [7.0 - number]} if complete else {}
    return Trial(number, arch, Cost(number, 2, 3), scores, None if complete else "out of memory", None, 0.1 + number)


def test_a_history_of_any_length_is_ranked_as_the_definition_has_it() -> None:
    """Beyond the first 64, where the table grows; every seventh trial failed."""
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 30, (200, 2)).astype(float)
    scored = ScoredTrials(RANKING, 2, lambda place: Architecture("s", place), costs=1)
    for number, row in enumerate(scores):
        scored.append(None if number % 7 == 0 else row.tolist(), [float(number)])
    for length in (0, 1, 2, 65, 200, 65, 199):  # a shorter one than the last too
        places = [number for number in range(length) if number % 7]
        history = scored.history(length)
        assert len(history) == len(places) and scored.last() is history
        if not places:
            continue
        expected = RANKING.fitness(scores[places])
        assert (history.fitness == expected).all() and history.costs[:, 0].tolist() == places
        assert [member.arch.choices for member in history] == places == [scored.place(n) for n in range(len(places))]
        in_order = sorted(range(len(places)), key=lambda n: (-expected[n], n))[:10]
        assert [member.arch.choices for member in history.best(10)] == [places[n] for n in in_order]
        assert history[-1] == Member(Architecture("s", places[-1]), float(expected[-1])) and history[:2] == list(history)[:2]
    with pytest.raises(IndexError):
        scored.history(3)[2]


def test_evolution_breeds_the_same_from_a_history_and_from_a_list() -> None:
    space, rng = load_space("s0"), np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(40)]
    scored = ScoredTrials(RANKING, 2, archs.__getitem__)
    for _ in archs:
        scored.append(rng.integers(0, 5, 2).astype(float).tolist())
    history = scored.history()
    of_history, of_list = (
        [next(Evolution().candidates(state)) for _ in range(20)]
        for state in (SearchState(space, members, np.random.default_rng(7), population_size=12) for members in (history, list(history)))
    )
    assert of_history == of_list


def test_trials_are_read_back_as_they_were_added() -> None:
    trials, others = Trials("s"), Trials("s")
    added = [trial(number, complete=number != 3) for number in range(6)]
    for one in added:
        trials.append(one)
        others.append(one)
    assert list(trials) == added == trials[:] and trials[-1] == added[-1] and trials[1:3] == added[1:3]
    assert trials == others and len(trials) == 6
    others.append(trial(9))
    assert trials != others and trials != added  # a list is another type
    with pytest.raises(IndexError):
        trials[6]


def test_forms_are_told_apart_by_all_of_their_choices() -> None:
    forms = TriedForms()
    for number in range(1000):
        forms.add(Architecture("s", [number]))
    assert len(forms) == 1000 and Architecture("s", [999]) in forms
    assert Architecture("s", [1000]) not in forms and Architecture("t", [5]) not in forms and [5] not in forms
