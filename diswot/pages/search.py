"""The page of a search: what was tried, what the winner looks like, and how far it can be believed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from diswot.config import SearchConfig, resolve
from diswot.pages.run_files import RunFiles, sentence
from diswot.pages.search_figures import choice_picture, cost_pictures, front_table, progress_picture
from diswot.pages.search_trials import RankedTrials
from diswot.pages.winner import winner_parts
from diswot.report.html import Facts, Listing, Part, Points, Section, Verdict
from diswot.report.tables import Column, Table
from diswot.report.text import millions
from diswot.searching.next_step import needed_flags

_METHOD = (
    "Candidates are ranked at random initialisation: nothing was trained, and no accuracy was looked at. FLOPs are multiply-accumulates. "
    "Ranks are among all candidates of this search, 1 is the best."
)


def search_sections(run: RunFiles) -> tuple[str, list[Section]]:
    """The title and the sections of a search's page."""
    ranked, teacher = RankedTrials.read(run), run.config.get("teacher")
    if not len(ranked):
        return f"Search {run.name}", [Section("", [Verdict("No candidate has a score yet."), _METHOD]), run.made_with()]
    found = [_finalists(run), _front(run)] if run.result else []
    sections = [
        _introduction(run, ranked),
        *[section for section in found if section.parts],
        Section("How it was found", [progress_picture(ranked)]),
        Section("What a rank costs", cost_pictures(ranked, run.result)),
        Section("What evolution changed", _changes(run, ranked)),
        Section("The winner beside its teacher" if run.result else "The best so far", _winner(run, ranked)),
        run.made_with(),
    ]
    return f"A student for {teacher}", [section for section in sections if section.parts]


def _introduction(run: RunFiles, ranked: RankedTrials) -> Section:
    """What came out of the search, in a sentence, in numbers, and how far it can be trusted."""
    best, asked = run.result.get("table", [{}])[0] if run.result else ranked.best_cost(), run.config
    facts = [
        ("parameters", millions(best["params"])),
        ("FLOPs", millions(best["flops"])),
        ("depth", f"{best['depth']:,} layers"),
        *([("latency", f"{best['latency_ms']:.3g} ms")] if best.get("latency_ms") is not None else []),
        ("candidates scored", f"{len(ranked):,}"),
        ("ranking", str(asked["proxy"])),
        ("teacher", str(asked["teacher"])),
    ]
    remarks = [sentence(remark) for remark in run.result.get("remarks", [])]
    parts: list[Part] = [Verdict(_verdict(run, ranked)), Facts(facts), *([Points(remarks)] if remarks else []), _METHOD]
    if ranked.failed:
        parts.append(f"{ranked.failed:,} candidates have no score, the first because of: {ranked.first_reason}.")
    return Section("", parts)


def _verdict(run: RunFiles, ranked: RankedTrials) -> str:
    """What the search comes to; of one under way, how far it is."""
    if not run.result:
        scored = f"{len(ranked):,} of {run.config['iterations']:,} candidates"
        return f"The search is not at its end: {scored} have been scored. What follows is the state of now; it may still change."
    trained = [row for row in run.result["table"] if row.get("trained")]
    if trained:
        best = max(trained, key=lambda row: (row["trained"]["epochs"], row["trained"]["top1"]))
        return f"Of the finalists, which were trained briefly, the {best['role']} network reached most: {best['trained']['top1']:.2f} %."
    best_of = f"The best of {len(ranked):,} candidates by the ranking {run.config['proxy']}"
    return f"{best_of}. A rank is no accuracy: compare it with the finalists below before you trust it."


def _finalists(run: RunFiles) -> Section:
    """The winner beside what it must be held against."""
    rows = [_finalist_row(row) for row in run.result["table"]]
    teacher = run.result["teacher"]
    rows.append({"role": "teacher", "network": str(run.config["teacher"]), **{key: teacher[key] for key in ("params", "flops", "depth")}})
    rows[-1]["latency_ms"] = teacher.get("latency_ms")
    timed = any(row.get("latency_ms") is not None for row in rows)
    trained = any("top1" in row for row in rows)
    columns = [Column("role", "role"), Column("network", "network"), Column("params", "parameters", "integer")]
    columns += [Column("flops", "FLOPs", "integer"), Column("depth", "depth", "integer")]
    columns += [Column("latency_ms", "latency (ms)", "number", 2)] * timed + [Column("rank", "rank", "integer", best="low")]
    columns += [Column("top1", "top-1 after brief training (%)", "number", 2, "high")] * trained
    explained = (
        "The alternative is the best candidate that differs much from the winner. The largest, the random one and the hand-made network "
        "are what a search must beat to be worth its while: train them by the same recipe and see."
    )
    flags = needed_flags(resolve(SearchConfig, run.config, [], {}), run.result["provenance"]["data"]["input_size"])
    compare = Listing(f"diswot compare {run.path}/finalists/*.json{flags}", "Was it worth it?")
    distill = Listing(f"diswot distill {run.path}/arch.json{flags}", "To train the winner")
    return Section("The finalists", [Table("The winner beside what it must be held against", columns, rows), explained, compare, distill])


def _finalist_row(row: Mapping[str, Any]) -> dict[str, Any]:
    shown = {key: row.get(key) for key in ("role", "params", "flops", "depth", "latency_ms", "rank")}
    trained = {"top1": row["trained"]["top1"]} if row.get("trained") else {}
    choices = row["choices"]
    network = choices if isinstance(choices, str) else f"finalists/{row['role']}.json"
    outside = "" if row.get("within_budget", True) else " *"
    return {**shown, "role": f"{row['role']}{outside}", "network": network, **trained}


def _front(run: RunFiles) -> Section:
    """The networks of the front, where one was asked for."""
    front: Sequence[Mapping[str, Any]] = run.result.get("front", [])
    return Section("The front", [front_table(front)] if front else [])


def _changes(run: RunFiles, ranked: RankedTrials) -> list[Part]:
    """Which choices evolution moved, and which it pushed to their bounds."""
    parts: list[Part] = []
    if settled := run.result.get("settled", []):
        columns = [Column("place", "choice"), Column("value", "settled on"), Column("at_bound", "at its bound")]
        columns += [
            Column("early", "share of the first tenth (%)", "number", 0),
            Column("late", "share of the last tenth (%)", "number", 0),
        ]
        rows = [{**choice, "value": str(choice["value"]), **_percent(choice), "at_bound": choice["at_bound"] or "no"} for choice in settled]
        parts.append(Table("Choices that nearly all of the last candidates share, and few of the first", columns, rows))
        if any(choice["at_bound"] for choice in settled):
            parts.append("A score that drives a choice to its bound may reward more of it than the accuracy does.")
    picture = choice_picture(ranked)
    return [*parts, *([picture] if picture is not None else [])]


def _percent(choice: Mapping[str, Any]) -> dict[str, float]:
    return {key: 100 * choice[key] for key in ("early", "late")}


def _winner(run: RunFiles, ranked: RankedTrials) -> list[Part]:
    """The winner's choices, the network drawn, and what it sees beside its teacher."""
    choices = run.result["winner"]["choices"] if run.result else ranked.best.arch.choices
    return [
        *winner_parts(run.path, run.config["teacher_weights"] == "random"),
        Listing(json.dumps(choices), f"Its choices in the space {ranked.best.arch.space}"),
    ]
