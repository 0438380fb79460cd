"""Tables, progress and JSON for the terminal."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from diswot.architecture import canonical_json
from diswot.progress import Clock, PlainLines, Reporter, Silent

if TYPE_CHECKING:
    from diswot.architecture import Architecture
    from diswot.recipes.compare import Comparison
    from diswot.recipes.deploy import Evaluation
    from diswot.recipes.describe import Description
    from diswot.recipes.distill import DistillResult
    from diswot.recipes.scoring import ScoreRow
    from diswot.recipes.search import SearchResult

Json = dict[str, Any]
_MANY = 2  # times the cost of the others that a user should be told of
_MOST_PARTS = 3  # of a ranking, in a table of 80 characters


class LiveLine(PlainLines):
    """A bar that is drawn over itself, for a terminal."""

    def __init__(self, console: Console, unit: str, clock: Clock = time.monotonic) -> None:
        super().__init__(sys.stderr, unit, every=0.1, clock=clock)
        from rich.progress import BarColumn, Progress, TextColumn

        columns = BarColumn(bar_width=24), TextColumn("{task.description}")
        self._progress = Progress(*columns, console=console, transient=True)
        self._console, self._task = console, self._progress.add_task("", total=1)

    def start(self, total: int, done: int = 0) -> None:
        super().start(total, done)
        self._progress.update(self._task, total=total, completed=done)
        self._progress.start()

    def update(self, done: int, detail: Callable[[], str]) -> None:
        now = self.stepped(done)
        if now - self._shown >= self.every or done == self._total:
            self._shown = now
            self._progress.update(self._task, completed=done, description=self.line(done, now, detail()))

    def say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def stop(self) -> None:
        self._progress.stop()


def reporter(unit: str, quiet: bool) -> Reporter:
    """A bar on a terminal, plain lines elsewhere, nothing with --quiet; always on stderr, so that stdout stays for results."""
    if quiet:
        return Silent()
    console = Console(stderr=True)
    return LiveLine(console, unit) if console.is_terminal else PlainLines(sys.stderr, unit)


def show_table(table: Table) -> None:
    """A table on stdout under its title, never cut off: as wide as it needs where the output is no terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=400)
    console.print(table.title, highlight=False, markup=False, soft_wrap=True)
    table.title = None
    console.print(table)


def millions(number: float) -> str:
    """
    >>> millions(472_756), millions(87_501_408)
    ('0.473M', '87.5M')
    """
    return f"{number / 1e6:.3f}M" if number < 1e7 else f"{number / 1e6:,.1f}M"


def name_of(arch: Architecture) -> str:
    """Short enough for a table: the name or string itself, or the digest of longer choices."""
    return arch.choices if isinstance(arch.choices, str) else arch.digest


def plain_table(title: str, headings: Sequence[str], left: int) -> Table:
    """A table without walls, so that the usual columns fit into 80 characters; the first `left` columns are text."""
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, heading in enumerate(headings):
        table.add_column(heading.replace("_", " "), justify="left" if index < left else "right", overflow="fold")
    return table


def search_json(result: SearchResult) -> Json:
    rows = [
        {"role": r.role, "space": r.arch.space, "choices": r.arch.choices, **_cost(r.cost), "scores": r.scores, "rank": r.rank}
        for r in result.table
    ]
    winner = {"space": result.winner.space, "choices": result.winner.choices}
    return {"winner": winner, "found_by": result.found_by, "evaluations": len(result.trials), "table": rows}


def search_table(result: SearchResult) -> Table:
    """The winner beside what one would take without a search."""
    names = list(result.table[0].scores)
    names = names if len(names) <= _MOST_PARTS else []  # more would not fit; --json has them
    title = f"{len(result.trials)} candidates scored; rank is among them and this table, 1 is best"
    table = plain_table(title, ["", "network", "params", "FLOPs", "depth", *names, "rank"], left=2)
    for row in result.table:
        scores = [f"{row.scores[name]:.4g}" for name in names]
        cost = millions(row.cost.params), millions(row.cost.flops), str(row.cost.depth)
        table.add_row(row.role, name_of(row.arch), *cost, *scores, str(row.rank), style="bold" if row.role == "winner" else None)
    return table


def search_remark(result: SearchResult) -> str:
    """What the budget leaves free where the winner takes far more of it than the networks beside it; empty where it does not."""
    asked, (winner, *others) = result.found_by["search"], result.table
    for what in ("FLOPs", "params"):
        most = max((getattr(row.cost, what.lower()) for row in others), default=0)
        times = getattr(winner.cost, what.lower()) / max(most, 1)
        if most and times >= _MANY and not asked[what.lower()] and not asked["latency"]:
            return f"the winner has {times:.1f} times the {what} of any other here, which the budget leaves free: limit --{what.lower()}"
    return ""


def score_json(rows: Sequence[ScoreRow]) -> list[Json]:
    return [{"space": r.arch.space, "choices": r.arch.choices, **_cost(r.cost), "scores": r.scores, "place": r.place} for r in rows]


def score_table(rows: Sequence[ScoreRow]) -> Table:
    """Mean over the seeds, and their spread."""
    seeds = len(next(iter(rows[0].scores.values())))
    spread = " ± standard deviation" if seeds > 1 else ""
    names = list(rows[0].scores)
    title = f"mean{spread} over {seeds} seed(s); higher is better"
    table = plain_table(title, ["network", "params", "FLOPs", "depth", *names, "place"], left=1)
    for row in sorted(rows, key=lambda r: r.place):
        cells = [_mean_and_spread(row.scores[name]) for name in names]
        cost = millions(row.cost.params), millions(row.cost.flops), str(row.cost.depth)
        table.add_row(name_of(row.arch), *cost, *cells, str(row.place))
    return table


def _mean_and_spread(values: Sequence[float]) -> str:
    mean = f"{statistics.fmean(values):.4g}"
    return mean if len(values) < 2 or min(values) == max(values) else f"{mean} ± {statistics.stdev(values):.2g}"


def show_json(found: Description) -> Json:
    parts = [{"name": p.name, "kind": p.kind, "output": p.output, "params": p.params, "flops": p.flops} for p in found.parts]
    costs = {**_cost(found.cost), "weight_bytes": found.weight_bytes, "activation_bytes": found.activation_bytes}
    identity = {"space": found.arch.space, "choices": found.arch.choices, "digest": found.arch.digest}
    return {**identity, **costs, "latency_ms": found.latency, "device": found.device, "parts": parts}


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
    table.add_row("latency", f"{found.latency:.2f} ms, one image, median, on {found.device}", "", "", "")
    return table


def distill_json(result: DistillResult) -> Json:
    def accuracy(found: Any) -> Json | None:
        return None if found is None else _accuracy(found)

    students = {student.name: accuracy(student.accuracy) for student in result.students}
    outcome = {
        "student": accuracy(result.student),
        "students": students,
        "taught_by": result.taught_by,
        "teacher": accuracy(result.teacher),
        "measured_on": result.measured_on,
    }
    return {**outcome, "folder": str(result.folder), "history": result.history}


def distill_table(result: DistillResult) -> Table:
    """The curve, thinned to a dozen lines, and the accuracy after the last epoch."""
    title = "after each epoch, terms of the loss with their weights; the last one counts, nothing was chosen by these images"
    names = {key for line in result.history for key in line if key not in ("epoch", "lr")}
    keys = ["lr", *sorted(names, key=lambda key: (key.endswith("_top1"), key))]
    table = plain_table(title, ["epoch", *keys], left=0)
    step = max(1, len(result.history) // 12)
    for line in [*result.history[:-1][::step], result.history[-1]]:
        table.add_row(str(line["epoch"]), *(f"{line[key]:.4g}" if key in line else "" for key in keys))
    table.add_section()
    return table


def compare_json(found: Comparison) -> Json:
    first = found.rows[0]
    rows = [
        {
            "name": row.name,
            "space": row.arch.space,
            "choices": row.arch.choices,
            "top1": row.top1,
            "mean": row.mean,
            "spread": _number(row.spread),
            "difference": None if row is first else [_number(value) for value in first.ahead_of(row)],
            "latency_ms": row.latency,
            **_cost(row.cost),
        }
        for row in found.rows
    ]
    return {"students": rows, "teacher": found.teacher, "measured_on": found.measured_on, "folder": str(found.folder)}


def _number(value: float) -> float | None:
    """What JSON can hold."""
    return value if math.isfinite(value) else None


def compare_table(found: Comparison) -> Table:
    """Every student's accuracy over the seeds, and how far the first is ahead of it."""
    first = found.rows[0]
    seeds = len(first.top1)
    spread = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "of one seed"
    title = f"top-1 on {found.measured_on} ({found.images:,} images), {spread}; ahead: of the first over this one, 95 % interval"
    table = plain_table(title, ["student", "top-1", "ahead", "params", "FLOPs", "latency"], left=1)
    for row in found.rows:
        ahead = "" if row is first else plus_minus(*first.ahead_of(row), sign="+")
        cost = millions(row.cost.params), millions(row.cost.flops), f"{row.latency:.2f} ms"
        table.add_row(row.name, plus_minus(row.mean, row.spread), ahead, *cost)
    return table


def plus_minus(value: float, width: float, sign: str = "") -> str:
    """The width is left out where it is not finite.

    >>> plus_minus(1.5, 0.25, sign="+"), plus_minus(1.5, math.nan)
    ('+1.50 ± 0.25', '1.50')
    """
    return f"{value:{sign}.2f}" + (f" ± {width:.2f}" if math.isfinite(width) else "")


def evaluate_json(found: Evaluation) -> Json:
    return {"data": found.data, "split": found.split, **_accuracy(found.accuracy)}


def _accuracy(found: Any) -> Json:
    return {"top1": found.top1, "interval": list(found.interval), "top5": _number(found.top5), "images": found.count}


def _cost(cost: Any) -> Json:
    return {"params": cost.params, "flops": cost.flops, "depth": cost.depth}
