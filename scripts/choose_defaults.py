"""How the default proxy settings were chosen: rank correlations on architectures of NAS-Bench-201 with an even index, nothing else.

    python scripts/choose_defaults.py [--rows 300] [--table nasbench201.csv.gz]

Prints one line for each setting: Spearman's correlation with the CIFAR-100 test accuracy, and the partial one given the FLOPs.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import nasbench201_table
import numpy as np
import torch
from scipy.stats import spearmanr

from diswot.budget import CostCounter
from diswot.config.scoring import ScoreConfig
from diswot.proxies.combine import combine
from diswot.scoring.engine import Engine
from diswot.scoring.recipe import prepare_scoring
from diswot.space import load_space
from diswot.statistics.correlation import partial_spearman

PROXIES = "semantic_profile,semantic_outer,semantic_cam,semantic_cam_rows,relation,relation_frobenius"
PAIRS = [
    ("semantic_profile", "relation", "rank"),
    ("semantic_profile", "relation", "sum"),
    ("semantic_outer", "relation", "rank"),
    ("semantic_outer", "relation", "sum"),
    ("semantic_cam_rows", "relation", "rank"),
    ("semantic_cam", "relation_frobenius", "sum"),
]
SETTINGS = [  # data, initialisation, batch, seeds
    ("synthetic", "kaiming", 64, 1),
    ("synthetic", "kaiming", 32, 2),
    ("synthetic", "kaiming", 16, 2),
    ("synthetic", "kaiming", 8, 4),
    ("synthetic", "kaiming", 4, 1),
    ("synthetic", "kaiming", 4, 2),
    ("synthetic", "kaiming", 4, 4),
    ("synthetic", "kaiming", 4, 8),
    ("synthetic", "kaiming", 2, 8),
    ("synthetic", "gaussian", 8, 4),
    ("synthetic", "orthogonal", 8, 4),
    ("synthetic", "torch", 4, 4),
    ("noise", "kaiming", 8, 4),
    ("noise", "gaussian", 8, 4),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--table", type=Path, default=nasbench201_table.DEFAULT)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    archs, columns = nasbench201_table.read(args.table)
    rows = np.sort(np.random.default_rng(1).choice(np.arange(0, len(archs), 2), args.rows, replace=False))
    accuracy, flops = columns["cifar100_test_acc"][rows], columns["cifar100_flops_m"][rows]
    print(f"{args.rows} even rows; FLOPs {spearmanr(flops, accuracy).statistic:.3f}")
    for data, init, batch, seeds in SETTINGS:
        config = ScoreConfig(proxy=PROXIES, data=data, init=init, batch_size=batch, seeds=seeds)  # type: ignore[arg-type]
        _, context = prepare_scoring(config, "cpu", load_space("nasbench201"))
        start = time.perf_counter()
        with Engine(context, args.workers) as engine:
            scored = list(engine.score([archs[i] for i in rows], CostCounter(load_space("nasbench201"), context.spec)))
        seconds = time.perf_counter() - start
        print(f"\n{data}, {init}, {seeds} x {batch} images ({seconds:.0f} s, {torch.__version__})")
        means = {name: np.array([np.mean(s.scores[name]) for s in scored]) for name in context.proxies}
        for name, values in means.items():
            print(f"  {name:40} {spearmanr(values, accuracy).statistic:6.3f}  {partial_spearman(values, accuracy, flops):6.3f}")
        for semantic, relation, how in PAIRS:
            values = combine(np.stack([means[semantic], means[relation]], 1), how)
            label = f"{how} of {semantic}, {relation}"
            print(
                f"  {label:60} {spearmanr(values, accuracy).statistic:6.3f}  {partial_spearman(values, accuracy, flops):6.3f}", flush=True
            )


if __name__ == "__main__":
    main()
