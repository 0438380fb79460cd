"""Batch norms of a frozen network made part of the convolutions before them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diswot.models.zoo import ZOO
from diswot.training.fuse import fuse_conv_bn
from tests.training.samples import Small


def count_norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("name", ["resnet20", "resnet20_pad", "wrn_16_1", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2"])
def test_fused_norms_compute_the_same(name: str) -> None:
    torch.manual_seed(0)
    model = ZOO[name](num_classes=4).eval()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
    norms = count_norms(model)
    twin = fuse_conv_bn(model, torch.randn(2, 3, 32, 32))
    x = torch.randn(4, 3, 32, 32)
    assert twin is not model and count_norms(twin) < norms
    assert count_norms(model) == norms, "the network itself is left as it is"
    torch.testing.assert_close(twin(x), model(x), rtol=1e-3, atol=1e-4)


def test_a_convolution_that_is_also_read_elsewhere_is_not_fused() -> None:
    class Twice(Small):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm2d(8)

        def forward_features(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return self.bn(y) + y

    model = Twice().eval()
    assert model.bn.running_var is not None
    model.bn.running_var.fill_(9.0)
    twin = fuse_conv_bn(model, torch.randn(2, 3, 8, 8))
    assert isinstance(twin.get_submodule("bn"), nn.BatchNorm2d)


def test_a_convolution_that_runs_twice_is_not_fused() -> None:
    class Shared(Small):
        def __init__(self) -> None:
            super().__init__()
            self.again, self.bn = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)

        def forward_features(self, x: Tensor) -> Tensor:
            return self.bn(self.again(self.again(self.conv(x))))

    model = Shared().eval()
    twin = fuse_conv_bn(model, torch.randn(2, 3, 8, 8))
    assert isinstance(twin.get_submodule("bn"), nn.BatchNorm2d)
