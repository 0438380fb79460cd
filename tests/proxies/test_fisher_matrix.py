"""The Fisher matrix of `vkdnw`: against finite differences, and image by image by autograd."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn

from diswot.observe import batch_statistics, disable_inplace, observe
from diswot.proxies import (
    Candidate,
    passes,
)
from tests.proxies.networks import BATCH, CLASSES, SIDE, Unusual, candidate_of, score


def evaluated(model: nn.Module) -> nn.Module:
    """A copy of a network as `eval()` makes it, its running statistics still those of its birth."""
    other = copy.deepcopy(model).eval()
    for module in other.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = True
    return other


def test_fisher_matrix_by_finite_differences_image_by_image(candidate: Candidate) -> None:
    with torch.no_grad():
        found = passes.fisher_matrix(candidate)
    model, step = evaluated(candidate.model), 1e-6
    tensors = [p for _, p in model.named_parameters()][: passes.FISHER_TENSORS]
    assert found.shape == (len(tensors), len(tensors))
    expected = torch.zeros_like(found)
    with torch.no_grad():
        for n in range(BATCH):
            image = candidate.input("noise")[n : n + 1]
            rows = []
            for tensor in tensors:
                entry = tensor.view(-1)[:1]
                entry += step
                ahead = observe(model, image).logits[0]
                entry -= 2 * step
                rows.append((ahead - observe(model, image).logits[0]) / (2 * step))
                entry += step
            p = observe(model, image).logits[0].softmax(0) * 0.95 + 0.05 / CLASSES
            slopes = torch.stack(rows)
            expected += slopes @ (torch.diag(p) - torch.outer(p, p)) @ slopes.T / BATCH
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


def test_fisher_matrix_where_norms_have_their_activation_with_them() -> None:
    """timm fuses them; the shift of a norm's parameter comes before the activation."""
    torch.manual_seed(0)
    model = disable_inplace(timm.create_model("mobilenetv2_035", num_classes=3)).double()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    candidate = candidate_of(model, images, torch.tensor([0, 1]))
    with batch_statistics(model), torch.no_grad():
        found = passes.fisher_matrix(candidate)
    expected, plain = 0.0, evaluated(model)
    for n in range(2):
        logits = observe(plain, candidate.input("noise")[n : n + 1]).logits[0]
        rows = [torch.autograd.grad(logit, plain.bn1.bias, retain_graph=True)[0][0] for logit in logits]
        p = logits.detach().softmax(0) * 0.95 + 0.05 / 3
        expected += float(torch.stack(rows) @ (torch.diag(p) - torch.outer(p, p)) @ torch.stack(rows)) / 2
    place = [name for name, _ in model.named_parameters()].index("bn1.bias")
    assert float(found[place, place]) == pytest.approx(expected, rel=1e-6)


def test_fisher_matrix_of_unusual_layers_by_autograd_image_by_image() -> None:
    torch.manual_seed(0)
    model = disable_inplace(Unusual(inplace=True)).double()
    candidate = candidate_of(model, torch.randn(3, 3, SIDE, SIDE, dtype=torch.float64), torch.tensor([0, 1, 2]))
    with batch_statistics(model), torch.no_grad():
        found = passes.fisher_matrix(candidate)
    plain, expected = evaluated(model), torch.zeros_like(found)
    for image in candidate.input("noise"):
        logits = observe(plain, image[None]).logits[0]
        rows = [torch.autograd.grad(logit, list(plain.parameters()), retain_graph=True, materialize_grads=True) for logit in logits]
        slopes = torch.tensor([[float(gradient.detach().view(-1)[0]) for gradient in row] for row in rows], dtype=torch.float64)
        p = logits.detach().softmax(0) * 0.95 + 0.05 / CLASSES
        expected += slopes.T @ (torch.diag(p) - torch.outer(p, p)) @ slopes / 3
    assert len(found) == len(list(model.parameters())) == 13
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda: Unusual(padding_mode="reflect"), "Conv2d"),
        (lambda: timm.create_model("nf_resnet26", num_classes=CLASSES), "ScaledStdConv2d"),
    ],
)
def test_fisher_matrix_of_layers_it_does_not_know_is_refused(model: Callable[[], nn.Module], says: str) -> None:
    network = model()
    with batch_statistics(network), pytest.raises(ValueError, match=says):
        passes.fisher_matrix(candidate_of(network, torch.randn(2, 3, 32, 32), torch.tensor([0, 1])))


def test_vkdnw_ranks_by_the_number_of_tensors_first(candidate: Candidate) -> None:
    value = score("vkdnw", candidate)
    assert int(value) == len(list(candidate.model.parameters()))
    assert 0 < value % 1 <= math.log(9) / 3
