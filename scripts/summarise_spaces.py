"""One table over many studies: how the rankings do in every space.

    python scripts/summarise_spaces.py "NB201 C100, even=runs/nb201_even:cifar100" "Macro, odd=runs/macro_odd" ...

Each argument is a heading, a finished study, and after a colon the data set where it has several. Prints, as Markdown, a table for each
statistic: a row for a ranking, a column for a study, then the worst and the mean over the studies.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

STATISTICS = {
    "spearman": "Spearman's ρ",
    "kendall": "Kendall's τ",
    "given_params": "partial ρ given parameters",
    "given_flops": "partial ρ given FLOPs",
    "regret": "accuracy lost within a FLOPs budget, mean over ten budgets (points)",
    "searches": "accuracy lost by simulated searches, mean over ten budgets (points)",
}
LOWER_IS_BETTER = {"regret", "searches"}


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a study's table by ranking; nothing where it has no such table."""
    if not path.exists():
        return {}
    return {row["ranking"]: row for row in json.loads(path.read_text())["rows"]}


def read_study(argument: str) -> tuple[str, dict[str, dict[str, float]]]:
    """The heading of a study, and by statistic the value of each ranking."""
    heading, _, where = argument.rpartition("=")
    folder, _, dataset = where.partition(":")
    report = Path(folder) / "report"
    dataset = dataset or next(path.name for path in sorted(report.glob("*_correlations.json"))).removesuffix("_correlations.json")
    correlations = rows_of(report / f"{dataset}_correlations.json")
    searched = rows_of(report / f"{dataset}_searches.json")
    found = {key: {name: value_of(row.get(key)) for name, row in correlations.items()} for key in STATISTICS if key != "searches"}
    return heading, found | {"searches": {name: value_of(row["mean"]) for name, row in searched.items()}}


def value_of(cell: Any) -> float:
    """A cell's number; NaN for an empty one."""
    value = cell["value"] if isinstance(cell, dict) else cell
    return math.nan if value is None else float(value)


def table(statistic: str, studies: list[tuple[str, dict[str, dict[str, float]]]], rankings: list[str]) -> str:
    """A statistic of every ranking in every study."""
    worst, digits = (max, 2) if statistic in LOWER_IS_BETTER else (min, 2)
    lines = [
        f"**{STATISTICS[statistic]}**\n",
        "| | " + " | ".join(heading for heading, _ in studies) + " | worst | mean |",
        "|---" * (len(studies) + 3) + "|",
    ]
    for ranking in rankings:
        values = [found[statistic].get(ranking, math.nan) for _, found in studies]
        known = [value for value in values if not math.isnan(value)]
        if not known:
            continue
        cells = ["" if math.isnan(value) else f"{value:.{digits}f}" for value in [*values, worst(known), sum(known) / len(known)]]
        lines.append(f"| `{ranking}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", metavar="HEADING=RUN[:DATASET]")
    parser.add_argument("--rankings", help="which, in this order, separated by commas [all of the first study]")
    args = parser.parse_args()
    studies = [read_study(argument) for argument in args.studies]
    rankings = args.rankings.split(",") if args.rankings else list(studies[0][1]["spearman"])
    for statistic in STATISTICS:
        if any(found[statistic] for _, found in studies):
            print(table(statistic, studies, rankings))


if __name__ == "__main__":
    main()
