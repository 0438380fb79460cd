"""Two workers of every executor against one process, on the same networks: how much faster, and whether the scores are the same to the bit.

    python scripts/benchmark_executors.py [--networks 1000] [--executors local,dask:local,slurm:local] [--proxy diswot+]

Starting the workers counts. Needs no data and no GPU; run it on a quiet machine of two cores.
"""

from __future__ import annotations

import argparse
import os
import platform
import time

import numpy as np

from diswot.architecture import Architecture
from diswot.budget import CostCounter
from diswot.config.scoring import ScoreConfig
from diswot.data import load_data
from diswot.proxies import resolve_ranking
from diswot.scoring.candidates import ScoreResult
from diswot.scoring.context import ScoringContext, make_scoring_context
from diswot.scoring.engine import Engine
from diswot.space import load_space

CLASSES = 100
SPACE = load_space("nasbench201")


def score(context: ScoringContext, archs: list[Architecture], workers: int, executor: str) -> tuple[float, list[ScoreResult]]:
    """Score all; return the seconds, and the outcomes."""
    counter = CostCounter(SPACE, context.spec)
    begun = time.perf_counter()
    with Engine(context, workers, executor) as engine:
        found = list(engine.score(archs, counter))
    return time.perf_counter() - begun, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--executors", default="local,dask:local,slurm:local")
    parser.add_argument("--proxy", default="diswot+")
    given = parser.parse_args()
    config = ScoreConfig(proxy=given.proxy, num_classes=CLASSES)
    context = make_scoring_context(config, resolve_ranking(given.proxy), load_data("synthetic", num_classes=CLASSES))
    rng = np.random.default_rng(0)
    archs = [SPACE.canonical(SPACE.sample(rng)) for _ in range(given.networks)]
    load = os.getloadavg()[0]
    print(f"{given.networks} networks of NAS-Bench-201 by {given.proxy}; {os.cpu_count()} cores, {platform.processor()}, load {load:.1f}")
    score(context, archs[:5], 1, "local")
    alone, expected = score(context, archs, 1, "local")
    print(f"one process: {alone:.1f} s, {1e3 * alone / len(archs):.0f} ms a network")
    pool = 0.0
    for executor in given.executors.split(","):
        seconds, found = score(context, archs, given.workers, executor)
        pool = pool or seconds
        same = found == expected
        print(
            f"{given.workers} workers of {executor}: {seconds:.1f} s, {alone / seconds:.2f} times one process, "
            f"{100 * (seconds / pool - 1):+.0f} % of the first; the same scores: {same}",
            flush=True,
        )


if __name__ == "__main__":
    main()
