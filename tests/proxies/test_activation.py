"""Proxies of which units are active, each against a slow loop written from its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import timm
import torch

from diswot.models.init import initialise
from diswot.observe import batch_statistics, disable_inplace, observe, watch_modules
from diswot.proxies import (
    Candidate,
    passes,
)
from diswot.proxies.activation import activation_codes, active_pairs, different_codes, nwot
from tests.proxies.networks import BATCH, CLASSES, candidate_of, relu_inputs, score


def test_nwot_by_loops_over_pairs_of_images(candidate: Candidate) -> None:
    kernel = np.zeros((BATCH, BATCH))
    for x in relu_inputs(candidate, lambda model: observe(model, candidate.input("images"))):
        for n in range(BATCH):
            for m in range(BATCH):
                kernel[n, m] += ((x[n] > 0) == (x[m] > 0)).sum()
    assert score("nwot", candidate) == pytest.approx(np.linalg.slogdet(kernel)[1], rel=1e-6)


def test_nwot_of_images_that_cannot_be_told_apart_is_finite() -> None:
    assert math.isfinite(nwot(torch.full((3, 3), 10.0)))
    assert nwot(torch.full((3, 3), 10.0)) < nwot(torch.full((3, 3), 10.0) + torch.eye(3))


def test_swap_counts_the_columns_of_signs(candidate: Candidate) -> None:
    initialise(candidate.model, "gaussian", 7)
    inputs = relu_inputs(candidate, lambda model: observe(model, candidate.input("images")))
    patterns = {tuple(column > 0) for x in inputs for column in x.T}
    assert score("swap", candidate) == pytest.approx(math.log(len(patterns)), rel=1e-12)


def test_swap_stages_counts_the_columns_of_signs_of_each_resolution(candidate: Candidate) -> None:
    patterns: dict[int, set[tuple[bool, ...]]] = {}
    with watch_modules(candidate.model, (torch.nn.ReLU,), lambda _module, x, _output: note(patterns, x)):
        observe(candidate.model, candidate.input("images"))
    assert len(patterns) > 1
    expected = sum(math.log(len(found)) for found in patterns.values())
    assert score("swap_stages", candidate) == pytest.approx(expected, rel=1e-12)


def note(patterns: dict[int, set[tuple[bool, ...]]], x: torch.Tensor) -> None:
    for column in (x.detach().flatten(1) > 0).T.tolist():
        patterns.setdefault(x.shape[-1], set()).add(tuple(column))


def test_te_regions_counts_the_rows_of_signs(candidate: Candidate) -> None:
    inputs = torch.randn(passes.REGION_INPUTS, 3, 3, 3, generator=candidate.generator(3)).double()
    signs = np.concatenate([x > 0 for x in relu_inputs(candidate, lambda model: observe(model, inputs))], 1)
    assert score("te_regions", candidate) == len({row.tobytes() for row in signs})


def test_units_of_timms_own_activations_are_seen() -> None:
    network = disable_inplace(timm.create_model("convnext_atto", num_classes=CLASSES))
    with batch_statistics(network):
        assert math.isfinite(score("nwot", candidate_of(network, torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 3]))))


@pytest.mark.parametrize("num_images", [3, 16, 20, 28])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_codes_and_pairs_by_loops_over_units(num_images: int, layout: torch.memory_format) -> None:
    """In both layouts, for as many images as a table of codes holds, as float32 holds exactly, and for more."""
    x = torch.randn(num_images, 4, 3, 3).round().contiguous(memory_format=layout)  # with zeros, which are not active
    units = x.flatten(1).T.numpy() > 0
    expected = sorted(sum(1 << image for image in range(num_images) if unit[image]) for unit in units)
    codes = activation_codes(x)
    assert sorted(codes.tolist()) == expected
    assert different_codes(codes, num_images).tolist() == sorted(set(expected))
    pairs = [[sum(bool(unit[n] and unit[m]) for unit in units) for m in range(num_images)] for n in range(num_images)]
    assert active_pairs(x).tolist() == pairs
