"""What a search did to the choices of its candidates: which it settled on, and how much two architectures differ."""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from diswot.architecture import Architecture

_TENTH = 10  # the first and the last candidates of a search are this part of it
_SETTLED, _COMMON = 0.9, 0.5  # shares of the last candidates with one value, and of the first, from and up to which it counts as settled
_FEWEST = 40  # candidates below which nothing is said
Scalar = str | int | float | bool | None


def flatten(choices: Any, path: str = "") -> Iterator[tuple[str, Scalar]]:
    """Yield every single choice with its place.

    Strings are taken apart into their words, and those of digits into their digits.

    >>> dict(flatten({"stem": 8, "stages": [{"kernel": 3}, {"kernel": 5}]}))
    {'stem': 8, 'stages[0].kernel': 3, 'stages[1].kernel': 5}
    >>> dict(flatten("8:16"))
    {'[0]': '8', '[1]': '16'}
    >>> dict(flatten("0120"))
    {'[0]': '0', '[1]': '1', '[2]': '2', '[3]': '0'}
    """
    if isinstance(choices, dict):
        for key, value in choices.items():
            yield from flatten(value, f"{path}.{key}" if path else str(key))
    elif isinstance(choices, list | tuple):
        for number, value in enumerate(choices):
            yield from flatten(value, f"{path}[{number}]")
    elif isinstance(choices, str) and len(words := list(choices) if choices.isdigit() else re.findall(r"\w+", choices)) > 1:
        for number, word in enumerate(words):
            yield f"{path}[{number}]", word
    else:
        yield path, choices


def distance(a: Architecture, b: Architecture) -> float:
    """Return the fraction of the single choices that two architectures differ in.

    >>> distance(Architecture("s", {"depths": [1, 3, 5]}), Architecture("s", {"depths": [1, 3, 7]}))
    0.3333333333333333
    """
    ours, theirs = dict(flatten(a.choices)), dict(flatten(b.choices))
    places = ours.keys() | theirs.keys()
    return sum(ours.get(place) != theirs.get(place) for place in places) / max(len(places), 1)


@dataclass(frozen=True)
class SettledChoice:
    """A choice that nearly all of the last candidates of a search share, and few of its first.

    Attributes:
        place: where it stands in the choices.
        value: what it is.
        at_bound: `smallest` or `largest` where no candidate and no extreme of the space goes further, else "".
        early, late: the share of the first and of the last tenth of the candidates that have it.
    """

    place: str
    value: Scalar
    at_bound: str
    early: float
    late: float


def settled_choices(candidates: Iterable[Architecture], count: int, extremes: Sequence[Architecture]) -> list[SettledChoice]:
    """Return the choices that a search settled on: evolution goes where the score grows, which need not be where the accuracy does.

    Args:
        candidates: those of the search, in order; they are looked at one by one, and may be more than fit into memory.
        count: how many they are.
        extremes: of the space.
    """
    tenth = count // _TENTH
    if count < _FEWEST:
        return []
    first: list[dict[str, Scalar]] = []
    last = deque[dict[str, Scalar]](maxlen=tenth)
    bounds: dict[str, tuple[float, float]] = {}
    for arch in itertools.chain(extremes, candidates):
        choices = dict(flatten(arch.choices))
        _widen(bounds, choices)
        if len(first) < tenth + len(extremes):
            first.append(choices)
        last.append(choices)
    del first[: len(extremes)]
    found = []
    for place in last[-1]:
        late_values = [one.get(place) for one in last]
        value = max(set(late_values), key=late_values.count)
        late, early = (sum(one.get(place) == value for one in part) / tenth for part in (last, first))
        if late >= _SETTLED and early <= _COMMON:
            found.append(SettledChoice(place, value, _bound(value, bounds.get(place)), early, late))
    return found


def _is_number(value: Scalar) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _widen(bounds: dict[str, tuple[float, float]], choices: Mapping[str, Scalar]) -> None:
    """Take further choices into the smallest and the largest number at each place."""
    for place, value in choices.items():
        if _is_number(value):
            low, high = bounds.get(place, (value, value))
            bounds[place] = min(low, value), max(high, value)


def _bound(value: Scalar, ends: tuple[float, float] | None) -> str:
    if ends is None or not _is_number(value):
        return ""
    return "smallest" if value == ends[0] else "largest" if value == ends[1] else ""
