"""Results as tables and JSON for the terminal."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from diswot.architecture import Architecture, canonical_json
from diswot.config.scoring import FEWEST_ROWS
from diswot.progress import duration
from diswot.report.terminal import plain_table
from diswot.report.text import millions
from diswot.space import Cost

if TYPE_CHECKING:  # they take seconds to import, and the verb has those of its own result
    from diswot.describe import Description
    from diswot.distillation.compare import Comparison
    from diswot.distillation.recipe import DistillResult
    from diswot.inference import Evaluation
    from diswot.latency.measure import Measurement
    from diswot.latency.runtimes import Setup
    from diswot.quantization import ReducedExport
    from diswot.scoring.recipe import ScoreRow
    from diswot.searching.recipe import SearchResult
    from diswot.tabulation.recipe import TabulateResult

Json = dict[str, Any]
_MOST_OF_FRONT = 12  # networks of a front in a table
_MOST_PARTS = 3  # of a ranking, in a table of 80 characters


def _cost_cells(cost: Cost, latency: float | None, timed: bool) -> list[str]:
    """Parameters, FLOPs and depth for a table; with `timed` also the milliseconds, "" where they are not known."""
    milliseconds = ["" if latency is None else f"{latency:.3g}"] * timed
    return [millions(cost.params), millions(cost.flops), str(cost.depth), *milliseconds]


def short_name(arch: Architecture) -> str:
    """Short enough for a table: the name or string itself, or the digest of longer choices."""
    return arch.choices if isinstance(arch.choices, str) else arch.digest


def front_table(result: SearchResult) -> Table:
    """Networks of the front, evenly spread where they are many; the knee and the best by score among them."""
    front = result.front
    kept = {round(place * (len(front) - 1) / (_MOST_OF_FRONT - 1)) for place in range(_MOST_OF_FRONT)} if len(front) > 1 else {0}
    best = max(range(len(front)), key=lambda number: front[number].score)
    shown = [member for number, member in enumerate(front) if number in kept or number == best or member.is_knee]
    timed = any(member.trial.latency is not None for member in front)
    title = f"the front: {len(front)} networks, {len(shown)} of them here; of none is there one with a better score at no higher cost"
    table = plain_table(title, ["network", "params", "FLOPs", "depth", *["ms"] * timed, "score", ""], left=1)
    for member in shown:
        trial = member.trial
        cost = _cost_cells(trial.cost, trial.latency, timed)
        style = "bold" if member.is_knee else None
        table.add_row(short_name(trial.arch), *cost, f"{member.score:.4g}", "knee" if member.is_knee else "", style=style)
    return table


def search_table(result: SearchResult) -> Table:
    """The winner beside what it must be held against, and the teacher."""
    names = list(result.table[0].scores)
    names = names if len(names) <= _MOST_PARTS else []  # more would not fit; --json has them
    title = f"{len(result.trials)} candidates scored; rank is among them and this table, 1 is best"
    epochs = max((row.trained.epochs for row in result.table if row.trained), default=0)
    trained = [f"top-1, {epochs} epochs at most"] if epochs else []
    timed = result.table[0].latency is not None
    table = plain_table(title, ["", "network", "params", "FLOPs", "depth", *["ms"] * timed, *names, "rank", *trained], left=2)
    for row in result.table:
        scores = [f"{row.scores[name]:.4g}" for name in names]
        cost = _cost_cells(row.cost, row.latency, timed)
        top1 = [f"{row.trained.top1:.2f} after {row.trained.epochs}" if row.trained else ""] * len(trained)
        style = "bold" if row.arch == result.winner else None
        role = row.role if row.within_budget else f"{row.role} *"
        table.add_row(role, short_name(row.arch), *cost, *scores, str(row.rank), *top1, style=style)
    blank = [""] * (len(names) + 1 + len(trained))
    name = result.provenance["search"]["teacher"]
    table.add_row("teacher", name, *_cost_cells(result.teacher, result.teacher_latency, timed), *blank, style="dim")
    return table


def score_json(rows: Sequence[ScoreRow]) -> list[Json]:
    return [{"space": r.arch.space, "choices": r.arch.choices, **_cost(r.cost), "scores": r.scores, "rank": r.rank} for r in rows]


def score_tables(rows: Sequence[ScoreRow], names: Sequence[str], width: int) -> list[Table]:
    """Mean over the seeds, and their spread: one table, or several where it would be wider than so many characters.

    Args:
        rows: the scores.
        names: what the user called the networks.
        width: of the terminal.
    """
    proxies = list(rows[0].scores)
    whole = _score_table(rows, names, proxies, with_cost=True)
    if Console(width=10_000).measure(whole).maximum <= width:
        return [whole]
    parts = [proxies[begin : begin + _MOST_PARTS] for begin in range(0, len(proxies), _MOST_PARTS)]
    return [_score_table(rows, names, [], with_cost=True), *(_score_table(rows, names, part, with_cost=False) for part in parts)]


def _score_table(rows: Sequence[ScoreRow], names: Sequence[str], proxies: Sequence[str], with_cost: bool) -> Table:
    """Some of the scores, with or without cost and rank, the best network first."""
    seeds = len(next(iter(rows[0].scores.values())))
    spread = " ± standard deviation" if seeds > 1 else ""
    title = f"mean{spread} over {seeds} seed{'s' if seeds > 1 else ''}; higher is better" if with_cost else ""
    cost = ["params", "FLOPs", "depth"] if with_cost else []
    table = plain_table(title, ["network", *cost, *proxies, *["rank"] * with_cost], left=1)
    for row, name in sorted(zip(rows, names, strict=True), key=lambda pair: pair[0].rank):
        cells = _cost_cells(row.cost, None, timed=False) if with_cost else []
        table.add_row(name, *cells, *(_mean_and_spread(row.scores[proxy]) for proxy in proxies), *[str(row.rank)] * with_cost)
    return table


def _mean_and_spread(values: Sequence[float]) -> str:
    mean = f"{statistics.fmean(values):.4g}"
    return mean if len(values) < 2 or min(values) == max(values) else f"{mean} ± {statistics.stdev(values):.2g}"


def show_json(found: Description) -> Json:
    parts = [{"name": p.name, "kind": p.kind, "output": p.output, "params": p.params, "flops": p.flops} for p in found.parts]
    costs = {**_cost(found.cost), "weight_bytes": found.weight_bytes, "activation_bytes": found.activation_bytes}
    identity = {"space": found.arch.space, "choices": found.arch.choices, "digest": found.arch.digest}
    return {**identity, **costs, **_times_json(found), "device": found.device, "parts": parts}


def _times_json(found: Description) -> Json:
    from diswot.latency.runtimes import Setup

    if found.measured is None:
        return {}
    return {**timing_json(found.measured, 0), **conditions_json(found.measured, Setup(found.device))}


def timing_json(found: Measurement, index: int) -> Json:
    """The times of one of the networks that were measured."""
    timing = found.timings[index]
    return {"latency_ms": timing.median, "p10_ms": timing.p10, "p90_ms": timing.p90, "repeats": timing.repeats}


def conditions_json(found: Measurement, setup: Setup) -> Json:
    """What a measurement depended on besides the networks."""
    load = None if math.isnan(found.load) else found.load
    return {"threads": setup.threads, "on_processor": found.on_processor, "load": load, "warning": found.warning(setup) or None}


def show_architecture(found: Description) -> Table:
    """The network from input to output."""
    choices = canonical_json(found.arch.choices)
    title = f"{found.arch.space} {found.arch.digest}: {choices}"
    table = plain_table(title, ["part", "layers", "output", "params", "FLOPs"], left=2)
    for part in found.parts:
        table.add_row(part.name, part.kind, " x ".join(map(str, part.output)), f"{part.params:,}", millions(part.flops))
    table.add_section()
    memory = f"weights {found.weight_bytes / 2**20:.2f} MiB, activations {found.activation_bytes / 2**20:.2f} MiB an image"
    table.add_row("all", f"depth {found.cost.depth}; {memory}", "", f"{found.cost.params:,}", millions(found.cost.flops))
    if found.measured is not None:
        table.add_row("latency", _latency_text(found.measured, found.device), "", "", "")
    return table


def _latency_text(found: Measurement, device: str) -> str:
    """The median of a network's times with its spread, and what it depends on besides the network."""
    from diswot.latency.measure import describe_load

    timing = found.timings[0]
    where = ", ".join(filter(None, ("one image", f"on {device}", "one thread" if device == "cpu" else "", describe_load(found.load))))
    return f"{timing.median:.2f} ms ({timing.p10:.2f} to {timing.p90:.2f}); {where}"


def distill_table(result: DistillResult) -> Table:
    """The curve, thinned to a dozen lines, and the accuracy after the last epoch; of several students the accuracies alone."""
    chosen = "nothing was chosen by these images" if result.best is None else "the best strength is chosen by these images"
    title = f"after each epoch, terms of the loss with their weights; the last one counts, {chosen}"
    names = {key for line in result.history for key in line if key not in ("epoch", "lr")}
    if len(result.students) > 1:
        names = {key for key in names if key.endswith("_top1")}
    keys = ["lr", *sorted(names, key=lambda key: (key.endswith("_top1"), key))]
    table = plain_table(title, ["epoch", *keys], left=0)
    step = max(1, len(result.history) // 12)
    for line in [*result.history[:-1][::step], result.history[-1]]:
        table.add_row(str(line["epoch"]), *(f"{line[key]:.4g}" if key in line else "" for key in keys))
    table.add_section()
    return table


def compare_table(found: Comparison) -> Table:
    """Every student's accuracy over the seeds, and how far the first is ahead of it."""
    first = found.rows[0]
    seeds = len(first.top1)
    spread = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "of one seed"
    title = f"top-1 on {found.measured_on} ({found.images:,} images), {spread}; ahead: of the first over this one, 95 % interval"
    named = ["loss"] if len({row.loss for row in found.rows}) > 1 else []
    table = plain_table(title, ["student", *named, "top-1", "ahead", "params", "FLOPs", "latency"], left=1 + len(named))
    for row in found.rows:
        ahead = "" if row is first else plus_minus(*first.ahead_of(row), sign="+")
        cost = millions(row.cost.params), millions(row.cost.flops), f"{row.latency:.2f} ms"
        table.add_row(row.name, *(row.loss for _ in named), plus_minus(row.mean, row.spread), ahead, *cost)
    return table


def plus_minus(value: float, width: float, sign: str = "") -> str:
    """The width is left out where it is not finite.

    >>> plus_minus(1.5, 0.25, sign="+"), plus_minus(1.5, math.nan)
    ('+1.50 ± 0.25', '1.50')
    """
    return f"{value:{sign}.2f}" + (f" ± {width:.2f}" if math.isfinite(width) else "")


def tabulate_table(result: TabulateResult) -> Table:
    """How far one training of a network can be trusted to rank it as another would."""
    from diswot.tabulation.table import TOO_FEW

    alike = "how alike two trainings rank the networks that have both" if result.agreements else TOO_FEW
    title = f"{len(result.accuracies)} trainings of {len(result.networks)} networks; {alike}"
    table = plain_table(title, ["", "networks", "Spearman", "95 % interval", "second - first"], left=1)
    for found in result.agreements:
        rho = found.spearman
        value = "undefined" if math.isnan(rho.value) else f"{rho.value:.3f}"  # where all accuracies are alike
        interval = "" if math.isnan(rho.low) else f"{rho.low:.3f} to {rho.high:.3f}"
        table.add_row(found.what, str(found.networks), value, interval, plus_minus(found.difference, found.spread, sign="+"))
    return table


def tabulate_remarks(result: TabulateResult) -> list[str]:
    """Lines below the table: the cost, what failed, and where the table is."""
    lines = [f"{duration(result.seconds)} a training, median"] if result.seconds is not None else []
    if result.failed:
        first = next(iter(result.failed.values()))
        lines.append(f"{len(result.failed)} trainings failed, the first with: {first}")
    complete = len({training.network for training in result.accuracies})
    if complete < FEWEST_ROWS:
        return [*lines, f"{result.table}: the table; a study needs {FEWEST_ROWS} networks"]
    return [*lines, f"{result.table}: the table; next: diswot study {result.table} --space {result.networks[0].arch.space}"]


def reduced_table(found: ReducedExport) -> Table:
    """A file in a smaller format beside float32."""
    accuracy = found.full.accuracy
    title = "one thread on a CPU, one image" + (f"; top-1 of {accuracy.count:,} images" if accuracy else "")
    table = plain_table(title, ["", "top-1", "size", "latency"], left=1)
    for row in (found.full, found.reduced):
        top1 = f"{row.accuracy.top1:.2f}" if row.accuracy else ""
        table.add_row(row.precision, top1, f"{row.megabytes:.2f} MB", f"{row.milliseconds:.2f} ms")
    return table


def evaluate_json(found: Evaluation) -> Json:
    return {"data": found.data, "split": found.split, **found.accuracy.summary()}


def _cost(cost: Cost) -> Json:
    return {"params": cost.params, "flops": cost.flops, "depth": cost.depth}
