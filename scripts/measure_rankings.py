"""What a search says of its ranking: writes diswot/searching/measured.json from finished studies.

    python scripts/measure_rankings.py "runs/nasbench201:cifar100=NAS-Bench-201, CIFAR-100 test accuracy" "runs/students=..." ... \
        --chosen-on nasbench201,students

Each argument is a study's folder, with the data set after a colon where it has several, and after `=` what its accuracies are. The studies
named by --chosen-on have networks that `diswot+` and `diswot_fast` were chosen on. What was measured of other rankings or spaces stays.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
from pathlib import Path
from typing import Any

import yaml

from diswot.benchmarks import read_benchmark
from diswot.proxies import RANKINGS

TARGET = Path(__file__).resolve().parents[1] / "diswot" / "searching" / "measured.json"
CHOSEN_ACROSS_SPACES = ("diswot+", "diswot_fast")  # on the networks that --chosen-on names
BASELINES = ("params", "flops", "zico", "synflow", "nwot", "zen")


def rows_of(folder: Path, dataset: str, table: str) -> list[dict[str, Any]]:
    """The rows of one of a study's tables."""
    found: list[dict[str, Any]] = json.loads((folder / "report" / f"{dataset}_{table}.json").read_text())["rows"]
    return found


def estimate(cell: dict[str, Any]) -> list[float]:
    """A figure with the ends of its interval."""
    return [round(float(cell[key]), 3) for key in ("value", "low", "high")]


def bands_of(sizes: list[float], row: dict[str, Any]) -> list[dict[str, Any]]:
    """Spearman's correlation among networks of about equal FLOPs, by the ends of each band; none of a table with too few in a band."""
    ordered, keys = sorted(sizes), [key for key in row if key.startswith("band_")]
    if any(row[key] is None or row[key]["value"] is None or row[key]["low"] is None for key in keys):
        return []
    edges = [round(number * len(ordered) / len(keys)) for number in range(len(keys) + 1)]
    parts = [ordered[begin:end] for begin, end in itertools.pairwise(edges)]
    return [
        {"flops": [part[0], part[-1]], "networks": len(part), "spearman": estimate(row[key])} for part, key in zip(parts, keys, strict=True)
    ]


def measure(argument: str, chosen_on: set[str]) -> dict[str, dict[str, Any]]:
    """By ranking, what a study measured of it."""
    where, _, description = argument.partition("=")
    name, _, dataset = where.partition(":")
    folder = Path(name)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    space = read_benchmark(config["table"], config["space"], config["arch_column"], config["accuracy_column"]).space
    with open(folder / "report" / "scores.csv", newline="") as file:
        networks = list(csv.DictReader(file))
    sizes = {what: [float(network[what]) for network in networks] for what in ("params", "flops")}
    ranges = {what: [min(values), max(values)] for what, values in sizes.items()}
    dataset = dataset or next(path.name for path in (folder / "report").glob("*_bands.json")).removesuffix("_bands.json")
    banded = {row["ranking"]: row for row in rows_of(folder, dataset, "bands")}
    facts = {"space": space, "table": description, "networks": len(networks), **ranges, "chosen_on": folder.name in chosen_on}
    return {
        row["ranking"]: {**facts, "spearman": estimate(row["spearman"]), "bands": bands_of(sizes["flops"], banded[row["ranking"]])}
        for row in rows_of(folder, dataset, "correlations")
        if row["ranking"] in {*RANKINGS, *BASELINES}
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", metavar="RUN[:DATASET]=DESCRIPTION")
    parser.add_argument("--chosen-on", default="", help="folders of studies that the default ranking was chosen on, separated by commas")
    args = parser.parse_args()
    measured: dict[str, list[dict[str, Any]]] = json.loads(TARGET.read_text())["rankings"]
    rankings: dict[str, list[dict[str, Any]]] = {}
    for argument in args.studies:
        for name, record in measure(argument, set(args.chosen_on.split(","))).items():
            rankings.setdefault(name, []).append(record | {"chosen_on": record["chosen_on"] and name in CHOSEN_ACROSS_SPACES})
    for name, records in measured.items():
        fresh = {record["space"] for record in rankings.get(name, [])}
        rankings[name] = rankings.get(name, []) + [record for record in records if record["space"] not in fresh]
    TARGET.write_text(json.dumps({"rankings": rankings}, indent=1) + "\n")
    print(f"{TARGET}: {', '.join(rankings)}")


if __name__ == "__main__":
    main()
