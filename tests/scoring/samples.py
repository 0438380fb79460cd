"""Contexts and costs that the tests of this folder share."""

from __future__ import annotations

from typing import Any

from diswot.architecture import Architecture
from diswot.budget import cost_of
from diswot.config import ScoreConfig
from diswot.data import load_data
from diswot.proxies import Ranking
from diswot.scoring.candidates import ScoreResult, score_one
from diswot.scoring.context import ScoringContext, make_scoring_context
from diswot.space import Cost, ImageSpec, load_space

DISWOT = ("semantic_profile", "relation")
SMALL = Architecture("resnet_depth", {"depths": [1, 1, 1]})


def make_context(proxies: tuple[str, ...] = DISWOT, **options: Any) -> ScoringContext:
    options = {"teacher": "resnet20", "seeds": 2, "batch_size": 4, "num_classes": 10, **options}
    config = ScoreConfig(proxy=",".join(proxies), **options)
    return make_scoring_context(config, Ranking(proxies), load_data("synthetic", **config.image_options()))


def count_cost(arch: Architecture) -> Cost:
    return cost_of(load_space(arch.space), arch, ImageSpec(10, 3, 32))


def score(context: ScoringContext, arch: Architecture) -> ScoreResult:
    return score_one(context, arch, count_cost(arch))
