"""Measuring the time of a forward pass: the one place where networks are timed."""

from __future__ import annotations

import logging
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from diswot.devices import cpu_count, without_garbage_collection
from diswot.latency.runtimes import Setup, ready_to_run, running_threads
from diswot.progress import Clock, duration

logger = logging.getLogger(__name__)
_WARM_UP = 3  # runs of each network that nobody times: the first one chooses algorithms and asks for memory
_WIDE = 1.5  # 90th percentile over median from which the spread is worth a word
_FINE = 1e-6  # seconds that a clock may step by
_UNDISTURBED = 0.9  # share of the wall clock below which the processor was busy with others
_SPARE = 0.5  # load beyond the cores that is left, from which others are in the way of several threads
_WORTH_TELLING = 5.0  # seconds of a measurement that a user is told of before it begins
_FEWEST = 3  # repeats, however long they take


@dataclass(frozen=True)
class Patience:
    """How long a network is timed for: until it has run for `seconds`, or `most` times, but at least `least` times; a slow one, whose runs
    take `longest` seconds together, at least three times."""

    seconds: float = 0.5
    least: int = 12
    most: int = 200
    longest: float = 20.0

    def is_over(self, spent: float, repeats: int) -> bool:
        if repeats >= self.most or (spent >= self.seconds and repeats >= self.least):
            return True
        return spent >= self.longest and repeats >= min(_FEWEST, self.least)

    def expected(self, one: float) -> float:
        """Return the seconds that a network is timed for whose single run takes so many.

        >>> Patience().expected(0.001), Patience().expected(0.5), Patience().expected(60.0)
        (0.2, 6.0, 180.0)
        """
        repeats = min(self.most, max(self.least, math.ceil(self.seconds / max(one, 1e-9))))
        return one * max(min(repeats, math.ceil(self.longest / max(one, 1e-9))), min(_FEWEST, self.least))


@dataclass(frozen=True)
class Timing:
    """The times of one network in milliseconds.

    Attributes:
        median: the median of the repeats.
        p10, p90: the 10th and the 90th percentile.
        repeats: how many there were.

    >>> Timing.of([0.25] * 9 + [8.25])
    Timing(median=250.0, p10=250.0, p90=1050.0, repeats=10)
    """

    median: float
    p10: float
    p90: float
    repeats: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """The summary of two or more repeats, each in seconds."""
        tenths = statistics.quantiles(seconds, n=10, method="inclusive")
        return cls(1e3 * statistics.median(seconds), 1e3 * tenths[0], 1e3 * tenths[-1], len(seconds))

    @property
    def is_wide(self) -> bool:
        """Whether the 90th percentile is far above the median, so that the median says little."""
        return self.p90 > _WIDE * self.median


@dataclass(frozen=True)
class Measurement:
    """The times of several networks.

    Attributes:
        timings: of each network, in their order.
        on_processor: share of the wall clock that the calling thread had a processor; where it is well below 1, other processes had it.
        load: processes that wanted a processor in the minute before, on average; NaN where the system does not say.
    """

    timings: list[Timing]
    on_processor: float
    load: float = math.nan

    def warning(self, setup: Setup) -> str:
        """A line on what makes the figures doubtful, or ""."""
        if setup.device == "cpu" and self.on_processor < _UNDISTURBED:
            waited = f"other processes kept the processor busy for {1 - self.on_processor:.0%} of the time"
            return f"{waited}: end them, or measure again when the machine is quiet"
        cores = cpu_count()
        if setup.device == "cpu" and setup.threads > cores:
            return f"{setup.threads} threads wait for each other on {cores} core{'s' if cores > 1 else ''}: use no more --threads than that"
        if setup.device == "cpu" and setup.threads > 1 and self.load + setup.threads > cores + _SPARE:
            busy = f"the machine was busy ({describe_load(self.load)}), and {setup.threads} threads may have waited for each other"
            return f"{busy}: measure again when it is quiet, or with fewer --threads"
        wide = sum(timing.is_wide for timing in self.timings)
        if wide:
            which = "its" if len(self.timings) == 1 else f"for {wide} of {len(self.timings)} the"
            return f"{which} 90th percentile is more than {_WIDE} times the median: measure again when the machine is quiet"
        return ""


def system_load() -> float:
    """Return how many processes wanted a processor in the last minute, on average; NaN where the system does not say."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):  # AttributeError: Windows
        return math.nan


def describe_load(load: float) -> str:
    """The load of this machine, in words; "" where the system does not say.

    >>> describe_load(math.nan)
    ''
    >>> describe_load(3.14).startswith("load 3.1 on ")
    True
    """
    cores = cpu_count()
    return "" if math.isnan(load) else f"load {load:.1f} on {cores} core{'s' if cores > 1 else ''}"


def _warm_up(call: Callable[[], object], clock: Clock, patience: Patience) -> float:
    """Run a network untimed, a slow one fewer times; return the seconds that a run takes, roughly."""
    begun = last = clock()
    for _ in range(_WARM_UP):
        last = clock()
        call()
        if clock() - begun > patience.longest / 2:
            break
    return clock() - last


def time_interleaved(
    calls: Sequence[Callable[[], object]],
    patience: Patience = Patience(),
    own_time: bool = False,
    clock: Clock = time.perf_counter,
    thread_clock: Clock = time.thread_time,
) -> Measurement:
    """Time functions in turn, one run of each after another, so that a machine that slows down slows all of them alike.

    Args:
        calls: what is timed; a call returns when its work is done.
        patience: when each has been timed long enough.
        own_time: count the time that the calling thread had a processor in place of the wall clock's, which on a machine with other work is
            two times too long whenever the thread had to wait. Only for calls that do all their work in this thread.
        clock, thread_clock: the time, and the time that this thread had a processor, in seconds; a test gives its own.

    >>> time_interleaved([lambda: sum(range(1000))], Patience(seconds=0.0)).timings[0].repeats
    12
    """
    load = system_load()
    expected = sum(patience.expected(_warm_up(call, clock, patience)) for call in calls)
    if expected > _WORTH_TELLING:
        logger.info("measuring takes about %s", duration(expected))
    counted = thread_clock if own_time else clock
    times: list[list[float]] = [[] for _ in calls]
    spent = [0.0] * len(calls)
    waiting = list(range(len(calls)))
    with without_garbage_collection():  # as timeit has it: it would be charged to whoever runs just then
        begun, thread_begun = clock(), thread_clock()
        while waiting:
            for index in waiting:
                start = counted()
                calls[index]()
                took = counted() - start
                times[index].append(took)
                spent[index] += took
            waiting = [index for index in waiting if not patience.is_over(spent[index], len(times[index]))]
        wall, had = clock() - begun, thread_clock() - thread_begun
    return Measurement([Timing.of(one) for one in times], min(1.0, had / wall) if wall > 0 else 1.0, load)


def counts_own_time(setup: Setup) -> bool:
    """Whether a network does all its work in one thread, whose time the system counts finely enough."""
    return setup.device == "cpu" and setup.threads == 1 and time.get_clock_info("thread_time").resolution <= _FINE


def measure_networks(
    models: Sequence[nn.Module],
    shapes: Sequence[tuple[int, ...]],
    setup: Setup,
    patience: Patience = Patience(),
) -> Measurement:
    """Time one forward pass of each of several networks in evaluation mode, in turn.

    Args:
        models: the networks; they are moved to the device.
        shapes: for each, (in_chans, height, width) of an image.
        setup: device, runtime, threads and batch size.

    Raises:
        ConfigError: a runtime that cannot be used here.
    """
    with running_threads(setup), torch.inference_mode():
        images = [torch.randn(setup.batch_size, *shape, generator=torch.Generator().manual_seed(0)) for shape in shapes]
        calls = [ready_to_run(model, image, setup) for model, image in zip(models, images, strict=True)]
        return time_interleaved(calls, patience, counts_own_time(setup))


def measure_latency(
    model: nn.Module,
    shape: tuple[int, int, int],
    device: torch.device,
    batch_size: int = 1,
    patience: Patience = Patience(),
    doubt: Callable[[str], None] | None = None,
) -> float:
    """Measure the median time of one forward pass in evaluation mode, in milliseconds; on a CPU with one thread.

    Args:
        shape: (in_chans, height, width) of an image.
        device: where.
        batch_size: images in the pass.
        patience: when it has been timed long enough.
        doubt: told what makes the figure doubtful, where anything does.

    >>> measure_latency(nn.Conv2d(3, 8, 3), (3, 8, 8), torch.device("cpu")) > 0
    True
    """
    setup = Setup(device=device.type, batch_size=batch_size)
    found = measure_networks([model], [shape], setup, patience)
    if doubt is not None and (warning := found.warning(setup)):
        doubt(warning)
    return found.timings[0].median
