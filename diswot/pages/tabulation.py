"""The page of a tabulation: the networks of the table, their accuracies over their costs, and how far one training can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diswot.architecture import choices_text
from diswot.pages.run_files import RunFiles
from diswot.report.charts.scatter import POINTS, cost_scatter
from diswot.report.html import Facts, Listing, Part, Section, Verdict
from diswot.report.pictures import Picture
from diswot.report.tables import Column, Table
from diswot.report.text import millions
from diswot.runs import read_object
from diswot.tabulation.networks import NETWORKS
from diswot.tabulation.recipe import JOURNAL
from diswot.tabulation.table import TABLE

_MOST_LISTED = 20  # networks


def tabulation_sections(run: RunFiles) -> tuple[str, list[Section]]:
    """The title and the sections of the page of `tabulate`."""
    networks = _networks(run)
    sections = [
        _introduction(run, networks),
        Section("Accuracy over cost", _scatter_pictures(networks)),
        Section("The best networks", [_best(networks)] if networks else []),
        Section("How far one training can be trusted", _agreements(run)),
        run.made_with(),
    ]
    return f"A table of {run.config['space']}", [section for section in sections if section.parts]


def _networks(run: RunFiles) -> list[dict[str, Any]]:
    """The networks that were trained with the loss of the table: their costs, and their mean accuracy over the seeds."""
    if not (run.path / NETWORKS).exists():
        return []
    listed = read_object(run.path / NETWORKS)["networks"]
    found: dict[int, list[float]] = {}
    for record in run.journal(JOURNAL):
        if record.get("top1") is not None and record.get("loss") == run.config["loss"]:
            found.setdefault(int(record["network"]), []).append(float(record["top1"]))
    return [{**listed[number], "number": number, "top1": values} for number, values in sorted(found.items())]


def _introduction(run: RunFiles, networks: Sequence[Mapping[str, Any]]) -> Section:
    planned = len(read_object(run.path / NETWORKS)["networks"]) if (run.path / NETWORKS).exists() else run.config["networks"]
    trained = [float(np.mean(network["top1"])) for network in networks]
    facts = [
        ("networks trained", f"{len(networks)} of {planned}"),
        ("epochs", str(run.config["epochs"])),
        ("data", run.data_name),
    ]
    if trained:
        facts = [("best top-1", f"{max(trained):.2f} %"), ("worst", f"{min(trained):.2f} %"), *facts]
    state = "" if run.result else "The table is not at its end. "
    spread = f"Their accuracies reach from {min(trained):.2f} to {max(trained):.2f} %. " if trained else ""
    verdict = f"{state}{len(networks)} networks of {run.config['space']} have been trained by one recipe. {spread}"
    command = Listing(f"diswot study {run.path / TABLE} --space {run.config['space']}", "How well do rankings order them?")
    return Section("", [Verdict(verdict), Facts(facts), *([command] if trained else [])])


def _scatter_pictures(networks: Sequence[Mapping[str, Any]]) -> list[Part]:
    """Accuracy over parameters and over FLOPs."""
    pictures: list[Part] = []
    for key, label in (("params", "parameters"), ("flops", "FLOPs")):
        if len(networks) < 2:
            continue
        means = [float(np.mean(network["top1"])) for network in networks]
        costs = [float(network[key]) for network in networks]
        sources = ["random" if network["source"] == "random" else "from a search" for network in networks]
        title = f"Accuracy over {label}"
        figure = cost_scatter(costs, means, sources, title=title, xlabel=label, ylabel="top-1 (%)")
        columns = [Column("network", "network", "integer"), Column(key, label, "integer"), Column("top1", "top-1", "number")]
        rows = [{"network": network["number"], key: cost, "top1": mean} for network, cost, mean in zip(networks, costs, means, strict=True)]
        texts = [f"{mean:.2f} %, {_describe(network)}" for network, mean in zip(networks, means, strict=True)]
        hover = {f"{POINTS}-{source}": [text for text, own in zip(texts, sources, strict=True) if own == source] for source in set(sources)}
        pictures.append(Picture(figure, "", Table(title, columns, rows), hover, name=f"accuracy_over_{key}"))
    return pictures


def _describe(network: Mapping[str, Any]) -> str:
    cost = f"{millions(network['params'])} parameters, {millions(network['flops'])} FLOPs"
    return f"network {network['number']}: {cost}; {choices_text(network['choices'])}"


def _best(networks: Sequence[Mapping[str, Any]]) -> Table:
    ordered = sorted(networks, key=lambda network: -float(np.mean(network["top1"])))[:_MOST_LISTED]
    columns = [Column("choices", "network"), Column("top1", "top-1 (%)", "estimate", 2), Column("params", "parameters", "integer")]
    columns += [Column("flops", "FLOPs", "integer"), Column("depth", "depth", "integer"), Column("source", "from")]
    rows = []
    for network in ordered:
        spread = float(np.std(network["top1"], ddof=1)) if len(network["top1"]) > 1 else None
        estimate = {"value": float(np.mean(network["top1"])), "spread": spread}
        rows.append({**network, "choices": choices_text(network["choices"]), "top1": estimate})
    return Table(f"The {len(rows)} most accurate of {len(networks)}; the table has all", columns, rows)


def _agreements(run: RunFiles) -> list[Part]:
    found = run.result.get("agreements", [])
    if not found:
        return []
    columns = [Column("what", "between"), Column("networks", "networks", "integer"), Column("spearman", "rank correlation", "estimate", 2)]
    columns += [Column("difference", "difference (points)", "estimate", 2)]
    rows = [{**one, "difference": {"value": one["difference"], "spread": one["spread"]}} for one in found]
    return [Table("Two trainings of the same networks", columns, rows)]
