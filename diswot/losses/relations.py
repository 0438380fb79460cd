"""Losses on how the images of a batch, or the channels of a map, relate to each other. Widths and sizes of the networks may differ."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from diswot.config.fields import option
from diswot.losses.base import LOSSES, Loss, SingleTermLoss, weight_option
from diswot.losses.logits import KD
from diswot.observe import Observation
from diswot.schemes.base import Terms
from diswot.similarity import cam_gram, channel_weights, gram_distance, sample_gram

Scale = Literal["paper", "unit"]
_AT_ONCE = 1 << 22  # cosines that rkd_angle holds at a time: 16 MiB


def _distances(features: Tensor) -> Tensor:
    """Return the Euclidean distances (B, B) of the images, with zeros and no gradient on the diagonal."""
    gram = features @ features.T
    squares = gram.diagonal()
    squared = (squares[:, None] + squares - 2 * gram).clamp_min(1e-12)
    own = torch.eye(len(features), dtype=torch.bool, device=features.device)
    return squared.masked_fill(own, 1.0).sqrt().masked_fill(own, 0.0)


def _over_mean(distances: Tensor) -> Tensor:
    """Return distances (B, B) divided by the mean of those between different images."""
    positive = distances > 0
    return distances / (distances.sum() / positive.sum().clamp_min(1)).clamp_min(1e-12)


def rkd_distance(student_pooled: Tensor, teacher_pooled: Tensor) -> Tensor:
    """Smooth L1, mean over (B, B), of the pairwise distances, each network's over their mean between different images (Park et al. 2019).

    Args:
        student_pooled: (B, C).
        teacher_pooled: (B, C').

    Returns:
        Scalar, 0 where the teacher's features are the student's up to rotation, shift and scale.

    >>> features = torch.randn(5, 8)
    >>> abs(rkd_distance(3 * features + 1, features).item()) < 1e-4
    True
    """
    student, teacher = (_over_mean(_distances(_centred(x))) for x in (student_pooled, teacher_pooled.detach()))
    return F.smooth_l1_loss(student, teacher)


def _centred(features: Tensor) -> Tensor:
    """Return features (B, C) moved to mean 0: distances and angles stay, and squares are as small as can be, so rounding matters least."""
    return features - features.mean(0)


def rkd_angle(student_pooled: Tensor, teacher_pooled: Tensor) -> Tensor:
    """Smooth L1, mean over (B, B, B), of the cosines of the angles that all triplets make (Park et al., CVPR 2019).

    The (B, B, B) cosines are made for some corners at a time, and again for the gradient, so that the memory does not grow with B^3.

    Args:
        student_pooled: (B, C).
        teacher_pooled: (B, C').

    Returns:
        Scalar, 0 where the teacher's features are the student's up to rotation, shift and scale.

    >>> features = torch.randn(5, 8)
    >>> abs(rkd_angle(3 * features + 1, features).item()) < 1e-4
    True
    """
    count = len(student_pooled)
    step = max(1, _AT_ONCE // count**2)
    sides = [_sides(_centred(x)) for x in (student_pooled, teacher_pooled.detach())]
    total = student_pooled.new_zeros(())
    for begin in range(0, count, step):
        corners = slice(begin, begin + step)
        total = total + (
            _angle_part(*sides[0], *sides[1], corners)
            if step >= count
            else checkpoint(_angle_part, *sides[0], *sides[1], corners, use_reentrant=False)
        )
    return total / count**3


def _sides(features: Tensor) -> tuple[Tensor, Tensor]:
    """The Gram matrix (B, B), and one over the distances, 0 on the diagonal and for images at the same place."""
    distances = _distances(features)
    alike = distances <= 1e-6
    return features @ features.T, distances.masked_fill(alike, 1.0).reciprocal().masked_fill(alike, 0.0)


def _cosines(gram: Tensor, inverse: Tensor, corners: slice) -> Tensor:
    """Return the cosines (corners, B, B) of the angle at image j between the directions to i and to k.

    They are (x_i - x_j) . (x_k - x_j) over both lengths.
    """
    own, squares = gram[corners], gram.diagonal()[corners]
    products = gram - own[:, :, None] - own[:, None, :] + squares[:, None, None]
    return products * inverse[corners][:, :, None] * inverse[corners][:, None, :]


def _angle_part(gram_s: Tensor, inverse_s: Tensor, gram_t: Tensor, inverse_t: Tensor, corners: slice) -> Tensor:
    return F.smooth_l1_loss(_cosines(gram_s, inverse_s, corners), _cosines(gram_t, inverse_t, corners), reduction="sum")


def sp(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """|| G_t - G_s ||^2 / B^2, G the Gram matrix of the flattened maps with rows of length 1 (Tung & Mori, ICCV 2019); 0 where they agree.

    Args:
        student_map, teacher_map: (B, ...).

    >>> x = torch.rand(4, 3, 2, 2)
    >>> sp(2 * x, x).item()
    0.0
    """
    return gram_distance(sample_gram(teacher_map.detach()), sample_gram(student_map), "rows")


def cc(student_pooled: Tensor, teacher_pooled: Tensor, gamma: float = 0.4, order: int = 2) -> Tensor:
    """|| K_t - K_s ||^2 / B^2 with K the Gaussian kernel of length-1 features as a Taylor series up to `order`,
    sum_p e^(-2 gamma) (2 gamma)^p / p! (x . y)^p (Peng et al., ICCV 2019, correlation congruence); 0 where they agree.

    Args:
        student_pooled, teacher_pooled: (B, C), (B, C').

    >>> x = torch.randn(4, 3)
    >>> abs(cc(2 * x, x).item()) < 1e-4
    True
    """

    def kernel(features: Tensor) -> Tensor:
        rows = F.normalize(features, dim=1)
        cosines = rows @ rows.T
        return sum(
            (math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) * cosines**p for p in range(order + 1)), torch.zeros_like(cosines)
        )

    return F.mse_loss(kernel(student_pooled), kernel(teacher_pooled.detach()))


def pkt(student_pooled: Tensor, teacher_pooled: Tensor, eps: float = 1e-7) -> Tensor:
    """Mean over (B, B) of t log(t / s), s and t the cosine similarities moved to [0, 1], rows summing to 1 (Passalis & Tefas, ECCV 2018).

    >>> x = torch.randn(4, 3)
    >>> abs(pkt(2 * x, x).item()) < 1e-4
    True
    """

    def probabilities(features: Tensor) -> Tensor:
        rows = features / (features.norm(dim=1, keepdim=True) + eps)
        similarity = (rows @ rows.T + 1) / 2
        return similarity / similarity.sum(1, keepdim=True)

    student, teacher = probabilities(student_pooled), probabilities(teacher_pooled.detach())
    return (teacher * torch.log((teacher + eps) / (student + eps))).mean()


def semantic(student: Observation, teacher: Observation, scale: Scale = "paper") -> Tensor:
    """Return (1 / N^2) || G_T - G_S ||_2 with G the class-by-class correlation of the class activation maps (DisWOT, section 3.4).

    Args:
        scale: `paper`, with the factor 1 / N^2, by which it is at most 2 / N^2; `unit`, without it: at most 2 for any number of classes.
    """
    pair = (teacher.detach(), student)
    grams = [cam_gram(seen.features, channel_weights(seen.features, seen.pooled, seen.weight)) for seen in pair]
    return gram_distance(grams[0], grams[1], "frobenius") / (len(student.weight) ** 2 if scale == "paper" else 1)


def relation(student: Observation, teacher: Observation, scale: Scale = "paper") -> Tensor:
    """Return (1 / B^2) || A_T - A_S ||_2 with A the correlation of samples on the last map (DisWOT, section 3.4).

    Args:
        scale: `paper`, with the factor 1 / B^2, by which it is at most 2 / B^2, so that a last batch of few images counts by far the most;
            `unit`, without it: at most 2 for any batch.
    """
    grams = [sample_gram(seen.features) for seen in (teacher.detach(), student)]
    return gram_distance(grams[0], grams[1], "frobenius") / (len(student.features) ** 2 if scale == "paper" else 1)


@LOSSES.register("rkd")
class RKD(Loss):
    """CE + distance_weight times `rkd_distance` + angle_weight times `rkd_angle`, on pooled features."""

    distance_weight: float = weight_option(25.0)
    angle_weight: float = weight_option(50.0)

    summary = "distances and angles between images (Park et al. 2019)"
    needs = frozenset({"pooled"})
    needs_whole_batch = True
    min_batch_size = 3

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        return {
            "distance": self.distance_weight * rkd_distance(student.pooled, reference.pooled),
            "angle": self.angle_weight * rkd_angle(student.pooled, reference.pooled),
        }


@LOSSES.register("sp")
class SP(SingleTermLoss):
    """CE + weight times `sp` of the last map."""

    weight: float = weight_option(3000.0)

    summary = "which images are alike (Tung & Mori 2019)"
    needs = frozenset({"features"})
    needs_whole_batch = True
    min_batch_size = 2

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        return sp(student.features, reference.features)


@LOSSES.register("cc")
class CC(SingleTermLoss):
    """CE + weight times `cc` of the pooled features."""

    weight: float = weight_option(0.02)
    gamma: float = weight_option(0.4)
    order: int = option(2, ge=0, le=1_000_000)

    summary = "which images are alike, by a Gaussian kernel (Peng et al. 2019)"
    needs = frozenset({"pooled"})
    needs_whole_batch = True
    min_batch_size = 2

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        return cc(student.pooled, reference.pooled, self.gamma, self.order)


@LOSSES.register("pkt")
class PKT(SingleTermLoss):
    """CE + weight times `pkt` of the pooled features."""

    weight: float = weight_option(3e4)

    summary = "which images are alike, as probabilities (Passalis & Tefas 2018)"
    needs = frozenset({"pooled"})
    needs_whole_batch = True
    min_batch_size = 2

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        return pkt(student.pooled, reference.pooled)


@LOSSES.register("semantic")
class Semantic(SingleTermLoss):
    """CE + weight times `semantic`."""

    weight: float = weight_option(1.0)
    scale: Scale = "paper"

    summary = "the semantic metric of DisWOT as a loss (Dong et al. 2023)"
    needs = frozenset({"logits", "features", "weight"})
    needs_whole_batch = True
    min_batch_size = 2

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        return semantic(student, reference, self.scale)


@LOSSES.register("relation")
class Relation(SingleTermLoss):
    """CE + weight times `relation`."""

    weight: float = weight_option(1.0)
    scale: Scale = "paper"

    summary = "the relation metric of DisWOT as a loss (Dong et al. 2023)"
    needs = frozenset({"features"})
    needs_whole_batch = True
    min_batch_size = 2

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        return relation(student, reference, self.scale)


@LOSSES.register("diswot")
class DisWOT(KD):
    """KD and the search metrics as higher-order losses (DisWOT-dagger, Dong et al. 2023).

    >>> student, teacher = (Observation(torch.rand(4, c, 2, 2), torch.rand(4, c), torch.rand(4, 3), torch.rand(3, c)) for c in (5, 8))
    >>> sorted(DisWOT()(student, teacher, torch.tensor([0, 1, 2, 0])))
    ['ce', 'kd', 'relation', 'semantic']
    """

    semantic_weight: float = weight_option(1.0)
    relation_weight: float = weight_option(1.0)
    scale: Scale = "paper"

    summary = "kd, semantic and relation together (DisWOT-dagger)"
    needs = frozenset({"logits", "features", "weight"})
    needs_whole_batch = True
    min_batch_size = 2

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        terms = super().distil(student, reference, target)
        terms["semantic"] = self.semantic_weight * semantic(student, reference, self.scale)
        terms["relation"] = self.relation_weight * relation(student, reference, self.scale)
        return terms
