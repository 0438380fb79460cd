"""The metrics of DisWOT, which compare the class semantics and the sample relations of a student with those of a teacher.

Each network is first summarised by itself, as a gradient or a Gram matrix, so a teacher is summarised once for all students. The functions
whose names end in `_distance` then compare two summaries: they are distances, which are 0 if the two agree. `diswot.proxies` turns
distances into scores.

The source is Dong et al., "DisWOT: Student Architecture Search for Distillation WithOut Training", CVPR 2023, arXiv 2303.15678:
section 3 of the paper and, where it differs, the code published with it. In the shapes, B is the number of images, C of features and N
of classes.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize, one_hot

from diswot.errors import TeacherError

Norm = Literal["rows", "frobenius"]


def classifier_gradient(pooled: Tensor, logits: Tensor, target: Tensor) -> Tensor:
    """Return the gradient of the mean cross-entropy with respect to the classifier's weight, computed without a backward pass.

    Args:
        pooled: (B, C) input of the classifier.
        logits: (B, N) output of the classifier.
        target: (B,) labels.

    Returns:
        (N, C) gradient, equal to that of autograd.

    >>> layer = torch.nn.Linear(5, 3)
    >>> x, y = torch.randn(4, 5), torch.tensor([0, 1, 2, 1])
    >>> loss = torch.nn.functional.cross_entropy(layer(x), y)
    >>> (expected,) = torch.autograd.grad(loss, layer.weight)
    >>> torch.allclose(classifier_gradient(x, layer(x), y), expected, atol=1e-6)
    True
    """
    error = logits.softmax(1) - one_hot(target, logits.shape[1]).to(logits.dtype)
    return error.T @ pooled / len(target)


def channel_weights(features: Tensor, pooled: Tensor, weight: Tensor) -> Tensor:
    """Return the weight (N, C) that Grad-CAM gives to each channel of the last map for each class: the mean gradient of the logit.

    That is the classifier's weight where the map is pooled to one pixel. Where it is pooled to a grid, whose cells the classifier sees
    apart, it is the mean over the cells. (A factor that all channels share is left out.)

    Args:
        features: (B, C, H, W) feature map before pooling.
        pooled: (B, C') the classifier's input.
        weight: (N, C') the classifier's weight.

    Returns:
        (N, C); `weight` as it is where the classifier is not one of the pooled map, which `cam_gram` refuses.

    >>> A, w = torch.rand(2, 5, 4, 4), torch.rand(3, 20)
    >>> channel_weights(A, adaptive_avg_pool2d(A, 2).flatten(1), w).shape
    torch.Size([3, 5])
    """
    channels = features.shape[1]
    cells, rest = divmod(weight.shape[1], channels)
    side = math.isqrt(cells)
    if rest or cells <= 1 or side**2 != cells or side > min(features.shape[2:]):
        return weight
    grid = adaptive_avg_pool2d(features.detach(), side).flatten(1)
    return weight.reshape(-1, channels, cells).mean(2) if torch.allclose(grid, pooled.detach(), 1e-3, 1e-4) else weight


def cam_gram(features: Tensor, weight: Tensor) -> Tensor:
    """Return the Gram matrix of the class activation maps G[n] = sum_c w[n, c] A[:, c], without computing the maps.

    Since G is linear in A, G G^T = w (A A^T) w^T, where A A^T is the (C, C) Gram matrix of the channels.

    Args:
        features: (B, C, H, W) feature map A before global pooling.
        weight: (N, C) weight w of the classifier, see `channel_weights`.

    Returns:
        (N, N) Gram matrix.

    Raises:
        TeacherError: the classifier's input is not the pooled feature map, because there is another layer between them.

    >>> A, w = torch.rand(2, 5, 3, 3), torch.rand(4, 5)
    >>> G = torch.einsum("nc,bchw->nbhw", w, A).flatten(1)
    >>> torch.allclose(cam_gram(A, w), G @ G.T, rtol=1e-4)
    True
    """
    if features.shape[1] != weight.shape[1]:
        raise TeacherError(
            f"class activation maps need a classifier of the last feature map, which has {features.shape[1]} channels, but the classifier "
            f"has {weight.shape[1]} inputs: use semantic_profile to score, kd to distil"
        )
    channels = features.transpose(0, 1).flatten(1)
    return weight @ (channels @ channels.T) @ weight.T


def sample_gram(features: Tensor) -> Tensor:
    """Return the (B, B) Gram matrix of the flattened feature maps, which says how similar the network finds each pair of images.

    >>> sample_gram(torch.ones(2, 3, 2, 2))
    tensor([[12., 12.],
            [12., 12.]])
    """
    flat = features.flatten(1)
    return flat @ flat.T


def normalise_gram(gram: Tensor, norm: Norm) -> Tensor:
    """Return the matrix divided by its Frobenius norm, or each of its rows divided by its Euclidean norm; zeros stay zeros."""
    return normalize(gram, dim=1) if norm == "rows" else gram / gram.norm().clamp_min(1e-12)


def gram_distance(teacher: Tensor, student: Tensor, norm: Norm) -> Tensor:
    """Return the distance of two Gram matrices of equal shape (n, n), each normalised first.

    Args:
        teacher, student: (n, n) Gram matrices.
        norm: `frobenius` (the paper) divides each matrix by its Frobenius norm; the distance is the norm of the difference, in [0, 2].
            `rows` (the code) divides each row by its norm; the distance is the mean of the squared differences, in [0, 4 / n].

    Returns:
        Scalar.

    >>> a = torch.eye(3)
    >>> gram_distance(a, 2 * a, "rows").item(), gram_distance(a, 2 * a, "frobenius").item()
    (0.0, 0.0)
    """
    difference = normalise_gram(teacher, norm) - normalise_gram(student, norm)
    return difference.norm() if norm == "frobenius" else difference.square().sum() / teacher.numel()


def outer_product_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """Return the semantic metric of the published code, which compares outer products of the classifier gradients.

    For each class with gradient g, the rows of the outer product g g^T are divided by their Euclidean norms. The metric is the sum of the
    squared differences between teacher and student, divided by C N.

    The (N, C, C) tensors are not computed: row i of the normalised g g^T is sign(g_i) g / ||g||, so the metric is
    2 - 2 mean_n[ cos(g_n, h_n) mean_i sign(g_ni) sign(h_ni) ] for the gradients g and h. The first 2 is the mean of sign(g)^2 plus that
    of sign(h)^2, to which channels without gradient contribute 0.

    Args:
        teacher, student: (N, C) classifier gradients. C must be equal, since channels are compared one by one.

    Returns:
        Scalar in [0, 4].

    >>> g, h = torch.randn(2, 10, 8)
    >>> rows = [torch.nn.functional.normalize(v[:, :, None] * v[:, None, :], dim=2) for v in (g, h)]
    >>> torch.allclose(outer_product_distance(g, h), (rows[0] - rows[1]).square().sum() / (8 * 10), atol=1e-5)
    True
    """
    cosine = (normalize(teacher, dim=1) * normalize(student, dim=1)).sum(1)
    agreement = (teacher.sign() * student.sign()).mean(1)
    alive = teacher.sign().square().mean() + student.sign().square().mean()
    return alive - 2 * (cosine * agreement).mean()


def channel_profile(gradient: Tensor) -> Tensor:
    """Return two statistics of each class's gradient that do not depend on the order of the channels.

    Args:
        gradient: (N, C) classifier gradient.

    Returns:
        (2, N): for each class the mean over the channels divided by the root mean square, in [-1, 1], and the mean of the signs.

    >>> channel_profile(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
    tensor([[1., 0.],
            [1., 0.]])
    """
    root_mean_square = gradient.square().mean(1).sqrt().clamp_min(1e-30)
    return torch.stack([gradient.mean(1) / root_mean_square, gradient.sign().mean(1)])


def profile_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """Return `outer_product_distance` averaged over all ways to pair the channels of two networks.

    The two networks may have different numbers of channels. In randomly initialised networks the order of the channels has no meaning,
    so the published code in effect compares random pairs of channels. Averaging over all pairs removes this noise: the mean of cos(g, h)
    over all permutations of h is the product of the two ratios of mean to root mean square, and the mean agreement of the signs is the
    product of the two mean signs. The result is exact up to the covariance of the two, which is of order 1 / C, and assumes that all
    channels have a gradient.

    Args:
        teacher, student: (2, N) profiles from `channel_profile`.

    Returns:
        Scalar in [0, 4].

    >>> g = torch.rand(10, 8)
    >>> h = torch.rand(10, 8)
    >>> shuffled = torch.stack([outer_product_distance(g, h[:, torch.randperm(8)]) for _ in range(2000)])
    >>> expected = profile_distance(channel_profile(g), channel_profile(h))
    >>> abs(shuffled.mean() - expected).item() < 0.02
    True
    """
    return 2 - 2 * (teacher * student).prod(0).mean()
