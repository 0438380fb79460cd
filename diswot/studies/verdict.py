"""What a study comes to: a verdict in words, and the network that each ranking would pick within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from diswot.architecture import choices_text
from diswot.report.tables import Column, Table
from diswot.statistics.bootstrap import Estimate
from diswot.studies.study import BASELINES

if TYPE_CHECKING:
    from diswot.studies.dataset_report import DatasetReport
    from diswot.studies.study import Study

_BUDGETS = 3  # of the report's, at even distances, for which picks are listed
_MOST_RANKINGS = 8  # the best, whose picks are listed, besides the baselines


def verdict(study: Study, report: DatasetReport) -> str:
    """A study of one data set in a few sentences: which ranking is best, whether it beats counting, and what its pick loses."""
    spearman = {name: found["Spearman"] for name, found in report.statistics.items() if not np.isnan(found["Spearman"].value)}
    rankings = {name: rho for name, rho in spearman.items() if name not in BASELINES}
    counted = {name: rho for name, rho in spearman.items() if name in BASELINES}
    if not rankings:
        return f"On {report.dataset} no ranking has a correlation."
    best = max(rankings, key=lambda name: rankings[name].value)
    text = f"On {report.dataset}, {best} orders the {report.rows:,} networks best: Spearman's ρ {_rho(rankings[best])}. "
    text += _beside_counting(rankings[best], counted)
    lost = report.statistics[best].get("regret")
    random = report.regrets.get("random")
    if lost is not None and random is not None and np.isfinite(lost.value):
        within = f"against the best within a FLOPs budget, random ones {random.mean():.2f}"
        text += f" The networks that it would pick lose {lost.value:.2f} points {within}."
    return text


def _rho(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def _beside_counting(best: Estimate, counted: dict[str, Estimate]) -> str:
    """How a correlation stands beside those of parameters and FLOPs, which cost nothing."""
    if not counted:
        return ""
    name = max(counted, key=lambda one: counted[one].value)
    rival, what = counted[name], {"params": "parameters", "flops": "FLOPs"}[name]
    if best.low > rival.high:
        return f"Counting {what} is clearly worse: {_rho(rival)}."
    if best.value > rival.value:
        return f"Counting {what} comes near, with intervals that overlap: {_rho(rival)}. More rows would tell."
    return f"Counting {what} orders them as well or better: {_rho(rival)}. No ranking here is worth its cost."


def pick_table(study: Study, report: DatasetReport) -> Table:
    """For a few budgets, the network that each of the best rankings picks, its accuracy, and what that loses."""
    accuracy = study.accuracies[report.dataset]
    known = np.flatnonzero(~np.isnan(accuracy))
    flops, rows = study.size("flops"), []
    for budget in _budgets(report):
        within = known[flops[known] <= budget]
        best = float(accuracy[within].max())
        for name in _listed(report):
            fitness = next(result.fitness for result in study.rankings if result.name == name)
            pick = int(within[np.argmax(np.nan_to_num(fitness[within], nan=-np.inf))])
            costs = {"params": study.costs[pick].params, "flops": study.costs[pick].flops}
            reached = {"accuracy": float(accuracy[pick]), "lost": best - float(accuracy[pick])}
            rows.append(
                {"budget": f"{budget / 1e6:.4g}M", "ranking": name, **reached, **costs, "network": choices_text(study.archs[pick].choices)}
            )
    columns = [Column("budget", "FLOPs budget"), Column("ranking", "ranking"), Column("accuracy", "accuracy", "number", 2)]
    columns += [Column("lost", "lost", "number", 2), Column("params", "parameters", "integer"), Column("flops", "FLOPs", "integer")]
    return Table(f"{report.dataset}: the network that each ranking picks", [*columns, Column("network", "network")], rows)


def _budgets(report: DatasetReport) -> list[float]:
    places = np.linspace(0, len(report.budgets) - 1, _BUDGETS + 1).round().astype(int)[1:] if len(report.budgets) > 1 else [0]
    return [float(report.budgets[place]) for place in dict.fromkeys(places)]


def _listed(report: DatasetReport) -> Sequence[str]:
    """The best rankings, and the baselines."""
    order = sorted(report.statistics, key=lambda name: -float(np.nan_to_num(report.statistics[name]["Spearman"].value, nan=-2)))
    return [*[name for name in order if name not in BASELINES][:_MOST_RANKINGS], *(name for name in BASELINES if name in report.statistics)]
