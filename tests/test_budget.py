from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from diswot.budget import Budget, cost_of, count_network, parse_range
from diswot.errors import BudgetError
from diswot.models.zoo import ZOO
from diswot.space import BUILT_IN, Cost, ImageSpec, load_space


@pytest.mark.parametrize(
    ("what", "text", "low", "high"),
    [
        ("params", "1M", 0, 1e6),
        ("params", "1m", 0, 1e6),
        ("params", "250k", 0, 250e3),
        ("params", "1e6", 0, 1e6),
        ("params", 1000000, 0, 1e6),
        ("params", "0.8M..1M", 8e5, 1e6),
        ("flops", ".5G", 0, 5e8),
        ("depth", "20", 0, 20),
        ("latency", "5ms", 0, 5),
        ("latency", "0.01s", 0, 10),
        ("latency", "800us..2ms", 0.8, 2),
        ("latency", "5", 0, 5),
    ],
)
def test_quantities_are_read(what: str, text: str | float, low: float, high: float) -> None:
    found = parse_range(what, text)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize("text", ["1Q", "-5", "0", "", "M", "1MM", "nan", "inf", "1M..", "..1M", "5ms", "1,000", "0x10", "1e999"])
def test_what_is_no_quantity_is_refused_with_the_value_and_an_example(text: str) -> None:
    with pytest.raises(BudgetError) as caught:
        parse_range("params", text)
    assert repr(text) in str(caught.value)
    assert "--params 1M" in str(caught.value)


def test_an_empty_range_is_refused() -> None:
    with pytest.raises(BudgetError, match="empty range"):
        parse_range("params", "2M..1M")


@given(st.floats(1, 1e12), st.floats(1, 1e12))
def test_ranges_hold_their_ends(a: float, b: float) -> None:
    low, high = sorted((a, b))
    found = parse_range("flops", f"{low!r}..{high!r}")
    assert low in found and high in found
    assert low * 0.99 not in found or low * 0.99 >= low


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_excess_is_zero_exactly_within(params: int, flops: int) -> None:
    budget = Budget.parse({"params": "1k..1M", "flops": "5M"})
    cost = Cost(params, flops, 1)
    assert (budget.excess(cost) == 0) == budget.admits(cost)


@pytest.mark.parametrize("name", sorted(ZOO))
def test_counts_of_the_zoo_are_torchs_own(name: str) -> None:
    """Run on real tensors, outside of what is tested: FlopCounterMode counts two for a multiply-accumulate."""
    model = ZOO[name](num_classes=10).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, 3, 32, 32))
    cost = count_network(model, 3, 32)
    assert cost.flops * 2 == counter.get_total_flops()
    assert cost.params == sum(p.numel() for p in model.parameters())
    assert next(model.parameters()).device.type == "cpu", "the model itself is left where it was"


@pytest.mark.parametrize(("name", "layers"), [("resnet20", 20), ("resnet56", 56), ("resnet110", 110), ("wrn_40_2", 38), ("vgg8", 6)])
def test_depth_counts_the_layers_of_the_longest_path(name: str, layers: int) -> None:
    """ResNet-n has n; WRN-40's name counts two shortcuts that lie beside the path; VGG-8's head is one linear layer, not three."""
    assert count_network(ZOO[name](num_classes=10), 3, 32).depth == layers


def test_depth_of_parallel_paths_is_that_of_the_longer() -> None:
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.long, self.short = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)), nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.long(x) + self.short(x)

    assert count_network(Fork(), 3, 4).depth == 2


def test_a_space_without_arithmetic_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    space = load_space("s0")
    arch = space.extremes()[0]
    exact = cost_of(space, arch, ImageSpec(100, 3, 32))
    monkeypatch.setattr(type(space), "count", lambda *_: None)
    assert cost_of(space, arch, ImageSpec(100, 3, 32)) == exact


@pytest.mark.parametrize("name", [n for n in BUILT_IN if n != "zoo"])
def test_counting_by_arithmetic_builds_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    space = load_space(name)
    monkeypatch.setattr(type(space), "build", None)
    assert cost_of(space, space.extremes()[0], ImageSpec(10, 3, 32)).params > 0


def test_odd_image_sizes_are_counted_exactly() -> None:
    for name in ("s0", "s1", "s2", "nasbench201"):
        space = load_space(name)
        arch = space.extremes()[0]
        for side in (28, 33, 50):
            assert space.count(arch, 10, 3, side) == count_network(space.build(arch, 10), 3, side), (name, side)
