"""The scoring engine: candidates in, raw scores out, the same whatever the order and however many run at once."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import torch

from diswot.architecture import Architecture
from diswot.devices import single_thread
from diswot.errors import ConfigError, RunError
from diswot.processes import interrupts_ignored, obey_parent
from diswot.scoring.candidates import ScoreResult, score_one
from diswot.scoring.context import ScoringContext
from diswot.space import Cost

_AHEAD = 128  # candidates handed out before the first outcome is waited for
_contexts: dict[str, ScoringContext] = {}  # in a worker process: the context that it scores in, by its digest


def _start_worker(digest: str, blob: bytes) -> None:
    """Set up a worker process; called once in each."""
    obey_parent()
    torch.set_num_threads(1)
    _contexts[digest] = pickle.loads(blob)  # bytes that this program's own parent process made


def _score_in_worker(digest: str, blob: bytes | None, arch: Architecture, cost: Cost) -> ScoreResult:
    """Score one candidate. The context travels with it only where no `_start_worker` could bring it: to executors that are not our own."""
    if digest not in _contexts:
        assert blob is not None
        torch.set_num_threads(1)
        _contexts.clear()
        _contexts[digest] = pickle.loads(blob)
    return score_one(_contexts[digest], arch, cost)


class Engine:
    """Scores candidates in this process or in several; use it in a `with` block.

    Args:
        context: what a score depends on.
        workers: processes; 1 scores in this one. Scores are bit-equal for any number.
        executor: any `concurrent.futures.Executor` of your own (dask's, mpi4py's, ...) in place of local processes.
    """

    def __init__(self, context: ScoringContext, workers: int = 1, executor: Executor | None = None) -> None:
        if workers < 1:
            raise ConfigError(f"--workers {workers}: at least 1 is needed")
        self.context, self.workers = context, workers if context.device == "cpu" else 1
        self._executor, self._owned = executor, False
        self._digest, self._blob = "", b""

    def __enter__(self) -> Engine:
        if self._executor is None and self.workers == 1:
            return self
        self._blob = pickle.dumps(self.context)
        self._digest = hashlib.sha256(self._blob).hexdigest()
        if self._executor is None:
            spawn = multiprocessing.get_context("spawn")  # a fork of a process that has run torch threads can hang
            self._executor = ProcessPoolExecutor(self.workers, spawn, _start_worker, (self._digest, self._blob))
            self._owned = True
            with interrupts_ignored():
                self._executor.submit(os.getpid)  # starts the first of the processes
        return self

    def __exit__(self, *exc: object) -> None:
        if self._executor is not None and self._owned:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def score(self, archs: Iterable[Architecture], count_cost: Callable[[Architecture], Cost]) -> Iterator[ScoreResult]:
        """Yield the outcomes in the order of the candidates.

        Args:
            archs: the candidates.
            count_cost: their costs, such as a `CostCounter`; called in this process.
        """
        if self._executor is None:
            for arch in archs:
                with single_thread(self.context.device):
                    scored = score_one(self.context, arch, count_cost(arch))
                yield scored
            return
        try:
            blob = None if self._owned else self._blob
            pending: deque[Future[ScoreResult]] = deque()
            for arch in archs:
                pending.append(self._executor.submit(_score_in_worker, self._digest, blob, arch, count_cost(arch)))
                if len(pending) == _AHEAD:  # a window, so that memory does not grow with the number of candidates
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool:
            self._end_processes()
            raise RunError(
                "a scoring process died (out of memory?): use fewer --workers or a smaller --batch-size, then --resume"
            ) from None

    def _end_processes(self) -> None:
        """End what is left of a broken pool of our own. It ends its processes itself, but overlooks one that is being started as another
        dies, and would wait for it forever."""
        processes = getattr(self._executor, "_processes", None) if self._owned else None
        for process in list((processes or {}).values()):
            process.terminate()
