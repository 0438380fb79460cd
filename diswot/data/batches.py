"""The fixed batches that proxies are computed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diswot.data.images import Dataset
from diswot.errors import DataError


@dataclass(frozen=True)
class ProxyBatch:
    """`images` (B, C, H, W) float, normalised by the data set's channel statistics; `target` (B,) classes; the `seed` they belong to."""

    images: Tensor
    target: Tensor
    seed: int


def proxy_batches(data: Dataset, batch: int, seeds: Sequence[int]) -> list[ProxyBatch]:
    """For each seed its own batch of training images, drawn without replacement.

    Raises:
        DataError: fewer training images than the batch, or a batch below 2 (batch statistics need two images).

    >>> from diswot.data import load_data
    >>> (one,) = proxy_batches(load_data("noise", num_classes=5), batch=8, seeds=[0])
    >>> one.images.shape, one.target.shape
    (torch.Size([8, 3, 32, 32]), torch.Size([8]))
    """
    available = len(data.train.labels)
    if batch < 2:
        raise DataError(f"--batch {batch}: at least 2 images are needed")
    if available < batch:
        raise DataError(f"{data.name}: {available} training images, fewer than the batch: write --batch {available} or less")
    mean, std = data.statistics
    batches = []
    for seed in seeds:
        indices = np.random.default_rng([seed, 0]).choice(available, batch, replace=False)
        pixels = (data.train.images(indices) / np.float32(255) - mean) / std
        images = torch.from_numpy(np.ascontiguousarray(pixels.astype(np.float32)))
        # the memory layout channels_last is the array's own (B, H, W, C), and the faster one for convolutions
        target = torch.from_numpy(data.train.labels[indices])
        batches.append(ProxyBatch(images.permute(0, 3, 1, 2), target, seed))
    return batches
