"""KDSVD: how the leading singular vectors of a network's maps change from stage to stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diswot.config.fields import option
from diswot.errors import ConfigError
from diswot.losses.base import LOSSES, SingleTermLoss, weight_option
from diswot.losses.features import paired
from diswot.observe import Observation

_SPARE = 3  # singular vectors of the student more than of the teacher, among which the teacher's find their likes
_DISTINCT = 1e-6  # of the largest eigenvalue: below it two are one, and no gradient turns their vectors into each other


class _Eigenvectors(torch.autograd.Function):
    """Eigenvalues and eigenvectors of symmetric matrices, ascending; between eigenvalues that are one the gradient is 0, not infinite."""

    @staticmethod
    def forward(ctx: Any, matrices: Tensor) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(matrices)
        ctx.save_for_backward(values, vectors)
        return values, vectors

    @staticmethod
    def backward(ctx: Any, of_values: Tensor, of_vectors: Tensor) -> Tensor:
        values, vectors = ctx.saved_tensors
        gaps = values[:, None, :] - values[:, :, None]
        alike = gaps.abs() <= _DISTINCT * values[:, -1:, None].abs()
        inverse = gaps.masked_fill(alike, 1.0).reciprocal().masked_fill(alike, 0.0)
        inner = inverse * (vectors.transpose(1, 2) @ of_vectors) + torch.diag_embed(of_values)
        gradient: Tensor = vectors @ inner @ vectors.transpose(1, 2)
        return (gradient + gradient.transpose(1, 2)) / 2


def _leading(maps: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first singular values (B, k), scaled to length 1, and right singular vectors (B, C, k) of maps as matrices (H W, C)."""
    flat = maps.flatten(2)
    values, vectors = _Eigenvectors.apply(flat @ flat.transpose(1, 2))
    largest = slice(-min(count, flat.shape[1]), None)
    singular = values[:, largest].clamp_min(0).sqrt().flip(1)
    return F.normalize(singular, dim=1), vectors[:, :, largest].flip(2)


def _aligned(student: Tensor, teacher: Tensor) -> Tensor:
    """For each of the teacher's vectors (B, C, k) the student's that is nearest to its line, turned to its side."""
    cosines = student.transpose(1, 2) @ teacher
    nearest = cosines.abs().argmax(1, keepdim=True)
    sign = cosines.gather(1, nearest).sign()
    return student.gather(2, nearest.expand(-1, student.shape[1], -1)) * sign


def kdsvd(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], count: int = 1) -> Tensor:
    """Squared difference of the radial basis functions exp(-(a_i - b_j)^2 / 8) between the leading right singular vectors of one stage and
    of the stage before, summed over all but the batch and averaged over that, summed over the stages (Lee et al., ECCV 2018). Singular
    vectors have no sign of their own: the teacher's are turned so that their components sum to 0 or more, the student's to the teacher's
    side.

    Args:
        student_maps, teacher_maps: S maps (B, C_s, H_s, W_s) each, with the same channels.
        count: singular vectors of each map; each is multiplied by the teacher's singular value.

    >>> maps = [torch.rand(2, 3, 8, 8), torch.rand(2, 5, 4, 4)]
    >>> kdsvd([2 * maps[0], 3 * maps[1]], maps).item() < 1e-4
    True
    """
    terms, before = [], None
    for of_student, of_teacher in zip(student_maps, teacher_maps, strict=True):
        singular, teacher = _leading(of_teacher.detach(), count)
        teacher = teacher * torch.where(teacher.sum(1, keepdim=True) < 0, -1.0, 1.0)
        _, student = _leading(of_student, count + _SPARE)
        now = _aligned(student, teacher) * singular[:, None], teacher * singular[:, None]
        if before is not None:
            mine, theirs = (torch.exp(-(a[:, :, None] - b[:, None]).square() / 8) for a, b in zip(now, before, strict=True))
            terms.append((mine - theirs).square().sum() / len(mine))
        before = now
    return torch.stack(terms).sum()


@LOSSES.register("kdsvd")
class KDSVD(SingleTermLoss):
    """CE + weight times `kdsvd` of the stages that the networks share; they must have as many channels as the teacher's."""

    weight: float = weight_option(1.0)
    count: int = option(1, ge=1, le=1024)

    summary = "singular vectors from stage to stage (Lee et al. 2018)"
    needs = frozenset({"stages"})

    def check_observations(self, student: Observation, reference: Observation | None) -> None:
        super().check_observations(student, reference)
        if reference is None:
            return
        pairs = paired(student.stages, reference.stages)
        if len(pairs) < 2:
            raise ConfigError("loss kdsvd: the two networks share one stage; it compares a stage with the one before")
        if odd := next(((s.shape[1], t.shape[1]) for s, t in pairs if s.shape[1] != t.shape[1]), None):
            raise ConfigError(
                f"loss kdsvd: a stage of {odd[0]} channels, the teacher's of {odd[1]}: they must be the same; use vid or reviewkd"
            )

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        pairs = paired(student.stages, reference.stages)
        return kdsvd([s for s, _ in pairs], [t for _, t in pairs], self.count)
