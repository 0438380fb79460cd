"""A cluster of 64 workers that is only pretended: how busy a search and a study keep it, and whether they end as they would elsewhere.

    python scripts/benchmark_cluster.py [--workers 64] [--candidates 3000] [--failures 0.05]

Workers are threads that sleep as long as a candidate takes, each at a speed of its own (a factor of up to four between them), and lose the
given share of their chunks, as when a node is preempted. Needs no data and no GPU.
"""

from __future__ import annotations

import argparse
import logging
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np

from diswot.config import SearchConfig
from diswot.executors.tasks import Chunk
from diswot.progress import NullReporter
from diswot.scoring.candidates import ScoreResult, score_one
from diswot.scoring.engine import Engine
from diswot.searching.loop import Search
from diswot.space import load_space

SECONDS = 1.0  # that a candidate takes on the average worker
SPEEDS = (0.5, 2.0)
JITTER = (0.8, 1.25)  # of a candidate


class SimulatedCluster(Executor):
    """Threads that sleep in place of working; they score at the end of it."""

    def __init__(self, workers: int, failures: float, seed: int = 0) -> None:
        self._max_workers, self.failures = workers, failures
        self.busy = self.useful = 0.0
        self.lost, self._tasks = 0, queue.SimpleQueue[tuple[Future[Any], Callable[..., Any], Any] | None]()
        self._lock = threading.Lock()
        rng = random.Random(seed)
        for number in range(workers):
            speed = np.exp(rng.uniform(np.log(SPEEDS[0]), np.log(SPEEDS[1])))
            threading.Thread(target=self._work, args=(float(speed), random.Random(seed * 1000 + number)), daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._tasks.put((future, fn, args[0] if args else None))
        return future

    def _work(self, speed: float, rng: random.Random) -> None:
        while (task := self._tasks.get()) is not None:
            future, fn, chunk = task
            if not isinstance(chunk, Chunk):
                future.set_result(fn())
                continue
            seconds = sum(SECONDS / speed * rng.uniform(*JITTER) for _ in chunk.items)
            lost = rng.random() < self.failures
            seconds *= rng.random() if lost else 1
            time.sleep(seconds)
            with self._lock:
                self.busy += seconds
                self.useful += 0 if lost else seconds
                self.lost += lost
            if lost:
                future.set_exception(OSError("the node was preempted"))
            else:
                future.set_result(fn(chunk))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        for _ in range(self._max_workers):
            self._tasks.put(None)


class Replay:
    """An engine that gives outcomes in the order of a journal, whatever is slow or fast."""

    slots = 1

    def __init__(self, search: Search, order: list[int]) -> None:
        self.search, self.order, self.added = search, deque(order), dict[int, Any]()

    def add(self, arch: Any, cost: Any) -> int:
        self.added[len(self.added)] = (arch, cost)
        return len(self.added) - 1

    def completed(self) -> list[tuple[int, ScoreResult]]:
        number = self.order.popleft()
        return [(number, score_one(self.search.context, *self.added[number]))]


def report(name: str, cluster: SimulatedCluster, seconds: float) -> None:
    whole = cluster._max_workers * seconds
    print(f"{name}: {seconds:.1f} s, workers busy {100 * cluster.busy / whole:.1f} %, with work that was not lost "
          f"{100 * cluster.useful / whole:.1f} %; {cluster.lost} chunks lost")  # fmt: skip


def search_asynchronously(workers: int, candidates: int, failures: float) -> None:
    config = SearchConfig(
        params="1M", proxy="params,flops,depth", iterations=candidates, asynchronous=True, generation_size=3 * workers, data="noise"
    )
    cluster = SimulatedCluster(workers, failures)
    search = Search(config, "cpu", None, NullReporter())
    with Engine(search.context, workers, cluster) as engine:
        begun = time.perf_counter()
        search.run(engine)
        seconds = time.perf_counter() - begun
    cluster.shutdown()
    report(f"asynchronous search of {candidates} candidates", cluster, seconds)
    order = [trial.index for trial in search.trials]
    again = Search(config, "cpu", None, NullReporter())
    again.run(Replay(again, order))  # type: ignore[arg-type]
    same = again.trials == search.trials
    print(f"  each candidate once: {sorted(order) == list(range(candidates))}; bred again from the journal, the same trials: {same}")


def score_in_order(workers: int, candidates: int, failures: float) -> None:
    search = Search(SearchConfig(params="1M", proxy="params,flops,depth", data="noise"), "cpu", None, NullReporter())
    space, rng = load_space("nasbench201"), np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(candidates)]
    cost = search.feasibility.cost.__class__(space, search.context.spec)
    alone = list(Engine(search.context).score(archs, cost))
    cluster = SimulatedCluster(workers, failures)
    with Engine(search.context, workers, cluster) as engine:
        begun = time.perf_counter()
        together = list(engine.score(archs, cost))
        seconds = time.perf_counter() - begun
    cluster.shutdown()
    report(f"a study of {candidates} networks", cluster, seconds)
    print(f"  the scores are those of one process, in the same order: {alone == together}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--candidates", type=int, default=3000)
    parser.add_argument("--failures", type=float, default=0.05)
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="  log: %(message)s")
    for measure in (search_asynchronously, score_in_order):
        measure(given.workers, given.candidates, given.failures)


if __name__ == "__main__":
    main()
