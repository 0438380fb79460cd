"""The fixed parts of a search: the space, the budget, what scores, and how scores become a fitness."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from diswot.config import SearchConfig
from diswot.scoring.recipe import prepare_scoring
from diswot.searching.feasibility import BudgetFeasibility
from diswot.searching.proposals import Proposer
from diswot.searching.trial import Trial
from diswot.space import load_space

logger = logging.getLogger(__name__)


class SearchSetup:
    """The fixed parts of a search (the space, the budget, what scores)."""

    def __init__(self, config: SearchConfig, device: str) -> None:
        self.config = config
        self.space = load_space(config.space, trusted=True)
        self.ranking, self.context = prepare_scoring(config, device, self.space)
        self.feasibility = BudgetFeasibility(config, self.space, self.context.spec, device)
        self.proposer = Proposer(self.space, self.feasibility, config, self.feasibility.known_cost)
        size = self.space.size_text()
        logger.info("teacher %s, space %s (%s networks), images %s", config.teacher, self.space.name, size, config.data)
        if limits := self.feasibility.describe_teachers_limits():
            logger.info(limits)
        if config.teacher_weights != "random" and not self.context.teachers:
            logger.info(
                "%s does not look at the teacher: --teacher-weights %s changes nothing in this search (--proxy %s,relation looks at it)",
                config.proxy,
                config.teacher_weights,
                config.proxy,
            )

    def means(self, trial: Trial) -> list[float] | None:
        """The scores of a trial by part of the ranking, averaged over the seeds; None where it has none."""
        return [float(np.mean(trial.scores[name])) for name in self.ranking.parts] if trial.complete else None

    def mean_scores(self, scores: Mapping[str, Sequence[float]]) -> dict[str, float]:
        """The mean over the seeds of the scores of each part of the ranking."""
        return {name: float(np.mean(scores[name])) for name in self.ranking.parts}
