"""Proxies that look at which units are active, as functions of plain tensors.

A unit is active if the input of its activation function is positive. A higher value is better.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_CODED_IMAGES = 30  # the most images whose signs fit into one 32-bit code
NO_ACTIVATIONS = "the network has no activation modules (ReLU, GELU, ...), which this proxy looks at"


def activation_agreement(inputs: Tensor) -> Tensor:
    """Return for each pair of images the number of units that are active for both or for none of them.

    This is X X^T + (1 - X)(1 - X)^T for X = inputs > 0.

    Args:
        inputs: (B, ...) inputs of one activation layer.

    Returns:
        (B, B) numbers of units.

    >>> activation_agreement(torch.tensor([[1.0, -1.0, 2.0], [1.0, 3.0, -1.0]]))
    tensor([[3., 1.],
            [1., 3.]])
    """
    active = (inputs > 0).flatten(1).to(torch.float32)
    num_active = active.sum(1)
    return 2 * active @ active.T - num_active[:, None] - num_active[None, :] + active.shape[1]


def nwot(agreements: Tensor) -> Tensor:
    """Return log |det K|, where K is the sum of the agreements of all activation layers (Mellor et al., ICML 2021).

    Eigenvalues are raised to a tiny positive value, so that the result is finite if two images activate exactly the same units.

    Args:
        agreements: (B, B) sum over the activation layers of `activation_agreement`.

    >>> round(nwot(torch.tensor([[3.0, 1.0], [1.0, 3.0]])).item(), 4)  # log 8
    2.0794
    """
    values = torch.linalg.eigvalsh(agreements.double())
    return values.clamp_min(1e-9 * max(float(values[-1]), 1.0)).log().sum()


def activation_codes(inputs: Tensor) -> Tensor:
    """Return for each unit an integer code of the images that activate it: bit i is 1 if image i does.

    Args:
        inputs: (B, ...) inputs of one activation layer, with B at most 30.

    Returns:
        (units,) codes.

    >>> activation_codes(torch.tensor([[1.0, -1.0], [1.0, 3.0]])).tolist()
    [3, 2]
    """
    active = (inputs > 0).flatten(1)
    return (active.to(torch.int32) << torch.arange(len(active), dtype=torch.int32, device=active.device)[:, None]).sum(0, dtype=torch.int32)


def swap(codes_of_layers: list[Tensor]) -> float:
    """Return the logarithm of the number of different codes among all units (SWAP, Peng et al., ICLR 2024).

    Args:
        codes_of_layers: for each activation layer the codes of its units, from `codes`.

    Raises:
        ValueError: there are no activation layers.

    >>> round(swap([torch.tensor([3, 2, 3]), torch.tensor([2, 0])]), 4)  # log 3
    1.0986
    """
    if not codes_of_layers:
        raise ValueError(NO_ACTIVATIONS)
    return math.log(torch.unique(torch.cat(codes_of_layers)).numel())


def regular_factor(params: int, mu: float, sigma: float) -> float:
    """Return the logarithm of SWAP's regulariser, exp(-(P - mu)^2 / sigma), where P is the number of parameters in thousands.

    >>> regular_factor(1_010_000, 1000, 100)
    -1.0
    """
    return -((params / 1000 - mu) ** 2) / sigma


def linear_regions(patterns: Tensor) -> float:
    """Return the number of different patterns of active units among the inputs (TE-NAS, Chen et al., ICLR 2021).

    Args:
        patterns: (inputs, units) boolean, true where the unit is active.

    >>> linear_regions(torch.tensor([[True, False], [True, False], [True, True]]))
    2.0
    """
    random_weights = torch.randn(patterns.shape[1], 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return float(len(torch.unique(patterns.double().cpu() @ random_weights, dim=0)))
