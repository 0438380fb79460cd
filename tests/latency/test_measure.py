"""How networks are timed, by clocks that are told what to show."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.benchmark import Timer

from diswot.errors import ConfigError
from diswot.latency import measure
from diswot.latency.measure import Measurement, Patience, Timing, measure_latency, measure_networks, time_interleaved
from diswot.latency.runtimes import Setup, running_threads
from tests.latency.samples import FakeClock


def test_warm_up_and_one_slow_run_leave_no_trace_in_the_median() -> None:
    clock = FakeClock()
    slow_at_first = clock.work(9.0, 9.0, 9.0, *[0.002] * 4, 5.0, 0.002)
    found = time_interleaved([slow_at_first], Patience(seconds=0.0, least=12), clock=clock, thread_clock=clock)
    assert found.timings[0].median == pytest.approx(2.0) and found.timings[0].repeats == 12


def test_medians_are_those_of_torchs_own_timer() -> None:
    """Under one clock; it knows nothing of turns or percentiles."""
    ours, theirs = FakeClock(), FakeClock()
    durations = [0.003, 0.001, 0.004, 0.001, 0.005, 0.009, 0.002, 0.006, 0.005, 0.003, 0.005]
    found = time_interleaved([ours.work(0, 0, 0, *durations)], Patience(0.0, least=11), clock=ours, thread_clock=ours).timings[0]
    timer = Timer("call()", globals={"call": theirs.work(*durations)}, timer=theirs)
    raw = [timer._timeit(1) for _ in durations]
    assert found.median == pytest.approx(1e3 * statistics.median(raw))
    assert (found.p10, found.p90) == pytest.approx(tuple(1e3 * np.percentile(durations, [10, 90])))


def test_networks_run_in_turn_and_stop_when_they_have_had_enough() -> None:
    clock, order = FakeClock(), []

    def named(name: str, seconds: float) -> object:
        def call() -> None:
            order.append(name)
            clock.now += seconds

        return call

    calls = [named("long", 1.0), named("short", 0.001)]
    found = time_interleaved(calls, Patience(seconds=5.0, least=4, most=8), clock=clock, thread_clock=clock)  # type: ignore[arg-type]
    assert "".join(name[0] for name in order) == "lll" + "sss" + "ls" * 5 + "sss"
    assert [timing.repeats for timing in found.timings] == [5, 8]


def test_drift_hits_all_alike() -> None:
    """A machine that gets ever slower: two equal networks have equal medians, to a step of the drift."""
    clock = FakeClock()

    def slower() -> None:
        clock.now += 0.001 * (1 + clock.now)

    first, second = time_interleaved([slower, slower], Patience(0.0, least=50), clock=clock, thread_clock=clock).timings
    assert second.median == pytest.approx(first.median, rel=0.002)


def test_what_other_processes_take_is_not_counted_but_said() -> None:
    wall, own = FakeClock(), FakeClock()

    def shared() -> None:
        own.now += 0.002
        wall.now += 0.005

    found = time_interleaved([shared], own_time=True, clock=wall, thread_clock=own)
    assert found.timings[0].median == pytest.approx(2.0) and found.on_processor == pytest.approx(0.4)
    assert "other processes kept the processor busy for 60% of the time" in found.warning(Setup())
    assert found.warning(Setup(device="cuda")) == "", "a thread that waits for an accelerator has no processor, and needs none"


def test_a_wide_spread_is_said() -> None:
    clock = FakeClock()
    durations = [0.001, 0.001, 0.001, 0.002] * 4
    found = time_interleaved([clock.work(0, 0, 0, *durations)], Patience(0.0, least=16), clock=clock, thread_clock=clock)
    assert found.timings[0].is_wide and "its 90th percentile is more than 1.5 times the median" in found.warning(Setup())
    assert not Timing(1.0, 0.9, 1.4, 12).is_wide


def test_a_slow_network_is_timed_for_a_bounded_time_which_is_told_first(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    caplog.set_level("INFO", "diswot")
    found = time_interleaved([clock.work(8.0)], Patience(longest=20.0), clock=clock, thread_clock=clock)
    assert found.timings[0].median == pytest.approx(8000) and found.timings[0].repeats == 3
    assert clock.now == 2 * 8.0 + 3 * 8.0, "two runs to warm up, three that are timed"
    assert caplog.messages == ["measuring takes about 24 s"]
    caplog.clear()
    time_interleaved([clock.work(0.001)], clock=clock, thread_clock=clock)
    assert not caplog.messages


@pytest.mark.parametrize(
    ("threads", "load", "says"),
    [(2, 1.5, "the machine was busy (load 1.5 on 2 cores), and 2 threads may"), (2, 0.3, ""), (1, 9.0, ""), (3, 0.0, "3 threads wait")],
)
def test_threads_that_wait_for_others_make_a_figure_doubtful(threads: int, load: float, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one thread only its own time is counted, whatever else runs."""
    monkeypatch.setattr(measure, "cpu_count", lambda: 2)
    warning = Measurement([Timing(1.0, 1.0, 1.0, 12)], 1.0, load).warning(Setup(threads=threads))
    assert warning.startswith(says) and bool(warning) == bool(says)


def test_a_coarse_clock_of_threads_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure.time, "get_clock_info", lambda _: type("Info", (), {"resolution": 0.015}))
    assert not measure.counts_own_time(Setup())
    monkeypatch.undo()
    assert not measure.counts_own_time(Setup(threads=2)), "the work of other threads would be free"


class _NotesThreads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, bool, tuple[int, ...]]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append((torch.get_num_threads(), self.training, tuple(x.shape)))
        return x


def test_a_network_runs_on_the_threads_that_are_asked_for_in_evaluation_mode() -> None:
    before, model = torch.get_num_threads(), _NotesThreads()
    measure_networks([model], [(3, 4, 4)], Setup(threads=2, batch_size=5), Patience(0.0))
    assert set(model.seen) == {(2, False, (5, 3, 4, 4))} and torch.get_num_threads() == before
    other = _NotesThreads()
    with running_threads(Setup(threads=3)):
        measure_latency(other, (3, 4, 4), torch.device("cpu"))
        assert torch.get_num_threads() == 3
    assert {threads for threads, _, _ in other.seen} == {1}, "one thread is the default"


def test_onnx_runtime_runs_the_network() -> None:
    found = measure_networks([nn.Conv2d(3, 4, 3)], [(3, 8, 8)], Setup(runtime="onnx", batch_size=2), Patience(0.0))
    assert found.timings[0].median > 0 and found.timings[0].repeats == 12


@pytest.mark.slow
def test_torch_compile_runs_the_network() -> None:
    from torch._inductor import config  # which takes a second

    # What serves many kernels, headers compiled beforehand and a try of the processor's vectors, takes longer than this one.
    with config.patch({"cpp_cache_precompile_headers": False, "cpp.vec_isa_ok": True}):
        found = measure_networks([nn.Conv2d(3, 4, 3)], [(3, 8, 8)], Setup(runtime="compile"), Patience(0.0))
    assert found.timings[0].median > 0


def test_a_compiler_that_fails_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: nn.Module) -> object:
        def run(_: torch.Tensor) -> None:
            raise RuntimeError("no compiler")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(ConfigError, match=r"--runtime compile: torch.compile fails here \(no compiler\)"):
        measure_networks([nn.Conv2d(3, 4, 3)], [(3, 8, 8)], Setup(runtime="compile"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"runtime": "tflite"}, "--runtime 'tflite': known: torch, onnx, compile"),
        ({"runtime": "onnx", "device": "cuda"}, "--runtime onnx measures on a CPU"),
        ({"threads": 0}, "--threads 0: from 1"),
        ({"batch_size": -1}, "--batch-size -1: from 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Setup(**options)  # type: ignore[arg-type]
