"""The metrics against slow loops written from their definitions, in float64."""

from __future__ import annotations

import math
from itertools import permutations
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from diswot.errors import ConfigError, TeacherError
from diswot.observe import Observation
from diswot.proxies import PROXIES, NetworkSummary, resolve_ranking
from diswot.similarity import (
    cam_gram,
    channel_profile,
    channel_weights,
    classifier_gradient,
    gram_distance,
    outer_product_distance,
    profile_distance,
    sample_gram,
)
from diswot.space import Cost

EXACT = {"rtol": 1e-9, "atol": 1e-12}
NO_COST = Cost(1, 1, 1)
GRADIENTS = ("relation_jacobian", "relation_stem_grad")  # need a graph: tests/proxies
METRICS = [name for name in PROXIES if name.startswith(("semantic", "relation")) and name not in GRADIENTS]


def summary(seen: Observation, target: Tensor) -> NetworkSummary:
    return NetworkSummary(seen, target, [seen.features])


def score(name: str, student: NetworkSummary, teacher: NetworkSummary) -> float:
    """Of two summaries, without the network that a `Candidate` would run."""
    return float(PROXIES[name].score(SimpleNamespace(images=student), teacher, NO_COST))


@pytest.fixture(autouse=True)
def _float64() -> None:
    torch.manual_seed(0)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def observation(batch: int = 5, channels: int = 6, side: int = 3, classes: int = 4) -> Observation:
    features, weight = random(batch, channels, side, side).relu(), random(classes, channels)
    pooled = features.mean((2, 3))
    return Observation(features, pooled, pooled @ weight.T, weight)


def test_classifier_gradient_is_autograds() -> None:
    pooled, weight, target = random(5, 6), random(4, 6).requires_grad_(), torch.tensor([0, 3, 3, 1, 2])
    loss = torch.nn.functional.cross_entropy(pooled @ weight.T, target)
    (expected,) = torch.autograd.grad(loss, weight)
    torch.testing.assert_close(classifier_gradient(pooled, pooled @ weight.T, target), expected, **EXACT)


def test_cam_gram_from_the_definition() -> None:
    """G[b, n, h, w] = sum over c of w[n, c] A[b, c, h, w]; entry (n, m) is the inner product of the maps of two classes."""
    seen = observation()
    batch, channels, height, width = seen.features.shape
    classes = len(seen.weight)
    maps = torch.zeros(batch, classes, height, width, dtype=torch.float64)
    for b in range(batch):
        for n in range(classes):
            for h in range(height):
                for w in range(width):
                    maps[b, n, h, w] = sum(seen.weight[n, c] * seen.features[b, c, h, w] for c in range(channels))
    expected = torch.tensor([[(maps[:, n] * maps[:, m]).sum() for m in range(classes)] for n in range(classes)], dtype=torch.float64)
    torch.testing.assert_close(cam_gram(seen.features, seen.weight), expected, **EXACT)


def test_channel_weights_are_the_mean_gradients_of_the_logits() -> None:
    """Grad-CAM by autograd, up to one factor for all, for maps pooled to one pixel and to a grid; another classifier stays as it is."""
    features = random(2, 3, 4, 4).requires_grad_()
    for side in (1, 2):
        pooled, weight = torch.nn.functional.adaptive_avg_pool2d(features, side).flatten(1), random(5, 3 * side**2)
        gradients = [torch.autograd.grad((pooled @ weight.T)[:, n].sum(), features, retain_graph=True)[0] for n in range(5)]
        expected = torch.stack([gradient.mean((0, 2, 3)) for gradient in gradients])
        found = channel_weights(features, pooled, weight)
        torch.testing.assert_close(found * (expected.norm() / found.norm()), expected, **EXACT)
    assert channel_weights(features, random(2, 12), weight) is weight


def test_sample_gram_from_the_definition() -> None:
    features = random(4, 3, 2, 2)
    expected = torch.tensor([[(a * b).sum() for b in features] for a in features], dtype=torch.float64)
    torch.testing.assert_close(sample_gram(features), expected, **EXACT)


def test_gram_distance_from_the_definition() -> None:
    a, b = (x @ x.T for x in (random(5, 7), random(5, 3)))
    frobenius = math.sqrt(sum((a[i, j] / a.norm() - b[i, j] / b.norm()) ** 2 for i in range(5) for j in range(5)))
    rows = sum((a[i, j] / a[i].norm() - b[i, j] / b[i].norm()) ** 2 for i in range(5) for j in range(5)) / 25
    assert gram_distance(a, b, "frobenius").item() == pytest.approx(frobenius, rel=1e-9)
    assert gram_distance(a, b, "rows").item() == pytest.approx(float(rows), rel=1e-9)


def test_outer_product_distance_from_the_definition() -> None:
    g, h = random(4, 6), random(4, 6)
    total = 0.0
    for n in range(4):
        for i in range(6):
            ours, theirs = g[n, i] * g[n], h[n, i] * h[n]
            total += float(((ours / ours.norm() - theirs / theirs.norm()) ** 2).sum())
    assert outer_product_distance(g, h).item() == pytest.approx(total / (6 * 4), rel=1e-9)


def test_outer_product_distance_with_dead_channels() -> None:
    """Rows of zeros stay zeros, as the normalisation of torch leaves them."""
    g, h = random(4, 6), random(4, 6)
    g[:, 2], h[1] = 0, 0
    rows = [torch.nn.functional.normalize(v[:, :, None] * v[:, None, :], dim=2) for v in (g, h)]
    expected = (rows[0] - rows[1]).square().sum() / (4 * 6)
    torch.testing.assert_close(outer_product_distance(g, h), expected, **EXACT)


def test_profile_distance_is_the_mean_over_all_matchings_of_channels() -> None:
    """Over all 5,040 permutations of 7 channels: the mean cosine times the mean agreement, exactly."""
    g, h = random(3, 7), random(3, 7)
    orders = torch.tensor(list(permutations(range(7))))
    shuffled = h[:, orders]  # (3, 5040, 7)
    cosine = torch.nn.functional.cosine_similarity(g[:, None, :], shuffled, dim=2).mean(1)
    agreement = (g.sign()[:, None, :] * shuffled.sign()).mean(2).mean(1)
    expected = 2 - 2 * (cosine * agreement).mean()
    torch.testing.assert_close(profile_distance(channel_profile(g), channel_profile(h)), expected, **EXACT)


@pytest.mark.parametrize("name", METRICS)
def test_identical_networks_are_closest(name: str) -> None:
    """The metrics of the paper and the code are 0 where teacher and student agree, below 0 elsewhere."""
    seen, target = observation(), torch.tensor([0, 1, 2, 3, 0])
    other = summary(observation(), target)
    same = score(name, summary(seen, target), summary(seen, target))
    assert score(name, other, summary(seen, target)) < 0
    if name != "semantic_profile":  # which forgets the order of the channels, and with it the identity
        assert same == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("name", METRICS)
def test_scores_do_not_depend_on_the_order_of_the_images(name: str) -> None:
    student, teacher, target = observation(), observation(), torch.tensor([0, 1, 2, 3, 0])
    order = torch.tensor([3, 1, 4, 0, 2])

    def shuffled(seen: Observation) -> Observation:
        return Observation(seen.features[order], seen.pooled[order], seen.logits[order], seen.weight)

    plain = score(name, summary(student, target), summary(teacher, target))
    moved = score(name, summary(shuffled(student), target[order]), summary(shuffled(teacher), target[order]))
    assert moved == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize("name", ["semantic_profile", "semantic_cam", "semantic_cam_rows", "relation", "relation_frobenius"])
def test_any_channel_counts_and_any_sizes_meet(name: str) -> None:
    student, teacher = observation(channels=6, side=3), observation(channels=11, side=4)
    target = torch.tensor([0, 1, 2, 3, 0])
    assert math.isfinite(score(name, summary(student, target), summary(teacher, target)))


def test_metrics_that_need_equal_channels_say_so() -> None:
    target = torch.tensor([0, 1, 2, 3, 0])
    with pytest.raises(TeacherError, match="teacher has 11, the student 6"):
        score("semantic_outer", summary(observation(), target), summary(observation(channels=11), target))
    seen = observation()
    hidden = Observation(seen.features, random(5, 9), seen.logits, random(4, 9))
    with pytest.raises(TeacherError, match="semantic_profile"):
        score("semantic_cam", summary(seen, target), summary(hidden, target))


def test_frobenius_metrics_stay_in_their_range() -> None:
    for _ in range(20):
        a, b = (x @ x.T for x in (random(4, 3), random(4, 3)))
        assert 0 <= gram_distance(a, b, "frobenius") <= 2
        assert 0 <= gram_distance(a, b, "rows") <= 4 / 4
        assert 0 <= outer_product_distance(a, b) <= 4


def test_a_dead_network_has_no_score_or_a_finite_one() -> None:
    """All-zero features: no division by zero, and no middling distance from everything."""
    zero = torch.zeros(5, 4, dtype=torch.float64)
    dead = Observation(torch.zeros(5, 6, 3, 3, dtype=torch.float64), torch.zeros(5, 6, dtype=torch.float64), zero, random(4, 6))
    target = torch.tensor([0, 1, 2, 3, 0])
    for name in METRICS:
        if name in ("semantic_profile", "semantic_outer"):
            assert math.isfinite(score(name, summary(dead, target), summary(observation(), target))), name
            continue
        with pytest.raises(ValueError, match="all zero"):
            score(name, summary(dead, target), summary(observation(), target))


def test_rankings_resolve_and_suggest() -> None:
    assert resolve_ranking("diswot,params").parts == ("semantic_profile", "relation", "params")
    assert resolve_ranking("diswot_code").combine == "sum"
    assert resolve_ranking("diswot_code", "rank").combine == "rank"
    with pytest.raises(ConfigError, match="did you mean relation"):
        resolve_ranking("relatoin")
    with pytest.raises(ConfigError, match="known: rank, log, sum"):
        resolve_ranking("diswot", "mean")
