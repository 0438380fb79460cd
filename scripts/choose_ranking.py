"""How the parts and weights of the default ranking were chosen: across spaces, each left out in turn, on the rows of the studies alone.

    python scripts/choose_ranking.py runs/nasbench201:cifar100=.925 runs/nasbench_macro=.90 runs/channel_bench=.88 runs/students_s1=.77 ...

Each argument is a finished study of all parts (configs/study/spaces.yaml), after a colon the data set where its table has several, and
after `=` the rank correlation that is aimed at there. Weights are chosen by coordinate ascent from several starts, so that the correlation
that falls shortest of its aim falls as little short as it can; the mean shortfall counts half as much, and a part costs .008. Prints every
part alone, the best weights, the best weights without each space and what they are worth there, and what `diswot+` is without each of its
parts, and with each of the others.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from scipy.stats import rankdata

from diswot.architecture import canonical_json
from diswot.benchmarks import read_benchmark
from diswot.config import StudyConfig
from diswot.proxies import RANKINGS
from diswot.space import load_space
from diswot.studies.recipe import choose_rows

PARTS = (
    "effective_params,entropy_layers,entropy_stages,diversity_stages,direction_entropy_first,direction_entropy,isometry,zen,swap,nwot,"
    "jacov,trainability,neg_jacobian_log_norm,relation,relation_stem_grad,az_expressivity,effective_flops,synflow"
)
WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
START = {"effective_params": 1.0, "entropy_layers": 1.0}
PRICE = 0.008  # of a part


@dataclass(frozen=True)
class Space:
    """The networks of a table that a choice is made on.

    Attributes:
        name: the study's folder.
        log_ranks: (n,) by part.
        truth: (n,) standardised ranks of the accuracies.
        aim: the rank correlation that is aimed at.
    """

    name: str
    log_ranks: dict[str, np.ndarray]
    truth: np.ndarray
    aim: float

    def correlation(self, weights: Mapping[str, float]) -> float:
        """Spearman's correlation of a weighted sum of log-ranks with the accuracies; 0 for a sum that is constant."""
        total = np.zeros(len(self.truth)) + sum(weight * self.log_ranks[part] for part, weight in weights.items())
        return float(standardised(rankdata(total)) @ self.truth / len(self.truth))


def standardised(values: np.ndarray) -> np.ndarray:
    """Values with mean 0 and deviation 1; zeros for constant ones."""
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros(len(values))


def read_space(argument: str) -> Space:
    """The networks of a study; accuracies of equal networks are averaged over the rows that the study is of."""
    where, _, aim = argument.partition("=")
    folder, _, dataset = where.partition(":")
    config = yaml.safe_load(Path(folder, "config.yaml").read_text())
    benchmark = read_benchmark(config["table"], config["space"], config["arch_column"], config["accuracy_column"])
    space = load_space(benchmark.space)
    accuracy = benchmark.accuracy(dataset or config["dataset"] or benchmark.dataset_names()[0], config["split"])
    known: dict[str, list[float]] = {}
    forms = [space.canonical(arch) for arch in benchmark.archs]
    for row in choose_rows(StudyConfig(rows=config["rows"]), forms):
        known.setdefault(canonical_json(forms[row].choices), []).append(accuracy[row])
    lines = [json.loads(line) for line in Path(folder, "scores.jsonl").read_text().splitlines()]
    lines = [line for line in lines if canonical_json(line["choices"]) in known]
    truth = np.array([np.nanmean(known[canonical_json(line["choices"])]) for line in lines])
    names = sorted({name for line in lines for name in line["scores"]})
    scores = {name: np.array([np.mean(line["scores"].get(name, [-np.inf])) for line in lines]) for name in names}
    log_ranks = {name: np.log(rankdata(values) / len(lines)) for name, values in scores.items()}
    return Space(Path(folder).name, log_ranks, standardised(rankdata(truth)), float(aim or 0.9))


def worth(spaces: Sequence[Space], weights: Mapping[str, float]) -> float:
    """Minus the largest shortfall and half the mean one, and the price of the parts."""
    short = np.array([max(space.aim - space.correlation(weights), -0.02) for space in spaces])
    return float(-short.max() - short.mean() / 2 - PRICE * len(weights))


def ascend(spaces: Sequence[Space], parts: Sequence[str], seed: int) -> dict[str, float]:
    """Change one weight, or exchange two parts, as long as that helps."""
    rng = np.random.default_rng(seed)
    start = {part: START.get(part, 0.0) + (rng.choice([0, 0, 0, 1]) if seed else 0) for part in parts}
    weights = {part: weight for part, weight in start.items() if weight}
    best, before = worth(spaces, weights), -np.inf
    while best > before:
        before = best
        order = [str(part) for part in rng.permutation(parts)]
        moves = [(part, None, weight) for part in order for weight in WEIGHTS] + [(one, other, 0.0) for one in order for other in order]
        for part, other, weight in moves:
            changed = move(weights, part, other, weight)
            if changed and (value := worth(spaces, changed)) > best + 1e-6:
                best, weights = value, changed
    return weights


def move(weights: Mapping[str, float], part: str, other: str | None, weight: float) -> dict[str, float]:
    """The weights with another weight of a part, or, where another part is named, with that one in its place; empty for no move."""
    changed = dict(weights)
    if other is None:
        changed[part] = weight
    elif part in changed and other not in changed:
        changed[other] = changed.pop(part)
    else:
        return {}
    return {name: value for name, value in changed.items() if value}


def choose(spaces: Sequence[Space], parts: Sequence[str], starts: int) -> dict[str, float]:
    """The best weights from several starts."""
    return max((ascend(spaces, parts, seed) for seed in range(starts)), key=lambda weights: worth(spaces, weights))


def row(spaces: Sequence[Space], weights: Mapping[str, float], note: str) -> None:
    """Print the correlations of a sum in every space."""
    figures = [space.correlation(weights) for space in spaces]
    formula = " + ".join(f"{weight:g} {part}" for part, weight in sorted(weights.items(), key=lambda item: -item[1]))
    print(f"{note:26} " + "  ".join(f"{figure:6.3f}" for figure in figures) + f"   {formula}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", metavar="RUN[:DATASET][=AIM]")
    parser.add_argument("--parts", default=PARTS, help="the proxies to choose from, separated by commas")
    parser.add_argument("--starts", type=int, default=5, help="starts of the ascent [5]")
    args = parser.parse_args()
    spaces, parts = [read_space(argument) for argument in args.studies], args.parts.split(",")
    print(f"{'':26} " + "  ".join(f"{space.name[:6]:>6}" for space in spaces))
    print(f"{'networks':26} " + "  ".join(f"{len(space.truth):6}" for space in spaces))
    for part in parts:
        row(spaces, {part: 1.0}, "alone")
    chosen = choose(spaces, parts, args.starts)
    row(spaces, chosen, "chosen")
    row(spaces, RANKINGS["diswot+"].weighted, "diswot+")
    for left_out in spaces:
        row(spaces, choose([space for space in spaces if space is not left_out], parts, args.starts), f"without {left_out.name[:17]}")
    default = RANKINGS["diswot+"].weighted
    for part in default:
        row(spaces, {name: weight for name, weight in default.items() if name != part}, f"- {part}")
    for part in (part for part in parts if part not in default):
        row(spaces, {**default, part: 0.5}, f"+ {part}")


if __name__ == "__main__":
    main()
