"""Losses in two phases: something is learnt first, for a share of the training, and what follows builds on it (AB, FSP, FT)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diswot.config.fields import option
from diswot.errors import ConfigError
from diswot.losses.base import LOSSES, Loss, idle, weight_option
from diswot.losses.features import paired, resized, to_smaller
from diswot.observe import Observation
from diswot.schemes.base import Terms

_LEAK = 0.1  # slope of the paraphraser's and the translator's units below 0


def fsp_matrices(maps: Sequence[Tensor]) -> list[Tensor]:
    """Return the matrices (B, C_i, C_i+1) of the flow between maps that follow each other: the mean over the pixels of the products of
    their channels, the larger map averaged to the smaller (Yim et al., CVPR 2017).

    >>> fsp_matrices([torch.ones(1, 2, 4, 4), 3 * torch.ones(1, 1, 2, 2)])[0].tolist()
    [[[3.0], [3.0]]]
    """
    pairs = (to_smaller(before, after) for before, after in itertools.pairwise(maps))
    return [before.flatten(2) @ after.flatten(2).transpose(1, 2) / after[0, 0].numel() for before, after in pairs]


def fsp(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """Return the mean squared difference of the `fsp_matrices`, summed over the pairs of maps; 0 where they agree.

    >>> maps = [torch.rand(2, 3, 4, 4), torch.rand(2, 5, 2, 2)]
    >>> fsp(maps, maps).item()
    0.0
    """
    matrices = zip(fsp_matrices(student_maps), fsp_matrices([maps.detach() for maps in teacher_maps]), strict=True)
    return torch.stack([F.mse_loss(of_student, of_teacher) for of_student, of_teacher in matrices]).sum()


def ab(student_map: Tensor, teacher_map: Tensor, margin: float = 1.0) -> Tensor:
    """Squared distance of the student's units from the margin on the side of 0 that the teacher's are on, of those that have not crossed
    it; summed over all but the batch, averaged over that (Heo et al., AAAI 2019, activation boundaries).

    Args:
        student_map, teacher_map: (B, C, H, W) before their activation.

    >>> ab(torch.tensor([[[[0.5]], [[2.0]]]]), torch.tensor([[[[-3.0]], [[1.0]]]])).item()  # (.5 + 1)^2, and none
    2.25
    """
    active = teacher_map.detach() > 0
    missing = torch.where(active, margin - student_map, margin + student_map).clamp_min(0)
    return missing.square().sum() / len(student_map)


def ft(student_factor: Tensor, teacher_factor: Tensor) -> Tensor:
    """Return the mean absolute difference of the mean-square maps of two factors, each of length 1 over its pixels (Kim et al., NeurIPS
    2018, factor transfer, as RepDistiller has it: p1 2, p2 1); 0 where they agree.

    Args:
        student_factor, teacher_factor: (B, C, H, W).

    >>> x = torch.rand(2, 3, 4, 4)
    >>> ft(2 * x, x).item() < 1e-6
    True
    """
    student, teacher = to_smaller(student_factor, teacher_factor.detach())
    units = [F.normalize(factor.square().mean(1).flatten(1), dim=1) for factor in (student, teacher)]
    return (units[0] - units[1]).abs().mean()


class TwoPhaseLoss(Loss):
    """Base class of losses whose first phase lasts for the first `first_phase` of the epochs, at least one where there are two or more."""

    first_phase: float = option(0.125, ge=0, lt=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.in_first_phase = self.first_phase > 0

    def phase_ends(self) -> int:
        """Return the number of epochs of the first phase."""
        return min(max(1, round(self.first_phase * self.epochs)), self.epochs - 1) if self.first_phase else 0

    def begin_epoch(self, epoch: int) -> None:
        self.in_first_phase = epoch < self.phase_ends()


class InitialisedLoss(TwoPhaseLoss):
    """Base class of losses that only initialise the student: its features learn from the teacher in the first phase, and then the labels
    alone teach."""

    weight: float = weight_option(1.0)

    @property
    def is_supervised(self) -> bool:
        return super().is_supervised and not self.in_first_phase

    def supervised(self, student: Observation, target: Tensor) -> Terms:
        return {} if self.in_first_phase else super().supervised(student, target)

    def value(self, student: Observation, reference: Observation) -> Tensor:
        """What the student learns by in the first phase, a scalar."""
        raise NotImplementedError

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        if self.in_first_phase:
            return {self.label: self.weight * self.value(student, reference)}
        return {self.label: idle(self)} if self.has_adapters else {}


@LOSSES.register("fsp")
class FSP(InitialisedLoss):
    """weight times `fsp` of the stem and the stages for the first eighth of the epochs, then CE. The networks must have as many
    channels."""

    weight: float = weight_option(50.0)

    summary = "the flow between stages, then the labels (Yim et al. 2017)"
    needs = frozenset({"blocks", "stages"})

    @staticmethod
    def _maps(student: Observation, reference: Observation) -> tuple[list[Tensor], list[Tensor]]:
        pairs = [(student.blocks[0], reference.blocks[0]), *paired(student.stages, reference.stages)]
        return [s for s, _ in pairs], [t for _, t in pairs]

    def check_observations(self, student: Observation, reference: Observation | None) -> None:
        super().check_observations(student, reference)
        if reference is None:
            return
        widths = ((s.shape[1], t.shape[1]) for s, t in zip(*self._maps(student, reference), strict=True))
        if odd := next(((mine, theirs) for mine, theirs in widths if mine != theirs), None):
            raise ConfigError(
                f"loss fsp: a map of {odd[0]} channels, the teacher's of {odd[1]}: they must be the same; use vid or reviewkd"
            )

    def value(self, student: Observation, reference: Observation) -> Tensor:
        return fsp(*self._maps(student, reference))


@LOSSES.register("ab")
class AB(InitialisedLoss):
    """weight times the sum of `ab` over the stages for the first eighth of the epochs, the i-th of n divided by 2^(n - 1 - i), then CE. The
    student's maps go through a 1x1 convolution and batch norm."""

    weight: float = weight_option(3e-3)
    margin: float = option(1.0, gt=0)

    summary = "which units are active, then the labels (Heo et al. 2019)"
    needs = frozenset({"preacts"})
    has_adapters = True
    min_batch_size = 2

    def build_adapters(self, student: Observation, reference: Observation) -> None:
        pairs = paired(student.preacts, reference.preacts)
        self.connectors = nn.ModuleList(nn.Sequential(nn.Conv2d(s.shape[1], t.shape[1], 1), nn.BatchNorm2d(t.shape[1])) for s, t in pairs)

    def value(self, student: Observation, reference: Observation) -> Tensor:
        pairs = paired(student.preacts, reference.preacts)
        terms = [
            ab(resized(connector(s), t), t, self.margin) / 2 ** (len(pairs) - 1 - number)
            for number, (connector, (s, t)) in enumerate(zip(self.connectors, pairs, strict=True))
        ]
        return torch.stack(terms).sum()


def _coder(widths: Sequence[int], kind: type[nn.Conv2d] | type[nn.ConvTranspose2d], norm: bool = False) -> nn.Sequential:
    """Three 3x3 convolutions, each with a leaky ReLU."""
    layers: list[nn.Module] = []
    for mine, theirs in itertools.pairwise(widths):
        layers += [kind(mine, theirs, 3, padding=1), *([nn.BatchNorm2d(theirs)] if norm else []), nn.LeakyReLU(_LEAK)]
    return nn.Sequential(*layers)


@LOSSES.register("ft")
class FT(TwoPhaseLoss):
    """CE + weight times `ft` of the last map. In the first eighth of the epochs the labels alone teach the student, while an encoder of the
    teacher's map learns to keep, in `factor_share` of its channels, what a decoder restores it from; frozen, it then makes the
    teacher's factor, and a translator the student's."""

    weight: float = weight_option(200.0)
    factor_share: float = option(0.5, gt=0, le=1)

    summary = "a paraphrase of the last map (Kim et al. 2018)"
    needs = frozenset({"features"})
    has_adapters = True
    min_batch_size = 2

    def build_adapters(self, student: Observation, reference: Observation) -> None:
        mine, theirs = student.features.shape[1], reference.features.shape[1]
        kept = max(1, int(self.factor_share * theirs))
        self.encoder = _coder([theirs, theirs, kept, kept], nn.Conv2d)
        self.decoder = _coder([kept, kept, theirs, theirs], nn.ConvTranspose2d)
        self.paraphraser = _coder([theirs, theirs, kept, kept], nn.Conv2d).requires_grad_(False)
        self.translator = _coder([mine, mine, kept, kept], nn.Conv2d, norm=True)

    def begin_epoch(self, epoch: int) -> None:
        super().begin_epoch(epoch)
        if self.adapters_made and epoch == self.phase_ends():
            self.paraphraser.load_state_dict(self.encoder.state_dict())

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        if self.in_first_phase:
            restored = self.decoder(self.encoder(reference.features))
            return {"paraphrase": F.mse_loss(restored, reference.features) + idle(self.translator)}
        with torch.no_grad():
            factor = self.paraphraser(reference.features)
        return {"ft": self.weight * ft(self.translator(student.features), factor) + idle(self.encoder, self.decoder)}
