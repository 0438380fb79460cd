"""How the parts and weights of `diswot_nb201` were chosen: on the even rows of CIFAR-100, nothing else.

    diswot study nasbench201.csv.gz --config configs/study/parts.yaml --name parts
    python scripts/choose_diswot_nb201.py runs/parts [--table nasbench201.csv.gz]

Reads the scores of the study's journal, tries combinations of parts with small whole weights (a beam search over sums of weighted
log-ranks), and prints the record: the parts alone, the best combination of each size, and what leaving each part out costs.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import nasbench201_table
import numpy as np
from scipy.stats import rankdata

from diswot.space import load_space
from diswot.statistics.correlation import budgets_between, partial_spearman, regret, spearman

SPACE = load_space("nasbench201")
WIDTH, LARGEST, MOST = 150, 14, 4  # combinations kept at each size, sum of weights, weight of one part
REGRET_POINT = 0.01  # of correlation that one point of mean regret is worth


class Rows:
    """The even rows: log-ranks of each part, CIFAR-100 accuracies, FLOPs."""

    def __init__(self, run: Path, table: Path) -> None:
        archs, columns = nasbench201_table.read(table)
        even = np.arange(0, len(archs), 2)
        forms = [SPACE.canonical(archs[row]).choices for row in even]
        lines = map(json.loads, (run / "scores.jsonl").read_text().splitlines())
        scores = {line["choices"]: line["scores"] for line in lines}
        self.names = sorted({name for one in scores.values() for name in one} - {"params", "flops"})
        self.accuracy, self.flops = columns["cifar100_test_acc"][even], columns["cifar100_flops_m"][even]
        self.budgets = budgets_between(self.flops, 10)
        self.logs = np.stack([self._log_rank([self._mean(scores[form].get(name)) for form in forms]) for name in self.names])
        self._truth = self._standard(rankdata(self.accuracy))

    @staticmethod
    def _mean(values: list[float] | None) -> float:
        return float(np.mean(values)) if values else float("-inf")  # failed: last

    @staticmethod
    def _log_rank(values: list[float]) -> np.ndarray:
        return np.log(rankdata(values) / len(values))

    @staticmethod
    def _standard(values: np.ndarray) -> np.ndarray:
        return (values - values.mean()) / values.std()

    def fitness(self, parts: tuple[int, ...]) -> np.ndarray:
        return self.logs[list(parts)].sum(0)

    def correlation(self, parts: tuple[int, ...]) -> float:
        return float(self._standard(rankdata(self.fitness(parts))) @ self._truth / len(self._truth))

    def regret(self, parts: tuple[int, ...]) -> float:
        return float(np.mean(regret(self.fitness(parts), self.accuracy, self.flops, self.budgets)))

    def worth(self, parts: tuple[int, ...]) -> float:
        return self.correlation(parts) - REGRET_POINT * self.regret(parts)

    def describe(self, parts: tuple[int, ...]) -> str:
        fitness = self.fitness(parts)
        top = self.accuracy >= np.quantile(self.accuracy, 0.9)
        weights = ", ".join(f"{self.names[part]} {weight}" for part, weight in sorted(Counter(parts).items(), key=lambda item: -item[1]))
        figures = (
            spearman(fitness, self.accuracy),
            partial_spearman(fitness, self.accuracy, self.flops),
            spearman(fitness[top], self.accuracy[top]),
        )
        return f"{'  '.join(f'{figure:6.3f}' for figure in figures)}  {self.regret(parts):5.2f}  {weights}"


def beam(rows: Rows) -> dict[int, tuple[int, ...]]:
    """The best combination of each sum of weights."""
    kept: list[tuple[int, ...]] = [()]
    best = {}
    for size in range(1, LARGEST + 1):
        grown = {tuple(sorted((*parts, part))) for parts in kept for part in range(len(rows.names)) if parts.count(part) < MOST}
        ordered = sorted(grown, key=lambda parts: -rows.correlation(parts))[: 2 * WIDTH]
        kept = sorted(ordered, key=lambda parts: -rows.worth(parts))[:WIDTH]
        best[size] = kept[0]
        print(f"{size:5}  {rows.describe(kept[0])}", flush=True)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--table", type=Path, default=nasbench201_table.DEFAULT)
    args = parser.parse_args()
    rows = Rows(args.run, args.table)
    print(
        f"{len(rows.accuracy):,} even rows, CIFAR-100. Columns: Spearman, partial given FLOPs, Spearman within the top tenth, mean regret"
    )
    print("\nparts alone")
    for part in sorted(range(len(rows.names)), key=lambda part: -rows.correlation((part,))):
        print(f"       {rows.describe((part,))}")
    print(f"\nthe best by Spearman - {REGRET_POINT} x regret, by the sum of weights")
    best = beam(rows)
    chosen = max(best.values(), key=rows.worth)
    print("\nthe best of these, each part left out in turn")
    for part in sorted(set(chosen)):
        print(f"  without {rows.names[part]:20} {rows.describe(tuple(p for p in chosen if p != part))}")


if __name__ == "__main__":
    main()
