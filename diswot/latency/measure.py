"""Measuring the time of a forward pass: the one place where networks are timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from diswot.devices import without_garbage_collection
from diswot.latency.runtimes import Setup, ready_to_run, running_threads
from diswot.progress import Clock

_WARM_UP = 3  # runs of each network that nobody times: the first one chooses algorithms and asks for memory
_WIDE = 1.5  # 90th percentile over median from which the spread is worth a word
_FINE = 1e-6  # seconds that a clock may step by
_UNDISTURBED = 0.9  # share of the wall clock below which the processor was busy with others


@dataclass(frozen=True)
class Patience:
    """How long a network is timed for: until it has run for `seconds`, or `most` times, but at least `least` times."""

    seconds: float = 0.5
    least: int = 12
    most: int = 200

    def is_over(self, spent: float, repeats: int) -> bool:
        return repeats >= self.most or (spent >= self.seconds and repeats >= self.least)


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
    """

    timings: list[Timing]
    on_processor: float

    def warning(self, setup: Setup) -> str:
        """A line on what makes the figures doubtful, or ""."""
        if setup.device == "cpu" and self.on_processor < _UNDISTURBED:
            waited = f"other processes kept the processor busy for {1 - self.on_processor:.0%} of the time"
            return f"{waited}: end them, or measure again when the machine is quiet"
        wide = sum(timing.is_wide for timing in self.timings)
        if wide:
            which = "its" if len(self.timings) == 1 else f"for {wide} of {len(self.timings)} the"
            return f"{which} 90th percentile is more than {_WIDE} times the median: measure again when the machine is quiet"
        return ""


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
    for call in calls:
        for _ in range(_WARM_UP):
            call()
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
    return Measurement([Timing.of(one) for one in times], min(1.0, had / wall) if wall > 0 else 1.0)


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


def measure_latency(model: nn.Module, shape: tuple[int, int, int], device: torch.device, batch_size: int = 1, *options: Any) -> float:
    """Measure the median time of one forward pass in evaluation mode, in milliseconds; on a CPU with one thread.

    Args:
        shape: (in_chans, height, width) of an image.
        options: seconds, and the least and most repeats, as `Patience` has them.

    >>> measure_latency(nn.Conv2d(3, 8, 3), (3, 8, 8), torch.device("cpu")) > 0
    True
    """
    setup = Setup(device=device.type, batch_size=batch_size)
    return measure_networks([model], [shape], setup, Patience(*options)).timings[0].median
