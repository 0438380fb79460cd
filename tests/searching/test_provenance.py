"""Where a part of the ranking cannot see the teacher, another ranks in its place: it is said, recorded, and what really ranked."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

from diswot.architecture import read_arch_json
from diswot.errors import TeacherError
from diswot.proxies import RANKINGS
from diswot.searching.trial import JOURNAL
from tests.searching.samples import begin_search, search, search_config

PLUS_WEIGHTS = {name: weight for name, weight in RANKINGS["diswot_nb201"].weighted.items() if name != "relation_stem_grad"}


@pytest.mark.parametrize(
    ("teacher", "proxy", "blind", "weights"),
    [
        ("convnext_atto", "diswot", "semantic_profile", {"semantic_cam_rows": 1.0, "relation": 1.0}),
        ("vit_tiny_patch16_224", "diswot_nb201", "relation_stem_grad", {**PLUS_WEIGHTS, "relation_jacobian": 1.0}),
    ],
)
@pytest.mark.slow
def test_the_ranking_that_was_really_used_is_logged_and_recorded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, teacher: str, proxy: str, blind: str, weights: dict[str, float]
) -> None:
    """A ConvNeXt's classifier gradients have no mean over the channels; a transformer has no maps on the way."""
    with caplog.at_level(logging.WARNING, "diswot"):
        result = begin_search(tmp_path / "run", search_config(teacher=teacher, proxy=proxy, iterations=6))
    (instead,) = set(weights) - set(RANKINGS[proxy].parts)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith(f"{blind} cannot see this teacher (") and warning.endswith(f"{instead} ranks in its place")
    _, provenance = read_arch_json(tmp_path / "run" / "arch.json")
    assert provenance["ranking"] == result.provenance["ranking"] == {"combine": RANKINGS[proxy].combine, "weights": weights}
    assert provenance["search"]["proxy"] == proxy, "what was asked for stands there too"
    records = [json.loads(line) for line in (tmp_path / "run" / JOURNAL).read_text().splitlines()]
    assert all(set(record["scores"]) == set(weights) for record in records)
    assert len({record["scores"][instead][0] for record in records}) == 6, "it tells candidates apart, as the blind part would not"
    ranks = rankdata([[np.mean(record["scores"][part]) for part in weights] for record in records], axis=0) / 6
    fitness = ((np.log(ranks) if RANKINGS[proxy].combine == "log" else ranks) * list(weights.values())).sum(1)
    assert records[int(fitness.argmax())]["choices"] == result.winner.choices


def test_a_teacher_that_every_part_sees_is_ranked_as_asked_and_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "diswot"):
        result = search(search_config(proxy="diswot_nb201", iterations=2))
    assert result.provenance["ranking"] == {"combine": "log", "weights": RANKINGS["diswot_nb201"].weighted}
    assert not caplog.records


def test_a_part_that_cannot_see_the_teacher_and_was_asked_for_by_name_is_refused() -> None:
    with pytest.raises(TeacherError, match=r"semantic_profile cannot see this teacher: .*use semantic_cam_rows"):
        search(search_config(teacher="convnext_atto", proxy="semantic_profile,flops", iterations=2))
