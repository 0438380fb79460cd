"""How near a latency table comes to whole networks: random networks of S1, measured in turn, against the sums of a table.

    python scripts/benchmark_latency_table.py [--runtimes torch onnx] [--networks 50] [--params 0.05M..1M] [--tables FOLDER]

Prints, for each runtime, the relative error of the table and that of a time proportional to the FLOPs (at the rate of the table's own whole
networks), both at one pace of the machine: a network that belongs to the table is measured in turn with the others. And how many networks
the table tells in a second of the processor.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import stats

from diswot.budget import Budget, cost_of
from diswot.latency.design import sample_networks
from diswot.latency.measure import Patience, measure_networks
from diswot.latency.recipe import TablePlan, measure_table
from diswot.latency.runtimes import Setup
from diswot.latency.table import read_rows
from diswot.latency.units import Unit, UnitReader
from diswot.progress import PlainLines
from diswot.space import ImageSpec, load_space

SPACE, SPEC = load_space("s1"), ImageSpec(100, 3, 32)
GROUP = 10  # networks that are measured in turn


def measured(plan: TablePlan, archs: list, usual: float) -> np.ndarray:
    """The time of each network at the table's pace, in milliseconds."""
    times: list[float] = []
    for begin in range(0, len(archs), GROUP):
        group = [*archs[begin : begin + GROUP], plan.reference]
        models = [SPACE.build(arch, SPEC.num_classes, SPEC.in_chans) for arch in group]
        *found, pace = measure_networks(models, [SPEC.shape] * len(group), plan.setup, Patience(seconds=0.2)).timings
        times += [timing.median * usual / pace.median for timing in found]
    return np.array(times)


def report(name: str, predicted: np.ndarray, times: np.ndarray) -> None:
    error = np.abs(predicted / times - 1)
    rho = stats.spearmanr(predicted, times).statistic
    print(f"{name:<28} median error {np.median(error):6.1%}   90 % {np.percentile(error, 90):6.1%}   Spearman {rho:.3f}", flush=True)


def benchmark(runtime: str, limits: str, count: int, folder: Path) -> None:
    plan = TablePlan(SPACE, SPEC, Setup(runtime=runtime), {"params": limits, "flops": None})
    path = folder / f"{runtime}.csv"
    table, warning = measure_table(plan, path, PlainLines(sys.stderr))
    rows = read_rows(path)[1]
    usual = statistics.median(row.reference for row in rows)
    archs = sample_networks(UnitReader(SPACE, SPEC), Budget.parse(plan.limits), count, np.random.default_rng(2024))
    times = measured(plan, archs, usual)
    table.latency(SPACE, archs[0], SPEC)  # what is done once
    begun = time.thread_time()
    sums = np.array([table.latency(SPACE, arch, SPEC) for arch in archs])
    rate = len(archs) / (time.thread_time() - begun)
    networks = [(row.subject, row.timing.median * usual / row.reference) for row in rows if not isinstance(row.subject, Unit)]
    per_flop = statistics.median(ms / cost_of(SPACE, arch, SPEC).flops for arch, ms in networks)
    flops = np.array([cost_of(SPACE, arch, SPEC).flops for arch in archs])
    print(f"\n{runtime}: {count} networks of S1, {limits} parameters, {times.min():.2g} to {times.max():.2g} ms; {table.setup}")
    report("the table", sums, times)
    report("proportional to the FLOPs", per_flop * flops, times)
    quality = table.quality(SPACE)
    own = f"{quality.units:.1%} of a block that is filled in, {quality.networks:.1%} of a network"
    print(f"its own word: {own}; {rate:.0f} networks a second, all of them new")
    print(f"warning: {warning}" if warning else "", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtimes", nargs="+", default=["torch", "onnx"])
    parser.add_argument("--networks", type=int, default=50)
    parser.add_argument("--params", default="0.05M..1M")
    parser.add_argument("--tables", type=Path, help="keep the tables here, and take those that are there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for runtime in options.runtimes:
            benchmark(runtime, options.params, options.networks, options.tables or Path(folder))


if __name__ == "__main__":
    main()
