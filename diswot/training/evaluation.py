"""The accuracy of a network on a set of images, with the interval that their number allows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from diswot.data.images import ImageSet
from diswot.progress import NullReporter, Reporter
from diswot.training.augment import to_float
from diswot.training.distributed import DistributedContext

_BATCH = 500


@dataclass(frozen=True)
class Normalise:
    """Normalises pixels (B, C, H, W), uint8 or float in [0, 1], on any device; mean and std are (C,)."""

    mean: Tensor
    std: Tensor

    def __call__(self, pixels: Tensor) -> Tensor:
        mean, std = (value.to(pixels.device)[:, None, None] for value in (self.mean, self.std))
        return (to_float(pixels) - mean) / std


@dataclass(frozen=True)
class Network:
    """A model and how its images are normalised."""

    model: nn.Module
    normalise: Normalise


@dataclass(frozen=True)
class Accuracy:
    """Top-1 and top-5 accuracy in percent on `count` images; top-5 is NaN for five classes or fewer.

    >>> print(Accuracy(75.0, 1200))
    75.00 % (72.47 to 77.37, 1,200 images)
    """

    top1: float
    count: int
    top5: float = math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of top-1, in percent, that so many images allow (Wilson 1927)."""
        found = stats.binomtest(round(self.top1 * self.count / 100), self.count).proportion_ci(method="wilson")
        return 100 * found.low, 100 * found.high

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.top1:.2f} % ({low:.2f} to {high:.2f}, {self.count:,} images)"


def _batches(images: ImageSet, device: str, chosen: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Yield some of the images in order, with their indices: (B,) and (B, C, H, W) uint8. The next ones are read in the meantime."""
    batches = [chosen[begin : begin + _BATCH] for begin in range(0, len(chosen), _BATCH)]
    with ThreadPoolExecutor(1) as reader:
        read = [reader.submit(images.images, indices) for indices in batches[:1]]
        for number, indices in enumerate(batches):
            pixels = read.pop().result()
            read = [reader.submit(images.images, following) for following in batches[number + 1 : number + 2]]
            yield indices, torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(0, 3, 1, 2)


@torch.inference_mode()
def evaluate(
    network: Network,
    images: ImageSet,
    device: str,
    distributed: DistributedContext | None = None,
    reporter: Reporter | None = None,
) -> Accuracy:
    """Measure the accuracy in evaluation mode; under torchrun every process takes its share of the images."""
    distributed, reporter = distributed or DistributedContext(), reporter or NullReporter()
    mine = np.arange(distributed.rank, len(images.labels), distributed.world_size)
    reporter.within(f"testing, {len(mine):,} images")
    seen = 0
    model = network.model.eval()
    right = torch.zeros(2, dtype=torch.int64)
    for indices, pixels in _batches(images, device, mine):
        logits = model(network.normalise(pixels))
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices.cpu()
        hits = best == torch.from_numpy(images.labels[indices])[:, None]
        right += torch.stack([hits[:, 0].sum(), hits.sum()])
        seen += len(indices)
        reporter.within(f"testing, {seen:,} of {len(mine):,} images")
    total = distributed.sum(right).tolist()
    count = len(images.labels)
    return Accuracy(100 * total[0] / count, count, 100 * total[1] / count if logits.shape[1] > 5 else math.nan)
