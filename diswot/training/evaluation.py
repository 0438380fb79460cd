"""The accuracy of a network on a set of images, with the interval that their number allows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import Tensor, nn

from diswot.data.images import ImageSet
from diswot.progress import NullReporter, Reporter
from diswot.training.augment import to_float
from diswot.training.distributed import DistributedContext

_BATCH = 500
_MOST_CLASSES = 1000  # whose confusions are counted


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
    """The accuracy on a set of images.

    Attributes:
        top1: in percent.
        count: images.
        top5: in percent; NaN for five classes or fewer.
        confusion: (classes, classes) images by their class and by the class that they were taken for; None of more than 1,000 classes.

    >>> print(Accuracy(75.0, 1200))
    75.00 % (72.47 to 77.37, 1,200 images)
    """

    top1: float
    count: int
    top5: float = math.nan
    confusion: NDArray[np.int64] | None = field(default=None, compare=False, repr=False)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of top-1, in percent, that so many images allow (Wilson 1927)."""
        share, n = round(self.top1 * self.count / 100) / self.count, self.count
        z = float(special.ndtri(0.975))  # scipy.stats has all this, and takes a second to import
        centre = share + z * z / (2 * n)
        width = z * math.sqrt((share * (1 - share) + z * z / (4 * n)) / n)
        low, high = ((centre + side) / (1 + z * z / n) for side in (-width, width))
        return 100 * max(low, 0.0), 100 * min(high, 1.0)

    def summary(self) -> dict[str, Any]:
        """The accuracy as plain values, which JSON can hold."""
        top5 = None if math.isnan(self.top5) else self.top5
        return {"top1": self.top1, "interval": list(self.interval), "top5": top5, "images": self.count}

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
    model, labels = network.model.eval(), images.labels
    mine, seen = np.arange(distributed.rank, len(labels), distributed.world_size), 0
    reporter.within(f"testing, {len(mine):,} images")
    right, confusion = torch.zeros(2, dtype=torch.int64), torch.zeros(0, 0, dtype=torch.int64)
    for indices, pixels in _batches(images, device, mine):
        logits = model(network.normalise(pixels))
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices.cpu()
        target = torch.from_numpy(labels[indices])
        hits = best == target[:, None]
        right += torch.stack([hits[:, 0].sum(), hits.sum()])
        if not len(confusion) and labels.max() < logits.shape[1] <= _MOST_CLASSES:
            confusion = torch.zeros(logits.shape[1], logits.shape[1], dtype=torch.int64)
        if len(confusion):
            confusion.index_put_((target, best[:, 0]), torch.ones(len(target), dtype=torch.int64), accumulate=True)
        seen += len(indices)
        reporter.within(f"testing, {seen:,} of {len(mine):,} images")
    total, count = distributed.sum(right).tolist(), len(labels)
    if distributed.world_size > 1 and distributed.world_size <= count:  # else a process has no image, and knows no number of classes
        confusion = distributed.sum(confusion)
    top5 = 100 * total[1] / count if logits.shape[1] > 5 else math.nan
    return Accuracy(100 * total[0] / count, count, top5, confusion.numpy() if len(confusion) else None)
