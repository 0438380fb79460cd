"""Proxies that look at which units are active, as functions of plain tensors.

A unit is active if the input of its activation function is positive. A higher value is better.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_CODED_IMAGES = 30  # the most images whose signs fit into one 32-bit code
_EXACT_BITS = 24  # integers of so many bits are exact in float32
_TABLE_BITS = 16  # codes of so many bits are looked up in a table
NO_ACTIVATIONS = "the network has no activation modules (ReLU, GELU, ...), which this proxy looks at"


def _active(inputs: Tensor) -> Tensor:
    """Return (B, units) float32: 1 where a unit is active, else 0; units in the order in which they are stored, where images are not mixed.

    The sign is computed several times faster than a comparison, whose boolean result would have to be converted.
    """
    rows = inputs.permute(0, 2, 3, 1) if inputs.ndim == 4 and inputs.is_contiguous(memory_format=torch.channels_last) else inputs
    return rows.flatten(1).to(torch.float32).sign().clamp_min_(0)


def active_pairs(inputs: Tensor) -> Tensor:
    """Return for each pair of images the number of units that are active for both, in the diagonal for the one.

    Args:
        inputs: (B, ...) inputs of one activation layer.

    Returns:
        (B, B) numbers of units.

    >>> active_pairs(torch.tensor([[1.0, -1.0, 2.0], [1.0, 3.0, -1.0]]))
    tensor([[2., 1.],
            [1., 2.]])
    """
    active = _active(inputs)
    return active @ active.T


def agreement(pairs: Tensor, num_units: int) -> Tensor:
    """Return for each pair of images the number of units that are active for both or for none of them.

    Args:
        pairs: (B, B) from `active_pairs`, of one layer or the sum over several.
        num_units: the number of units of these layers.

    Returns:
        (B, B) numbers of units.

    >>> agreement(torch.tensor([[2.0, 1.0], [1.0, 2.0]]), 3)
    tensor([[3., 1.],
            [1., 3.]])
    """
    num_active = pairs.diagonal()
    return 2 * pairs - num_active[:, None] - num_active[None, :] + num_units


def nwot(agreements: Tensor) -> Tensor:
    """Return log |det K|, where K is the sum of the agreements of all activation layers (Mellor et al., ICML 2021).

    Eigenvalues are raised to a tiny positive value, so that the result is finite if two images activate exactly the same units.

    Args:
        agreements: (B, B) `agreement` of all activation layers together.

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
    active = _active(inputs)
    powers = 2 ** torch.arange(len(active), device=active.device)
    if len(active) <= _EXACT_BITS:
        return (powers.to(active) @ active).to(torch.int32)
    return (powers[:, None] * active.to(torch.int64)).sum(0).to(torch.int32)


def different_codes(codes: Tensor, num_images: int) -> Tensor:
    """Return the different ones among the codes of that many images, in ascending order.

    >>> different_codes(torch.tensor([3, 2, 3]), 2).tolist()
    [2, 3]
    """
    if num_images > _TABLE_BITS:
        return torch.unique(codes)
    seen = torch.zeros(1 << num_images, dtype=torch.bool, device=codes.device)  # quicker than sorting the codes
    return seen.index_fill_(0, codes.long(), True).nonzero().flatten().to(codes.dtype)


def swap(codes_of_layers: list[Tensor]) -> float:
    """Return the logarithm of the number of different codes among all units (SWAP, Peng et al., ICLR 2024).

    Args:
        codes_of_layers: for each activation layer the codes of its units, from `activation_codes`.

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
