"""The CSV of a table of trained networks, and how far its accuracies can be trusted."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diswot.architecture import choices_text
from diswot.statistics.bootstrap import Estimate, bootstrap_interval
from diswot.statistics.correlation import spearman
from diswot.tabulation.networks import TableNetwork
from diswot.tabulation.trainings import ALONE, Training, loss_name

TABLE = "table.csv"
_FEWEST = 8  # networks below which a rank correlation between two seeds says nothing
TOO_FEW = f"fewer than {_FEWEST} were trained twice, too few to tell how alike two trainings rank them"
Accuracies = Mapping[Training, float]


def table_csv(networks: Sequence[TableNetwork], accuracies: Accuracies, loss: str, seeds: Sequence[int], dataset: str, split: str) -> str:
    """Return the table: a row for each network that has been trained with all `seeds`, in the order of the networks.

    `{dataset}_{loss}_{split}_acc` is the mean over the seeds that all networks have; the accuracy of every single training stands beside
    it, in `{dataset}_{loss}_seed{N}`.
    """
    rows = []
    columns = ["choices", "params", "flops", "depth", "source"]
    for number, network in enumerate(networks):
        cost = network.cost
        row = {
            "choices": choices_text(network.arch.choices),
            "params": cost.params,
            "flops": cost.flops,
            "depth": cost.depth,
            "source": network.source,
        }
        of_network = {training: top1 for training, top1 in accuracies.items() if training.network == number}
        for one, needed in ((loss, seeds), (ALONE, seeds[:1])):
            found = [of_network.get(Training(number, one, seed), math.nan) for seed in needed]
            if not math.isnan(mean := float(np.mean(found))):
                row[f"{dataset}_{loss_name(one)}_{split}_acc"] = round(mean, 4)
        row |= {f"{dataset}_{loss_name(t.loss)}_seed{t.seed}": round(top1, 4) for t, top1 in of_network.items()}
        if f"{dataset}_{loss_name(loss)}_{split}_acc" in row:
            rows.append(row)
            columns += [name for name in row if name not in columns]
    text = io.StringIO()
    writer = csv.DictWriter(text, sorted(columns, key=_order), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _order(column: str) -> tuple[int, str]:
    """Facts on the network first, then accuracies, then those of single trainings."""
    facts = ("choices", "params", "flops", "depth", "source")
    return (facts.index(column), "") if column in facts else (len(facts) + (not column.endswith("_acc")), column)


@dataclass(frozen=True)
class Agreement:
    """How alike two trainings rank the networks that have both.

    Attributes:
        what: the two, in words.
        networks: how many have both.
        spearman: the rank correlation, with its 95 % interval over the networks.
        difference: the mean of the second accuracy minus the first, in points.
        spread: the standard deviation of that difference.
    """

    what: str
    networks: int
    spearman: Estimate
    difference: float
    spread: float


def agreements(accuracies: Accuracies, loss: str, seed: int, repeat_seed: int) -> list[Agreement]:
    """The agreement of one seed with another, and of the distilled accuracy with that of the labels alone."""
    first = {training.network: top1 for training, top1 in accuracies.items() if (training.loss, training.seed) == (loss, seed)}
    found = []
    for what, other_loss, other_seed in (("one seed and another", loss, repeat_seed), (f"the labels alone and {loss}", ALONE, seed)):
        others = {number: accuracies.get(Training(number, other_loss, other_seed)) for number in first}
        pairs = [(other, first[number]) for number, other in others.items() if other is not None]
        if len(pairs) >= _FEWEST and (other_loss, other_seed) != (loss, seed):
            found.append(_agreement(what, np.array(pairs)))
    return found


def _agreement(what: str, pairs: NDArray[np.float64]) -> Agreement:
    first, second = pairs.T
    low, high = bootstrap_interval(spearman, first, second, rng=np.random.default_rng(0))
    difference = second - first
    estimate = Estimate(spearman(first, second), low, high)
    return Agreement(what, len(pairs), estimate, float(difference.mean()), float(difference.std(ddof=1)))
