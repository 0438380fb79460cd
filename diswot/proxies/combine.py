"""The combination of the scores of several proxies into one score for each candidate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from diswot.errors import ConfigError
from diswot.statistics.growing_ranks import ranks_of_columns
from diswot.statistics.ranked_values import Vector

COMBINE = ("rank", "log", "sum")


def combine(scores: ArrayLike, method: str = "rank", weights: Sequence[float] | None = None, ranks: Vector | None = None) -> Vector:
    """Return one score for each candidate from its scores by several proxies.

    Args:
        scores: (n, proxies) scores, of which higher is better.
        method: `rank`: the mean over the proxies of the candidate's rank among the n, scaled to (0, 1], where ties share their mean rank;
            the scales of the scores then do not matter. `log`: the sum over the proxies of the logarithm of that rank, in which a bad
            rank weighs more than a good one (Lee and Ham, "AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search", CVPR
            2024). `sum`: the sum of the scores themselves.
        weights: (proxies,) factors on the ranks, logarithms or scores of each proxy. By default all are 1.
        ranks: (n, proxies) of the scores among the n, where they are known already.

    Returns:
        (n,) combined scores, of which higher is better.

    Raises:
        ConfigError: `method` is none of the three.

    >>> combine([[1.0, 10.0], [2.0, 30.0], [3.0, 20.0]]).round(3).tolist()
    [0.333, 0.833, 0.833]
    >>> combine([[1.0, 10.0], [2.0, 30.0], [3.0, 20.0]], "log", weights=[2, 1]).round(3).tolist()
    [-3.296, -0.811, -0.405]
    """
    table = np.asarray(scores, np.float64)
    count = max(len(table), 1)
    scale = 1.0 if weights is None else np.asarray(weights, np.float64)
    if method == "sum":
        return np.asarray((table * scale).sum(1), np.float64)
    if ranks is None:
        ranks = ranks_of_columns(table)
    if method == "rank":
        return np.asarray((ranks * scale).mean(1) / count, np.float64)
    if method == "log":
        return np.asarray((np.log(ranks / count) * scale).sum(1), np.float64)
    raise ConfigError(f"scores cannot be combined by {method!r}: known: {', '.join(COMBINE)}")
