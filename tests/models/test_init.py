"""Weights from one stream of numbers a seed: the same for the same seed, and with the deviations that they should have."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import kstest
from torch import nn

from diswot.models.base import conv_bn_relu, repeated
from diswot.models.init import INITS, NormalStream, initialise, seeded
from diswot.models.zoo import ZOO


@pytest.mark.parametrize("init", INITS)
def test_initialisation_is_the_same_for_the_same_seed_in_any_layout(init: str) -> None:
    a, b = ZOO["resnet8"](), ZOO["resnet8"]().to(memory_format=torch.channels_last)
    for model in (a, b):
        initialise(model, init, 3)  # type: ignore[arg-type]
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    initialise(b, init, 4)  # type: ignore[arg-type]
    assert not torch.equal(a.conv1.weight, b.conv1.weight)


def test_kaiming_and_gaussian_have_their_deviations_and_orthogonal_its_rows() -> None:
    model = ZOO["resnet20"]()
    weight = model.layer3[1].conv1.weight
    initialise(model, "kaiming", 0)
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)
    initialise(model, "gaussian", 0)
    assert weight.std().item() == pytest.approx(1, rel=0.02)
    initialise(model, "orthogonal", 0)
    rows = weight.flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(64), atol=1e-5, rtol=0)


def test_the_stream_of_normals_is_normal_and_does_not_repeat() -> None:
    numbers = NormalStream(7).take(0, (1 << 20) + 1000)
    assert kstest(numbers[:20_000].numpy(), "norm").pvalue > 0.01
    assert not torch.equal(numbers[:1000], numbers[1 << 20 :])


def test_layers_do_not_share_their_numbers() -> None:
    model = ZOO["resnet8"]()
    initialise(model, "gaussian", 0)
    block = model.layer1[0]
    assert not torch.equal(block.conv1.weight, block.conv2.weight)


def test_repeated_modules_are_those_that_would_be_constructed_and_share_nothing() -> None:
    with seeded(0):
        copies = repeated(conv_bn_relu(3, 4, 3), 3)
    with seeded(0):
        constructed = [conv_bn_relu(3, 4, 3) for _ in range(3)]
    for copy, other in zip(copies, constructed, strict=True):
        assert repr(copy) == repr(other)
        assert all(torch.equal(x, y) for x, y in zip(copy.state_dict().values(), other.state_dict().values(), strict=True))
    first, second, third = copies
    calls: list[nn.Module] = []
    second.register_forward_hook(lambda module, _inputs, _output: calls.append(module))
    for module in copies:
        module(torch.randn(2, 3, 8, 8))
    assert calls == [second] and first[1].running_mean is not third[1].running_mean
    third.eval()
    assert first.training and second.training
    assert len({parameter.data_ptr() for module in copies for parameter in module.parameters()}) == 9
