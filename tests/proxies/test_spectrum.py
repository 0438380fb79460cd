"""Proxies of spectra and of changes of the input, each by numpy from its definition."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diswot.models.init import initialise
from diswot.observe import observe, watch_blocks
from diswot.proxies import (
    Candidate,
    passes,
    spectrum,
)
from tests.proxies.networks import BATCH, CLASSES, layers, score


def jacobian(candidate: Candidate) -> np.ndarray[Any, Any]:
    images = candidate.input("images").clone().requires_grad_()
    observe(copy.deepcopy(candidate.model), images).logits.sum().backward()
    assert images.grad is not None
    return images.grad.flatten(1).numpy()


def entropy_of(matrix: np.ndarray[Any, Any]) -> float:
    values = np.linalg.eigvalsh(matrix).clip(0)
    share = values / values.sum()
    return float(-(share * np.log(share + 1e-8)).sum())


def test_jacov_by_numpy(candidate: Candidate) -> None:
    values = np.linalg.eigvalsh(np.corrcoef(jacobian(candidate)))
    assert score("jacov", candidate) == pytest.approx(-sum(math.log(v + 1e-5) + 1 / (v + 1e-5) for v in values), rel=1e-6)


def test_epe_nas_by_loops_over_classes(candidate: Candidate) -> None:
    rows, total = jacobian(candidate), 0.0
    for label in range(CLASSES):
        members = [n for n in range(BATCH) if int(candidate.target[n]) == label]
        if len(members) > 1:
            correlations = np.corrcoef(rows[members])
            total += abs(sum(math.log(abs(r) + 1e-5) for r in correlations.ravel()))
    assert score("epe_nas", candidate) == pytest.approx(total, rel=1e-6)
    with pytest.raises(ValueError, match="no class has two images"):
        spectrum.epe_nas(torch.randn(2, 5), torch.tensor([0, 1]))


def test_entropies_of_directions_and_of_channels_by_numpy(candidate: Candidate) -> None:
    """Of the first stage: the block at the finest resolution."""
    blocks = [block.detach().numpy() for block in candidate.images.blocks]
    assert list(candidate.images.first_stage) == [1]

    pixels = np.moveaxis(blocks[1], 1, -1).reshape(-1, blocks[1].shape[1])
    directions = pixels / np.linalg.norm(pixels, axis=1, keepdims=True).clip(1e-12)
    expected = entropy_of(directions.T @ directions / len(pixels))
    assert score("direction_entropy", candidate) == score("direction_entropy_first", candidate) == pytest.approx(expected, rel=1e-6)
    assert score("entropy", candidate) == pytest.approx(entropy_of(np.cov(pixels.T, bias=True)), rel=1e-6)


def test_the_entropy_of_stages_is_that_of_the_last_map_of_each_resolution(candidate: Candidate) -> None:
    last = {block.shape[-1]: block.detach() for block in candidate.images.blocks}
    expected = 0.0
    for block in last.values():
        values = np.linalg.eigvalsh(np.cov(block.transpose(0, 1).flatten(1).numpy(), bias=True)).clip(0)
        share = values / values.sum()
        expected -= float((share * np.log(share + 1e-8)).sum())
    assert len(last) == 3 and score("entropy_stages", candidate) == pytest.approx(expected, rel=1e-6)


def test_the_entropy_of_layers_is_the_mean_of_each_resolution_by_numpy(candidate: Candidate) -> None:
    entropies: dict[int, list[float]] = {}

    def note(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        entropies.setdefault(output.shape[-1], []).append(entropy_of(np.cov(output.detach().transpose(0, 1).flatten(1).numpy(), bias=True)))

    handles = [m.register_forward_hook(note) for m in candidate.model.modules() if isinstance(m, nn.Conv2d)]
    observe(candidate.model, candidate.input("images"))
    for handle in handles:
        handle.remove()
    assert len(entropies) == 3 and min(map(len, entropies.values())) > 1
    assert score("entropy_layers", candidate) == pytest.approx(sum(map(np.mean, entropies.values())), rel=1e-6)


def test_the_entropies_of_a_map_with_more_channels_than_pixels_by_numpy() -> None:
    features = torch.randn(2, 12, 2, 2, dtype=torch.float64)
    rows = features.transpose(0, 1).flatten(1).numpy()
    assert spectrum.entropy(features).item() == pytest.approx(entropy_of(np.cov(rows, bias=True)), rel=1e-9)
    directions = rows / np.linalg.norm(rows, axis=0)
    assert spectrum.direction_entropy(features).item() == pytest.approx(entropy_of(directions @ directions.T), rel=1e-9)


def test_the_fan_in_is_what_gaussian_weights_multiply_the_variance_by() -> None:
    model = nn.Sequential(nn.Conv2d(16, 64, 3, bias=False), nn.Conv2d(64, 64, 5, groups=2, bias=False)).double()
    initialise(model, "gaussian", 0)
    out = model(torch.randn(8, 16, 16, 16, dtype=torch.float64))
    assert passes.log_fan_in(model) == pytest.approx(math.log(out.var().item()), rel=0.02)


def test_a_network_without_convolutions_has_no_entropy_of_layers(candidate: Candidate) -> None:
    candidate.images.conv_entropies.clear()
    with pytest.raises(ValueError, match="no convolutions"):
        score("entropy_layers", candidate)


def test_isometry_is_highest_where_each_logit_has_gain_one() -> None:
    gradient = torch.randn(5, 3, 8, 8, dtype=torch.float64)
    unit = gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
    scores = [spectrum.isometry(unit * gain * math.sqrt(7), 7).item() for gain in (0.25, 0.5, 1.0, 2.0)]
    assert scores == pytest.approx([-math.log(4), -math.log(2), 0.0, -math.log(2)], abs=1e-12)


def test_diversity_and_the_norm_of_the_jacobian_by_numpy(candidate: Candidate) -> None:
    stem = candidate.images.gradients_seen[1].flatten(1).numpy()
    assert score("diversity", candidate) == pytest.approx(np.log(np.linalg.eigvalsh(np.corrcoef(stem)) + 1e-3).sum(), rel=1e-6)
    assert score("neg_jacobian_log_norm", candidate) == pytest.approx(-np.log(np.linalg.norm(jacobian(candidate), axis=1)).mean(), rel=1e-9)


def test_the_diversity_of_stages_is_that_of_the_gradients_at_their_ends(candidate: Candidate) -> None:
    """At the last map of each resolution, by a network that is run on from there: the maps are leaves of their own."""
    images = candidate.input("images")
    with watch_blocks(candidate.model) as blocks:
        logits = observe(candidate.model, images.clone().requires_grad_()).logits
    last = {block.output.shape[-1]: block.output for block in blocks}
    gradients = torch.autograd.grad(logits.sum(), list(last.values()))
    rows = [np.corrcoef(gradient.flatten(1).numpy()) for gradient in gradients]
    expected = sum(np.log(np.linalg.eigvalsh(matrix) + 1e-3).sum() for matrix in rows)
    assert len(rows) == 3 and score("diversity_stages", candidate) == pytest.approx(expected, rel=1e-5)


def test_te_ntk_by_numpy(candidate: Candidate) -> None:
    rows = []
    for n in range(BATCH):
        model = copy.deepcopy(candidate.model)
        observe(model, candidate.input("images")).logits[n].sum().backward()
        rows.append(np.concatenate([layer.weight.grad.numpy().ravel() for layer in layers(model)]))
    values = np.linalg.eigvalsh(np.array(rows) @ np.array(rows).T)
    assert score("te_ntk", candidate) == pytest.approx(-values[-1] / values[0], rel=1e-6)


def block_maps(candidate: Candidate) -> list[Tensor]:
    with watch_blocks(candidate.model) as blocks:
        observe(candidate.model, candidate.input("noise").requires_grad_())
    return [block.output for block in blocks]


def test_az_nas_expressivity_and_progressivity_by_numpy(candidate: Candidate) -> None:
    entropies = []
    for block in block_maps(candidate):
        values = np.linalg.eigvalsh(np.cov(block.detach().transpose(0, 1).flatten(1).numpy(), bias=True)).clip(0)
        share = values / values.sum()
        entropies.append(-sum(p * math.log(p + 1e-8) for p in share))
    assert len(entropies) == 4  # the stem and three blocks
    assert score("az_expressivity", candidate) == pytest.approx(sum(entropies), rel=1e-6)
    assert score("az_progressivity", candidate) == pytest.approx(min(b - a for a, b in itertools.pairwise(entropies)), abs=1e-6)


def test_az_nas_trainability_block_by_block(candidate: Candidate) -> None:
    blocks, generator, expected = block_maps(candidate), candidate.generator(4), []
    for inner, outer in itertools.pairwise(blocks):
        signs = torch.randint(0, 2, outer.shape, generator=generator).to(outer) * 2 - 1
        (back,) = torch.autograd.grad(outer, inner, signs, retain_graph=True)
        if back.shape[-1] != signs.shape[-1]:
            back = F.pixel_unshuffle(back, 2)
        matrix = np.zeros((back.shape[1], signs.shape[1]))
        for n in range(BATCH):
            for i in range(signs.shape[2]):
                for j in range(signs.shape[3]):
                    matrix += np.outer(back[n, :, i, j], signs[n, :, i, j])
        top = np.linalg.svd(matrix / (BATCH * signs.shape[2] * signs.shape[3]))[1][0]
        expected.append(2 - top - 1 / (top + 1e-6))
    assert score("az_trainability", candidate) == pytest.approx(np.mean(expected), rel=1e-6)


def test_maps_whose_sides_do_not_divide_are_padded() -> None:
    assert math.isfinite(spectrum.block_trainability(torch.randn(2, 3, 7, 7), torch.randn(2, 5, 4, 4)))


def test_zen_by_hand(candidate: Candidate) -> None:
    initialise(candidate.model, "gaussian", 7)
    model, scales = copy.deepcopy(candidate.model), []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda _m, x: scales.append(math.sqrt(float(x[0].detach().var((0, 2, 3)).mean()))))
    noise = candidate.input("noise")
    step = torch.randn(noise.shape, generator=candidate.generator(2)).double()
    before = observe(model, noise).features
    of_first = list(scales)
    change = float((observe(model, noise + 0.01 * step).features - before).detach().abs().mean())
    assert score("zen", candidate) == pytest.approx(math.log(change) + sum(map(math.log, of_first)), rel=1e-9)
