"""The fixed batches of images on which proxies are computed."""

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
    """A batch of images for one seed.

    Attributes:
        images: (B, C, H, W) float images, normalised by the channel statistics of the data set.
        target: (B,) labels.
        seed: seed with which the images were drawn.
    """

    images: Tensor
    target: Tensor
    seed: int


def proxy_batches(data: Dataset, batch: int, seeds: Sequence[int]) -> list[ProxyBatch]:
    """Draw a batch of training images for each seed, without replacement.

    Args:
        data: the data set.
        batch: number of images in each batch, at least 2, since batch statistics need two images.
        seeds: the seeds.

    Raises:
        DataError: the batch is smaller than 2 or larger than the number of training images.

    >>> from diswot.data import load_data
    >>> (drawn,) = proxy_batches(load_data("noise", num_classes=5), batch=8, seeds=[0])
    >>> drawn.images.shape, drawn.target.shape
    (torch.Size([8, 3, 32, 32]), torch.Size([8]))
    """
    available = len(data.train.labels)
    if batch < 2:
        raise DataError(f"--batch-size {batch}: use at least 2 images, since batch norm needs them")
    if available < batch:
        raise DataError(
            f"{data.name}: it has {available} training images, fewer than the batch of {batch}: use --batch-size {available} or less"
        )
    mean, std = data.statistics
    batches = []
    for seed in seeds:
        indices = np.random.default_rng([seed, 0]).choice(available, batch, replace=False)
        pixels = (data.train.images(indices) / np.float32(255) - mean) / std
        images = torch.from_numpy(np.ascontiguousarray(pixels.astype(np.float32)))
        # The permuted tensor keeps the array's memory layout (B, H, W, C), channels_last, which is faster for convolutions.
        target = torch.from_numpy(data.train.labels[indices])
        batches.append(ProxyBatch(images.permute(0, 3, 1, 2), target, seed))
    return batches
