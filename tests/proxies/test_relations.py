"""Proxies that look at the teacher: relations of gradients, and distillation losses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from diswot import losses
from diswot.errors import ConfigError
from diswot.observe import observe, watch_blocks
from diswot.proxies import (
    Candidate,
    ForwardPass,
    NetworkSummary,
    get_proxy,
    resolve_ranking,
)
from tests.proxies.networks import BATCH, Small, score


def teacher_pass(candidate: Candidate) -> ForwardPass:
    """Of a teacher of its own weights on the same images."""
    torch.manual_seed(5)
    return ForwardPass(Small().double().eval(), candidate.input("images"), candidate.target, frozenset({"graph", "blocks"}))


@pytest.mark.parametrize(("name", "place"), [("relation_jacobian", 0), ("relation_stem_grad", 1)])
def test_relations_of_gradients_by_loops_over_pairs_of_images(candidate: Candidate, name: str, place: int) -> None:
    teacher = teacher_pass(candidate)
    grams = []
    for forward_pass in (teacher, candidate.images):
        rows = forward_pass.gradients_seen[place].flatten(1).numpy()
        gram = np.array([[a @ b for b in rows] for a in rows])
        grams.append(gram / np.sqrt((gram**2).sum(1, keepdims=True)))
    assert score(name, candidate, teacher.summarise()) == pytest.approx(-((grams[0] - grams[1]) ** 2).sum() / BATCH**2, rel=1e-9)
    assert score(name, candidate, candidate.images.summarise()) == pytest.approx(0, abs=1e-12)


def test_the_gradient_at_the_stem_leads_back_to_the_images(candidate: Candidate) -> None:
    """Pulled back through the stem by hand, it is the gradient at the images."""
    at_images, at_stem = candidate.images.gradients_seen
    images = candidate.input("images").clone().requires_grad_()
    with watch_blocks(candidate.model) as blocks:
        observe(candidate.model, images)
    (pulled,) = torch.autograd.grad(blocks[0].output, images, at_stem)
    torch.testing.assert_close(pulled, at_images, rtol=1e-9, atol=1e-12)


def test_a_loss_is_a_proxy_with_its_sign_turned(candidate: Candidate) -> None:
    teacher = observe(Small().double().eval(), candidate.input("images"))
    expected = -losses.kd(candidate.images.observation.logits, teacher.logits).detach()
    assert score("loss:kd", candidate, NetworkSummary(teacher, candidate.target)) == pytest.approx(0.9 * float(expected), rel=1e-6)
    with pytest.raises(ConfigError, match="looks at no teacher"):
        get_proxy("loss:none")
    with pytest.raises(ConfigError, match="did you mean kd"):
        resolve_ranking("loss:kdd")


@pytest.mark.parametrize("name", ["fitnets", "ickd", "ofd", "afd", "mgd", "pefd"])
def test_a_loss_with_parameters_is_no_proxy(name: str) -> None:
    with pytest.raises(ConfigError, match="parameters of its own"):
        get_proxy(f"loss:{name}")


@pytest.mark.parametrize("name", ["at", "nst", "rkd", "sp", "cc", "pkt", "dist"])
def test_losses_of_stages_and_of_relations_are_proxies(candidate: Candidate, name: str) -> None:
    """The further from the teacher, the lower: a network that shows what the teacher shows has nothing to learn."""
    teacher = teacher_pass(candidate)
    other, itself = (score(f"loss:{name}", candidate, shown.summarise()) for shown in (teacher, candidate.images))
    assert -math.inf < other < itself == pytest.approx(0, abs=1e-3)
