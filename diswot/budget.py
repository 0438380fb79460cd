"""Budgets on parameters, FLOPs, depth and latency, and how the first three are counted (`diswot.latency` measures the last)."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from diswot.architecture import Architecture
from diswot.errors import ArchitectureError, BudgetError, first_line
from diswot.space import Cost, ImageSpec, SearchSpace

if TYPE_CHECKING:
    import torch
    from torch import nn

LIMITS = ("params", "flops", "depth", "latency")
UNLIMITED = "none"
_SUFFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
_TIMES = {"": 1.0, "us": 1e-3, "ms": 1.0, "s": 1e3}
_NUMBER = re.compile(r"(\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+)\s*([a-z]*)", re.IGNORECASE)
_EXAMPLES = {"params": "1M", "flops": "100M", "depth": "20", "latency": "5ms"}


@dataclass(frozen=True)
class Range:
    """Both ends included. `low` is 0 where only a limit was given; latencies are in milliseconds."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def parse_range(what: str, text: str | float) -> Range:
    """Read `1M`, `100k`, `2.5e6`, `5ms`, or two of them with `..` between as a range.

    Raises:
        BudgetError: the text is no positive quantity, or the range is empty.

    >>> parse_range("params", "0.8M..1M")
    Range(low=800000.0, high=1000000.0)
    >>> parse_range("latency", "5ms").high
    5.0
    >>> parse_range("params", "1Q")
    Traceback (most recent call last):
    diswot.errors.BudgetError: --params '1Q' is not a positive quantity: write --params 1M, or --params 0.5M..1M for a range
    """
    low, dots, high = str(text).strip().partition("..")
    ends = [_quantity(what, end, text) for end in ((low, high) if dots else (low,))]
    if dots and ends[0] > ends[1]:
        raise BudgetError(f"--{what} {str(text)!r} is an empty range: write the smaller end first")
    return Range(ends[0] if dots else 0.0, ends[-1])


def _quantity(what: str, text: str, whole: str | float) -> float:
    match = _NUMBER.fullmatch(text.strip())
    units = _TIMES if what == "latency" else _SUFFIXES
    unit = match[2].lower() if match else ""
    value = float(match[1]) * units.get(unit, math.nan) if match else math.nan
    if not (math.isfinite(value) and value > 0):
        example = _EXAMPLES[what]
        unit = example.lstrip("0123456789")
        remedy = f"write --{what} {example}, or --{what} 0.5{unit}..1{unit} for a range" if unit else f"write --{what} {example}"
        raise BudgetError(f"--{what} {str(whole)!r} is not a positive quantity: {remedy}")
    return value


@dataclass(frozen=True)
class Budget:
    """A limit on each cost of a student; one that is not given does not bind.

    >>> budget = Budget.parse({"params": "1M", "depth": 20})
    >>> budget.admits(Cost(params=900_000, flops=1, depth=21))
    False
    >>> budget
    Budget(params=Range(low=0.0, high=1000000.0), flops=None, depth=Range(low=0.0, high=20.0), latency=None)
    """

    params: Range | None = None
    flops: Range | None = None
    depth: Range | None = None
    latency: Range | None = None

    @classmethod
    def parse(cls, limits: Mapping[str, str | float | None]) -> Budget:
        """Read the limits; None and `none` are no limit."""
        return cls(**{what: parse_range(what, text) for what, text in limits.items() if text not in (None, UNLIMITED)})

    def counted(self) -> dict[str, Range]:
        """The limits that arithmetic can check, by name."""
        limits = {"params": self.params, "flops": self.flops, "depth": self.depth}
        return {what: limit for what, limit in limits.items() if limit is not None}

    def intersect(self, limits: Mapping[str, Range]) -> Budget:
        """The budget with further limits on what is named; where there was one, both hold.

        >>> Budget.parse({"params": "1M"}).intersect({"params": Range(9e5, 2e6)}).params
        Range(low=900000.0, high=1000000.0)
        """
        met = {}
        for name, limit in limits.items():
            own: Range = getattr(self, name) or Range(0.0, math.inf)
            met[name] = Range(max(own.low, limit.low), min(own.high, limit.high))
        return replace(self, **met)

    def admits(self, cost: Cost) -> bool:
        """Whether the counted limits hold; latency is measured apart, and only for networks that pass here."""
        return all(getattr(cost, what) in limit for what, limit in self.counted().items())

    def excess(self, cost: Cost) -> float:
        """Return the distance from the counted limits, a sum of logarithms of ratios; 0 within them."""
        total = 0.0
        for what, limit in self.counted().items():
            value = max(getattr(cost, what), 1)
            total += max(0.0, math.log(value / limit.high), math.log(max(limit.low, 1) / value))
        return total


def cost_of(space: SearchSpace, arch: Architecture, spec: ImageSpec) -> Cost:
    """Count the cost of a network of a space: by the space's own arithmetic, else by tracing it without memory."""
    cost = space.count(arch, spec.num_classes, spec.in_chans, spec.input_size)
    if cost is None:
        import torch

        with torch.device("meta"):
            model = space.build(arch, spec.num_classes, spec.in_chans)
        weightless = all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
        cost = (_trace if weightless else count_network)(model, spec.in_chans, spec.input_size)  # what was built for this needs no copy
    return cost


_REMEMBERED = 4096


class CostCounter:
    """The costs of a space's networks, each traced once however often it is asked for; of those that are counted by arithmetic the last few
    thousand are remembered.

    >>> from diswot.space import load_space
    >>> counter = CostCounter(load_space("s0"), ImageSpec(10, 3, 32))
    >>> counter(Architecture("resnet_depth", {"depths": [3, 3, 3]})).params
    272474
    """

    def __init__(self, space: SearchSpace, spec: ImageSpec) -> None:
        self.space, self.spec = space, spec
        self._costs: dict[Architecture, Cost] = {}

    @functools.cached_property
    def by_arithmetic(self) -> bool:
        """Whether the space counts costs itself; otherwise every network is traced, which takes ten milliseconds or more."""
        spec = self.spec
        return self.space.count(self.space.extremes()[0], spec.num_classes, spec.in_chans, spec.input_size) is not None

    def __call__(self, arch: Architecture) -> Cost:
        if arch not in self._costs:
            if self.by_arithmetic and len(self._costs) == _REMEMBERED:
                self._costs.clear()
            self._costs[arch] = cost_of(self.space, arch, self.spec)
        return self._costs[arch]


def count_params(space: SearchSpace, arch: Architecture, spec: ImageSpec) -> int:
    """Count the parameters alone, of a network that is built without memory."""
    import torch

    with torch.device("meta"):
        return sum(p.numel() for p in space.build(arch, spec.num_classes, spec.in_chans).parameters())


def count_network(model: nn.Module, in_chans: int, input_size: int) -> Cost:
    """Count any network by one pass of shapes (tensors of the meta device: no memory, no arithmetic, no data).

    The FLOPs are torch's own count, halved since torch counts two for a multiply-accumulate.

    Args:
        model: the network; it is left as it is.
        in_chans, input_size: the image is (in_chans, input_size, input_size).

    >>> from torch import nn
    >>> count_network(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(128, 10)), 3, 4)
    Cost(params=1514, flops=4736, depth=2)
    """
    import copy

    return _trace(copy.deepcopy(model).to("meta"), in_chans, input_size)


def _trace(meta: nn.Module, in_chans: int, input_size: int) -> Cost:
    """Count a network of the meta device."""
    import torch

    from diswot.flops import FlopCounter

    image = torch.empty(1, in_chans, input_size, input_size, device="meta", requires_grad=True)
    try:
        with FlopCounter() as counter:
            logits = meta.eval()(image)
    except (RuntimeError, ValueError) as error:
        raise BudgetError(f"{type(meta).__name__} cannot take {input_size}x{input_size} images: {first_line(error)}") from None
    params = sum(p.numel() for p in meta.parameters())
    return Cost(params, counter.total // 2, _longest_path(logits, image))


def _longest_path(output: torch.Tensor, image: torch.Tensor) -> int:
    """Convolutions and matrix products on the longest way from the image to the output, found on the autograd graph; 0 where none leads."""
    depth: dict[object, float] = {}
    stack = [output.grad_fn]
    while stack:
        node = stack[-1]
        if node is None or node in depth:
            stack.pop()
            continue
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        waiting = [parent for parent in parents if parent not in depth]
        if waiting:
            stack += waiting
            continue
        counts = node.name().startswith(("Convolution", "Addmm", "Mm"))
        begins = 0.0 if getattr(node, "variable", None) is image else -math.inf
        depth[node] = max((depth[parent] for parent in parents), default=begins) + counts
        stack.pop()
    found = depth.get(output.grad_fn, -math.inf)
    return int(found) if math.isfinite(found) else 0


_MOST_PARAMS = 2_000_000_000


def check_buildable(arch: Architecture, cost: Cost) -> None:
    """Refuse a network that no machine here can hold by an `ArchitectureError`, before it is built."""
    if cost.params > _MOST_PARAMS:
        raise ArchitectureError(f"{arch.space} {arch.digest}: {cost.params:,} parameters are too many to build (at most {_MOST_PARAMS:,})")
