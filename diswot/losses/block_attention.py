"""AFD: a loss between all blocks of two networks, weighted by a trained attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diswot.config.fields import option
from diswot.losses.base import LOSSES, Loss, temperature_option, weight_option
from diswot.losses.features import attention, resized, softened_term, with_logits
from diswot.observe import Observation
from diswot.schemes.base import Terms


def afd(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], attention_weights: Tensor) -> Tensor:
    """For each teacher map the squared difference of its normalised mean-square map from each student map's, mean over the pixels, weighted
    by the attention, summed over the student's maps, averaged over the batch; all summed over the teacher's (Ji et al., AAAI 2021).

    Args:
        student_maps: S maps (B, C_s, H_s, W_s), averaged to the teacher's sizes.
        teacher_maps: T maps (B, C_t, H_t, W_t).
        attention_weights: (B, T, S), summing to 1 over S.

    >>> x = torch.rand(2, 3, 4, 4)
    >>> abs(afd([x], [2 * x], torch.ones(2, 1, 1)).item()) < 1e-4
    True
    """
    total = attention_weights.new_zeros(())
    energies = [maps.square().mean(1, keepdim=True) for maps in student_maps]
    for index, teacher_map in enumerate(teacher_maps):
        teacher = attention(teacher_map.detach())
        for place, energy in enumerate(energies):
            student = F.normalize(resized(energy, teacher_map).flatten(1), dim=1)
            total = total + (attention_weights[:, index, place] * (student - teacher).square().mean(1)).mean()
    return total


@LOSSES.register("afd")
class AFD(Loss):
    """CE + kd_weight KD + weight times `afd` over all blocks of both networks; the attention is trained. PaddleClas: weight 50 (ImageNet).

    A student block's key is ReLU(BN(Linear(mean over pixels))); a bilinear layer with batch norm makes a head of it for each teacher
    block, whose query is BN(Linear(mean over pixels)). The attention is the softmax over the student's blocks of
    (key . query + p_t . p_s) / sqrt(d).
    """

    weight: float = weight_option(200.0)
    kd_weight: float = weight_option(0.9)
    temperature: float = temperature_option(4.0)
    width: int = option(128, ge=1, le=65_536)

    summary = "attention between all blocks (Ji et al. 2021)"
    needs = frozenset({"blocks"})
    has_adapters = True
    min_batch_size = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.needs = with_logits(self.needs, self.kd_weight)

    def build_adapters(self, student: Observation, reference: Observation) -> None:
        mine, theirs = _after_stem(student.blocks), _after_stem(reference.blocks)
        self.keys = nn.ModuleList(nn.Sequential(*self._embedding(x), nn.ReLU()) for x in mine)
        heads = self.width * len(theirs)
        self.bilinear = nn.Sequential(nn.Linear(self.width, heads), nn.BatchNorm1d(heads))
        self.queries = nn.ModuleList(nn.Sequential(*self._embedding(x)) for x in theirs)
        self.place_s, self.place_t = (nn.Parameter(torch.empty(len(x), self.width)) for x in (mine, theirs))
        nn.init.xavier_normal_(self.place_s)
        nn.init.xavier_normal_(self.place_t)

    def _embedding(self, maps: Tensor) -> list[nn.Module]:
        return [nn.Linear(maps.shape[1], self.width), nn.BatchNorm1d(self.width)]

    def attention(self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
        """Return the attention of each teacher map to each student map, (B, T, S)."""
        keys = torch.stack([key(x.mean((2, 3))) for key, x in zip(self.keys, student_maps, strict=True)], 1)  # (B, S, d)
        queries = torch.stack([query(x.mean((2, 3))) for query, x in zip(self.queries, teacher_maps, strict=True)], 1)  # (B, T, d)
        heads = self.bilinear(keys.flatten(0, 1)).unflatten(0, keys.shape[:2]).unflatten(2, (queries.shape[1], self.width))  # (B, S, T, d)
        products = torch.einsum("bstd,btd->bts", heads, queries) + self.place_t @ self.place_s.T
        return F.softmax(products / math.sqrt(self.width), dim=2)

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        mine, theirs = _after_stem(student.blocks), _after_stem(reference.blocks)
        return {"afd": self.weight * afd(mine, theirs, self.attention(mine, theirs))} | softened_term(
            student, reference, self.kd_weight, self.temperature
        )


def _after_stem(blocks: Sequence[Tensor]) -> Sequence[Tensor]:
    return blocks[1:] if len(blocks) > 1 else blocks
