"""Proxies of gradients, each against a slow loop written from its definition, in float64 on a small network."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diswot.observe import batch_statistics, disable_inplace, observe
from diswot.proxies import (
    Candidate,
    gradient,
)
from tests.proxies.networks import BATCH, SIDE, Unusual, backward, candidate_of, layers, score


def test_gradient_proxies_are_sums_over_an_ordinary_backward_pass(candidate: Candidate) -> None:
    model = backward(candidate)
    pairs = [(layer.weight.detach().numpy(), layer.weight.grad.numpy()) for layer in layers(model)]
    assert score("grad_norm", candidate) == pytest.approx(sum(math.sqrt((g**2).sum()) for _, g in pairs), rel=1e-9)
    assert score("snip", candidate) == pytest.approx(sum(np.abs(w * g).sum() for w, g in pairs), rel=1e-9)
    assert score("plain", candidate) == pytest.approx(sum((w * g).sum() for w, g in pairs), rel=1e-9)
    assert score("l2_norm", candidate) == pytest.approx(sum(math.sqrt((w**2).sum()) for w, _ in pairs), rel=1e-9)


def test_fisher_loops_over_layers_channels_and_images(candidate: Candidate) -> None:
    model = copy.deepcopy(candidate.model)
    seen: list[Tensor] = []
    for layer in layers(model):
        layer.register_forward_hook(lambda _m, _x, y: (y.retain_grad(), seen.append(y))[0])
    F.cross_entropy(observe(model, candidate.input("images")).logits, candidate.target).backward()
    total = 0.0
    for output in seen:
        for channel in range(output.shape[1]):
            per_image = [float((output.detach()[n, channel] * output.grad[n, channel]).sum()) for n in range(BATCH)]  # type: ignore[index]
            total += 0.5 * sum(value**2 for value in per_image) / BATCH
    assert score("fisher", candidate) == pytest.approx(total, rel=1e-9)


def test_grasp_is_minus_w_hessian_gradient() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 2])

    def loss(w: Tensor) -> Tensor:
        return F.cross_entropy(torch.tanh(x @ w.view(3, 3)), y)

    w = torch.randn(9, dtype=torch.float64, requires_grad=True)
    hessian = torch.autograd.functional.hessian(loss, w)
    (g,) = torch.autograd.grad(loss(w), w)
    assert gradient.grasp([w], loss(w)).item() == pytest.approx(float(-(w.detach() @ (hessian @ g))), rel=1e-9)  # type: ignore[operator]


def test_grasp_of_a_network_is_a_finite_difference_of_its_gradient(candidate: Candidate) -> None:
    model, step = copy.deepcopy(candidate.model), 1e-6
    weights = [layer.weight for layer in layers(model)]

    def gradients() -> tuple[Tensor, ...]:
        return torch.autograd.grad(F.cross_entropy(observe(model, candidate.input("images")).logits, candidate.target), weights)

    g = gradients()
    with torch.no_grad():
        for w, d in zip(weights, g, strict=True):
            w += step * d
    ahead = gradients()
    with torch.no_grad():
        for w, d in zip(weights, g, strict=True):
            w -= 2 * step * d
    behind = gradients()
    with torch.no_grad():
        for w, d in zip(weights, g, strict=True):
            w += step * d
    expected = -sum(float((w.detach() * (a - b) / (2 * step)).sum()) for w, a, b in zip(weights, ahead, behind, strict=True))
    assert score("grasp", candidate) == pytest.approx(expected, rel=1e-5)


def part_gradients(candidate: Candidate, part: slice) -> list[np.ndarray[Any, Any]]:
    model = copy.deepcopy(candidate.model)
    F.cross_entropy(observe(model, candidate.input("images")[part]).logits, candidate.target[part]).backward()
    return [layer.weight.grad.numpy() for layer in layers(model)]


def test_zico_from_two_halves_run_by_themselves(candidate: Candidate) -> None:
    first, second = part_gradients(candidate, slice(0, 3)), part_gradients(candidate, slice(3, 6))
    total = 0.0
    for a, b in zip(first, second, strict=True):
        ratio = 0.0
        for u, v in zip(a.ravel(), b.ravel(), strict=True):
            deviation = abs(u - v) / 2
            if deviation > 0:
                ratio += (abs(u) + abs(v)) / 2 / deviation
        total += math.log(ratio) if ratio > 0 else 0.0
    assert score("zico", candidate) == pytest.approx(total, rel=1e-9)


def test_gradsign_from_each_image_alone(candidate: Candidate) -> None:
    signs = [np.concatenate([np.sign(g).ravel() for g in part_gradients(candidate, slice(i, i + 1))]) for i in range(BATCH)]
    assert score("gradsign", candidate) == pytest.approx(float(np.abs(np.sum(signs, 0)).sum()), rel=1e-9)


def test_synflow_conserves_its_sum_from_layer_to_layer() -> None:
    """In a chain of layers without biases, sum W dR/dW is R itself for each layer (Tanaka et al., theorem 1)."""
    chain = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.ReLU(), nn.Conv2d(3, 4, 3, bias=False)).double()
    for p in chain.parameters():
        p.data.abs_()
    total = chain(torch.ones(1, 2, 6, 6, dtype=torch.float64)).sum()
    weights = list(chain.parameters())
    gradients = torch.autograd.grad(total, weights)
    assert gradient.synflow(weights, gradients).exp().item() == pytest.approx(2 * total.item(), rel=1e-9)


def test_synflow_of_a_network_without_its_norms(candidate: Candidate) -> None:
    model = copy.deepcopy(candidate.model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())
    with torch.no_grad():
        for p in model.parameters():
            p.abs_()
    observe(model, torch.ones(1, 3, SIDE, SIDE, dtype=torch.float64)).logits.sum().backward()
    expected = math.log(sum(float((layer.weight.detach() * layer.weight.grad).abs().sum()) for layer in layers(model)))
    before = {name: value.clone() for name, value in candidate.model.state_dict().items()}
    logits = candidate.images.observation.logits
    assert score("synflow", candidate) == pytest.approx(expected, rel=1e-9)
    assert all(torch.equal(before[name], value) for name, value in candidate.model.state_dict().items())
    again = observe(candidate.model, candidate.input("images"))
    assert torch.equal(again.logits, logits)
    fresh = torch.autograd.grad(F.cross_entropy(again.logits, candidate.target), candidate.images.weights)
    assert all(torch.equal(a, b) for a, b in zip(candidate.images.gradients, fresh, strict=True))  # the earlier graph still holds


def test_fisher_of_tokens_sums_over_places_and_not_over_channels() -> None:
    """The linear layer of `Unusual` sees (B, H, W, C): its share is that of the same layer as a 1x1 convolution."""
    torch.manual_seed(0)
    model = disable_inplace(Unusual()).double()
    images, target = torch.randn(3, 3, SIDE, SIDE, dtype=torch.float64), torch.tensor([0, 1, 2])
    with batch_statistics(model):
        candidate = candidate_of(model, images, target)
        outputs, gradients = ([x.detach() for x in xs] for xs in candidate.images.outputs)
        assert [tuple(output.shape) for output in outputs][2] == (3, 4, 4, 4)
        expected = sum(
            0.5 * sum(float((a[n, c] * g[n, c]).sum()) ** 2 for n in range(3)) / 3
            for a, g in zip(outputs, gradients, strict=True)
            for c in range(a.shape[1])
        )
        mixed = model.mixer(model.grouped(model.act(model.stem(images))).mul(1.5).permute(0, 2, 3, 1))
        torch.testing.assert_close(outputs[2], mixed.movedim(-1, 1))
        assert score("fisher", candidate) == pytest.approx(expected, rel=1e-9)
