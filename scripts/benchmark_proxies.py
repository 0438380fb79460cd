"""What twenty proxies cost together, and each by itself, beside one forward and backward pass of the same network and batch; peak memory.

    python scripts/benchmark_proxies.py [--networks 20] [--batch-size 64] [--csv docs/parts/proxy_costs.csv] [--memory]

Prints ratios measured side by side, network by network, one thread: the machine's own speed falls out. With --memory the peak of a process
that scores 100 networks, and of one that scores 5,000.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from benchmark_scoring import candidates
from torch.nn import functional as F

from diswot.architecture import Architecture
from diswot.budget import CostCounter
from diswot.config.scoring import ScoreConfig
from diswot.observe import batch_statistics
from diswot.proxies import PROXIES
from diswot.scoring.candidates import score_one
from diswot.scoring.context import ScoringContext
from diswot.scoring.engine import Engine
from diswot.scoring.recipe import prepare_scoring
from diswot.space import ImageSpec, load_space

SPACE = load_space("nasbench201")
TWENTY = [
    *(
        "semantic_profile",
        "relation",
        "relation_stage1",
        "relation_jacobian",
        "relation_stem_grad",
        "grad_norm",
        "plain",
        "snip",
        "l2_norm",
    ),
    *(
        "fisher",
        "jacov",
        "epe_nas",
        "nwot",
        "synflow",
        "entropy",
        "direction_entropy_first",
        "direction_entropy",
        "diversity",
        "neg_jacobian_log_norm",
        "trainability",
    ),
]
REST = [name for name, proxy in PROXIES.items() if proxy.runs_network and name not in TWENTY]


def make_context(names: list[str], batch: int) -> ScoringContext:
    return prepare_scoring(ScoreConfig(proxy=",".join(names), batch_size=batch, seeds=1, num_classes=10), "cpu", SPACE)[1]


def seconds(run: Callable[[], object]) -> float:
    """The time that a function takes by the thread's own clock: what other processes take away is not counted."""
    start = time.thread_time()
    run()
    return time.thread_time() - start


@contextlib.contextmanager
def bare_pass(arch: Architecture, fixed: ScoringContext) -> Iterator[Callable[[], object]]:
    """One forward and backward pass, as every proxy of gradients needs it at least, in the faster memory layout."""
    model = SPACE.build(arch, fixed.spec.num_classes).to(memory_format=torch.channels_last)
    weights = [p for p in model.parameters() if p.ndim > 1]
    batch = fixed.batches[0]
    with batch_statistics(model):
        yield lambda: torch.autograd.grad(F.cross_entropy(model(batch.images), batch.target), weights, materialize_grads=True)


def ratio(score: Callable[[], object], bare: Callable[[], object], repeats: int = 3) -> float:
    """The time of a score over that of the bare pass, the fastest of each, in turn."""
    times = [(seconds(score), seconds(bare)) for _ in range(repeats)]
    return min(score for score, _ in times) / min(bare for _, bare in times)


def ratios(archs: list[Architecture], batch: int, table: Path | None) -> None:
    counter = CostCounter(SPACE, ImageSpec(10, 3, 32))
    groups = {"the twenty": make_context(TWENTY, batch), "all at once": make_context([*TWENTY, *REST], batch)}
    singles = {name: replace(groups["all at once"], proxies=(name,)) for name in (*TWENTY, *REST)}
    found: dict[str, list[float]] = {name: [] for name in (*groups, *singles)}
    for number, arch in enumerate(archs):
        cost = counter(arch)
        with bare_pass(arch, groups["the twenty"]) as bare:
            bare()
            for name, fixed in {**groups, **singles}.items():
                if number < 5 or name == "the twenty":
                    found[name].append(ratio(lambda: score_one(fixed, arch, cost), bare))  # noqa: B023
    print(f"{len(archs)} networks of NAS-Bench-201, batch {batch}; times one forward and backward pass, median (range)")
    for name, values in found.items():
        print(f"  {name:24} {statistics.median(values):6.2f}  ({min(values):.2f} to {max(values):.2f})")
    if table:
        rows = [f"{name},{statistics.median(found[name]):.2f},{min(found[name]):.2f},{max(found[name]):.2f}" for name in singles]
        table.write_text("\n".join(["proxy,times,least,most", *rows, ""]))


def peak(count: int, batch: int) -> None:
    """Peak memory of this process after scoring `count` networks, in MiB."""
    fixed = make_context(TWENTY, batch)
    rng = np.random.default_rng(1)
    with Engine(fixed, 1) as engine:
        for _ in engine.score((SPACE.sample(rng) for _ in range(count)), CostCounter(SPACE, fixed.spec)):
            pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--csv", type=Path, help="write the figure of each proxy here too, as docs/parts/proxy_costs.csv")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        return peak(args.peak, 2)
    if args.memory:
        for count in (100, 5000):
            command = [sys.executable, __file__, "--peak", str(count)]
            print(
                f"{count:,} networks: {subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()} MiB at the peak"
            )
        return None
    torch.set_num_threads(1)
    return ratios(candidates(args.networks), args.batch_size, args.csv)


if __name__ == "__main__":
    main()
