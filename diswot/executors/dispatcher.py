"""Items handed out to workers in chunks, each with one outcome in the end, however many workers die on the way."""

from __future__ import annotations

import hashlib
import logging
import math
import pickle
import time
import warnings
from collections import deque
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from diswot.errors import RunError, first_line
from diswot.executors.local import LocalExecutor, WorkerDied
from diswot.executors.named import Pool
from diswot.executors.tasks import THIS_PROCESS, Chunk, ChunkResult, RemoteTraceback, ping, run_chunk

logger = logging.getLogger(__name__)
FEWEST_DEATHS = 3  # workers that an item must have taken with it before it is blamed
_MOST_DEATHS = 10  # and after which it is blamed anywhere
_BY_CHANCE = 1e-3  # items that may be blamed in a whole run although workers die by themselves
_HOPELESS = 3  # items blamed, and not one outcome: it is not the items
_GRACE = 10.0  # seconds that a worker has to end itself before it is ended from here
_POLL = 1.0  # seconds between two looks at how long workers have been at it


@dataclass(eq=False)
class _Death:
    """The death of a worker; `workers` of them where the executor itself had tried again. `suspects`: items that it ran and that have no
    outcome since."""

    workers: int
    suspects: int


@dataclass
class _Item:
    number: int
    value: Any
    deaths: list[_Death] = field(default_factory=list)
    alone: bool = False  # whether it is tried by itself before it is blamed: others that ran beside it may have taken the memory

    @property
    def dead_workers(self) -> int:
        return sum(death.workers for death in self.deaths)


@dataclass
class _Running:
    items: list[_Item]
    chunk: Chunk
    submitted: float = field(default_factory=time.monotonic)


class Dispatcher:
    """Hands items to workers; use it in a `with` block.

    Items are added at any time; `completed` returns outcomes as they come. A chunk whose worker died is handed out again, its items one by
    one. An item is blamed, and gets `blame(item, reason)` for its outcome, once it has taken three workers with it; up to ten on a cluster
    that loses workers by itself, so that only in one of a thousand runs an item is blamed by chance.

    Args:
        pool: the executor.
        function: (context, item) -> outcome, a function of a module that workers can import. What it raises ends the run.
        context: its first argument; travels once to every worker.
        blame: the outcome of an item that its workers did not survive.
        patience: seconds that an item may take before its worker is taken for hung and ended; None for any time.
        most_items: in a chunk.
    """

    def __init__(
        self,
        pool: Pool,
        function: Callable[[Any, Any], Any],
        context: Any,
        blame: Callable[[Any, str], Any],
        patience: float | None = None,
        most_items: int = 1000,
    ) -> None:
        self._pool, self._function, self._blame, self._patience, self._most_items = pool, function, blame, patience, most_items
        self._pickled = pickle.dumps(context)
        self._digest = hashlib.sha256(self._pickled).hexdigest()
        self._waiting: deque[_Item] = deque()
        self._running: dict[Future[ChunkResult], _Running] = {}
        self._added = self._runs = self._done = self._blamed = 0
        self._by_chance = 0  # deaths of workers with items that all had an outcome later
        self._warned = False
        self.memory = 0  # the most that a worker has held, in bytes
        self._seconds: float | None = None  # that an item takes, as far as is known

    def __enter__(self) -> Dispatcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for future in self._running:
            future.cancel()

    def __len__(self) -> int:
        """The number of items that have no outcome yet."""
        return len(self._waiting) + sum(len(running.items) for running in self._running.values())

    @property
    def slots(self) -> int:
        """How many chunks run side by side."""
        return self._pool.slots()

    @property
    def seconds_per_item(self) -> float | None:
        """How long the last items took in their worker; None before the first outcome."""
        return self._seconds

    def has_room(self) -> bool:
        """Whether more items should be added, for chunks to be of their full size."""
        return len(self._waiting) < 2 * self._pool.slots() * self._full_size()

    def add(self, value: Any) -> int:
        """Add an item, and return its number, which comes back with its outcome."""
        self._waiting.append(_Item(self._added, value))
        self._added += 1
        return self._added - 1

    def completed(self, timeout: float | None = None) -> list[tuple[int, Any]]:
        """Wait for outcomes: the numbers of items and what came of them; none where no items are left, or the time has passed.

        Raises:
            RunError: no worker can do anything.
        """
        found: list[tuple[int, Any]] = []
        until = math.inf if timeout is None else time.monotonic() + timeout
        while len(self) and not found and (left := until - time.monotonic()) > 0:
            self._hand_out()
            done, _ = futures.wait(self._running, min(left, _POLL), futures.FIRST_COMPLETED)
            for future in sorted(done, key=lambda future: self._running[future].items[0].number):
                found += self._take(future, self._running.pop(future))
            if not done:
                self._end_overdue()
        return found

    def _full_size(self) -> int:
        size = 1 if self._seconds is None else int(self._pool.chunk_seconds / max(self._seconds, 1e-6))
        return max(1, min(self._most_items, size))

    def _hand_out(self) -> None:
        """Keep every worker busy, and the next chunk at hand. What was tried beside others and died is tried alone."""
        most = self._pool.slots() * (2 if self._done else 1)
        while self._waiting and len(self._running) < most:
            if any(running.items[0].alone for running in self._running.values()) or (self._waiting[0].alone and self._running):
                return
            self._submit(self._next_items())

    def _next_items(self) -> list[_Item]:
        """The items of the next chunk: so many that it takes some seconds, and fewer towards the end, for the last ones to end together."""
        if self._waiting[0].deaths:
            return [self._waiting.popleft()]
        size = min(self._full_size(), math.ceil(len(self._waiting) / 2 / self._pool.slots()))
        items = [self._waiting.popleft()]
        while len(items) < size and self._waiting and not self._waiting[0].deaths:
            items.append(self._waiting.popleft())
        return items

    def _submit(self, items: list[_Item], with_context: bool = False) -> None:
        limit = None if self._patience is None else self._patience * len(items)
        context = self._pickled if with_context or not self._done else None
        chunk = Chunk(self._function, self._digest, context, tuple(item.value for item in items), limit, THIS_PROCESS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # dask's of a large context, which it carries once to each worker
            try:
                future = self._pool.executor.submit(run_chunk, chunk)
            except (BrokenExecutor, RuntimeError, OSError) as error:
                self._reopen(error)
                future = self._pool.executor.submit(run_chunk, chunk)
        self._running[future] = _Running(items, chunk)

    def _take(self, future: Future[ChunkResult], running: _Running) -> list[tuple[int, Any]]:
        """The outcomes of a chunk that has ended, well or not."""
        self._runs += 1
        try:
            result = future.result()
        except (Exception, futures.CancelledError) as error:
            return self._requeue_lost(running, error)
        if result.error is not None:
            result.error.__cause__ = RemoteTraceback(result.trace)
            raise result.error
        if result.outcomes is None:
            self._submit(running.items, with_context=True)
            return []
        each = result.seconds / len(running.items)
        self._seconds = each if self._seconds is None else (self._seconds + each) / 2
        self._done += len(running.items)
        self.memory = max(self.memory, result.memory)
        for death in (death for item in running.items for death in item.deaths):
            death.suspects -= 1
            self._by_chance += death.workers if death.suspects == 0 else 0
        return [(item.number, outcome) for item, outcome in zip(running.items, result.outcomes, strict=True)]

    def _requeue_lost(self, running: _Running, error: BaseException) -> list[tuple[int, Any]]:
        """Hand out again what a worker died with; return the outcomes of the items that are to blame."""
        limit, took = running.chunk.limit, time.monotonic() - running.submitted
        hung = limit is not None and took >= limit
        reason = f"no result within {limit:g} s (--patience)" if hung else first_line(error, 200) or type(error).__name__
        shared = isinstance(error, BrokenExecutor)  # all that ran have died with the one
        if shared:
            self._reopen(error)
        if not self._warned:
            logger.warning("%s; its work is done by another", reason)
            self._warned = True
        death = _Death(1 + getattr(error, "allowed_failures", 0), len(running.items))  # dask tries again itself, and says how often
        blamed = []
        for item in reversed(running.items):
            item.deaths.append(death)
            item.alone = item.dead_workers >= FEWEST_DEATHS - 1 and (shared or isinstance(error, WorkerDied))
            if item.dead_workers >= self._deaths_to_blame():
                blamed.append((item.number, self._give_up(item, reason)))
            else:
                self._waiting.appendleft(item)
        return blamed

    def _deaths_to_blame(self) -> int:
        """The number of deaths that no longer looks like chance, by how often workers have died by chance."""
        if not self._by_chance:
            return FEWEST_DEATHS
        rate = min(self._by_chance / self._runs, 0.5)
        by_chance = math.ceil(math.log(_BY_CHANCE / self._added) / math.log(rate))
        return min(max(by_chance, FEWEST_DEATHS), _MOST_DEATHS)

    def _give_up(self, item: _Item, reason: str) -> Any:
        """The outcome of an item that is to blame.

        Raises:
            RunError: it is the workers that are to blame.
        """
        if not self._done:
            self._check_workers()
        self._blamed += 1
        if self._blamed == _HOPELESS and not self._done:
            remedy = "out of memory? use fewer --workers or a smaller --batch-size, then --resume"
            raise RunError(f"no worker has survived any of the first {_HOPELESS} ({reason}): {remedy}")
        why = f"{item.dead_workers} workers died with it: {reason}"
        logger.warning("given up: %s", why)
        return self._blame(item.value, why)

    def _check_workers(self) -> None:
        """Raise a RunError where workers cannot even do nothing."""
        try:
            self._pool.executor.submit(ping).result(self._patience)
        except (Exception, futures.CancelledError) as error:
            what = f"{type(error).__name__}: {first_line(error, 200)}"
            raise RunError(f"--executor {self._pool.name}: its workers cannot run diswot ({what}): install it there too") from None

    def _reopen(self, error: BaseException) -> None:
        """Replace an executor that is broken as a whole; others of its chunks may tell the same later."""
        try:
            self._pool.executor.submit(ping)
            return
        except (BrokenExecutor, RuntimeError, OSError):
            pass
        if not self._pool.reopen():
            raise RunError(f"--executor {self._pool.name} is broken ({first_line(error, 200)}): start it again, then --resume") from None

    def _end_overdue(self) -> None:
        """End processes that did not end themselves, because they were stopped."""
        executor = self._pool.executor
        if not isinstance(executor, LocalExecutor):
            return
        for future, running in self._running.items():
            began = executor.began(future)
            if began is not None and running.chunk.limit is not None and time.monotonic() - began > running.chunk.limit + _GRACE:
                executor.kill(future)
