"""How a search grows from a hundred to a hundred thousand candidates: time and memory of all but the scoring.

    python scripts/benchmark_growth.py [--most 100000]

First candidates of S1 within 1M parameters are proposed and checked alone; then whole searches run by a ranking that only counts, so that
what is left is breeding, ranking the history and the journal. Each size is measured in a process of its own. Needs no data and no GPU.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from diswot.architecture import Architecture
from diswot.config import SearchConfig
from diswot.execution import Execution
from diswot.progress import NullReporter
from diswot.runs import RunDir
from diswot.scoring.engine import Engine
from diswot.searching.history import ScoredTrials
from diswot.searching.loop import Search, ranked_history
from diswot.searching.proposals import TriedForms
from diswot.searching.recipe import SearchPlan

CONFIG: dict[str, Any] = {"params": "1M", "proxy": "params,flops,depth", "combine": "log", "data": "noise"}


def propose(candidates: int) -> float:
    """Propose and check candidates, each bred from those before it, by a fitness that is drawn."""
    search = Search(SearchConfig(**CONFIG), "cpu", None, NullReporter())
    archs: list[Architecture] = []
    scored, seen = ScoredTrials(search.ranking, 3, archs.__getitem__), TriedForms()
    scores = np.random.default_rng(0).random((candidates, 3))
    begun = time.perf_counter()
    for index in range(candidates):
        begin = index - index % 16
        found = search.proposer.propose(scored.history(ranked_history(begin, 16)), begin, seen, np.random.default_rng([0, index]))
        assert found is not None
        seen.add(search.space.canonical(found[0]))
        archs.append(found[0])
        scored.append(list(scores[index]))
    return time.perf_counter() - begun


def search(candidates: int) -> float:
    """Search, and write the journal."""
    plan = SearchPlan(SearchConfig(**CONFIG, iterations=candidates))
    with tempfile.TemporaryDirectory() as folder, RunDir.create(Path(folder) / "run", "search", plan.document(), {}) as run:
        found = Search(plan.config, "cpu", run, NullReporter())
        with Engine.for_run(found.context, Execution("cpu", 1), run.path) as engine:
            begun = time.perf_counter()
            found.run(engine)
            return time.perf_counter() - begun


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(work: Callable[[int], float], candidates: int, answer: Any) -> None:
    work(100)  # imports and caches
    before = megabytes()
    answer.put((work(candidates), megabytes() - before))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=100_000)
    most = parser.parse_args().most
    context = multiprocessing.get_context("spawn")
    for work in (propose, search):
        print(f"{work.__doc__}")
        for candidates in (100, 1000, 10_000, 20_000, 100_000):
            if candidates > most:
                break
            answer = context.Queue()
            process = context.Process(target=measure, args=(work, candidates, answer))
            process.start()
            seconds, grown = answer.get()
            process.join()
            each, kilobytes = seconds / candidates, 1024 * grown / candidates
            memory = f"memory {grown:+5.0f} MB, {kilobytes:.1f} kB each"
            print(f"  {candidates:>7,} candidates: {seconds:7.1f} s, {each * 1e6:5.0f} us each; {memory}")


if __name__ == "__main__":
    main()
