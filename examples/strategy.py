"""A search strategy of one's own: the neighbours of the best member, one after the other, then those of the next best.

diswot search --strategy strategy:LocalSearch --params 0.3M
"""

from collections.abc import Iterator
from itertools import islice

from diswot import Architecture
from diswot.searching.strategies import SearchState, Strategy


class LocalSearch(Strategy):
    summary = "neighbours of the best member, in random order"

    def candidates(self, state: SearchState) -> Iterator[tuple[Architecture, Architecture | None]]:
        for member in sorted(state.history, key=lambda member: -member.fitness)[: state.top_k]:
            near = list(islice(state.space.neighbours(member.arch), 1000))
            for index in state.rng.permutation(len(near)):
                yield near[index], member.arch
