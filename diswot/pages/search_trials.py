"""The trials of a search, ranked among themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from diswot import plugins
from diswot.pages.run_files import RunFiles
from diswot.proxies import Ranking, resolve_ranking
from diswot.searching.trial import Trial, read_trials
from diswot.space import ALIASES
from diswot.statistics.ranked_values import Vector

_MOST_DRAWN, _BEST_DRAWN = 1500, 500  # points of a chart: the best, and of the others as many as there is room for


@dataclass(frozen=True)
class RankedTrials:
    """The trials that have a score, in the order of the journal.

    Attributes:
        trials: n of them.
        rank: (n,) among them, from 1, the best.
        failed: how many have none.
        first_reason: why the first of these has none.
    """

    trials: Sequence[Trial]
    rank: Vector
    failed: int
    first_reason: str

    @classmethod
    def read(cls, run: RunFiles) -> RankedTrials:
        """Read and rank the trials of a search's folder."""
        space = str(run.config["space"])
        every = read_trials(run.run, ALIASES.get(space.lower(), space))
        complete = [trial for trial in every if trial.complete]
        reasons = [trial.reason or "" for trial in every if not trial.complete]
        return cls(complete, _ranks(_ranking(run, complete), complete), len(reasons), reasons[0] if reasons else "")

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def best(self) -> Trial:
        """The one that is ranked first."""
        return self.trials[int(np.argmin(self.rank))]

    def best_cost(self) -> dict[str, Any]:
        """The parameters, FLOPs, depth and latency of the best."""
        return {**asdict(self.best.cost), "latency_ms": self.best.latency}

    @property
    def is_random(self) -> NDArray[np.bool_]:
        """(n,) whether a trial was drawn at random, and not bred."""
        return np.array([trial.parent is None for trial in self.trials], bool)

    def cost(self, what: str) -> Vector:
        """(n,) one of params, flops and latency; NaN where it is not known."""
        if what == "latency":
            return np.array([np.nan if trial.latency is None else trial.latency for trial in self.trials], np.float64)
        return np.array([getattr(trial.cost, what) for trial in self.trials], np.float64)

    def drawn(self) -> NDArray[np.int64]:
        """The numbers, in ascending order, of the trials that a chart has room for: the best, and the others at even distances."""
        order = np.argsort(self.rank, kind="stable")
        rest = order[_BEST_DRAWN:]
        room = _MOST_DRAWN - _BEST_DRAWN
        kept = rest[np.linspace(0, len(rest) - 1, room).round().astype(int)] if len(rest) > room else rest
        return np.sort(np.concatenate([order[:_BEST_DRAWN], kept]))


def _ranking(run: RunFiles, trials: Sequence[Trial]) -> Ranking:
    """The ranking of the search: as its result says, else as its options do; its parts are those that the trials have scores of."""
    known = run.result.get("provenance", {}).get("ranking") if run.result else None
    if known is not None:
        return Ranking(tuple(known["weights"]), known["combine"], tuple(known["weights"].values()))
    names = str(run.config["proxy"])
    if plugins.find_references(names):  # which would have to be imported to know their weights
        return Ranking(tuple(trials[0].scores) if trials else (), run.config.get("combine") or "rank")
    asked = resolve_ranking(names, run.config.get("combine"))
    parts = tuple(trials[0].scores) if trials else asked.parts  # a part that cannot see the teacher was replaced
    weights = asked.weighted
    return Ranking(parts, asked.combine, tuple(weights.get(part, 1.0) for part in parts))


def _ranks(ranking: Ranking, trials: Sequence[Trial]) -> Vector:
    """(n,) ranks from 1, equal ones share the best of theirs."""
    if not trials:
        return np.empty(0)
    table = [[float(np.mean(trial.scores[part])) for part in ranking.parts] for trial in trials]
    return np.asarray(rankdata(-ranking.fitness(table), "min"), np.float64)
