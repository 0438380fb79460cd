"""Proxies of spectra: of Jacobians, of feature maps, of the Fisher information; functions of plain tensors. Higher is better."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_K = 1e-5


def jacov(jacobian: Tensor) -> Tensor:
    """- sum of log(v + k) + 1 / (v + k) over the eigenvalues v of the correlations between images, k = 1e-5 (Mellor et al. 2020).

    Args:
        jacobian: (B, ...) gradient of each image's summed logits with respect to the image.

    Raises:
        ValueError: an image has no gradient.

    >>> round(jacov(torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]])).item(), 3)  # uncorrelated: v = 1, 1
    -2.0
    """
    values = torch.linalg.eigvalsh(_correlations(jacobian)).clamp_min(0)
    return -((values + _K).log() + 1 / (values + _K)).sum()


def calm(jacobian: Tensor) -> Tensor:
    """- mean of the logarithm of the norms: a network is calm whose output changes little with its input.

    Args:
        jacobian: (B, ...) as `jacov` takes it.

    Raises:
        ValueError: an image has no gradient.

    >>> round(calm(torch.tensor([[3.0, 4.0], [0.0, 5.0]])).item(), 3)  # - log 5
    -1.609
    """
    return -_norms(jacobian.flatten(1)).log().mean()


def _correlations(rows: Tensor) -> Tensor:
    """`torch.corrcoef` in float64; a ValueError where a row is constant."""
    flat = rows.flatten(1).double()
    centred = flat - flat.mean(1, keepdim=True)
    _norms(centred)
    unit = F.normalize(centred, dim=1)
    return unit @ unit.T


def _norms(rows: Tensor) -> Tensor:
    """(B,); a ValueError where one is 0, as all are of a network whose input does not reach its output."""
    norms = rows.norm(dim=1)
    if bool((norms == 0).any()):
        raise ValueError("no gradient reaches the images: the network's output does not depend on its input")
    return norms


def epe_nas(jacobian: Tensor, target: Tensor) -> Tensor:
    """Correlations inside each class: the sum over classes of |sum of log(|r| + k)|, k = 1e-5 (Lopes et al., ICANN 2021).

    Args:
        jacobian: (B, ...) as `jacov` takes it.
        target: (B,) classes. Classes with a single image say nothing.

    Raises:
        ValueError: no class has two images.

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
        raise ValueError("epe_nas: no class has two images in the batch: use a larger --batch or fewer classes")
    return torch.stack(scores).sum()


def entropy(features: Tensor) -> Tensor:
    """Entropy of the normalised eigenvalues of the channels' covariance (AZ-NAS, Lee & Ham, CVPR 2024), in [0, log C].

    Args:
        features: (B, C, H, W).

    >>> x = torch.randn(100, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    >>> bool(abs(entropy(x) - torch.tensor(8.0).log()) < 0.05)
    True
    """
    rows = features.transpose(0, 1).flatten(1)
    return _spectral_entropy(rows - rows.mean(1, keepdim=True))


def direction_entropy(features: Tensor) -> Tensor:
    """Entropy of the spectrum of the features' directions: each pixel's vector of channels has length 1 and is not centred; in [0, log C].

    Args:
        features: (B, C, H, W).

    >>> x = torch.randn(100, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    >>> round(direction_entropy(x).item(), 1), abs(direction_entropy(x * 0 + 1).item()) < 1e-3  # log 8, and one direction
    (2.1, True)
    """
    return _spectral_entropy(F.normalize(features.transpose(0, 1).flatten(1), dim=0))


def _spectral_entropy(rows: Tensor) -> Tensor:
    """Of the normalised eigenvalues of rows rows^T / n, for rows (C, n)."""
    values = torch.linalg.eigvalsh(rows @ rows.T / rows.shape[1]).clamp_min(0)
    share = values / values.sum().clamp_min(1e-30)
    return -(share * (share + 1e-8).log()).sum()


def diversity(gradients: Tensor) -> Tensor:
    """log determinant of the correlations between images, each eigenvalue raised by 1e-3; 0 where they are uncorrelated.

    Args:
        gradients: (B, ...).

    >>> g = torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]])
    >>> round(diversity(g).item(), 2), round(diversity(g[[0, 0]]).item(), 2)
    (0.0, -6.21)
    """
    return (torch.linalg.eigvalsh(_correlations(gradients)).clamp_min(0) + 1e-3).log().sum()


def progressivity(entropies: Tensor) -> Tensor:
    """The least gain of entropy from one block to the next (AZ-NAS).

    Args:
        entropies: (blocks,).

    >>> progressivity(torch.tensor([1.0, 3.0, 3.5])).item()
    0.5
    """
    return entropies.diff().min()


def block_trainability(inner: Tensor, outer: Tensor) -> Tensor:
    """2 - s - 1 / s, s the top singular value of g_in^T g_out / (B H W): 0 where a block passes gradients on unscaled (AZ-NAS).

    Args:
        inner: (B, C, H, W) gradient at the block's input; a finer map is unshuffled into channels.
        outer: (B, C', H', W') gradient at its output, of random signs.

    >>> signs = torch.ones(2, 1, 3, 3)
    >>> abs(block_trainability(signs, signs).item()) < 1e-4
    True
    """
    height, width = outer.shape[-2:]
    stride = -(-inner.shape[-1] // width)
    if stride > 1:
        inner = F.pixel_unshuffle(F.pad(inner, (0, stride * width - inner.shape[-1], 0, stride * height - inner.shape[-2])), stride)
    rows, columns = (g.transpose(0, 1).flatten(1) for g in (inner, outer))
    top = torch.linalg.svdvals(rows @ columns.T / columns.shape[1])[0]
    return 2 - top - 1 / (top + 1e-6)


def covariance_root(probabilities: Tensor, smoothing: float = 0.05) -> Tensor:
    """A root L of the softmax covariance diag(p) - p p^T = L L^T, p smoothed towards the uniform distribution.

    The published method takes the Cholesky factor; any root gives the same Fisher matrix, and this one needs no decomposition:
    L = diag(sqrt p) - p sqrt(p)^T.

    Args:
        probabilities: (..., N).

    Returns:
        (..., N, N).

    >>> p = torch.tensor([0.2, 0.3, 0.5])
    >>> root = covariance_root(p, smoothing=0)
    >>> torch.allclose(root @ root.T, torch.diag(p) - torch.outer(p, p))
    True
    """
    p = probabilities * (1 - smoothing) + smoothing / probabilities.shape[-1]
    root = p.sqrt()
    return torch.diag_embed(root) - p.unsqueeze(-1) * root.unsqueeze(-2)


def decile_entropy(fisher: Tensor) -> Tensor:
    """Entropy of the nine deciles of the Fisher matrix's eigenvalues, in [0, log 9] (VKDNW, Tybl & Neumann, CVPR 2025).

    Args:
        fisher: (P, P).

    >>> round(decile_entropy(torch.eye(20)).item(), 4)  # log 9
    2.1972
    """
    values = torch.linalg.eigvalsh(fisher.double()).clamp_min(0)
    deciles = torch.quantile(values, torch.arange(1, 10, dtype=values.dtype, device=values.device) / 10)
    share = deciles / deciles.sum().clamp_min(1e-300)
    return -(share * (share + 1e-300).log()).sum()
