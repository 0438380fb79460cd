"""An array of values together with their order, which makes rank statistics of many resamples fast."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class RankedValues:
    """An array of values that is sorted once, so that any rows drawn from it can be ranked without sorting them again.

    Resampled rows are ranked by counting, in O(n). The statistics of `diswot.statistics.correlation` accept `RankedValues` wherever they
    accept an array, and return exactly the same number. `np.asarray` returns the values.

    Attributes:
        values: (n,) values.
        order_codes: (n,) integers in the order of the values, equal for equal values. They count from 0, and rows drawn with `take`
            need not use all of them.

    >>> drawn = RankedValues.of([0.5, 0.1, 0.9]).take(np.array([2, 2, 0]))
    >>> np.asarray(drawn).tolist(), drawn.order_codes.tolist(), drawn.ranks.tolist()
    ([0.9, 0.9, 0.5], [2, 2, 1], [1.0, 1.0, -2.0])
    """

    values: Vector
    order_codes: Rows

    @classmethod
    def of(cls, values: ArrayLike) -> RankedValues:
        """Sort an array; `RankedValues` are returned as they are."""
        if isinstance(values, RankedValues):
            return values
        array = np.asarray(values, np.float64)
        return cls(array, np.unique(array, return_inverse=True)[1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.values, dtype) if copy else np.asarray(self.values, dtype)  # numpy 1 does not accept copy=None

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Rows) -> RankedValues:
        """Return the values of some rows, which may repeat, without sorting them again."""
        return RankedValues(self.values[rows], self.order_codes[rows])

    @cached_property
    def has_nan(self) -> bool:
        """Whether any value is NaN."""
        return bool(np.isnan(self.values).any())

    @cached_property
    def counts(self) -> Rows:
        """The number of rows with each code, an array with one entry per code."""
        return np.bincount(self.order_codes)

    @cached_property
    def num_above(self) -> Rows:
        """The number of rows with a higher code, an array with one entry per code."""
        return len(self) - np.cumsum(self.counts)

    @cached_property
    def can_be_ranked(self) -> bool:
        """Whether the values can be ranked: none is NaN and at least two differ."""
        return not self.has_nan and int(np.count_nonzero(self.counts)) > 1

    @cached_property
    def ranks(self) -> Vector:
        """The centred ranks, (n,): for each row the number of lower rows minus the number of higher rows.

        This is twice the difference of the row's rank, ties sharing their mean, from the mean rank. All are integers, so that sums of
        their products are exact in any order.
        """
        return (len(self) - self.counts - 2 * self.num_above)[self.order_codes].astype(np.float64)

    @cached_property
    def centred(self) -> Vector:
        """The values minus their mean, (n,), divided by the largest magnitude so that no square overflows."""
        with np.errstate(invalid="ignore", over="ignore"):
            centred = self.values - self.values.mean()
            return np.asarray(centred / np.abs(centred).max(), np.float64)
