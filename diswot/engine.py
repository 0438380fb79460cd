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
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

import torch
from numpy.typing import ArrayLike
from torch import nn

from diswot.architecture import Architecture
from diswot.budget import cost_of
from diswot.data import ProxyBatch
from diswot.devices import place
from diswot.errors import ConfigError, DiswotError, RunError, first_line
from diswot.models.init import Initialiser, without_weights
from diswot.observe import batch_statistics, observe
from diswot.options import Init
from diswot.proxies import PROXIES, View
from diswot.space import Cost, load_space
from diswot.teacher import build_teacher, normalisation, observe_teacher

TEACHER_SEED = 1_000_003  # keeps the teacher's weights apart from those of a candidate with the same seed


@dataclass(frozen=True)
class Scored:
    """The outcome for one candidate: `scores` by proxy, one number for each seed; or, where it failed, the `reason`."""

    cost: Cost
    scores: dict[str, list[float]] = field(default_factory=dict)
    reason: str | None = None


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
    if any("teacher" in PROXIES[name].needs for name in proxies):
        model = build_teacher(teacher, num_classes, in_chans, input_size, teacher_weights)
        model = place(model, device)
        mean, std = (torch.as_tensor(values).view(-1, 1, 1) for values in statistics)
        new_mean, new_std = (v.view(-1, 1, 1) for v in normalisation(teacher_norm, mean.flatten(), std.flatten()))
        with single_thread(device):
            for batch in batches:
                images = batch.images if teacher_norm == "data" else (batch.images * std + mean - new_mean) / new_std
                fresh = init if teacher_weights == "random" else None
                seen = observe_teacher(model, images.to(device), fresh, batch.seed + TEACHER_SEED)
                teachers.append(View(seen, batch.target.to(device)))
    return Setting(tuple(proxies), init, batches, teachers, num_classes, in_chans, input_size, device, space_modules)


def score_one(setting: Setting, arch: Architecture) -> Scored:
    """Scores one candidate: builds it once, then initialises and runs it once for each seed.

    The network that runs is the canonical one, so equal networks have equal scores; the cost is that of the candidate itself.
    """
    space = load_space(arch.space, trusted=arch.space in setting.space_modules)
    cost = cost_of(space, arch, setting.num_classes, setting.in_chans, setting.input_size)
    proxies = [PROXIES[name] for name in setting.proxies]
    scores: dict[str, list[float]] = {proxy.name: [] for proxy in proxies}
    students: Iterator[View | None]
    try:
        if any("forward" in proxy.needs for proxy in proxies):
            with without_weights():
                model = space.build(space.canonical(arch), setting.num_classes, setting.in_chans)
            model = place(model, setting.device)
            students = _observe_seeds(model, setting)
        else:
            students = iter([None] * len(setting.batches))
        for index, student in enumerate(students):
            teacher = setting.teachers[index] if setting.teachers else None
            for proxy in proxies:
                scores[proxy.name].append(float(proxy.score(student, teacher, cost)))
    except DiswotError:
        raise
    except (RuntimeError, ValueError, torch.OutOfMemoryError) as error:
        return Scored(cost, reason=first_line(error, 200))
    for name, values in scores.items():
        if not all(map(math.isfinite, values)):
            return Scored(cost, reason=f"{name} is not finite: {values}")
    return Scored(cost, scores)


def _observe_seeds(model: nn.Module, setting: Setting) -> Iterator[View]:
    """The model's view of each batch, initialised anew for it; one at a time, so that one seed's maps are gone before the next's."""
    initialise = Initialiser(model, setting.init)
    with torch.inference_mode(), batch_statistics(model):
        for batch in setting.batches:
            initialise(batch.seed)
            yield View(observe(model, batch.images.to(setting.device)), batch.target.to(setting.device))


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
    if device != "cpu":
        return 1
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


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
            futures = [self._executor.submit(_score_in_worker, self._digest, blob, arch) for arch in archs]
            for future in futures:
                yield future.result()
        except BrokenProcessPool:
            raise RunError("a scoring process died (out of memory?): use fewer --workers or a smaller --batch, then --resume") from None
