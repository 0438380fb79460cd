"""A table of the runs NAME-SEED in a folder: accuracy after the last epoch, mean and standard deviation over the seeds.

python scripts/summarise_distill.py runs/cifar10_short
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from pathlib import Path

from diswot.cli.output import plus_minus
from diswot.distillation.compare import paired_difference


def last_accuracies(folder: Path) -> dict[str, dict[int, float]]:
    """By name and seed; runs that are not at their end are left out."""
    found: dict[str, dict[int, float]] = {}
    for run in sorted(folder.iterdir()):
        if (run / "student").is_dir():
            name, _, seed = run.name.rpartition("-")
            line = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
            found.setdefault(name, {})[int(seed)] = line["test_top1"]
    return found


def main() -> None:
    found = last_accuracies(Path(sys.argv[1]))
    plain = found.get("none", {})
    print("| loss | seeds | top-1 | over none, seed by seed |\n|---|---|---|---|")
    for name, runs in sorted(found.items(), key=lambda item: -statistics.fmean(item[1].values())):
        values = list(runs.values())
        spread = statistics.stdev(values) if len(values) > 1 else math.nan
        both = sorted(runs.keys() & plain.keys()) if name != "none" else []
        over = plus_minus(*paired_difference([runs[seed] for seed in both], [plain[seed] for seed in both]), sign="+") if both else ""
        print(f"| {name} | {len(values)} | {plus_minus(statistics.fmean(values), spread)} | {over} |")


if __name__ == "__main__":
    main()
