"""CRD: an image's features in one network are told apart from those of images of other classes in the other one."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diswot.config.fields import option
from diswot.errors import ConfigError
from diswot.losses.base import LOSSES, SingleTermLoss, hard_labels, temperature_option, weight_option
from diswot.observe import Observation

_EPS = 1e-7


def crd(likelihoods: Tensor, num_images: int) -> Tensor:
    """Noise-contrastive loss of K negatives for each positive: - log p / (p + K / n) of the positive and - log (K / n) / (q + K / n),
    summed over the negatives; mean over the batch (Tian, Krishnan & Isola, ICLR 2020, equation 18).

    Args:
        likelihoods: (B, 1 + K) that pairs are of one image: of the positive, then of the negatives.
        num_images: n, of the training set: a negative is drawn with probability 1 / n.

    >>> round(crd(torch.tensor([[1.0, 0.0]]), 1).item(), 4)  # log 2
    0.6931
    """
    noise = (likelihoods.shape[1] - 1) / num_images
    positive, negative = likelihoods[:, 0], likelihoods[:, 1:]
    log_positive = torch.log(positive / (positive + noise + _EPS))
    return -(log_positive + torch.log(noise / (negative + noise + _EPS)).sum(1)).mean()


class OtherClasses:
    """The images of each class, to draw from all others.

    Args:
        labels: (n,) classes.

    >>> OtherClasses(torch.tensor([0, 1, 0])).draw(torch.tensor([0, 0]), 3).tolist()
    [[1, 1, 1], [1, 1, 1]]
    """

    def __init__(self, labels: Tensor) -> None:
        self.order = labels.argsort(stable=True)
        counts = labels.bincount()
        self.ends = counts.cumsum(0)
        self.begins = self.ends - counts

    def draw(self, classes: Tensor, count: int) -> Tensor:
        """Indices (B, count) of images that are not of these classes (B,), each drawn from all of them, so that one may come again."""
        begins, ends = self.begins[classes, None], self.ends[classes, None]
        others = len(self.order) - (ends - begins)
        places = (torch.rand(len(classes), count, device=classes.device, dtype=torch.float64) * others).long()
        return self.order[torch.where(places >= begins, places + ends - begins, places)]

    def to(self, device: torch.device) -> OtherClasses:
        """Move to a device."""
        self.order, self.begins, self.ends = (tensor.to(device) for tensor in (self.order, self.begins, self.ends))
        return self


@LOSSES.register("crd")
class CRD(SingleTermLoss):
    """CE + weight times `crd` in both directions, of embeddings of the pooled features (a linear layer each, length 1) against memories of
    those of all training images, which follow with `momentum`. Published beside KD too: `crd + kd(ce_weight=0, kd_weight=1)`.

    The memories take 8 `width` bytes for each training image, and are kept in the checkpoint. Negatives are drawn with replacement, where
    the authors' code draws without.
    """

    weight: float = weight_option(0.8)
    negatives: int = option(16_384, ge=1, le=1 << 24)
    temperature: float = temperature_option(0.07)
    width: int = option(128, ge=1, le=65_536)
    momentum: float = option(0.5, ge=0, lt=1)

    summary = "an image told apart from those of other classes, across networks (Tian et al. 2020)"
    needs = frozenset({"pooled"})
    student_needs = frozenset({"indices"})
    needs_whole_batch = True
    reads_labels = True
    has_adapters = True

    def build_adapters(self, student: Observation, reference: Observation) -> None:
        self.embed_student = nn.Linear(student.pooled.shape[1], self.width)
        self.embed_teacher = nn.Linear(reference.pooled.shape[1], self.width)

    def begin_training(self, epochs: int, labels: Tensor) -> None:
        super().begin_training(epochs, labels)
        if len(labels.bincount().nonzero()) < 2:
            raise ConfigError("loss crd: it tells images from those of other classes, and all images are of one")
        self.others = OtherClasses(labels)
        bound = math.sqrt(3 / self.width)
        for name in ("memory_student", "memory_teacher"):
            self.register_buffer(name, (2 * torch.rand(len(labels), self.width) - 1) * bound)
        self.register_buffer("normalisers", torch.zeros(2))

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        if not hasattr(self, "others"):
            raise ConfigError("loss crd: call begin_training(epochs, labels) before it: it remembers features of every training image")
        mine = F.normalize(self.embed_student(student.pooled), dim=1)
        theirs = F.normalize(self.embed_teacher(reference.pooled), dim=1)
        drawn = self.others.to(target.device).draw(hard_labels(target), self.negatives)
        pairs = torch.cat([student.indices[:, None], drawn], 1)
        terms = [self._term(0, mine, "memory_teacher", pairs), self._term(1, theirs, "memory_student", pairs)]
        self._remember("memory_student", student.indices, mine)
        self._remember("memory_teacher", student.indices, theirs)
        return torch.stack(terms).sum()

    def _term(self, side: int, anchors: Tensor, name: str, pairs: Tensor) -> Tensor:
        """One direction. All products with the memory take less room than a copy of the memory for each anchor's negatives."""
        memory = self.get_buffer(name)
        exponentials = torch.exp((anchors @ memory.to(anchors).T).gather(1, pairs) / self.temperature)
        normalisers = self.get_buffer("normalisers")
        if not normalisers[side]:  # of the first batch ever: what the likelihoods sum to
            normalisers[side] = exponentials.detach().mean() * len(memory)
        return crd(exponentials / normalisers[side].item(), len(memory))

    def _remember(self, name: str, indices: Tensor, features: Tensor) -> None:
        """Move the memory of these images' features towards what they are now."""
        memory = self.get_buffer(name)
        moved = self.momentum * memory[indices] + (1 - self.momentum) * features.detach().to(memory)
        setattr(self, name, memory.index_copy(0, indices, F.normalize(moved, dim=1)))
