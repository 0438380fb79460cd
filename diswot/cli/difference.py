"""What two networks differ in, as tables and JSON."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from diswot.report.terminal import plain_table
from diswot.report.text import millions

if TYPE_CHECKING:
    from rich.table import Table

    from diswot.describe import Description
    from diswot.difference import Difference
    from diswot.searching.choices import Scalar


def as_json(found: Difference) -> dict[str, Any]:
    """The difference as plain JSON."""
    return {
        "same_space": found.same_space,
        "same_network": found.same_network,
        "changed": [dataclasses.asdict(choice) for choice in found.changed],
        "networks": [_network(network) for network in found.networks],
    }


def _network(found: Description) -> dict[str, Any]:
    costs = {**dataclasses.asdict(found.cost), "weight_bytes": found.weight_bytes, "activation_bytes": found.activation_bytes}
    return {"space": found.arch.space, "choices": found.arch.choices, **costs}


def tables(found: Difference, first: str, second: str) -> list[Table]:
    """The choices that differ, and the costs; the networks are called as the user called them."""
    names = [_short(first), _short(second)]
    shown = []
    if found.changed:
        title = f"{len(found.changed)} of {found.choices} choices differ"
        table = plain_table(title, ["choice", *names], left=1)
        for choice in found.changed:
            table.add_row(choice.place or "network", _value(choice.first), _value(choice.second))
        shown.append(table)
    spec = found.networks[0].spec
    table = plain_table(f"costs, for {spec}", ["", *names, "difference"], left=1)
    for label, (a, b), text in _costs(found):
        table.add_row(label, text(a), text(b), f"{(b - a) / a:+.1%}" if a and a != b else "")
    return [*shown, table]


def _costs(found: Difference) -> list[tuple[str, tuple[int, int], Any]]:
    a, b = found.networks
    return [
        ("parameters", (a.cost.params, b.cost.params), lambda value: f"{value:,}"),
        ("FLOPs", (a.cost.flops, b.cost.flops), millions),
        ("depth", (a.cost.depth, b.cost.depth), str),
        ("weights", (a.weight_bytes, b.weight_bytes), _mebibytes),
        ("activations", (a.activation_bytes, b.activation_bytes), _mebibytes),
    ]


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.2f} MiB"


def remarks(found: Difference) -> list[str]:
    """Lines below the tables."""
    if not found.same_space:
        a, b = found.networks
        return [f"they are of different spaces ({a.arch.space}, {b.arch.space}), whose choices cannot be compared"]
    if not found.changed:
        return ["it is the same network"]
    return ["all the same, both compute the same function"] if found.same_network else []


def _short(name: str, length: int = 24) -> str:
    return name if len(name) <= length else "…" + name[1 - length :]


def _value(value: Scalar) -> str:
    return "-" if value is None else str(value)
