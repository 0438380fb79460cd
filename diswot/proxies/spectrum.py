"""Proxies that look at the eigenvalues or norms of Jacobians, feature maps and the Fisher information, as functions of plain tensors.

A higher value is better.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_K = 1e-5  # added to eigenvalues and correlations before the logarithm, as in the published methods


def jacov(jacobian: Tensor) -> Tensor:
    """Return minus the sum of log(v + k) + 1 / (v + k) over the eigenvalues v of the correlation matrix of the images' Jacobians.

    The source is Mellor et al. 2020, with k = 1e-5.

    Args:
        jacobian: (B, ...) gradient of each image's summed logits with respect to the image.

    Raises:
        ValueError: the gradient of an image is zero or constant.

    >>> round(jacov(torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]])).item(), 3)  # uncorrelated: v = 1, 1
    -2.0
    """
    eigenvalues = torch.linalg.eigvalsh(_correlations(jacobian)).clamp_min(0)
    return -((eigenvalues + _K).log() + 1 / (eigenvalues + _K)).sum()


def neg_jacobian_log_norm(jacobian: Tensor) -> Tensor:
    """Return minus the mean over the images of the logarithm of the Jacobian's norm.

    The value is high for a network whose output changes little when its input changes.

    Args:
        jacobian: (B, ...) gradients, as in `jacov`.

    Raises:
        ValueError: the gradient of an image is zero.

    >>> round(neg_jacobian_log_norm(torch.tensor([[3.0, 4.0], [0.0, 5.0]])).item(), 3)  # - log 5
    -1.609
    """
    return -_norms(jacobian.flatten(1)).log().mean()


def isometry(jacobian: Tensor, num_classes: int) -> Tensor:
    """Return minus how far the mean log norm of the images' Jacobians is from that of N logits that each answer an image with gain 1.

    Untrained, the gradients of different logits hardly correlate, so the norm of their sum is sqrt(N) times that of one. A network that
    damps its images, and one that blows them up, both score lower, as dynamical isometry has it (Saxe et al., ICLR 2014).

    Args:
        jacobian: (B, ...) gradients, as in `jacov`.
        num_classes: the number N of logits.

    Raises:
        ValueError: the gradient of an image is zero.

    >>> round(isometry(torch.tensor([[0.0, 2.0], [2.0, 0.0]]), 4).item(), 3)  # 2 = sqrt(4)
    -0.0
    """
    return -(_norms(jacobian.flatten(1)).log().mean() - math.log(num_classes) / 2).abs()


def _correlations(rows: Tensor) -> Tensor:
    """Return the correlation matrix of the rows in float64, like `torch.corrcoef`; raise a ValueError if a row is constant."""
    flat = rows.flatten(1).double()
    centred = flat - flat.mean(1, keepdim=True)
    _norms(centred)
    unit = F.normalize(centred, dim=1)
    return unit @ unit.T


def _norms(rows: Tensor) -> Tensor:
    """Return the norm of each row; raise a ValueError if one is 0, as for a network whose output does not depend on its input."""
    norms = rows.norm(dim=1)
    if bool((norms == 0).any()):
        raise ValueError("no gradient reaches the images, since the network's output does not depend on its input")
    return norms


def epe_nas(jacobian: Tensor, target: Tensor) -> Tensor:
    """Return the sum over classes of |sum of log(|r| + k)| over the correlations r of the Jacobians within the class.

    The source is Lopes et al., ICANN 2021, with k = 1e-5.

    Args:
        jacobian: (B, ...) gradients, as in `jacov`.
        target: (B,) labels. Classes with a single image are left out.

    Raises:
        ValueError: no class has two images, or the gradient of an image is zero or constant.

    >>> g = torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0], [2.0, -2.0, 0.0]])
    >>> round(epe_nas(g, torch.tensor([0, 0, 1])).item(), 2)  # log(1e-5), twice
    23.03
    """
    scores = []
    for label in torch.unique(target):
        members = target == label
        if int(members.sum()) > 1:
            scores.append((_correlations(jacobian[members]).abs() + _K).log().sum().abs())
    if not scores:
        raise ValueError("epe_nas: no class has two images in the batch: use a larger batch or fewer classes")
    return torch.stack(scores).sum()


def entropy(features: Tensor) -> Tensor:
    """Return the entropy of the normalised eigenvalues of the covariance of the channels, in [0, log C].

    The source is AZ-NAS (Lee & Ham, CVPR 2024).

    Args:
        features: (B, C, H, W) feature map.

    >>> x = torch.randn(100, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    >>> bool(abs(entropy(x) - torch.tensor(8.0).log()) < 0.05)
    True
    """
    return spectral_entropy(covariance(features))


def direction_entropy(features: Tensor) -> Tensor:
    """Return the entropy of the normalised eigenvalues of the second-moment matrix of the features' directions, in [0, log C].

    Unlike in `entropy`, the vector of channels at each pixel is first scaled to length 1, and the mean is not subtracted.

    Args:
        features: (B, C, H, W) feature map.

    >>> x = torch.randn(100, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    >>> round(direction_entropy(x).item(), 1), abs(direction_entropy(x * 0 + 1).item()) < 1e-3  # log 8, and one direction
    (2.1, True)
    """
    return spectral_entropy(_smaller_gram(F.normalize(_pixels(features), dim=1)))


def covariance(features: Tensor) -> Tensor:
    """Return the covariance of the channels, or, where there are fewer pixels than channels, a smaller matrix with its nonzero eigenvalues.

    Args:
        features: (B, C, H, W) feature map.

    Returns:
        (C, C) or (B H W, B H W), the smaller of the two.

    >>> covariance(torch.tensor([[[[1.0, 3.0]], [[2.0, 2.0]], [[0.0, 0.0]]]]))  # of three channels, the first alone has a variance, of 1
    tensor([[ 0.5000, -0.5000],
            [-0.5000,  0.5000]])
    """
    pixels = _pixels(features)
    return _smaller_gram(pixels - pixels.mean(0))


def spectral_entropy(matrices: Tensor) -> Tensor:
    """Return the entropy of the eigenvalues of positive semidefinite matrices, divided by their sum.

    Args:
        matrices: (..., C, C).

    Returns:
        (...) entropies in [0, log C].

    >>> [round(abs(value), 4) for value in spectral_entropy(torch.stack([torch.eye(2), torch.ones(2, 2)])).tolist()]  # log 2, and 0
    [0.6931, 0.0]
    """
    eigenvalues = torch.linalg.eigvalsh(matrices).clamp_min(0)
    share = eigenvalues / eigenvalues.sum(-1, keepdim=True).clamp_min(1e-30)
    return -(share * (share + 1e-8).log()).sum(-1)


def _pixels(features: Tensor) -> Tensor:
    """Return the vectors of channels of a (B, C, H, W) map, (B H W, C); without a copy where channels are stored last."""
    return features.permute(0, 2, 3, 1).flatten(0, 2)


def _smaller_gram(pixels: Tensor) -> Tensor:
    """Return X^T X / n for an (n, C) matrix X, or X X^T / n, which has the same nonzero eigenvalues, where that is smaller."""
    count, channels = pixels.shape
    return (pixels.T @ pixels if channels <= count else pixels @ pixels.T) / count


def diversity(gradients: Tensor) -> Tensor:
    """Return the log-determinant of the correlation matrix of the images' gradients, which is about 0 if they are uncorrelated.

    To each eigenvalue 1e-3 is added.

    Args:
        gradients: (B, ...) gradient of each image.

    Raises:
        ValueError: the gradient of an image is zero or constant.

    >>> g = torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]])
    >>> round(diversity(g).item(), 2), round(diversity(g[[0, 0]]).item(), 2)
    (0.0, -6.21)
    """
    return (torch.linalg.eigvalsh(_correlations(gradients)).clamp_min(0) + 1e-3).log().sum()


def progressivity(entropies: Tensor) -> Tensor:
    """Return the smallest increase of the entropy from one block to the next (AZ-NAS).

    Args:
        entropies: (blocks,) entropies of the feature maps after each block.

    >>> progressivity(torch.tensor([1.0, 3.0, 3.5])).item()
    0.5
    """
    return entropies.diff().min()


def block_trainability(inner: Tensor, outer: Tensor) -> Tensor:
    """Return 2 - s - 1 / s, where s is the largest singular value of g_in^T g_out / (B H' W') (AZ-NAS).

    The value is at most 0, and is 0 if the block passes gradients on without changing their scale.

    Args:
        inner: (B, C, H, W) gradient g_in at the input of the block. If it has a higher resolution than the output, its pixels are
            rearranged into channels.
        outer: (B, C', H', W') gradient g_out at the output of the block, which consists of random signs.

    >>> signs = torch.ones(2, 1, 3, 3)
    >>> abs(block_trainability(signs, signs).item()) < 1e-4
    True
    """
    height, width = outer.shape[-2:]
    stride = -(-inner.shape[-1] // width)
    if stride > 1:
        inner = F.pixel_unshuffle(F.pad(inner, (0, stride * width - inner.shape[-1], 0, stride * height - inner.shape[-2])), stride)
    rows, columns = (g.transpose(0, 1).flatten(1) for g in (inner, outer))
    largest = torch.linalg.svdvals(rows @ columns.T / columns.shape[1])[0]
    return 2 - largest - 1 / (largest + 1e-6)


def covariance_root(probabilities: Tensor, smoothing: float = 0.05) -> Tensor:
    """Return a matrix L whose product L L^T is the covariance diag(p) - p p^T of a one-hot label with class probabilities p.

    The published method (VKDNW) takes the Cholesky factor. Any L gives the same Fisher matrix, and this one needs no decomposition:
    L = diag(sqrt p) - p sqrt(p)^T.

    Args:
        probabilities: (..., N) probabilities.
        smoothing: weight of the uniform distribution, which is mixed into the probabilities first.

    Returns:
        (..., N, N) matrices L.

    >>> p = torch.tensor([0.2, 0.3, 0.5])
    >>> root = covariance_root(p, smoothing=0)
    >>> torch.allclose(root @ root.T, torch.diag(p) - torch.outer(p, p))
    True
    """
    p = probabilities * (1 - smoothing) + smoothing / probabilities.shape[-1]
    root = p.sqrt()
    return torch.diag_embed(root) - p.unsqueeze(-1) * root.unsqueeze(-2)


def decile_entropy(fisher: Tensor) -> Tensor:
    """Return the entropy of the nine deciles of the Fisher matrix's eigenvalues, in [0, log 9] (VKDNW, Tybl & Neumann, CVPR 2025).

    The deciles are first divided by their sum.

    Args:
        fisher: (P, P) Fisher information of P parameters.

    >>> round(decile_entropy(torch.eye(20)).item(), 4)  # log 9
    2.1972
    """
    eigenvalues = torch.linalg.eigvalsh(fisher.double()).clamp_min(0)
    deciles = torch.quantile(eigenvalues, torch.arange(1, 10, dtype=eigenvalues.dtype, device=eigenvalues.device) / 10)
    share = deciles / deciles.sum().clamp_min(1e-300)
    return -(share * (share + 1e-300).log()).sum()
