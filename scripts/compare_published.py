"""Our scores beside those that NASLib published for some 724 architectures of NAS-Bench-201 (CIFAR-10).

    python scripts/compare_published.py --write published.csv [--table nasbench201.csv.gz]
    diswot study published.csv --config configs/study/literature.yaml --name literature
    python scripts/compare_published.py runs/literature

The published scores (published_proxy_scores.csv.gz, of automl/NASLib) are looked for beside the table. The first command writes the
table of the architectures that have them; the last prints, for each proxy on the rows in
common, the rank correlation of our score with the published one, and of each with the test accuracy.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from pathlib import Path

import nasbench201_table
import numpy as np
from scipy.stats import spearmanr


def published(table: Path) -> dict[str, dict[str, str]]:
    """By architecture, the rows of CIFAR-10."""
    with gzip.open(table.with_name("published_proxy_scores.csv.gz"), "rt") as file:
        return {row["arch_str"]: row for row in csv.DictReader(file) if row["dataset"].lower() == "cifar10"}


def write(path: Path, table: Path) -> None:
    archs, columns = nasbench201_table.read(table)
    known = published(table)
    names = [f"{data}_test_acc" for data in ("cifar10", "cifar100", "imagenet16_120")]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arch_str", *names])
        for row, arch in enumerate(archs):
            if arch.choices in known:
                writer.writerow([arch.choices, *(columns[name][row] for name in names)])


def compare(run: Path, table: Path) -> None:
    known = published(table)
    with open(run / "report" / "scores.csv", newline="") as file:
        ours = [row for row in csv.DictReader(file) if row["choices"] in known]
    accuracy = np.array([float(row["accuracy_cifar10"]) for row in ours])
    print(f"{len(ours)} architectures. Columns: ours with theirs, ours with the accuracy, theirs with the accuracy (Spearman)")
    for name in next(iter(known.values())):
        if f"fitness_{name}" in ours[0]:
            mine = np.array([float(row[f"fitness_{name}"]) for row in ours])
            theirs = np.array([float(known[row["choices"]][name] or "nan") for row in ours])
            fine = np.isfinite(theirs)
            pairs = ((mine[fine], theirs[fine]), (mine, accuracy), (theirs[fine], accuracy[fine]))
            print(f"  {name:12}", "  ".join(f"{spearmanr(a, b).statistic:6.3f}" for a, b in pairs), f"  ({fine.sum()})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--table", type=Path, default=nasbench201_table.DEFAULT)
    args = parser.parse_args()
    if args.write:
        write(args.write, args.table)
    if args.run:
        compare(args.run, args.table)


if __name__ == "__main__":
    main()
