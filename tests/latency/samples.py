"""Latency tables whose times follow a law that is known, and a clock that moves when it is told to."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from diswot.architecture import Architecture
from diswot.latency.measure import Timing
from diswot.latency.recipe import TablePlan, subject_of
from diswot.latency.runtimes import Setup
from diswot.latency.table import Row, csv_text
from diswot.latency.units import Unit, UnitReader
from diswot.space import ImageSpec, load_space

SPEC = ImageSpec(10, 3, 32)
Law = Callable[[Unit], float]


def by_flops(unit: Unit) -> float:
    """A tenth of a millisecond, and one for each 10M FLOPs."""
    return 0.1 + unit.flops / 1e7


class FakeClock:
    """Stands still but for what is added to it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, *durations: float) -> Callable[[], None]:
        """A function that takes these times one after another, the last of them for ever."""
        left = list(durations)

        def call() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


def table_plan(space: str = "s0", units: int = 40, networks: int = 6, setup: Setup | None = None, **limits: str) -> TablePlan:
    return _made(space, units, networks, setup or Setup(), tuple(limits.items()))


@functools.cache
def _made(space: str, units: int, networks: int, setup: Setup, limits: tuple[tuple[str, str], ...]) -> TablePlan:
    """A plan, whose rows take a second to choose."""
    return TablePlan(load_space(space), SPEC, setup, {"params": None, "flops": None, **dict(limits)}, units, networks)


def write_table(
    path: Path, plan: TablePlan, law: Law = by_flops, whole: Callable[[float], float] = float, pace: Callable[[int], float] = lambda _: 1.0
) -> Path:
    """Write a table.

    Args:
        plan: what it is of.
        law: the time of a unit in milliseconds.
        whole: the time of a network, given the sum over its units.
        pace: how many times slower the machine is at each row.
    """
    reader = UnitReader(plan.space, plan.spec)
    cells = []
    for number, row in enumerate(plan.rows):
        subject = subject_of(row)
        ms = whole(sum(map(law, reader.units(subject)))) if isinstance(subject, Architecture) else law(subject)
        ms *= pace(number)
        cells.append(plan.cells(Row(subject, Timing(ms, 0.9 * ms, 1.1 * ms, 12), 5.0 * pace(number))))
    path.write_text(plan.head("a processor").lines() + csv_text(cells))
    return path
