"""Proxies of which units are switched on, as functions of plain tensors. Higher is better."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MOST_CODED = 30  # images whose signs fit into one 32-bit code
NONE = "the network has no activation modules (ReLU, GELU, ...) to look at"


def agreement(inputs: Tensor) -> Tensor:
    """For each pair of images, on how many units they agree: X X^T + (1 - X)(1 - X)^T for X = inputs > 0.

    Args:
        inputs: (B, ...) of one activation layer.

    Returns:
        (B, B).

    >>> agreement(torch.tensor([[1.0, -1.0, 2.0], [1.0, 3.0, -1.0]]))
    tensor([[3., 1.],
            [1., 3.]])
    """
    on = (inputs > 0).flatten(1).to(torch.float32)
    count = on.sum(1)
    return 2 * on @ on.T - count[:, None] - count[None, :] + on.shape[1]


def nwot(agreements: Tensor) -> Tensor:
    """log |det K| of the summed agreements (Mellor et al., ICML 2021).

    Args:
        agreements: (B, B), summed over the activation layers. Images that cannot be told apart leave a tiny eigenvalue, not minus infinity.

    >>> round(nwot(torch.tensor([[3.0, 1.0], [1.0, 3.0]])).item(), 4)  # log 8
    2.0794
    """
    values = torch.linalg.eigvalsh(agreements.double())
    return values.clamp_min(1e-9 * max(float(values[-1]), 1.0)).log().sum()


def codes(inputs: Tensor) -> Tensor:
    """Each unit's signs over the images as one whole number.

    Args:
        inputs: (B, ...) of one activation layer, B at most 30.

    Returns:
        (units,).

    >>> codes(torch.tensor([[1.0, -1.0], [1.0, 3.0]])).tolist()
    [3, 2]
    """
    on = (inputs > 0).flatten(1)
    return (on.to(torch.int32) << torch.arange(len(on), dtype=torch.int32, device=on.device)[:, None]).sum(0, dtype=torch.int32)


def swap(codes_of_layers: list[Tensor]) -> float:
    """log of the number of different sign patterns over the images, among all units (Peng et al., ICLR 2024).

    Raises:
        ValueError: no layers.

    >>> round(swap([torch.tensor([3, 2, 3]), torch.tensor([2, 0])]), 4)  # log 3
    1.0986
    """
    if not codes_of_layers:
        raise ValueError(NONE)
    return math.log(torch.unique(torch.cat(codes_of_layers)).numel())


def regular_factor(params: int, mu: float, sigma: float) -> float:
    """log of SWAP's regulariser exp(-(P - mu)^2 / sigma), P in thousands of parameters.

    >>> regular_factor(1_010_000, 1000, 100)
    -1.0
    """
    return -((params / 1000 - mu) ** 2) / sigma


def linear_regions(patterns: Tensor) -> float:
    """The number of different sign patterns over the units, among the inputs (TE-NAS, Chen et al., ICLR 2021).

    Args:
        patterns: (inputs, units) of truth values.

    >>> linear_regions(torch.tensor([[True, False], [True, False], [True, True]]))
    2.0
    """
    weights = torch.randn(patterns.shape[1], 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return float(len(torch.unique(patterns.double().cpu() @ weights, dim=0)))
