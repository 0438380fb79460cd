"""How far a ranking can be trusted in a space: what was measured of it there, on networks whose accuracies are known."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from diswot.space import Cost
from diswot.statistics.bootstrap import Estimate

MEASURED = "measured.json"
# spaces without a table, and the measured one whose networks are most like theirs
NEAREST = {
    "resnet_mixed": "resnet_width",
    "resnet_width_imagenet": "resnet_width",
    "resnet_mixed_imagenet": "resnet_width",
    "nats_size": "channel_bench",
}


@dataclass(frozen=True)
class Band:
    """Networks of about equal FLOPs, and the rank correlation among them."""

    flops: tuple[float, float]
    networks: int
    spearman: Estimate


@dataclass(frozen=True)
class Measurement:
    """What was measured of a ranking on one table.

    Attributes:
        space: of the table's networks.
        table: the table, and what its accuracies are.
        networks: how many.
        params, flops: the smallest and the largest of them.
        spearman: the rank correlation with the accuracies, with its 95 % interval.
        bands: the same among networks of about equal FLOPs.
        chosen_on: whether the ranking was chosen on networks of this table, so that it may be worse on others.
    """

    space: str
    table: str
    networks: int
    params: tuple[float, float]
    flops: tuple[float, float]
    spearman: Estimate
    bands: tuple[Band, ...]
    chosen_on: bool

    def covers(self, cost: Cost) -> bool:
        """Whether a network is as large as those that were measured."""
        return self.params[0] <= cost.params <= self.params[1] and self.flops[0] <= cost.flops <= self.flops[1]

    def band_of(self, cost: Cost) -> Band | None:
        """The band that a network's FLOPs fall into."""
        return next((band for band in self.bands if band.flops[0] <= cost.flops <= band.flops[1]), None)


def measurements(ranking: str) -> list[Measurement]:
    """Return what was measured of a ranking, by its name; nothing for one that was never measured.

    >>> [found.space for found in measurements("no such ranking")]
    []
    """
    return [_measurement(record) for record in _records().get(ranking, [])]


@functools.cache
def _records() -> Mapping[str, Sequence[Mapping[str, Any]]]:
    text = resources.files("diswot.searching").joinpath(MEASURED).read_text(encoding="utf-8")
    found: Mapping[str, Sequence[Mapping[str, Any]]] = json.loads(text)["rankings"]
    return found


def _measurement(record: Mapping[str, Any]) -> Measurement:
    bands = tuple(Band(_pair(band["flops"]), band["networks"], Estimate(*band["spearman"])) for band in record["bands"])
    return Measurement(
        space=record["space"],
        table=record["table"],
        networks=record["networks"],
        params=_pair(record["params"]),
        flops=_pair(record["flops"]),
        spearman=Estimate(*record["spearman"]),
        bands=bands,
        chosen_on=record["chosen_on"],
    )


def _pair(values: Sequence[float]) -> tuple[float, float]:
    low, high = values
    return low, high


def describe_confidence(ranking: str, space: str, winner: Cost) -> list[str]:
    """Return lines that say how far the ranking can be trusted for a network of this size in this space."""
    found = measurements(ranking)
    if not found:
        return [f"how far {ranking} can be trusted here was never measured: `diswot tabulate`, then `diswot study`, measures it"]
    here = [one for one in found if one.space == space]
    nearest = [one for one in found if one.space == NEAREST.get(space)]
    if not here and not nearest:
        worst = min(found, key=lambda one: one.spearman.value)
        remedy = "`diswot tabulate`, then `diswot study`, measures it"
        return [
            f"how far {ranking} can be trusted in {space} was never measured: {remedy}; elsewhere ρ was {_rho(worst.spearman)} at worst"
        ]
    lines = [] if here else [f"{ranking} was never measured in {space}; in {NEAREST[space]}, the nearest space:"]
    for one in here or nearest:
        chosen = ", some of which it was chosen on" if one.chosen_on else ""
        line = f"trust: ρ {_rho(one.spearman)} on {one.networks:,} networks ({one.table}){chosen}"
        if (band := one.band_of(winner)) is not None:
            line += f"; {_rho(band.spearman)} among the {band.networks:,} of about the winner's FLOPs"
        lines.append(line)
        if (better := _clearly_better(one)) is not None:
            name, rival = better
            chosen = ", chosen on some of them" if rival.chosen_on else ""
            lines.append(f"{name} orders these networks better, ρ {_rho(rival.spearman)}{chosen}: think of --proxy {name}")
    if not any(one.covers(winner) for one in here or nearest):
        one = (here or nearest)[0]
        sizes = f"{_millions(one.params)} parameters and {_millions(one.flops)} FLOPs"
        lines.append(f"the winner lies outside what was measured there ({sizes}): compare the finalists before you trust it")
    return lines


def _clearly_better(one: Measurement) -> tuple[str, Measurement] | None:
    """The ranking with the largest correlation on the same table, where that lies above the whole interval of this one."""
    here = [(name, found) for name in _records() for found in measurements(name) if (found.space, found.table) == (one.space, one.table)]
    name, best = max(here, key=lambda rival: rival[1].spearman.value)
    return (name, best) if best.spearman.value > one.spearman.high else None


def _rho(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def _millions(ends: tuple[float, float]) -> str:
    low, high = (f"{end / 1e6:.3g}M" if end < 1e9 else f"{end / 1e9:.3g}G" for end in ends)
    return f"{low} to {high}"
