"""The rank correlations of the default settings of `--proxy diswot` over the whole table of NAS-Bench-201, beside parameters and FLOPs.

    python scripts/correlate_nasbench201.py [--authors 300]

Every different network is scored once (4,930 of 15,625). Even rows are those the defaults were chosen on, odd rows are new (those whose
network is that of an even row are left out of the second odd line). Intervals are 95 % bootstrap intervals over the rows.
With --authors N the published way is run on N random even rows too, and our default on the same ones.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import authors_way
import nasbench201_table
import numpy as np
import torch
from scipy.stats import rankdata, spearmanr

from diswot.budget import CostCounter
from diswot.config.scoring import ScoreConfig
from diswot.scoring.engine import Engine
from diswot.scoring.recipe import fitness_of, prepare_scoring
from diswot.space import load_space
from diswot.statistics.bootstrap import bootstrap_interval
from diswot.statistics.correlation import partial_spearman

SPACE = load_space("nasbench201")
DATASETS = ("cifar10", "cifar100", "imagenet16_120")


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])


def report(name: str, values: np.ndarray, rows: np.ndarray, columns: dict[str, np.ndarray], data: str) -> None:
    accuracy, flops, params = (columns[f"{data}_{c}"][rows] for c in ("test_acc", "flops_m", "params_m"))
    low, high = bootstrap_interval(spearman, values[rows], accuracy, rng=np.random.default_rng(0), repeats=300)
    partial = partial_spearman(values[rows], accuracy, flops), partial_spearman(values[rows], accuracy, params)
    given = "     -       -" if name in ("flops", "params") else f"{partial[0]:6.3f}  {partial[1]:6.3f}"
    print(f"  {name:22} {spearman(values[rows], accuracy):6.3f}  [{low:.3f}, {high:.3f}]  {given}", flush=True)


def authors(count: int, archs: list, context, columns: dict, fitness: np.ndarray) -> None:  # type: ignore[no-untyped-def, type-arg]
    rows = np.sort(np.random.default_rng(2).choice(np.arange(0, len(archs), 2), count, replace=False))
    _, wide = prepare_scoring(ScoreConfig(batch_size=64, seeds=1, proxy="diswot"), "cpu", SPACE)
    images, target = wide.batches[0].images.contiguous(), wide.batches[0].target
    torch.manual_seed(0)
    scores = np.array([authors_way.score(SPACE.build(archs[i], 100), images, target, 100) for i in rows])
    accuracy = columns["cifar100_test_acc"][rows]
    print(f"\nCIFAR-100, {count} random even rows: the published way {spearmanr(scores, accuracy).statistic:.3f}", end="")
    print(f", our default on the same rows {spearmanr(fitness[rows], accuracy).statistic:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=nasbench201_table.DEFAULT)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--authors", type=int, default=0, metavar="N")
    args = parser.parse_args()
    archs, columns = nasbench201_table.read(args.table)
    forms = [SPACE.canonical(arch) for arch in archs]
    unique = list(dict.fromkeys(forms))
    ranking, context = prepare_scoring(ScoreConfig(seed=args.seed, proxy="diswot"), "cpu", SPACE)
    start = time.perf_counter()
    with Engine(context, args.workers) as engine:
        found = dict(zip(unique, engine.score(unique, CostCounter(SPACE, context.spec)), strict=True))
    print(f"{len(unique):,} different networks scored in {time.perf_counter() - start:.0f} s, seed {args.seed}", flush=True)
    scores = [found[form].scores for form in forms]
    fitness = fitness_of(ranking, scores)
    even, odd = np.arange(0, len(archs), 2), np.arange(1, len(archs), 2)
    known = {forms[i] for i in even}
    unseen = np.array([i for i in odd if forms[i] not in known])
    for data in DATASETS:
        for label, rows in (("even", even), ("odd", odd), ("odd, networks not among the even", unseen)):
            print(f"\n{data}, {label} rows ({len(rows):,}): Spearman, 95 % interval, partial given FLOPs, given parameters")
            columns_of = {name: np.array([np.mean(s[name]) for s in scores]) for name in ranking.parts}
            baselines = {"params": columns[f"{data}_params_m"], "flops": columns[f"{data}_flops_m"]}
            for name, values in {"diswot": fitness, **columns_of, **baselines}.items():
                report(name, values, rows, columns, data)
    if args.authors:
        authors(args.authors, archs, context, columns, fitness)


if __name__ == "__main__":
    main()
