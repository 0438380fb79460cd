"""How a ranking ranks the rows of a table, those included that lack a score."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import rankdata

from diswot.proxies import RANKINGS, Ranking
from diswot.scoring.candidates import ScoreResult
from diswot.space import Cost
from diswot.studies.ranking_result import _worst_for_failed, rank_rows
from diswot.studies.recipe import StudyResult
from diswot.studies.simulated_search import SearchTable
from tests.studies.samples import SPACE

NO_COST = Cost(0, 0, 0)


def test_failed_networks_rank_below_all_others() -> None:
    scores = np.array([[1.0, -5.0], [np.nan, 3.0], [2.0, np.nan]])
    filled = _worst_for_failed(scores)
    assert filled[1, 0] < 1.0 and filled[2, 1] < -5.0
    assert np.array_equal(filled[~np.isnan(scores)], scores[~np.isnan(scores)])


@pytest.mark.parametrize("combine", ["rank", "log", "sum"])
def test_rows_that_lack_a_part_rank_below_all_others_whatever_the_other_parts_say(combine: str) -> None:
    """The largest of ten networks has no jacov: by FLOPs alone it would be in the middle."""
    results = [ScoreResult(NO_COST, {"jacov": [float(row), float(row)]}) for row in range(9)]
    results.append(ScoreResult(NO_COST, {}, {"jacov": "dead"}))
    costs = [Cost(1, 1 + row, 1) for row in range(10)]
    found = rank_rows("mine", Ranking(("jacov", "flops"), combine), results, costs, 3.5)
    assert found.fitness.argmin() == 9 and (found.by_seed.argmin(0) == 9).all()
    assert np.argsort(found.fitness).tolist() == [9, *range(9)]
    assert (found.failed, found.reason, found.milliseconds, found.name) == (1, "dead", 3.5, "mine")
    assert found.complete.tolist() == [True] * 9 + [False]
    searched = SearchTable(SPACE, list(SPACE.enumerate() or ())[:10], found.parts, found.complete, found.ranking)
    assert searched.search(np.ones(10, bool), 10, seed=0) == 8
    assert searched.search(~found.complete, 10, seed=0) == -1


def test_where_no_row_has_a_score_none_is_preferred() -> None:
    results = [ScoreResult(NO_COST, {}, {"jacov": f"dead {row}"}) for row in range(10)]
    found = rank_rows("mine", Ranking(("jacov",)), results, [NO_COST] * 10, 0.0)
    assert found.failed == 10 and found.reason == "dead 0" and len(set(found.fitness)) == 1
    assert all(map(math.isfinite, found.fitness))


def test_what_is_counted_is_of_each_rows_own_network() -> None:
    """Two rows compute the same function, and one of them has more in it."""
    same = ScoreResult(NO_COST, {"jacov": [1.0, 3.0]})
    found = rank_rows("mine", Ranking(("jacov", "params")), [same, same], [Cost(5, 1, 1), Cost(7, 1, 1)], 0.0)
    assert found.parts.tolist() == [[2.0, 5.0], [2.0, 7.0]]
    assert found.by_seed.shape == (2, 2) and (found.by_seed[1] > found.by_seed[0]).all()


def test_a_ranking_is_its_parts_combined_over_the_table(result: StudyResult) -> None:
    found = result.study.rankings[1]
    expected = sum(np.log(rankdata(found.parts[:, part]) / 40) for part in range(4))
    assert found.name == "az_nas" and RANKINGS["az_nas"].combine == "log"
    assert np.allclose(found.fitness, expected)
