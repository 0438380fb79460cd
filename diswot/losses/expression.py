"""Loss expressions: `dkd(beta=2) + 0.5 * rkd` says which losses, with which options, in which proportion."""

from __future__ import annotations

import ast
import dataclasses
import math
import re
import typing
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from diswot.config.fields import checked_values
from diswot.errors import ConfigError, brief_repr
from diswot.losses.base import LOSSES, Loss, SupervisedLoss
from diswot.observe import Observation
from diswot.schemes import Terms

Option = float | int | bool | str | None
_MAX_LENGTH = 2000  # characters of an expression
# What to write differently in Python outside quoted texts: module:Name as module.Name, logit-std as logit_std.
_SPELLING = re.compile(r"""(?P<quoted>'[^']*'|"[^"]*")|(?<=\w):(?=[A-Za-z_])|(?<=[A-Za-z])-(?=[A-Za-z])""")
_FLAG = re.compile(r"^--([\w-]+)")  # a fault names the flag of a field; an option is written as the field is named


class WeightedSum(Loss):
    """Several losses at once. A weight multiplies what a loss adds to the supervised loss, which is taken once, from the first."""

    def __init__(self, losses: Sequence[Loss], weights: Sequence[float]) -> None:
        super().__init__(ce_weight=losses[0].ce_weight)
        self.losses = nn.ModuleList(losses)
        self.weights = list(weights)
        self.scheme = losses[0].scheme  # type: ignore[misc]
        self.needs, self.student_needs = (
            frozenset[str]().union(*(getattr(loss, name) for loss in losses)) for name in ("needs", "student_needs")
        )
        self.min_batch_size = max(loss.min_batch_size for loss in losses)
        self.needs_whole_batch, self.reads_labels, self.has_adapters, self.reuses_classifier = (
            any(getattr(loss, name) for loss in losses)
            for name in ("needs_whole_batch", "reads_labels", "has_adapters", "reuses_classifier")
        )

    @property
    def parts(self) -> list[Loss]:
        """The losses."""
        return typing.cast(list[Loss], list(self.losses))

    @property
    def label(self) -> str:
        return " + ".join(loss.label for loss in self.parts)

    @property
    def is_supervised(self) -> bool:
        return self.parts[0].is_supervised

    @property
    def teacher_batch_statistics(self) -> bool:
        return any(loss.teacher_batch_statistics for loss in self.parts)

    def begin_training(self, epochs: int, labels: Tensor) -> None:
        super().begin_training(epochs, labels)
        for loss in self.parts:
            loss.begin_training(epochs, labels)

    def begin_epoch(self, epoch: int) -> None:
        for loss in self.parts:
            loss.begin_epoch(epoch)

    def set_supervised_loss(self, supervised_loss: SupervisedLoss) -> None:
        super().set_supervised_loss(supervised_loss)
        for loss in self.parts:
            loss.set_supervised_loss(supervised_loss)

    def check_observations(self, student: Observation, reference: Observation | None) -> None:
        for loss in self.parts:
            loss.check_observations(student, reference)

    def build_adapters(self, student: Observation, reference: Observation) -> None:
        for loss in self.parts:
            loss.make_adapters(student, reference)

    def supervised(self, student: Observation, target: Tensor) -> Terms:
        return self.parts[0].supervised(student, target)

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        terms: Terms = {}
        for loss, weight in zip(self.parts, self.weights, strict=True):
            for name, value in loss.checked_terms(student, reference, target).items():
                terms[f"{loss.label}.{name}" if name in terms else name] = weight * value
        return terms


@dataclasses.dataclass(frozen=True)
class _Part:
    """A loss of an expression: its weight, its name, and its options as they were written."""

    weight: float
    name: str
    options: dict[str, Any]


def create(expression: str, **options: Any) -> Loss:
    """Create the loss that an expression names, its options overriding the paper's defaults.

    Args:
        expression: a name; a name with options, `dkd(beta=2)`; or several with weights, `kd + 0.5 * rkd(angle_weight=10)`. A loss of your
            own is named `module:Class`.
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
            raise ConfigError(f"loss {brief_repr(expression)}: options of several losses stand in the expression, as kd(temperature=2)")
        parts = [dataclasses.replace(parts[0], options={**parts[0].options, **options})]
    losses = [_make(part) for part in parts]
    if len(losses) == 1 and parts[0].weight == 1:
        return losses[0]
    _check_combination([part.name for part in parts], losses)
    return WeightedSum(losses, [part.weight for part in parts])


def split_expressions(expressions: str) -> tuple[str, ...]:
    """The loss expressions of a text, separated by semicolons, each once.

    Raises:
        ConfigError: there is none.

    >>> split_expressions("none; kd + 0.5*rkd; none")
    ('none', 'kd + 0.5*rkd')
    """
    found = tuple(dict.fromkeys(part.strip() for part in expressions.split(";") if part.strip()))
    if not found:
        raise ConfigError(f"loss {brief_repr(expressions)} names none; write kd, kd(temperature=2), kd + 0.5*rkd, or several as kd; dkd")
    return found


def scaled(expression: str, factor: float) -> str:
    """The expression of a loss whose parts, but that of the labels, weigh `factor` times as much.

    Raises:
        ConfigError: it cannot be read.

    >>> scaled("dkd(beta=2) + 0.5*rkd", 0.1)
    '0.1*dkd(beta=2) + 0.05*rkd'
    """
    return " + ".join(_written(dataclasses.replace(part, weight=part.weight * factor)) for part in _parse(expression))


def _written(part: _Part) -> str:
    """A part as one would write it."""
    options = ", ".join(f"{name}={value!r}" for name, value in part.options.items())
    weight = "" if part.weight == 1 else f"{part.weight:.6g}*"
    return f"{weight}{part.name}" + (f"({options})" if options else "")


def _parse(expression: str) -> list[_Part]:
    """The parts of an expression: it is a Python expression of sums, products with numbers, and calls with keywords."""
    python = _SPELLING.sub(lambda found: found["quoted"] or {":": ".", "-": "_"}[found[0]], expression.strip())
    try:
        if len(python) > _MAX_LENGTH:
            raise ValueError
        node: ast.expr = ast.parse(python, mode="eval").body
        parts: list[_Part] = []
        while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            parts.insert(0, _weighted_part(node.right))
            node = node.left
        return [_weighted_part(node), *parts]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ConfigError(f"loss {brief_repr(expression)} cannot be read; write kd, kd(temperature=2) or kd + 0.5*rkd") from None


def _weighted_part(node: ast.expr) -> _Part:
    """`rkd`, `0.5 * rkd(...)` or `rkd(...) * 0.5`; a ValueError for anything else."""
    if not isinstance(node, ast.BinOp):
        return _named_part(node, 1.0)
    if not isinstance(node.op, ast.Mult):
        raise ValueError
    number, named = (node.left, node.right) if isinstance(node.left, ast.Constant) else (node.right, node.left)
    weight = ast.literal_eval(number)
    if type(weight) not in (int, float):
        raise ValueError
    if not 0 <= weight < math.inf:
        raise ConfigError(f"loss {ast.unparse(named)}: the weight {weight} must be 0 or more and finite")
    return _named_part(named, float(weight))


def _named_part(node: ast.expr, weight: float) -> _Part:
    """A name, perhaps with options in brackets; a ValueError for anything else."""
    called = node.func if isinstance(node, ast.Call) else node
    name = _name(called)
    if not isinstance(node, ast.Call):
        return _Part(weight, name, {})
    if node.args or any(keyword.arg is None for keyword in node.keywords):
        raise ConfigError(f"loss {name}: write its options as option=value")
    options: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg in options:
            raise ConfigError(f"loss {name}: {keyword.arg} is given twice")
        options[str(keyword.arg)] = _value(name, keyword.value)
    return _Part(weight, name, options)


def _name(node: ast.expr) -> str:
    """`kd` of a name, `module:Name` of a dotted one; a ValueError for anything else."""
    if isinstance(node, ast.Name):
        return node.id.lower()
    if not isinstance(node, ast.Attribute):
        raise ValueError
    return f"{ast.unparse(node.value)}:{node.attr}"


def _value(loss: str, node: ast.expr) -> Any:
    """A number, a truth value, a text, or a bare word, which is a text."""
    if isinstance(node, ast.Name):
        return {"true": True, "false": False, "null": None}.get(node.id.lower(), node.id)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ConfigError(f"loss {loss}: {brief_repr(ast.unparse(node))} is no plain value") from None


def options_of(name: str) -> dict[str, Option]:
    """The options of a loss and their defaults.

    >>> options_of("kd")
    {'ce_weight': 0.1, 'kd_weight': 0.9, 'temperature': 4.0}
    """
    return {field.name: typing.cast(Option, field.default) for field in dataclasses.fields(LOSSES[name]) if field.init}


def signature(name: str) -> str:
    """A loss with its defaults, as one would write it.

    >>> signature("rkd")
    'rkd(ce_weight=1.0, distance_weight=25.0, angle_weight=50.0)'
    """
    return f"{name}({', '.join(f'{key}={value}' for key, value in options_of(name).items())})"


def _make(part: _Part) -> Loss:
    kind = LOSSES[part.name]
    values, faults = checked_values(kind, part.options)
    if faults:
        told = "; ".join(_FLAG.sub(lambda flag: flag[1].replace("-", "_"), fault) for fault in faults)
        raise ConfigError(f"loss {part.name}: {told}".replace("unknown key", "unknown option"))
    return kind(**values)


def _check_combination(names: list[str], losses: list[Loss]) -> None:
    odd = next((name for name, loss in zip(names, losses, strict=True) if not loss.scheme.uses_teacher), None)
    if odd is not None:
        raise ConfigError(f"loss {odd} stands alone: only losses that look at the teacher can be combined or weighted")
    if len({loss.scheme for loss in losses}) > 1:
        schemes = ", ".join(f"{name} by {loss.scheme.__name__}" for name, loss in zip(names, losses, strict=True))
        raise ConfigError(f"loss {' + '.join(names)}: they are trained by different schemes ({schemes}), and cannot be combined")
    if len(set(names)) < len(names):
        raise ConfigError(f"loss {' + '.join(names)}: each one once")
