"""Simulated searches: what `diswot search` would have picked from a table of scores, without running a network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diswot.architecture import Architecture
from diswot.config import SearchConfig
from diswot.errors import RunError
from diswot.progress import Reporter
from diswot.proxies import Ranking
from diswot.runs import RunDir
from diswot.searching.history import History
from diswot.searching.proposals import Proposer
from diswot.space import SearchSpace, load_space
from diswot.statistics.correlation import budgets_between
from diswot.statistics.ranked_values import Vector
from diswot.studies.study import Study

SEARCHES = "searches.jsonl"
_DEFAULT = SearchConfig()  # simulated searches breed as `diswot search` does where nothing else is asked for


def simulate_searches(study: Study, known: NDArray[np.bool_], run: RunDir | None, reporter: Reporter) -> dict[str, NDArray[np.int64]]:
    """Return for each ranking the rows (searches, budgets) that searches by it pick; nothing where no searches were asked for.

    Args:
        study: the scores.
        known: (n,) the rows that have an accuracy, and may be picked. Data sets with the same ones share their searches.
        run: keeps the picks in its journal.
        reporter: shown the progress.
    """
    config = study.config
    if not config.simulated_searches:
        return {}
    space = load_space(study.benchmark.space, trusted=True)
    flops = study.size("flops")
    budgets = budgets_between(flops[known], config.num_budgets)
    among = hashlib.sha256(known.tobytes()).hexdigest()[:8]
    done = _replay(run, among, len(study.rows))
    picks = {result.name: np.full((config.simulated_searches, len(budgets)), -1) for result in study.rankings}
    reporter.start(len(picks) * config.simulated_searches * len(budgets), len(done), "simulated search")
    for result in study.rankings:
        table = SearchTable(space, study.archs, result.parts, result.complete, result.ranking)
        for number, index in np.ndindex(picks[result.name].shape):
            key = (result.name, number, index)
            if key not in done:
                done[key] = table.search(known & (flops <= budgets[index]), config.search_evaluations, config.seed * 1_000_003 + number)
                if run is not None:
                    pick = {"ranking": result.name, "search": number, "budget": index, "row": done[key], "among": among}
                    run.append(SEARCHES, pick)
            picks[result.name][number, index] = done[key]
            reporter.update(len(done), lambda name=result.name: f"by {name}")  # type: ignore[misc]
    reporter.stop()
    return picks


def _replay(run: RunDir | None, among: str, rows: int) -> dict[tuple[str, int, int], int]:
    """The picks in the run's journal."""
    done: dict[tuple[str, int, int], int] = {}
    for number, record in enumerate(run.read(SEARCHES, repair=True) if run is not None else []):
        row: Any = record.get("row")
        try:
            key = (str(record["ranking"]), int(record["search"]), int(record["budget"]))
        except (KeyError, TypeError, ValueError):
            row = None
        if not isinstance(row, int) or not -1 <= row < rows:
            raise RunError(f"{SEARCHES}, line {number + 1}: damaged: remove the file, then --resume")
        if record.get("among") == among:
            done[key] = row
    return done


class SearchTable:
    """The scores of the architectures of a space, ready to be searched.

    Args:
        space: the space that the architectures are of.
        archs: (n,) the rows; a member of the space that is not among them is never proposed.
        scores: (n, parts) higher is better.
        complete: (n,) whether a row has all of them; those that have not are tried as any, and never picked or bred from.
        ranking: how the parts are combined, over what a search has seen so far.
    """

    def __init__(
        self, space: SearchSpace, archs: Sequence[Architecture], scores: Vector, complete: NDArray[np.bool_], ranking: Ranking
    ) -> None:
        self.archs, self.scores, self.complete, self.ranking = list(archs), scores, complete, ranking
        self.space: Any = _SpaceOfRows(space, self.archs)

    def search(self, allowed: NDArray[np.bool_], evaluations: int, seed: int) -> int:
        """Search among the `allowed` (n,) rows and return the row that is picked, of equal architectures the first; -1 where none has a
        score."""
        rows = {arch: row for row, arch in reversed(list(enumerate(self.archs))) if allowed[row]}
        proposer = Proposer(self.space, _AllowedRows(rows), _DEFAULT)
        seen: set[Architecture] = set()
        tried: list[Architecture] = []
        while len(tried) < evaluations:
            begin = len(tried)
            history, _ = self._history(rows[arch] for arch in tried)
            for index in range(begin, min(begin + _DEFAULT.generation_size, evaluations)):
                found = proposer.propose(history, begin, seen, np.random.default_rng([seed, index]))
                if found is None:
                    break
                seen.add(self.space.canonical(found[0]))
                tried.append(found[0])
            if len(tried) == begin:
                break
        history, scored = self._history(rows[arch] for arch in tried)
        return scored[int(np.argmax(history.fitness))] if scored else -1

    def _history(self, tried: Iterable[int]) -> tuple[History, list[int]]:
        """The rows that have been tried and have a score, ranked anew among themselves; and their numbers."""
        scored = [row for row in tried if self.complete[row]]
        fitness = self.ranking.fitness(self.scores[scored]) if scored else np.empty(0)
        return History(lambda number: self.archs[scored[number]], fitness), scored


class _AllowedRows:
    """The feasibility of architectures that are rows of a table: they are there or not."""

    def __init__(self, rows: dict[Architecture, int]) -> None:
        self.admits = rows.__contains__

    def excess(self, arch: Architecture) -> float:
        return 0.0


class _SpaceOfRows:
    """A space whose members are the rows of a table, and which keeps the canonical forms that it has worked out."""

    def __init__(self, space: SearchSpace, archs: list[Architecture]) -> None:
        self._space, self._archs = space, archs
        self._canonical: dict[Architecture, Architecture] = {}

    def sample(self, rng: np.random.Generator) -> Architecture:
        return self._archs[int(rng.integers(len(self._archs)))]

    def enumerate(self) -> list[Architecture]:
        return self._archs

    def canonical(self, arch: Architecture) -> Architecture:
        if arch not in self._canonical:
            self._canonical[arch] = self._space.canonical(arch)
        return self._canonical[arch]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._space, name)
