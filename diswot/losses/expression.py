"""`dkd(beta=2) + 0.5 * rkd`: which losses, with which options, in which proportion."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Sequence
from typing import Any

import yaml
from torch import Tensor, nn

from diswot.errors import ConfigError, shown
from diswot.losses.base import LOSSES, Loss, Terms, Truth
from diswot.observe import Observation
from diswot.registry import suggest

_NUMBER = r"\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?"
_PART = re.compile(rf"\s*(?:({_NUMBER})\s*\*\s*)?([A-Za-z][\w-]*)\s*(?:\(([^()]*)\))?\s*(?:\*\s*({_NUMBER}))?\s*")
_MOST = 10**6
_WHOLE = {"stage": (-_MOST, _MOST), "projectors": (1, 64), "width": (1, 2**16)}  # what whole numbers may be, where not 0 or more
_POSITIVE = ("temperature", "multiplier", "power")
Option = float | int | bool | str | None


class Sum(Loss):
    """Several losses at once. A weight multiplies what a loss adds to the cross-entropy, which is taken once, from the first."""

    def __init__(self, losses: Sequence[Loss], weights: Sequence[float]) -> None:
        super().__init__(ce_weight=losses[0].ce_weight)
        self.losses = nn.ModuleList(losses)
        self.weights = list(weights)
        self.needs = frozenset().union(*(loss.needs for loss in losses))
        self.least_batch = max(loss.least_batch for loss in losses)
        self.across_batch, self.reads_labels, self.adapters = (
            any(getattr(loss, name) for loss in losses) for name in ("across_batch", "reads_labels", "adapters")
        )

    @property
    def parts(self) -> list[Loss]:
        return typing.cast(list[Loss], list(self.losses))

    @property
    def label(self) -> str:
        return " + ".join(loss.label for loss in self.parts)

    @property
    def teacher_batch_statistics(self) -> bool:
        return any(loss.teacher_batch_statistics for loss in self.parts)

    def begin_epoch(self, epoch: int) -> None:
        for loss in self.parts:
            loss.begin_epoch(epoch)

    def hold_to(self, truth: Truth) -> None:
        for loss in self.parts:
            loss.hold_to(truth)

    def check(self, student: Observation, partner: Observation | None) -> None:
        for loss in self.parts:
            loss.check(student, partner)

    def build(self, student: Observation, partner: Observation) -> None:
        for loss in self.parts:
            loss.prepare(student, partner)

    def supervised(self, student: Observation, target: Tensor) -> Terms:
        return self.parts[0].supervised(student, target)

    def distil(self, student: Observation, partner: Observation, target: Tensor) -> Terms:
        terms: Terms = {}
        for loss, weight in zip(self.parts, self.weights, strict=True):
            for name, value in loss.distil(student, partner, target).items():
                terms[f"{loss.label}.{name}" if name in terms else name] = weight * value
        return terms


def create(expression: str, **options: Any) -> Loss:
    """The loss that an expression names, its options overriding the paper's defaults.

    Args:
        expression: a name; a name with options, `dkd(beta=2)`; or several with weights, `kd + 0.5 * rkd(angle_weight=10)`.
        options: of a single loss.

    Raises:
        ConfigError: a name or an option that is not known, a value that cannot be, or losses that cannot be combined.

    >>> create("kd", temperature=2.0).temperature
    2.0
    >>> [part.label for part in create("dkd(beta=2) + 0.5*rkd").parts]
    ['dkd', 'rkd']
    """
    parts = _parse(expression)
    if options:
        if len(parts) > 1:
            raise ConfigError(f"loss {shown(expression)}: options of several losses stand in the expression, as kd(temperature=2)")
        weight, name, written = parts[0]
        parts = [(weight, name, {**written, **options})]
    losses = [_make(name, given) for _, name, given in parts]
    weights = [weight for weight, _, _ in parts]
    if len(losses) == 1 and weights[0] == 1:
        return losses[0]
    _check_combination([name for _, name, _ in parts], losses)
    return Sum(losses, weights)


def _parse(expression: str) -> list[tuple[float, str, dict[str, Any]]]:
    """Weight, name and options of each part."""
    parts: list[tuple[float, str, dict[str, Any]]] = []
    place = 0
    while True:
        found = _PART.match(expression, place)
        if found is None or (found[1] and found[4]) or expression[found.end() : found.end() + 1] not in ("", "+"):
            rest = expression[place:].strip()
            raise ConfigError(f"loss {shown(expression)}: {shown(rest)} cannot be read; write kd, kd(temperature=2) or kd + 0.5*rkd")
        weight = float(found[1] or found[4] or 1)
        if weight == math.inf:
            raise ConfigError(f"loss {shown(expression)}: the weight {found[1] or found[4]} is too large")
        parts.append((weight, found[2].replace("-", "_").lower(), _options(found[2], found[3] or "")))
        if found.end() == len(expression):
            return parts
        place = found.end() + 1


def _options(loss: str, text: str) -> dict[str, Any]:
    options = {}
    for word in filter(str.strip, text.split(",")):
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"loss {loss}: {shown(word.strip())} is not option=value")
        name = key.strip().replace("-", "_")
        if name in options:
            raise ConfigError(f"loss {loss}: {name} is given twice")
        try:
            options[name] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError):
            raise ConfigError(f"loss {loss}: {shown(word.strip())} cannot be read") from None
    return options


def options_of(name: str) -> dict[str, Option]:
    """The options of a loss and their defaults.

    >>> options_of("kd")
    {'ce_weight': 0.1, 'kd_weight': 0.9, 'temperature': 4.0}
    """
    return {f.name: f.default for f in dataclasses.fields(LOSSES[name]) if f.init}  # type: ignore[misc]


def signature(name: str) -> str:
    """A loss with its defaults, as one would write it.

    >>> signature("rkd")
    'rkd(ce_weight=1.0, distance_weight=25.0, angle_weight=50.0)'
    """
    return f"{name}({', '.join(f'{key}={value}' for key, value in options_of(name).items())})"


def _make(name: str, given: dict[str, Any]) -> Loss:
    kind, known = LOSSES[name], options_of(name)
    hints = typing.get_type_hints(kind)
    values = {}
    for key, value in given.items():
        if key not in known:
            raise ConfigError(f"loss {name}: unknown option {key!r}: {suggest(key, known)}")
        values[key] = _option(name, key, value, hints[key])
    return kind(**values)  # type: ignore[arg-type]  # each was checked against its own field


def _option(loss: str, key: str, value: Any, hint: Any) -> Option:
    """The value as its type, in its range."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        if value in (None, "None"):
            return None
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    told = f"loss {loss}: {key} {shown(value)}:"
    if hint is bool or typing.get_origin(hint) is typing.Literal:
        choices = (True, False) if hint is bool else typing.get_args(hint)
        if value not in choices or isinstance(value, bool) is not (hint is bool):
            raise ConfigError(f"{told} one of {', '.join(str(choice).lower() for choice in choices)} is needed")
        return value
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if hint is int:
        low, high = _WHOLE.get(key, (0, _MOST))
        if not (number.is_integer() and low <= number <= high):
            raise ConfigError(f"{told} a whole number from {low:,} to {high:,} is needed")
        return int(number)
    share = key == "mask" or (loss, key) == ("skd", "alpha")
    if not 0 <= number < math.inf or (number == 0 and key in _POSITIVE) or (share and number > 1) or (key == "mask" and number == 1):
        raise ConfigError(f"{told} {'more than 0' if key in _POSITIVE else 'a share, 0 to 1,' if share else '0 or more'} is needed")
    return number


def _check_combination(names: list[str], losses: list[Loss]) -> None:
    partners = {loss.partner for loss in losses}
    if partners != {"teacher"}:
        odd = next(name for name, loss in zip(names, losses, strict=True) if loss.partner != "teacher")
        raise ConfigError(f"loss {odd} stands alone: only losses that look at the teacher can be combined or weighted")
    if len(set(names)) < len(names):
        raise ConfigError(f"loss {' + '.join(names)}: each one once")
