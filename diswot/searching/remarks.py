"""What a search comes to, in words: the winner's lead, what evolution settled on, and how far the ranking can be trusted here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diswot.architecture import Architecture
from diswot.budget import UNLIMITED
from diswot.searching.choices import SettledChoice
from diswot.searching.closing import Finalist, Lead
from diswot.searching.confidence import describe_confidence

_MANY = 2  # times the cost of the others that a user should be told of
_MOST_CHOICES = 4  # that a search settled on, in a line


def describe_outcome(
    asked: Mapping[str, Any],
    table: Sequence[Finalist],
    winner: Architecture,
    lead: Lead,
    settled: Sequence[SettledChoice],
    has_front: bool,
) -> list[str]:
    """Lines about the winner: its lead over networks of its size, what the search settled on, costs without a limit, and how far the
    ranking can be trusted.

    Args:
        asked: the options of the search.
        table: the finalists, the one that is ranked first at the head.
        winner, lead, settled: see `SearchResult`.
        has_front: whether the winner is the knee of a front.
    """
    bounded = sorted(settled, key=lambda choice: not choice.at_bound)
    lines = ["* outside of the budget: no candidate could be like it"] if any(not row.within_budget for row in table) else []
    lines += _why_not_first(table, winner, has_front)
    if lead.peers:
        whom = "of its parameters and FLOPs, to a tenth" if lead.same_size else "within the budget; there are none of its size"
        again = f"under another seed {lead.behind_again} of {lead.peers}"
        lines.append(f"the ranking puts the winner before {lead.behind} of {lead.peers} random networks {whom}; {again}")
    if bounded:
        more = f", and {len(bounded) - _MOST_CHOICES} more" if len(bounded) > _MOST_CHOICES else ""
        lines.append(f"the search settled on {', '.join(map(_settled, bounded[:_MOST_CHOICES]))}{more}")
    if any(choice.at_bound for choice in bounded):
        lines.append("a score that drives a choice to its bound may reward more than the accuracy does: compare the finalists")
    first = table[0]
    return [*lines, *_unlimited(asked, table), *describe_confidence(asked["proxy"], first.arch.space, first.cost)]


def _why_not_first(table: Sequence[Finalist], winner: Architecture, has_front: bool) -> list[str]:
    """Why the winner is not ranked first, where it is not."""
    row = next(row for row in table if row.arch == winner)
    if row.rank == 1:
        return []
    if row.trained is not None:
        return [f"the winner, rank {row.rank}, is the one that was best when it was trained"]
    if has_front:
        return [f"the winner, rank {row.rank}, is the knee of the front: the best by score alone may cost more"]
    ahead = [f"the {other.role} one" for other in table if other.rank < row.rank]
    whom = f"{' and '.join(ahead)} stand{'s' if len(ahead) == 1 else ''}" if ahead else "another candidate stands"
    again = "ranks were taken anew with the networks of this table among the candidates"
    return [f"the winner led when the search ended; {again}, and now {whom} before it: compare them"]


def _settled(choice: SettledChoice) -> str:
    bound = f", the {choice.at_bound} there is" if choice.at_bound else ""
    return f"{choice.place} = {choice.value} ({choice.early:.0%} of its first candidates, {choice.late:.0%} of its last{bound})"


def _unlimited(asked: Mapping[str, Any], table: Sequence[Finalist]) -> list[str]:
    """A cost without a limit of which the winner has far more than the networks beside it."""
    winner, *others = table
    for what in ("FLOPs", "params"):
        most = max((getattr(row.cost, what.lower()) for row in others), default=0)
        times = getattr(winner.cost, what.lower()) / max(most, 1)
        if most and times >= _MANY and asked[what.lower()] == UNLIMITED and not asked["latency"]:
            return [f"the winner has {times:.1f} times the {what} of any other here, which the budget leaves free: limit --{what.lower()}"]
    return []
