"""The tables of docs/results/studies.md, from the runs that scripts/reproduce_nasbench201.sh leaves.

    python scripts/summarise_studies.py runs [--table nasbench201.csv.gz]

Prints Markdown; what a run that is missing would have filled is left out.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nasbench201_table
import numpy as np

from diswot.proxies import RANKINGS
from diswot.proxies.combine import combine
from diswot.space import load_space
from diswot.statistics.correlation import budgets_between, regret, spearman

DATA = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet16_120": "ImageNet16-120"}
# Spearman on CIFAR-10, CIFAR-100, ImageNet16-120 as AZ-NAS (Lee & Ham, CVPR 2024) and VKDNW (Tybl & Neumann, CVPR 2025) print them
PUBLISHED = {
    "flops": (0.799, 0.763, 0.718),
    "grad_norm": (0.438, 0.451, 0.418),
    "snip": (0.591, 0.597, 0.521),
    "synflow": (0.758, 0.750, 0.719),
    "jacov": (0.800, 0.820, 0.779),
    "nwot": (0.762, 0.799, 0.794),
    "zico": (0.802, 0.809, 0.779),
    "az_nas": (0.892, 0.880, 0.859),
    "vkdnw": (0.815, 0.829, 0.814),
    "vkdnw_agg": (0.919, 0.919, 0.906),
    "zen": (0.103, 0.072, 0.109),
    "grasp": (0.505, 0.498, 0.502),
    "te_nas": (0.722, 0.723, 0.709),
}
RIVALS = ("diswot_nb201", "vkdnw_agg", "az_nas", "vkdnw", "flops")
TEACHERS = ("resnet20", "resnet56", "resnet110", "wrn-40-2", "trained")
INITIALISATIONS = ("kaiming", "torch", "orthogonal", "gaussian")
ROWS = {
    "plus": "all 15,625",
    "plus_odd": "odd 7,812",
    "plus_unseen": "unseen 2,159",
    "plus_distinct": "one for each of 4,930 functions",
    "plus_published": "724 with published scores",
}


class Runs:
    """A folder of finished studies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def rows(self, run: str, table: str, dataset: str) -> dict[str, dict[str, Any]]:
        """By ranking; nothing where there is no such table."""
        path = self.folder / run / "report" / f"{dataset}_{table}.json"
        if not path.exists():
            return {}
        return {row["ranking"]: row for row in json.loads(path.read_text())["rows"]}

    def correlations(self, run: str) -> dict[str, dict[str, dict[str, Any]]]:
        """By ranking, then by data set."""
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for dataset in DATA:
            for ranking, row in self.rows(run, "correlations", dataset).items():
                found.setdefault(ranking, {})[dataset] = row
        return found


def line(*cells: object) -> None:
    print("|", " | ".join(map(str, cells)), "|")


def head(*cells: str) -> None:
    print()
    line(*cells)
    line(*("---" for _ in cells))


def short(value: float | None, digits: int = 3) -> str:
    """Correlations without the zero before the point, as papers print them; what is undefined as `-`."""
    if value is None:
        return "-"
    text = f"{value:.{digits}f}"
    return re.sub(r"^(-?)0\.", r"\1.", text) if digits == 3 else text


def three(rows: dict[str, dict[str, Any]], key: str, digits: int = 3) -> str:
    """One figure on each of the three data sets."""
    return " / ".join(short(rows[dataset][key]["value"], digits) for dataset in DATA)


def interval(cell: dict[str, Any], digits: int = 3) -> str:
    return f"[{short(cell['low'], digits)}, {short(cell['high'], digits)}]"


def main_table(runs: Runs) -> None:
    head("rows", "data set", "`diswot_nb201` ρ", "τ", "partial", "regret", "FLOPs ρ", "FLOPs regret")
    for run, named in ROWS.items():
        found = runs.correlations(run) if run != "plus_published" else {}
        for dataset, title in DATA.items() if found else ():
            ours, flops = found["diswot_nb201"][dataset], found["flops"][dataset]
            rho, tau = ours["spearman"], ours["kendall"]
            line(
                named if dataset == "cifar10" else "",
                title,
                f"**{short(rho['value'])}** ± {short(rho['spread'])} {interval(rho)}",
                f"{short(tau['value'])} {interval(tau)}",
                short(ours["given_flops"]["value"]),
                f"{short(ours['regret']['value'], 2)} {interval(ours['regret'], 2)}",
                short(flops["spearman"]["value"]),
                short(flops["regret"]["value"], 2),
            )


def search_table(runs: Runs) -> None:
    """Regret, mean over ten budgets: of searches, with the deviation over them, and of the whole table ranked."""
    head("pick by", *DATA.values())
    found: dict[str, dict[str, str]] = {}
    for run in ("plus", "rivals"):
        for dataset in DATA:
            searched, whole = runs.rows(run, "searches", dataset), runs.rows(run, "regret", dataset)
            for ranking, row in whole.items():
                mean = searched[ranking]["mean"] if ranking in searched else None
                best = f"{short(mean['value'], 2)} ± {short(mean['spread'], 2)}" if mean else "-"
                found.setdefault(ranking, {}).setdefault(dataset, f"{best} / {short(row['mean']['value'], 2)}")
    for ranking, cells in found.items():
        line(f"`{ranking}`", *(cells.get(dataset, "") for dataset in DATA))


def rankings(runs: Runs, names: Sequence[str], only: Sequence[str] | None = None) -> None:
    """Correlations of some runs, side by side."""
    found: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    for run in names:
        found.setdefault(_named(run), {}).update(runs.correlations(run))
    head("", "ranking", "ρ", "τ", "partial given FLOPs", "mean regret")
    for named, by_ranking in found.items():
        best_first = sorted(by_ranking.items(), key=lambda item: -item[1]["cifar10"]["spearman"]["value"])
        for ranking, rows in best_first:
            if only is None or ranking in only:
                figures = three(rows, "spearman"), three(rows, "kendall"), three(rows, "given_flops"), three(rows, "regret", 2)
                line(named, f"`{ranking}`", *figures)


def _named(run: str) -> str:
    """What a run is of, for a reader who has not seen the folder."""
    kind, _, rest = run.partition("_")
    return ROWS.get("_".join(["plus", rest]) if rest else "plus", rest) if kind in ("plus", "rivals") else rest or run


def published(runs: Runs) -> None:
    head("proxy", "here, 724 rows (CIFAR-10 with its interval)", "published", "difference on CIFAR-10")
    found = {**runs.correlations("slow"), **runs.correlations("literature"), **runs.correlations("rivals_published")}
    for ranking, figures in PUBLISHED.items():
        if ranking in found:
            rho = found[ranking]["cifar10"]["spearman"]
            theirs = " / ".join(map(short, figures))
            line(f"`{ranking}`", f"{three(found[ranking], 'spearman')} {interval(rho)}", theirs, f"{rho['value'] - figures[0]:+.3f}")


def leave_one_out(runs: Runs, table: Path) -> None:
    """What each part of `diswot_nb201` contributes: over all rows, Spearman and the mean regret over ten FLOPs budgets."""
    journal = runs.folder / "parts" / "scores.jsonl"
    if not journal.exists():
        return
    archs, columns = nasbench201_table.read(table)
    space, ranking = load_space("nasbench201"), RANKINGS["diswot_nb201"]
    forms = [space.canonical(arch).choices for arch in archs]
    scores = {entry["choices"]: entry["scores"] for entry in map(json.loads, journal.read_text().splitlines())}
    known = np.array([[np.mean(scores[form].get(part, [-np.inf])) for part in ranking.parts] for form in forms])
    head("left out", "ρ", "mean regret")
    for left, kept in _without_each(ranking.parts):
        weights = [ranking.weighted[ranking.parts[index]] for index in kept]
        fitness = combine(known[:, kept], ranking.combine, weights)
        line(left, *_figures([fitness] * 3, columns))


def _without_each(parts: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    yield "nothing", list(range(len(parts)))
    for place, part in enumerate(parts):
        yield f"`{part}`", [index for index in range(len(parts)) if index != place]


def trained(table: Path) -> None:
    """What orders by training reach: how far any ranking could come."""
    columns = nasbench201_table.read(table)[1]
    head("order by", "ρ", "mean regret")
    for named, suffix in (("validation accuracy after 12 epochs", "valid_acc_12ep"), ("validation accuracy after 200 epochs", "valid_acc")):
        line(named, *_figures([columns[f"{dataset}_{suffix}"] for dataset in DATA], columns))
    for dataset, title in list(DATA.items())[:2]:
        line(f"test accuracy on {title} after 200 epochs", *_figures([columns[f"{dataset}_test_acc"]] * 3, columns))


def _figures(orders: Sequence[np.ndarray], columns: dict[str, np.ndarray]) -> tuple[str, str]:
    """Of one order for each data set."""
    rhos, lost = [], []
    for fitness, dataset in zip(orders, DATA, strict=True):
        accuracy, flops = columns[f"{dataset}_test_acc"], columns[f"{dataset}_flops_m"]
        rhos.append(short(spearman(fitness, accuracy)))
        lost.append(f"{np.mean(regret(fitness, accuracy, flops, budgets_between(flops, 10))):.2f}")
    return " / ".join(rhos), " / ".join(lost)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--table", type=Path, default=nasbench201_table.DEFAULT)
    args = parser.parse_args()
    runs = Runs(args.runs)
    main_table(runs)
    search_table(runs)
    trained(args.table)
    leave_one_out(runs, args.table)
    rankings(runs, ["plus", "plus_odd", "plus_unseen", "plus_distinct"], ["diswot_nb201", "diswot_nb201_blind", "diswot"])
    rankings(runs, ["plus", "rivals", "plus_distinct", "rivals_distinct", "plus_published", "rivals_published"], RIVALS)
    rankings(runs, [f"teacher_{name}" for name in TEACHERS], ["diswot_nb201", "relation_stem_grad", "diswot"])
    rankings(runs, [f"init_{name}" for name in INITIALISATIONS], ["diswot_nb201", "relation_stem_grad", "diswot", "diswot_code"])
    rankings(runs, ["metrics"])
    rankings(runs, ["teacher_resnet56", "rivals_drawn", "rivals_noise"], RIVALS)
    published(runs)


if __name__ == "__main__":
    main()
