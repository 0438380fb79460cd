"""A table of the runs NAME-SEED in a folder: accuracy after the last epoch, mean and standard deviation over the seeds.

python scripts/summarise_distill.py runs/cifar10_short
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from pathlib import Path

from scipy import stats


def last_accuracies(folder: Path) -> dict[str, list[float]]:
    """By name, in the order of the seeds; runs that are not at their end are left out."""
    found: dict[str, list[float]] = {}
    for run in sorted(folder.iterdir()):
        if (run / "student").is_dir():
            name = run.name.rpartition("-")[0]
            line = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
            found.setdefault(name, []).append(line["test_top1"])
    return found


def main() -> None:
    found = last_accuracies(Path(sys.argv[1]))
    plain = found.get("none")
    print("| loss | seeds | top-1 | over none, seed by seed |\n|---|---|---|---|")
    for name, values in sorted(found.items(), key=lambda item: -statistics.fmean(item[1])):
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        print(f"| {name} | {len(values)} | {statistics.fmean(values):.2f}{spread} | {_over(values, plain) if name != 'none' else ''} |")


def _over(values: list[float], plain: list[float] | None) -> str:
    """Mean difference with its 95 % interval (Student's t)."""
    if plain is None or len(plain) != len(values):
        return ""
    differences = [a - b for a, b in zip(values, plain, strict=True)]
    if len(differences) < 2:
        return f"{differences[0]:+.2f}"
    width = stats.t.ppf(0.975, len(differences) - 1) * statistics.stdev(differences) / math.sqrt(len(differences))
    return f"{statistics.fmean(differences):+.2f} ± {width:.2f}"


if __name__ == "__main__":
    main()
