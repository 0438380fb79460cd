"""Several networks that teach as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """The mean of several networks' logits, which is, once normalised, the geometric mean of what they predict (Hinton et al. 2015).

    Args:
        members: networks from images (B, C, H, W) to logits (B, N), the same N.
        means: (C,) of each network, which its images are normalised by; the ensemble itself takes pixels in [0, 1].
        stds: (C,) of each network.

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> Ensemble([nn.Flatten(), nn.Flatten()], [zero, one], [one, one])(torch.full((1, 1, 1, 2), 3.0))
    tensor([[2.5000, 2.5000]])
    """

    means: Tensor
    stds: Tensor

    def __init__(self, members: Sequence[nn.Module], means: Sequence[Tensor], stds: Sequence[Tensor]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("means", torch.stack(list(means))[:, :, None, None])
        self.register_buffer("stds", torch.stack(list(stds))[:, :, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        logits = [member((pixels - mean) / std) for member, mean, std in zip(self.members, self.means, self.stds, strict=True)]
        return torch.stack(logits).mean(0)
