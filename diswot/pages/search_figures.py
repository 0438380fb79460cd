"""The figures of a search's page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diswot.architecture import choices_text
from diswot.pages.search_trials import RankedTrials
from diswot.report.charts import choices_plot, progress_plot, tradeoff_plot
from diswot.report.charts.search import CANDIDATES, Mark
from diswot.report.pictures import Picture
from diswot.report.tables import Column, Table
from diswot.report.text import millions
from diswot.searching.choices import flatten
from diswot.searching.pareto import non_dominated
from diswot.searching.trial import Trial
from diswot.statistics.ranked_values import Vector

_PARTS = 10  # of a search, in the chart of its choices
_MOST_CHOICES = 40  # in that chart
_AXES = {"params": "parameters", "flops": "FLOPs", "latency": "latency (ms)"}


def progress_picture(ranked: RankedTrials) -> Picture:
    """How the best candidate improved, beside what drawing at random would have found."""
    number = np.arange(1, len(ranked) + 1)
    curves: dict[str, tuple[Any, Any]] = {"this search": (number, np.minimum.accumulate(ranked.rank))}
    drawn = ranked.rank[ranked.is_random]
    if 1 < len(drawn) < len(ranked):
        curves["random search"] = (np.arange(1, len(drawn) + 1), median_best_of(drawn))
    shown = ranked.drawn()
    figure = progress_plot(number[shown], ranked.rank[shown], ranked.is_random[shown], curves, title="How the best candidate improved")
    caption = (
        f"The dashed line is the median of what random search finds with so many candidates, estimated from the {len(drawn):,} that this "
        "search drew at random. It ends where they end."
    )
    columns = [Column("candidate", "candidate", "integer"), Column("rank", "rank", "integer"), Column("best", "best so far", "integer")]
    best = curves["this search"][1]
    rows = [{"candidate": int(n), "rank": float(r), "best": float(b)} for n, r, b in zip(number, ranked.rank, best, strict=True)]
    hover = {CANDIDATES: [_describe(ranked.trials[index], ranked.rank[index]) for index in shown]}
    return Picture(figure, caption if len(curves) > 1 else "", Table("progress", columns, rows), hover, name="progress")


def median_best_of(ranks: Vector) -> Vector:
    """For each k from 1 to n, the median of the best of k ranks drawn without replacement from these n.

    >>> median_best_of(np.array([5.0, 1.0, 3.0])).tolist()
    [3.0, 1.0, 1.0]
    """
    ordered, count = np.sort(ranks), len(ranks)
    best = np.empty(count)
    for k in range(1, count + 1):
        # the chance that none of the first j + 1 is among the k drawn is a product of (count - k - i) / (count - i)
        left = np.arange(count)
        none_yet = np.cumprod(np.clip((count - k - left) / (count - left), 0, 1))
        best[k - 1] = ordered[int(np.argmax(none_yet <= 0.5))]
    return best


def cost_pictures(ranked: RankedTrials, result: Mapping[str, Any]) -> list[Picture]:
    """Rank over each cost that is known, with the budget, the front and the finalists."""
    pictures = []
    for what, label in _AXES.items():
        cost = ranked.cost(what)
        if np.isfinite(cost).all() and (cost > 0).all():
            pictures.append(_cost_picture(ranked, cost, what, label, result))
    return pictures


def _cost_picture(ranked: RankedTrials, cost: Vector, what: str, label: str, result: Mapping[str, Any]) -> Picture:
    shown = ranked.drawn()
    key = "latency_ms" if what == "latency" else what
    low, high = (result.get("budget", {}).get(what) or [None, None])[:2]
    rows = [row for row in result.get("table", []) if row.get(key)]
    marks = [Mark(row["role"], float(row[key]), float(row["rank"]), number == 0) for number, row in enumerate(rows)]
    if not result:
        marks = [Mark("best so far", float(cost[np.argmin(ranked.rank)]), 1.0, True)]
    front = non_dominated(np.column_stack([cost[shown], ranked.rank[shown]]))
    title = f"Rank over {label.removesuffix(' (ms)')}"
    figure = tradeoff_plot(
        cost[shown], ranked.rank[shown], title=title, xlabel=label, limits=(low or None, high), on_front=front, marks=marks
    )
    columns = [Column("candidate", "candidate", "integer"), Column(key, label, "number"), Column("rank", "rank", "integer")]
    values = zip(ranked.trials, cost, ranked.rank, strict=True)
    table = Table(title, columns, [{"candidate": trial.index, key: float(c), "rank": float(r)} for trial, c, r in values])
    hover = {CANDIDATES: [_describe(ranked.trials[index], ranked.rank[index]) for index in shown]}
    return Picture(figure, "", table, hover, name=f"rank_over_{what}")


def _describe(trial: Trial, rank: float) -> str:
    """What is read when the pointer rests on a candidate."""
    cost = f"{millions(trial.cost.params)} parameters, {millions(trial.cost.flops)} FLOPs, depth {trial.cost.depth}"
    return f"candidate {trial.index}, rank {rank:.0f}: {cost}; {choices_text(trial.arch.choices)}"


def choice_picture(ranked: RankedTrials) -> Picture | None:
    """How the winner's choices spread through the search; None of a search that is too short for it."""
    if len(ranked) < 2 * _PARTS:
        return None
    wanted = dict(flatten(ranked.best.arch.choices))
    parts = np.array_split(np.arange(len(ranked)), _PARTS)
    shares = np.zeros((len(wanted), _PARTS))
    for column, members in enumerate(parts):
        counts: Counter[str] = Counter()
        for index in members:
            found = dict(flatten(ranked.trials[index].arch.choices))
            counts.update(place for place, value in wanted.items() if found.get(place) == value)
        shares[:, column] = [counts[place] / len(members) for place in wanted]
    moved = np.argsort(-np.ptp(shares, axis=1), kind="stable")[:_MOST_CHOICES]
    kept = sorted(index for index in moved.tolist() if np.ptp(shares[index]) > 0)
    if not kept:
        return None
    names = [f"{place or 'choice'} = {value}" for place, value in wanted.items()]
    title = "How the winner's choices spread"
    figure = choices_plot([names[index] for index in kept], shares[kept], title=title)
    more = f" Shown are {len(kept)} of its {len(names)} choices, those that moved most." if len(kept) < len(names) else ""
    caption = f"Each row is a choice with the winner's value, each column a tenth of the search.{more}"
    columns = [Column("choice", "choice"), *(Column(f"part_{n}", f"part {n}", "number") for n in range(1, _PARTS + 1))]
    rows = [{"choice": names[index], **{f"part_{n}": float(v) for n, v in enumerate(shares[index], 1)}} for index in kept]
    return Picture(figure, caption, Table(title, columns, rows), name="choices")


def front_table(front: Sequence[Mapping[str, Any]]) -> Table:
    """The networks of a front, from the cheapest to the dearest."""
    timed = any(member.get("latency_ms") is not None for member in front)
    columns = [Column("network", "network"), Column("params", "parameters", "integer"), Column("flops", "FLOPs", "integer")]
    columns += [Column("depth", "depth", "integer"), *[Column("latency_ms", "latency (ms)", "number", 2)] * timed]
    columns += [Column("score", "score", "number", 3, "high"), Column("knee", "")]
    rows = [
        {**member, "network": f"front/{number:03d}-…", "knee": "knee, the winner" if member["knee"] else ""}
        for number, member in enumerate(front)
    ]
    return Table("Of none of these is there a network with a better score at no higher cost", columns, rows)
