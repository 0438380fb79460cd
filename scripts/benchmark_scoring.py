"""How long one score takes, side by side in one run: DisWOT in the published way, ours at its batch and at our settings, `diswot+`,
`diswot_fast`, and the bare forward pass.

    python scripts/benchmark_scoring.py [--candidates 40]

Prints ratios; absolute times are of the machine. Needs no data: the images are drawn. For each candidate all ways are timed one after
the other, so a machine whose speed drifts slows them all; the median over the candidates of each ratio is reported.
"""

from __future__ import annotations

import argparse
import contextlib
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
from diswot.data import ProxyBatch, load_data
from diswot.observe import batch_statistics
from diswot.proxies import resolve_ranking
from diswot.scoring.candidates import score_one
from diswot.scoring.context import ScoringContext, make_scoring_context
from diswot.scoring.engine import Engine
from diswot.space import ImageSpec, load_space

CLASSES, BATCH = 100, 64
SPACE = load_space("nasbench201")
COUNTER = CostCounter(SPACE, ImageSpec(CLASSES, 3, 32))


def make_context(proxy: str, batch_size: int | None = None, seeds: int | None = None) -> ScoringContext:
    """The context of a proxy; None: as many images and seeds as it asks for itself."""
    config = ScoreConfig(proxy=proxy, batch_size=batch_size, seeds=seeds, num_classes=CLASSES)
    return make_scoring_context(config, resolve_ranking(proxy), load_data("synthetic", num_classes=CLASSES))


def describe(name: str, context: ScoringContext) -> str:
    return f"{name}, {len(context.batches)} x {len(context.batches[0].images)} images"


def timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def candidates(count: int) -> list[Architecture]:
    rng = np.random.default_rng(0)
    drawn = (SPACE.canonical(SPACE.sample(rng)) for _ in itertools.count())
    return list(itertools.islice((arch for arch in drawn if "conv" in arch.choices), count))


def throughput(archs: list[Architecture], batch: ProxyBatch, contexts: dict[str, ScoringContext]) -> None:
    """Two cores: the published way with two threads, ours with two processes of one thread."""
    images, target = batch.images.contiguous(), batch.target
    ratios: dict[str, list[float]] = {name: [] for name in contexts}
    torch.set_num_threads(2)
    chunks = [archs[i : i + 16] for i in range(0, len(archs), 16)]
    with contextlib.ExitStack() as stack:
        engines = {name: stack.enter_context(Engine(context, 2)) for name, context in contexts.items()}
        for engine in engines.values():  # processes start, caches fill
            list(engine.score(archs[:4], COUNTER))
        for chunk in chunks:
            theirs = timed(lambda: [authors_way.score(SPACE.build(a, CLASSES), images, target, CLASSES) for a in chunk])  # noqa: B023
            for name, engine in engines.items():
                ours_each = timed(lambda: [list(engine.score(chunk, COUNTER)) for _ in range(3)]) / 3  # noqa: B023
                ratios[name].append(theirs / ours_each)
            print(f"  {len(chunk)} candidates: {theirs / len(chunk) * 1e3:6.0f} ms each the published way", flush=True)
    for name, values in ratios.items():
        spread = f"{min(values):.1f} to {max(values):.1f}"
        print(f"times faster than the published way, {name}: median {statistics.median(values):.1f} ({spread})")


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
    same = make_context("diswot", batch_size=BATCH, seeds=1)
    contexts = (("diswot", same), *((proxy, make_context(proxy)) for proxy in ("diswot", "diswot+", "diswot_fast")))
    print(f"{len(archs)} networks of NAS-Bench-201, teacher resnet56; the published way: 1 x {BATCH} images")
    throughput(archs, same.batches[0], {describe(name, context): context for name, context in contexts})
    overhead(archs[:20], same)


if __name__ == "__main__":
    main()
