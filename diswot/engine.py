"""The scoring engine: candidates in, raw scores out, the same whatever the order and however many run at once."""

from __future__ import annotations

import contextlib
import hashlib
import math
import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from diswot.architecture import Architecture
from diswot.budget import cost_of
from diswot.data import ProxyBatch
from diswot.devices import cores, place
from diswot.errors import ConfigError, DiswotError, RunError, first_line
from diswot.models.init import Initialiser, initialise, without_weights
from diswot.observe import batch_statistics, not_in_place
from diswot.options import Init
from diswot.proxies import PASSES, Proxy, Student, Trace, View, get_proxy
from diswot.space import Cost, load_space
from diswot.teacher import build_teacher, normalisation

_AHEAD = 128  # candidates handed out before the first outcome is waited for
TEACHER_SEED = 1_000_003  # keeps the teacher's weights apart from those of a candidate with the same seed


@dataclass(frozen=True)
class Scored:
    """The outcome for one candidate: `scores` by proxy, one number for each seed, and the reason for each proxy that failed."""

    cost: Cost
    scores: dict[str, list[float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def reason(self) -> str | None:
        """Why the candidate as a whole has no score, or None where every proxy gave one."""
        return next(iter(self.failed.values()), None)


@dataclass(frozen=True)
class Setting:
    """All that a score depends on besides the candidate. Plain data, so that it can travel to other processes.

    Attributes:
        proxies: names of what is measured.
        init: how candidates are initialised.
        batches: one for each seed.
        teachers: the teacher's view of each batch; empty where no proxy needs one.
        num_classes, in_chans, input_size: of the data.
        device: where networks run.
        space_modules: names of spaces of the user's own that may be imported.
        patient: whether a candidate that cannot be compared with the teacher is a failure like any other, or (a search, in which it is the
            teacher or the space that does not fit) the end of the run.
    """

    proxies: tuple[str, ...]
    init: Init
    batches: list[ProxyBatch]
    teachers: list[View]
    num_classes: int
    in_chans: int
    input_size: int
    device: str = "cpu"
    space_modules: frozenset[str] = frozenset()
    patient: bool = False


def make_setting(
    proxies: Sequence[str],
    *,
    teacher: str,
    teacher_weights: str,
    teacher_norm: str = "data",
    statistics: tuple[ArrayLike, ArrayLike],
    init: Init,
    batches: list[ProxyBatch],
    num_classes: int,
    device: str = "cpu",
    space_modules: frozenset[str] = frozenset(),
) -> Setting:
    """The setting, with the teacher observed once for each seed.

    Args:
        statistics: mean and deviation of the channels, by which the batches were normalised; the teacher may want others.
    """
    in_chans, input_size = batches[0].images.shape[1:3]
    teachers: list[View] = []
    if any("teacher" in get_proxy(name).needs for name in proxies):
        model = build_teacher(teacher, num_classes, in_chans, input_size, teacher_weights)
        model = place(model, device)
        mean, std = (torch.as_tensor(values).view(-1, 1, 1) for values in statistics)
        new_mean, new_std = (v.view(-1, 1, 1) for v in normalisation(teacher_norm, mean.flatten(), std.flatten()))
        with single_thread(device):
            traced = any("teacher:graph" in get_proxy(name).needs for name in proxies)
            for batch in batches:
                images = batch.images if teacher_norm == "data" else (batch.images * std + mean - new_mean) / new_std
                fresh = init if teacher_weights == "random" else None
                teachers.append(_teacher_view(model, images.to(device), batch, fresh, traced))
    return Setting(tuple(proxies), init, batches, teachers, num_classes, in_chans, input_size, device, space_modules)


def _teacher_view(model: nn.Module, images: Tensor, batch: ProxyBatch, init: Init | None, traced: bool) -> View:
    """What the teacher shows of a batch, on batch statistics; randomly initialised first where `init` is given. With `traced` its
    gradients at the images too."""
    if init is not None:
        initialise(model, init, batch.seed + TEACHER_SEED)
    with batch_statistics(model):
        wanted = frozenset({"blocks", "graph"} if traced else {"blocks"})
        trace = Trace(not_in_place(model), images, batch.target.to(images.device), wanted)
        return trace.forget()


def score_one(setting: Setting, arch: Architecture) -> Scored:
    """Scores one candidate: builds it once, then initialises it once for each seed, and makes the passes that its proxies share.

    The network that runs is the canonical one, so equal networks have equal scores; the cost is that of the candidate itself.
    """
    space = load_space(arch.space, trusted=arch.space in setting.space_modules)
    cost = cost_of(space, arch, setting.num_classes, setting.in_chans, setting.input_size)
    outcome = Scored(cost)
    proxies = sorted(map(get_proxy, setting.proxies), key=lambda proxy: proxy.init == "gaussian")  # weights change once
    counted = [proxy for proxy in proxies if "student" not in proxy.needs]
    measured = [proxy for proxy in proxies if "student" in proxy.needs]
    for _ in setting.batches:
        _score(counted, None, None, outcome, setting.patient)
    if measured:
        try:
            form = space.canonical(arch)
            with without_weights():
                model = space.build(form, setting.num_classes, setting.in_chans)
            model = not_in_place(place(model, setting.device))
            with batch_statistics(model):
                live = cost_of(space, form, setting.num_classes, setting.in_chans, setting.input_size)
                for index, student in enumerate(_students(model, setting, measured, live)):
                    _score(measured, student, setting.teachers[index] if setting.teachers else None, outcome, setting.patient)
        except (DiswotError, RuntimeError, ValueError, torch.OutOfMemoryError) as error:
            if isinstance(error, DiswotError) and not setting.patient:
                raise
            outcome.failed.update((proxy.name, first_line(error, 200)) for proxy in measured)
    kept = {name: outcome.scores[name] for name in setting.proxies if name not in outcome.failed}
    return Scored(cost, kept, outcome.failed)


def _score(proxies: Sequence[Proxy], student: Student | None, teacher: View | None, outcome: Scored, patient: bool) -> None:
    """Adds one seed's number for each proxy, or the reason why there is none; one proxy's failure leaves the others alone."""
    for proxy in proxies:
        if proxy.name in outcome.failed:
            continue
        try:
            with torch.no_grad():  # what needs a gradient says so itself
                value = float(proxy.score(student, teacher, outcome.cost))
        except Exception as error:  # whatever a foreign network makes of an unusual pass
            if isinstance(error, DiswotError) and not patient:
                raise
            outcome.failed[proxy.name] = first_line(error, 200)
            continue
        if math.isfinite(value):
            outcome.scores.setdefault(proxy.name, []).append(value)
        else:
            outcome.failed[proxy.name] = f"{proxy.name} is not finite: {value}"


def _students(model: nn.Module, setting: Setting, proxies: Sequence[Proxy], cost: Cost) -> Iterator[Student]:
    """The candidate under each seed; one at a time, so that one seed's maps are gone before the next's."""
    initialisers: dict[Init, Initialiser] = {}
    needs = [need.split(":") for proxy in proxies for need in proxy.needs if ":" in need]
    wanted = {name: frozenset(what for where, what in needs if where == name) for name in PASSES}
    for batch in setting.batches:

        def initialise(init: Init | None, seed: int = batch.seed) -> None:
            chosen = init or setting.init
            if chosen not in initialisers:
                initialisers[chosen] = Initialiser(model, chosen)
            initialisers[chosen](seed)

        images, target = batch.images.to(setting.device), batch.target.to(setting.device)
        yield Student(model, initialise, images, target, batch.seed, wanted, cost)


@contextlib.contextmanager
def single_thread(device: str = "cpu") -> Iterator[None]:
    """One thread on a CPU: sums are then made in one order, and two networks on two cores outrun one network on two threads."""
    before = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_settings: dict[str, Setting] = {}  # in a worker: the setting it scores by, under its digest


def _start_worker(digest: str, blob: bytes) -> None:
    """Runs once in each process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then shuts its workers down in order
    threading.Thread(target=_follow_parent, daemon=True).start()
    torch.set_num_threads(1)
    _settings[digest] = pickle.loads(blob)  # bytes that this program's own parent process made


def _follow_parent() -> None:
    """Ends this process when its parent has ended, however that came about."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _score_in_worker(digest: str, blob: bytes | None, arch: Architecture) -> Scored:
    """The setting travels with the candidate only where no `_start_worker` could bring it: to executors that are not our own."""
    if digest not in _settings:
        assert blob is not None
        torch.set_num_threads(1)
        _settings.clear()
        _settings[digest] = pickle.loads(blob)
    return score_one(_settings[digest], arch)


def default_workers(device: str) -> int:
    """One process for each core on a CPU; one on an accelerator, which is not shared."""
    return cores() if device == "cpu" else 1


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Processes started inside are deaf to Ctrl-C from their first instruction on; `_start_worker` makes the later ones so."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's business
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Engine:
    """Scores candidates in this process or in several; use it in a `with` block.

    Args:
        setting: what a score depends on.
        workers: processes; 1 scores in this one. Scores are bit-equal for any number.
        executor: any `concurrent.futures.Executor` of your own (dask's, mpi4py's, ...) in place of local processes.
    """

    def __init__(self, setting: Setting, workers: int = 1, executor: Executor | None = None) -> None:
        if workers < 1:
            raise ConfigError(f"--workers {workers}: at least 1 is needed")
        self.setting, self.workers = setting, workers if setting.device == "cpu" else 1
        self._executor, self._owned = executor, False
        self._digest, self._blob = "", b""

    def __enter__(self) -> Engine:
        if self._executor is None and self.workers == 1:
            return self
        self._blob = pickle.dumps(self.setting)
        self._digest = hashlib.sha256(self._blob).hexdigest()
        if self._executor is None:
            context = multiprocessing.get_context("spawn")  # a fork of a process that has run torch threads can hang
            brought = (self._digest, self._blob)
            self._executor = ProcessPoolExecutor(self.workers, context, _start_worker, brought)
            self._owned = True
            with _interrupts_ignored():
                self._executor.submit(os.getpid)  # starts the processes
        return self

    def __exit__(self, *exc: object) -> None:
        if self._executor is not None and self._owned:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def score(self, archs: Iterable[Architecture]) -> Iterator[Scored]:
        """Yields the outcomes in the order of the candidates."""
        if self._executor is None:
            for arch in archs:
                with single_thread(self.setting.device):
                    scored = score_one(self.setting, arch)
                yield scored
            return
        try:
            blob = None if self._owned else self._blob
            pending: deque[Future[Scored]] = deque()
            for arch in archs:
                pending.append(self._executor.submit(_score_in_worker, self._digest, blob, arch))
                if len(pending) == _AHEAD:  # a window, so that memory does not grow with the number of candidates
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool:
            raise RunError("a scoring process died (out of memory?): use fewer --workers or a smaller --batch, then --resume") from None
