"""The scoring engine: candidates in, raw scores out, the same whatever the order and however many run at once."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from diswot.architecture import Architecture
from diswot.devices import kind_of_device, single_thread
from diswot.errors import ConfigError
from diswot.execution import Execution
from diswot.executors.dispatcher import Dispatcher
from diswot.executors.named import LOCAL, open_pool
from diswot.executors.tasks import worker_device
from diswot.processes import peak_memory
from diswot.scoring.candidates import ScoreResult, score_one
from diswot.scoring.context import ScoringContext
from diswot.scoring.store import ScoreStore, environment
from diswot.space import Cost

PATIENCE = 1800.0  # seconds that a candidate may take, where nothing else is asked for
_TOLD = 3  # proxies whose share of the time is told
CountCost = Callable[[Architecture], Cost]


class Engine:
    """Scores candidates in this process or by the workers of an executor; use it in a `with` block.

    Args:
        context: what a score depends on.
        workers: processes side by side; 1 without an executor scores in this one. Scores are bit-equal for any number.
        executor: `local`, `dask:tcp://HOST:8786`, `slurm`, ... (`diswot.executors.named.check_name`), or a `concurrent.futures.Executor`
            that is open, and stays open.
        devices: where the networks of local processes run.
        patience: seconds that a candidate may take before its worker is taken for hung; None for any time.
        folder: that all machines see, for executors that need one.
        store: of the scores of earlier runs, which are not computed again.
    """

    def __init__(
        self,
        context: ScoringContext,
        workers: int = 1,
        executor: str | Executor = LOCAL,
        *,
        devices: tuple[str, ...] = (),
        patience: float | None = None,
        folder: Path | None = None,
        store: ScoreStore | None = None,
    ) -> None:
        if workers < 0 or (workers == 0 and executor == LOCAL):
            raise ConfigError(f"--workers {workers}: at least 1 is needed")
        self.context, self.workers = context, workers
        self._executor, self._devices, self._patience, self._folder = executor, devices or (context.device,), patience, folder
        self.store = store
        self._stack = ExitStack()
        self._settings: dict[str, int] = {}  # of the store, by proxy
        self._dispatcher: Dispatcher | None = None
        self._added = 0
        self._known: list[tuple[int, ScoreResult]] = []  # from the store
        self._here: deque[tuple[int, Architecture, Cost]] = deque()  # to be scored in this process
        self._seconds: dict[str, float] = {}  # that each proxy took so far
        self._elsewhere: dict[int, tuple[int, Architecture]] = {}  # by the dispatcher's number

    @classmethod
    def for_run(
        cls, context: ScoringContext, execution: Execution, folder: Path | None, candidates: int | None = None, least_each: int = 1
    ) -> Engine:
        """The engine of a run that is carried out so.

        Args:
            context: what a score depends on.
            execution: how the run is carried out.
            folder: of the run.
            candidates: how many there are to score, where that bounds the local processes that are worth starting.
            least_each: candidates for which a local process is worth starting.
        """
        local = execution.executor == LOCAL
        workers = execution.num_workers(context.device, candidates, least_each) if local else execution.workers
        devices = execution.choose_devices()
        patience, store = execution.patience or PATIENCE, ScoreStore.open(execution.cache)
        engine = cls(context, workers, execution.executor, devices=devices, patience=patience, folder=folder, store=store)
        if store is not None:
            engine._stack.callback(store.close)
        return engine

    def __enter__(self) -> Engine:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _open(self) -> None:
        if self.store is not None:
            self._settings = self.store.settings(self.context)
            self._stack.callback(self.store.flush)
        if self._executor != LOCAL or self.workers > 1:
            pool = self._stack.enter_context(open_pool(self._executor, self.workers, self._devices, self._folder))
            travelling = self.context.to("cpu"), kind_of_device(self.context.device)
            dispatcher = Dispatcher(pool, _score_in_worker, travelling, self._blame, self._patience)
            self._dispatcher = self._stack.enter_context(dispatcher)

    def __exit__(self, *exc: object) -> None:
        self._stack.__exit__(*exc)  # type: ignore[arg-type]

    def score(self, archs: Iterable[Architecture], count_cost: CountCost) -> Iterator[ScoreResult]:
        """Yield the outcomes in the order of the candidates.

        Args:
            archs: the candidates.
            count_cost: their costs, such as a `CostCounter`; called in this process.
        """
        source, order = iter(archs), deque[int]()
        found: dict[int, ScoreResult] = {}
        exhausted = False
        while True:
            while not exhausted and self.has_room():
                if (arch := next(source, None)) is None:
                    exhausted = True
                else:
                    order.append(self.add(arch, count_cost(arch)))
            if not order:
                return
            while order[0] not in found:
                found |= self.completed()
            yield found.pop(order.popleft())

    @property
    def slots(self) -> int:
        """How many chunks of candidates are scored side by side."""
        return self._dispatcher.slots if self._dispatcher is not None else 1

    def has_room(self) -> bool:
        """Whether another candidate should be added now, for no worker to wait."""
        return not self._known and (self._dispatcher.has_room() if self._dispatcher is not None else not self._here)

    def add(self, arch: Architecture, cost: Cost) -> int:
        """Add a candidate to be scored, and return its number, which comes back with its outcome."""
        number = self._added
        self._added += 1
        if (known := self._stored(arch, cost)) is not None:
            self._known.append((number, known))
        elif self._dispatcher is not None:
            self._elsewhere[self._dispatcher.add((arch, cost))] = number, arch
        else:
            self._here.append((number, arch, cost))
        return number

    def completed(self) -> list[tuple[int, ScoreResult]]:
        """Wait for outcomes of candidates that were added: their numbers, and what came of them."""
        if self._known:
            found, self._known = self._known, []
            return found
        if self._dispatcher is not None:
            scored = [(*self._elsewhere.pop(number), *outcome) for number, outcome in self._dispatcher.completed()]
        elif self._here:
            number, arch, cost = self._here.popleft()
            with single_thread(self.context.device):
                scored = [(number, arch, score_one(self.context, arch, cost), environment(self.context.device))]
        else:
            return []
        for _, arch, result, where in scored:
            self._keep(arch, result, where)
            for name, seconds in result.seconds.items():
                self._seconds[name] = self._seconds.get(name, 0.0) + seconds
        return [(number, result) for number, _, result, _ in scored]

    def describe_cost(self) -> str:
        """What takes the time of a candidate, and how much memory its process has held, in words."""
        whole = sum(self._seconds.values())
        dearest = sorted(self._seconds, key=lambda name: -self._seconds[name])[:_TOLD]
        shares = [f"{name} {self._seconds[name] / whole:.0%}" for name in dearest] if whole > 0 and len(self._seconds) > 1 else []
        memory = self._dispatcher.memory if self._dispatcher is not None else peak_memory()
        held = f"{self.slots} worker{'s' if self.slots > 1 else ''} of {memory / 1e9:.1f} GB" if memory else ""
        return "; ".join(filter(None, [", ".join(shares), held]))

    def _stored(self, arch: Architecture, cost: Cost) -> ScoreResult | None:
        """The outcome that the store has of a candidate; what is only counted is counted."""
        if self.store is None or not self._settings or (found := self.store.get(list(self._settings.values()), arch)) is None:
            return None
        scores = dict(zip(self._settings, found, strict=True))
        counted = score_one(replace(self.context, proxies=tuple(set(self.context.proxies) - self._settings.keys())), arch, cost).scores
        return ScoreResult(cost, {name: scores[name] if name in scores else counted[name] for name in self.context.proxies})

    def _keep(self, arch: Architecture, result: ScoreResult, where: str) -> None:
        """Keep an outcome, unless it is of another processor or other versions than this process, under which it would be found again."""
        if self.store is not None and result.reason is None and where == environment(self.context.device):
            for name, setting in self._settings.items():
                self.store.put(setting, arch, result.scores[name])

    def _blame(self, item: tuple[Architecture, Cost], reason: str) -> tuple[ScoreResult, str]:
        """The outcome of a candidate that its workers did not survive."""
        return ScoreResult(item[1], {}, dict.fromkeys(self.context.proxies, reason)), ""


def _score_in_worker(context: tuple[ScoringContext, str], item: tuple[Architecture, Cost]) -> tuple[ScoreResult, str]:
    """Score one candidate, on one thread; return the outcome, and the environment that it was made in.

    Args:
        context: what a score depends on, for a CPU; the kind of device that was asked for.
        item: the candidate and its cost.
    """
    held, device = context
    placed = _on_device(held, worker_device() or device)
    with single_thread(placed.device):
        return score_one(placed, *item), environment(placed.device)


@functools.lru_cache(maxsize=1)
def _on_device(context: ScoringContext, device: str) -> ScoringContext:
    """The context on the device of this worker; made once."""
    return context if device == context.device else context.to(device)
