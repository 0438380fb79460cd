"""How the parts of the default ranking were chosen: across spaces, each left out in turn, on even rows alone.

    python scripts/choose_ranking.py runs/nasbench201:cifar100 runs/nasbench_macro runs/channel_bench runs/students ...

Each argument is a finished study, with the data set after a colon where its table has several. Sums of log-ranks of up to --most parts are
tried by a beam search; the worst space counts, the mean where two are equal. Prints the best sums of each size; then, for each space, what
the best sum of the other spaces is worth in it; and what each part of the chosen one adds in each space.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from scipy.stats import rankdata

from diswot.architecture import canonical_json
from diswot.benchmarks import read_benchmark
from diswot.space import load_space

BEAM = 80  # sums that are kept at each size


@dataclass(frozen=True)
class Space:
    """The even rows of a table: log-ranks (parts, n) of every part, and the standardised ranks (n,) of the accuracies."""

    name: str
    log_ranks: dict[str, np.ndarray]
    truth: np.ndarray

    def correlation(self, parts: Sequence[str]) -> float:
        """Spearman's correlation of a sum of parts with the accuracies; 0 for a sum that is constant."""
        fitness = standardised(rankdata(sum(self.log_ranks[part] for part in parts)))
        return float(fitness @ self.truth / len(self.truth))


def standardised(values: np.ndarray) -> np.ndarray:
    """Values with mean 0 and deviation 1; zeros for constant ones."""
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros(len(values))


def read_space(argument: str) -> Space:
    """The networks of a study that stand in an even row of its table; accuracies of equal networks are averaged."""
    folder, _, dataset = argument.partition(":")
    config = yaml.safe_load(Path(folder, "config.yaml").read_text())
    benchmark = read_benchmark(config["table"], config["space"], config["arch_column"], config["accuracy_column"])
    space = load_space(benchmark.space)
    accuracy = benchmark.accuracy(dataset or config["dataset"] or benchmark.dataset_names()[0], config["split"])
    known: dict[str, list[float]] = {}
    for row in range(0, len(benchmark), 2):
        known.setdefault(canonical_json(space.canonical(benchmark.archs[row]).choices), []).append(accuracy[row])
    lines = [json.loads(line) for line in Path(folder, "scores.jsonl").read_text().splitlines()]
    lines = [line for line in lines if canonical_json(line["choices"]) in known]
    truth = np.array([np.nanmean(known[canonical_json(line["choices"])]) for line in lines])
    names = sorted({name for line in lines for name in line["scores"]})
    scores = {name: np.array([np.mean(line["scores"].get(name, [-np.inf])) for line in lines]) for name in names}
    log_ranks = {name: np.log(rankdata(values) / len(lines)) for name, values in scores.items()}
    return Space(Path(folder).name, log_ranks, standardised(rankdata(truth)))


def worth(spaces: Sequence[Space], parts: Sequence[str]) -> tuple[float, float]:
    """The correlation in the worst space, then the mean."""
    found = [space.correlation(parts) for space in spaces]
    return round(min(found), 3), float(np.mean(found))


def beam(spaces: Sequence[Space], names: Sequence[str], most: int) -> list[tuple[str, ...]]:
    """The best sum of each size; a part may stand in it twice."""
    kept: list[tuple[str, ...]] = [()]
    best = []
    for _ in range(most):
        grown = {tuple(sorted((*parts, name))) for parts in kept for name in names if parts.count(name) < 2}
        kept = sorted(grown, key=lambda parts: worth(spaces, parts), reverse=True)[:BEAM]
        best.append(kept[0])
    return best


def row(spaces: Sequence[Space], parts: Sequence[str], note: str) -> None:
    """Print the correlations of a sum in every space."""
    figures = "  ".join(f"{space.correlation(parts):6.3f}" for space in spaces)
    print(f"{note:24} {figures}   {' + '.join(parts)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", metavar="RUN[:DATASET]")
    parser.add_argument("--parts", help="the proxies to choose from, separated by commas [all that every study has]")
    parser.add_argument("--most", type=int, default=6, help="parts of a sum [6]")
    args = parser.parse_args()
    spaces = [read_space(argument) for argument in args.studies]
    shared = sorted(set.intersection(*(set(space.log_ranks) for space in spaces)))
    names = args.parts.split(",") if args.parts else shared
    print(
        f"{'':24} "
        + "  ".join(f"{space.name[:6]:>6}" for space in spaces)
        + f"   ({', '.join(str(len(s.truth)) for s in spaces)} networks)"
    )
    for name in sorted(names, key=lambda name: worth(spaces, [name]), reverse=True):
        row(spaces, [name], "alone")
    best = beam(spaces, names, args.most)
    for parts in best:
        row(spaces, parts, f"best of {len(parts)}")
    for left_out in spaces:
        others = [space for space in spaces if space is not left_out]
        for parts in beam(others, names, args.most)[2:]:
            row(spaces, parts, f"without {left_out.name[:12]}, {len(parts)}")
    chosen = max(best, key=lambda parts: worth(spaces, parts))
    for name in sorted(set(chosen)):
        row(spaces, [part for part in chosen if part != name], f"- {name}")


if __name__ == "__main__":
    main()
