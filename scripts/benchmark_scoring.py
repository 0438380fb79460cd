"""How long one DisWOT score takes: the published way, ours, our default settings, and the bare forward pass, side by side in one run.

    python scripts/benchmark_scoring.py [--candidates 40]

Prints ratios; absolute times are of the machine. Needs no data: the images are drawn. For each candidate all ways are timed one after
the other, so a machine whose speed drifts slows them all; the median over the candidates of each ratio is reported.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import authors_way
import numpy as np
import torch

from diswot.architecture import Architecture
from diswot.budget import CostCounter
from diswot.config.scoring import ScoreConfig
from diswot.data import load_data
from diswot.observe import batch_statistics
from diswot.proxies import resolve_ranking
from diswot.scoring.candidates import score_one
from diswot.scoring.context import ScoringContext, make_scoring_context
from diswot.scoring.engine import Engine
from diswot.space import ImageSpec, load_space

CLASSES, BATCH = 100, 64
DEFAULT = resolve_ranking("diswot")
SPACE = load_space("nasbench201")
COUNTER = CostCounter(SPACE, ImageSpec(CLASSES, 3, 32))


def make_context(batch_size: int, seeds: int) -> ScoringContext:
    config = ScoreConfig(proxy="diswot", batch_size=batch_size, seeds=seeds, num_classes=CLASSES)
    return make_scoring_context(config, DEFAULT, load_data("synthetic", num_classes=CLASSES))


def timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def candidates(count: int) -> list[Architecture]:
    rng = np.random.default_rng(0)
    drawn = (SPACE.canonical(SPACE.sample(rng)) for _ in itertools.count())
    return list(itertools.islice((arch for arch in drawn if "conv" in arch.choices), count))


def throughput(archs: list[Architecture], same: ScoringContext, default: ScoringContext) -> None:
    """Two cores: the published way with two threads, ours with two processes of one thread."""
    images, target = same.batches[0].images.contiguous(), same.batches[0].target
    ratios: dict[str, list[float]] = {"same batch": [], "default settings": []}
    torch.set_num_threads(2)
    chunks = [archs[i : i + 16] for i in range(0, len(archs), 16)]
    with Engine(same, 2) as ours, Engine(default, 2) as defaults:
        for engine in (ours, defaults):  # processes start, caches fill
            list(engine.score(archs[:4], COUNTER))
        for chunk in chunks:
            theirs = timed(lambda: [authors_way.score(SPACE.build(a, CLASSES), images, target, CLASSES) for a in chunk])  # noqa: B023
            for name, engine in (("same batch", ours), ("default settings", defaults)):
                ours_each = timed(lambda: [list(engine.score(chunk, COUNTER)) for _ in range(3)]) / 3  # noqa: B023
                ratios[name].append(theirs / ours_each)
            print(f"  {len(chunk)} candidates: {theirs / len(chunk) * 1e3:6.0f} ms each the published way", flush=True)
    for name, values in ratios.items():
        spread = f"{min(values):.1f} to {max(values):.1f}"
        print(f"times faster than the published way, {name:17}: median {statistics.median(values):.1f} ({spread})")


def overhead(archs: list[Architecture], same: ScoringContext) -> None:
    """One thread: everything a score takes (building, initialising, running, comparing) over the bare forward pass of that network."""
    torch.set_num_threads(1)
    images = same.batches[0].images
    best, plain = [], []
    for arch in archs:
        score_one(same, arch, COUNTER(arch))
        model = SPACE.build(arch, CLASSES).to(memory_format=torch.channels_last)
        with torch.inference_mode(), batch_statistics(model):
            model(images)
            bare = min(timed(lambda: model(images)) for _ in range(3))  # noqa: B023
            score = min(timed(lambda: score_one(same, arch, COUNTER(arch))) for _ in range(3))  # noqa: B023
        ordinary = SPACE.build(arch, CLASSES).train()
        with torch.no_grad():
            usual = min(timed(lambda: ordinary(images.contiguous())) for _ in range(3))  # noqa: B023
        best.append(score / bare)
        plain.append(score / usual)
    spread = f"{min(best):.2f} to {max(best):.2f}"
    print(f"a score over the bare forward pass in the same memory layout: median {statistics.median(best):.2f} ({spread})")
    print(f"a score over the forward pass as one usually writes it (NCHW): median {statistics.median(plain):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=64)
    archs = candidates(parser.parse_args().candidates)
    same, default = make_context(BATCH, 1), make_context(DEFAULT.batch_size, DEFAULT.seeds)
    print(
        f"{len(archs)} networks of NAS-Bench-201, teacher resnet56, batch {BATCH}; defaults: {DEFAULT.seeds} x {DEFAULT.batch_size} images"
    )
    throughput(archs, same, default)
    overhead(archs[:20], same)


if __name__ == "__main__":
    main()
