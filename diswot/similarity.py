"""The DisWOT metrics: how far a student's class semantics and sample relations are from a teacher's.

Every function here is a **distance** between two summaries, 0 where they agree; `diswot.proxies` turns distances into scores. Each
network is summarised alone first (a gradient, a Gram matrix), so a teacher is summarised once however many students it meets.

The source is Dong et al., "DisWOT: Student Architecture Search for Distillation WithOut Training", CVPR 2023, arXiv 2303.15678:
the paper's section 3 and, where it differs, the code published with it. B images, C features, N classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from diswot.errors import TeacherError

Norm = Literal["rows", "frobenius"]


def classifier_gradient(pooled: Tensor, logits: Tensor, target: Tensor) -> Tensor:
    """Gradient of the mean cross-entropy with respect to the classifier's weight, in closed form: no backward pass.

    Args:
        pooled: (B, C) input of the classifier.
        logits: (B, N).
        target: (B,) classes.

    Returns:
        (N, C), equal to what autograd gives.

    >>> layer = torch.nn.Linear(5, 3)
    >>> x, y = torch.randn(4, 5), torch.tensor([0, 1, 2, 1])
    >>> loss = torch.nn.functional.cross_entropy(layer(x), y)
    >>> (expected,) = torch.autograd.grad(loss, layer.weight)
    >>> torch.allclose(classifier_gradient(x, layer(x), y), expected, atol=1e-6)
    True
    """
    error = logits.softmax(1) - one_hot(target, logits.shape[1]).to(logits.dtype)
    return error.T @ pooled / len(target)


def cam_gram(features: Tensor, weight: Tensor) -> Tensor:
    """Class-by-class Gram matrix of the class activation maps G = sum_c w[n, c] A[:, c], without making the maps.

    Since G is linear in A, G G^T = w (A A^T) w^T with the (C, C) Gram matrix of the channels in the middle.

    Args:
        features: (B, C, H, W) map before global pooling.
        weight: (N, C) of the classifier.

    Returns:
        (N, N).

    Raises:
        TeacherError: the classifier does not read the map's channels (a network with a layer between them).

    >>> A, w = torch.rand(2, 5, 3, 3), torch.rand(4, 5)
    >>> G = torch.einsum("nc,bchw->nbhw", w, A).flatten(1)
    >>> torch.allclose(cam_gram(A, w), G @ G.T, rtol=1e-4)
    True
    """
    if features.shape[1] != weight.shape[1]:
        raise TeacherError(
            f"class activation maps need the classifier on the last map; here {features.shape[1]} channels meet a classifier of "
            f"{weight.shape[1]}: use semantic_profile to score, kd to distil"
        )
    channels = features.transpose(0, 1).flatten(1)
    return weight @ (channels @ channels.T) @ weight.T


def sample_gram(features: Tensor) -> Tensor:
    """(B, B) Gram matrix of the flattened maps: how alike the network finds each pair of images.

    >>> sample_gram(torch.ones(2, 3, 2, 2))
    tensor([[12., 12.],
            [12., 12.]])
    """
    flat = features.flatten(1)
    return flat @ flat.T


def normalised(gram: Tensor, norm: Norm) -> Tensor:
    """The matrix divided by its Frobenius norm, or each of its rows by its Euclidean norm; zeros stay zeros."""
    return normalize(gram, dim=1) if norm == "rows" else gram / gram.norm().clamp_min(1e-12)


def gram_distance(teacher: Tensor, student: Tensor, norm: Norm) -> Tensor:
    """Distance of two Gram matrices of equal shape (n, n).

    With `frobenius` (the paper) the norm of the difference of the normalised matrices, in [0, 2]; with `rows` (the code) their
    squared difference over n^2, in [0, 4 / n].

    >>> a = torch.eye(3)
    >>> gram_distance(a, 2 * a, "rows").item(), gram_distance(a, 2 * a, "frobenius").item()
    (0.0, 0.0)
    """
    difference = normalised(teacher, norm) - normalised(student, norm)
    return difference.norm() if norm == "frobenius" else difference.square().sum() / teacher.numel()


def outer_product_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """The published code's semantic metric: for each class the outer product g g^T of its classifier gradient, rows L2-normalised, the
    squared difference over C N.

    Row i of g g^T normalised is sign(g_i) g / ||g||, so the (N, C, C) tensors need not be made: the distance is
    2 - 2 mean_n[ cos(g_n, h_n) mean_i sign(g_ni) sign(h_ni) ], where a channel without gradient counts 0 in place of the 1 it has in the 2.

    Args:
        teacher, student: (N, C) classifier gradients; C must be equal, since channels are compared one by one.

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
    """What is left of each class's gradient when the order of the channels is forgotten.

    Args:
        gradient: (N, C).

    Returns:
        (2, N): the mean over its root mean square, in [-1, 1], and the mean sign.

    >>> channel_profile(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
    tensor([[1., 0.],
            [1., 0.]])
    """
    root_mean_square = gradient.square().mean(1).sqrt().clamp_min(1e-30)
    return torch.stack([gradient.mean(1) / root_mean_square, gradient.sign().mean(1)])


def profile_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """`outer_product_distance` averaged over all ways to match the channels of two networks, which may then differ in number.

    The channels of two randomly initialised networks come in no order, so the published code compares pairs drawn at random. The
    mean of cos(g, h) over all permutations of h is the product of the two means over root mean squares, and that of the signs'
    agreement the product of the mean signs: the same quantity without the noise of one matching (their product leaves out a
    covariance of order 1 / C, and the 2 stands for channels that all have a gradient).

    Args:
        teacher, student: (2, N) from `channel_profile`.

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
