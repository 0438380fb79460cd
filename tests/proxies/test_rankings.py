"""Rankings: what they are made of, and what takes the place of a part that cannot see the teacher."""

from __future__ import annotations

import logging

import pytest

from diswot.errors import ConfigError, TeacherError
from diswot.proxies import (
    PROXIES,
    RANKINGS,
    Candidate,
    NetworkSummary,
    Ranking,
    adapt_to_teacher,
    resolve_ranking,
)


@pytest.mark.parametrize("name", RANKINGS)
def test_rankings_are_made_of_known_proxies_each_once(name: str) -> None:
    ranking = resolve_ranking(name)
    assert ranking == RANKINGS[name] and set(ranking.parts) <= set(PROXIES)
    assert len(ranking.parts) == len(set(ranking.parts)) == len(ranking.weighted)
    assert all(weight > 0 for weight in ranking.weighted.values())


def test_a_ranking_is_asked_for_by_name_or_by_its_parts() -> None:
    assert resolve_ranking("az_nas").combine == "log"
    assert resolve_ranking("vkdnw_agg").parts == ("vkdnw", "az_expressivity", "az_trainability", "flops", "jacov")
    assert resolve_ranking("diswot").batch_size == 4
    assert resolve_ranking("diswot,nwot").batch_size == 32
    assert resolve_ranking("diswot,nwot").parts == ("semantic_profile", "relation", "nwot")
    assert resolve_ranking("diswot", "log").combine == "log"
    weighted = resolve_ranking("diswot_nb201, diswot")
    assert weighted.combine == "rank" and weighted.weighted == {
        **RANKINGS["diswot_nb201"].weighted,
        "semantic_profile": 1.0,
        "relation": 1.0,
    }


@pytest.mark.parametrize(
    ("names", "combine", "says"),
    [
        (" , ", None, "--proxy ' , ': name at least one"),
        ("relatoin", None, "unknown proxy 'relatoin': did you mean relation"),
        ("diswot", "mean", "--combine 'mean': known: rank, log, sum"),
        ("mylab:Mine:", None, "unknown proxy"),
    ],
)
def test_what_is_no_ranking_is_said(names: str, combine: str | None, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        resolve_ranking(names, combine)


def test_a_ranking_sees_a_teacher_without_maps_by_another_part_and_keeps_its_weights(candidate: Candidate) -> None:
    blind = NetworkSummary(candidate.images.observation.detach(), candidate.target)  # no blocks, as of a transformer
    ranking = adapt_to_teacher(resolve_ranking("diswot_nb201"), "diswot_nb201", [blind])
    assert ranking.weighted == {
        **{part: weight for part, weight in resolve_ranking("diswot_nb201").weighted.items() if part != "relation_stem_grad"},
        "relation_jacobian": 1.0,
    }
    twice = Ranking(("relation_jacobian", "params", "relation_stem_grad"), "log", (3.0, 2.0, 1.0))  # its stand-in is there already
    assert adapt_to_teacher(twice, "mine", [blind]).weighted == {"relation_jacobian": 3.0, "params": 2.0}
    with pytest.raises(TeacherError, match="use relation_jacobian"):
        adapt_to_teacher(resolve_ranking("relation_stem_grad"), "relation_stem_grad", [blind])
    with pytest.raises(TeacherError, match="use relation_jacobian"):
        adapt_to_teacher(resolve_ranking("diswot, relation_stem_grad"), "diswot, relation_stem_grad", [blind])


def test_what_takes_a_parts_place_is_logged(candidate: Candidate, caplog: pytest.LogCaptureFixture) -> None:
    seen = candidate.images.summarise()
    ranking = resolve_ranking("diswot_nb201,diswot")
    with caplog.at_level(logging.INFO, "diswot"):
        assert adapt_to_teacher(ranking, "diswot_nb201,diswot", [seen]) is ranking
        assert not caplog.records
        blind = NetworkSummary(seen.observation, candidate.target)
        adapt_to_teacher(ranking, "diswot_nb201,diswot", [seen, blind])
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and record.name.startswith("diswot")
    assert record.getMessage() == (
        "relation_stem_grad cannot see this teacher (it has no maps (B, C, H, W) on the way); relation_jacobian ranks in its place"
    )
