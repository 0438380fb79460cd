"""Searches on a table of scores: what `diswot search` would have picked, without running a network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diswot.architecture import Architecture
from diswot.evolution import Member, propose
from diswot.options import SearchConfig
from diswot.proxies import Ranking
from diswot.space import SearchSpace

_DEFAULT = SearchConfig()  # simulated searches breed as `diswot search` does where nothing else is asked for


class SearchTable:
    """The scores of every architecture of a space, ready to be searched.

    Args:
        space: whose members the table holds.
        archs: (n,) the rows; a member of the space that is not among them is never proposed.
        scores: (n, parts) higher is better.
        complete: (n,) whether a row has all of them; those that have not are tried as any, and never picked or bred from.
        ranking: how the parts are combined, over what a search has seen so far.
    """

    def __init__(
        self,
        space: SearchSpace,
        archs: Sequence[Architecture],
        scores: NDArray[np.float64],
        complete: NDArray[np.bool_],
        ranking: Ranking,
    ) -> None:
        self.archs, self.scores, self.complete, self.ranking = list(archs), scores, complete, ranking
        self.space = _Table(space, self.archs)

    def search(self, allowed: NDArray[np.bool_], evaluations: int, seed: int) -> int:
        """The row that a search picks among the `allowed` (n,) rows, of equal architectures the first; -1 where none has a score."""
        rows = {arch: row for row, arch in reversed(list(enumerate(self.archs))) if allowed[row]}
        seen: set[Architecture] = set()
        tried: list[Architecture] = []
        while len(tried) < evaluations:
            begin = len(tried)
            history = self._members(rows[arch] for arch in tried)
            for index in range(begin, min(begin + _DEFAULT.generation, evaluations)):
                rng = np.random.default_rng([seed, index])
                found = propose(self.space, history, begin, _DEFAULT.evolution, rng, rows.__contains__, seen, lambda arch: 0.0)  # type: ignore[arg-type]
                if found is None:
                    break
                seen.add(self.space.canonical(found[0]))
                tried.append(found[0])
            if len(tried) == begin:
                break
        members = self._members(rows[arch] for arch in tried)
        return rows[max(members, key=lambda member: member.fitness).arch] if members else -1

    def _members(self, tried: Iterable[int]) -> list[Member]:
        """Of the rows that have been tried, those with a score, ranked anew among themselves."""
        scored = [row for row in tried if self.complete[row]]
        if not scored:
            return []
        return [Member(self.archs[row], float(value)) for row, value in zip(scored, self.ranking.fitness(self.scores[scored]), strict=True)]


class _Table:
    """A space whose members are the table's, and which keeps the canonical forms it has worked out."""

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
