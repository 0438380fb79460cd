"""Costs by shapes alone: the same counts, shapes and refusals as torch's own, on real tensors."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from diswot.flops import FlopCounter


class Every(nn.Module):
    """Each of the operations whose shape has a rule of ours, and some that have none."""

    def __init__(self, kernel: int, stride: int, padding: int, dilation: int, groups: int, training: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, kernel, stride, padding, dilation, groups)
        self.norm, self.back, self.head = nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 8, 3, 2), nn.Linear(8, 5)
        self.train(training)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        found = self.norm(self.conv(image))
        total = found + found.relu()
        total += found
        total = total + 1.0 + found.mean((2, 3), keepdim=True)
        back = self.back(total)
        return found, total, back, back.mean(1), self.head(total.mean((-1, -2))), nn.functional.max_pool2d(back, 2)


@settings(deadline=None)
@given(
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]),
    training=st.booleans(),
    shape=st.tuples(st.integers(1, 3), st.just(4), st.integers(7, 9), st.integers(7, 9)),
)
def test_shapes_and_counts_are_torchs_own(
    kernel: int, stride: int, padding: int, dilation: int, groups: int, training: bool, shape: tuple[int, ...]
) -> None:
    model = Every(kernel, stride, padding, dilation, groups, training)
    with FlopCounterMode(display=False) as theirs:
        real = model(torch.zeros(shape))
    with FlopCounter() as ours:
        found = model.to("meta")(torch.zeros(shape, device="meta"))
    assert ours.total == theirs.get_total_flops() > 0
    assert [tuple(one.shape) for one in found] == [tuple(one.shape) for one in real]


@pytest.mark.parametrize(
    "call",
    [
        lambda device: nn.Conv2d(4, 8, 3, device=device)(torch.zeros(1, 3, 8, 8, device=device)),
        lambda device: nn.Conv2d(4, 8, 4, device=device)(torch.zeros(1, 4, 3, 3, device=device)),
        lambda device: nn.Linear(4, 8, device=device)(torch.zeros(1, 3, device=device)),
        lambda device: torch.zeros(2, 3, device=device) + torch.zeros(2, 4, device=device),
        lambda device: torch.zeros(3, device=device).add_(torch.zeros(2, 3, device=device)),
    ],
)
def test_what_does_not_fit_is_refused_as_by_torch(call: object) -> None:
    for device in ("cpu", "meta"):
        with pytest.raises(RuntimeError), FlopCounter():
            call(device)  # type: ignore[operator]


@pytest.mark.slow
def test_counting_imports_no_compiler() -> None:
    """Torch would, and it takes more than a second of each command."""
    code = (
        "import sys; from diswot.models.zoo import ZOO; from diswot.budget import count_network\n"
        "print(*(count_network(ZOO[name](num_classes=10), 3, 32).flops for name in ('resnet20', 'mobilenetv2', 'wrn_16_1')))\n"
        "print(*{'torch._dynamo', 'sympy'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    counts, compiler = found.stdout.splitlines()
    assert len(counts.split()) == 3 and not compiler, found.stderr
