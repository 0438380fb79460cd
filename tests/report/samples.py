"""A table and charts that several tests of the report share."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from diswot.report import charts
from diswot.report.tables import Column, Table
from diswot.statistics.bootstrap import Estimate

NAN = math.nan
EVIL = r"""<script>alert("1")</script>|_a_ & 50% #1 $x$ ~ ^ \ {y}"""  # what HTML, LaTeX, Markdown and matplotlib take for their own
COLUMNS = [
    Column("name", "proxy"),
    Column("rho", "Spearman", "estimate", 3, "high"),
    Column("ms", "ms per network", "number", 1, "low"),
    Column("n", "networks", "integer"),
]
ROWS: list[dict[str, Any]] = [
    {"name": "nwot", "rho": {"value": 0.70912345678901, "low": 0.699, "high": 0.722, "spread": 0.004}, "ms": 1234.5, "n": 15625},
    {"name": EVIL, "rho": SimpleNamespace(value=-0.1, low=-0.2, high=0.05), "ms": np.float32(0.1), "n": np.int64(15000)},
    {"name": "=1+1", "rho": Estimate(NAN), "ms": None},
    {"name": None, "rho": None, "ms": NAN, "n": NAN},
]
TABLE = Table("All networks, 50 %", COLUMNS, ROWS)


def networks(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, accuracies that correlate with them, and sizes of networks."""
    rng = np.random.default_rng(seed)
    score, size = rng.normal(size=count), np.exp(rng.uniform(16, 19, count))
    return score, 90 + score + 0.5 * rng.normal(size=count), size


def chart_makers(count: int = 12) -> dict[str, Callable[[], Figure]]:
    """What draws one chart of each kind, of `count` proxies."""
    rng = np.random.default_rng(3)
    names = [f"proxy_{index}" for index in range(count)]
    values = np.linspace(0.8, -0.1, count)
    estimates = [{"value": x, "low": x - 0.05, "high": x + 0.05, "spread": 0.01} for x in values]
    scores = rng.normal(size=(count, 40)) + rng.normal(size=40)
    costs = np.exp(rng.normal(3, 1, count))
    regrets = {n: np.linspace(3, 1, 6) + i / 9 for i, n in enumerate(names)}
    bands = {f"{b} to {b + 1} M": [x - 0.1 * b for x in values] for b in range(3)}
    score, accuracy, size = networks(300)
    return {
        "points": lambda: charts.rank_scatter(score, accuracy, size, title="points", corner_text="Spearman .9"),
        "density": lambda: charts.rank_scatter(*networks(2500)[:2], title="density", corner_text="Spearman .9"),
        "bands": lambda: charts.band_plot(names, bands, title="bands"),
        "regret": lambda: charts.regret_plot(np.geomspace(1e7, 2e8, 6), regrets, {"random": [5.0] * 6}, title="regret"),
        "matrix": lambda: charts.correlation_heatmap(names, np.corrcoef(scores), title="matrix"),
        "cost": lambda: charts.cost_plot(names, costs, values, [(e["low"], e["high"]) for e in estimates], title="cost"),
        "intervals": lambda: charts.forest_plot(names, estimates, title="intervals", baselines=names[:2]),
    }


def draw_charts(*kinds: str, count: int = 12) -> list[Figure]:
    """Charts of some kinds, or one of each kind."""
    makers = chart_makers(count)
    return [makers[kind]() for kind in kinds or makers]
