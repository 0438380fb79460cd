"""Ranks of values that come in a few at a time, without sorting all of them again."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diswot.statistics.ranked_values import Vector


class GrowingRanks:
    """The ranks of each column of a table that grows at its end; rows are merged into the order of those before them.

    >>> ranks = GrowingRanks(2)
    >>> ranks.extend([[0.5, 10.0], [0.1, 20.0]])
    >>> ranks.extend([[0.5, 15.0]])
    >>> ranks.table().tolist()
    [[2.5, 1.0], [1.0, 3.0], [2.5, 2.0]]
    """

    def __init__(self, columns: int) -> None:
        self._values = [np.empty(0) for _ in range(columns)]  # of each column, in ascending order
        self._rows: list[NDArray[np.intp]] = [np.empty(0, np.intp) for _ in range(columns)]  # in that order

    def __len__(self) -> int:
        return len(self._rows[0]) if self._rows else 0

    def extend(self, rows: ArrayLike) -> None:
        """Add rows (n, columns) at the end."""
        table, before = np.asarray(rows, np.float64), len(self)
        for column, added in enumerate(table.T):
            order = np.argsort(added, kind="stable")
            places = np.searchsorted(self._values[column], added[order], side="right")
            self._values[column] = np.insert(self._values[column], places, added[order])
            self._rows[column] = np.insert(self._rows[column], places, before + order)

    def table(self) -> Vector:
        """The ranks (n, columns) of the rows in each column: 1 is the lowest, equal ones share their mean (as `scipy.stats.rankdata`)."""
        ranks = np.empty((len(self), len(self._rows)))
        for column, (values, rows) in enumerate(zip(self._values, self._rows, strict=True)):
            ranks[rows, column] = _ranks_in_order(values)
        return ranks


def ranks_of_columns(table: ArrayLike) -> Vector:
    """The ranks (n, columns) within each column of a table: those of `scipy.stats.rankdata`, whose import takes a second.

    >>> ranks_of_columns([[0.5, 10.0], [0.1, 20.0], [0.5, 15.0]]).tolist()
    [[2.5, 1.0], [1.0, 3.0], [2.5, 2.0]]
    """
    values = np.asarray(table, np.float64)
    ranks = GrowingRanks(values.shape[1])
    ranks.extend(values)
    return ranks.table()


def _ranks_in_order(values: Vector) -> Vector:
    """The ranks of values that are in ascending order."""
    begins = np.flatnonzero(np.append(True, values[1:] != values[:-1])) if len(values) else np.empty(0, np.intp)
    if len(begins) == len(values):
        return np.arange(1.0, len(values) + 1)
    ends = np.append(begins[1:], len(values))
    return np.repeat((begins + 1 + ends) / 2, ends - begins)
