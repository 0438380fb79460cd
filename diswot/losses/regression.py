"""Losses that predict the teacher's features from the student's: as a Gaussian (VID), for the teacher's own classifier (SRRL, SimKD), or
with all coarser features reviewed (ReviewKD)."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diswot.config.fields import option
from diswot.errors import ConfigError
from diswot.losses.base import LOSSES, Loss, SingleTermLoss, weight_option
from diswot.losses.features import fitnets, paired, to_smaller
from diswot.losses.logits import warmup_share
from diswot.observe import Observation
from diswot.schemes.base import Terms

_VARIANCE_EPS = 1e-5
_GRIDS = (4, 2, 1)  # sides of the pooled maps that ReviewKD compares besides the whole one


def vid(mean: Tensor, variance: Tensor, teacher_map: Tensor) -> Tensor:
    """Return the mean of ((t - mean)^2 / variance + log variance) / 2: the negative log-likelihood of the teacher's map under a Gaussian,
    but for a constant (Ahn et al., CVPR 2019, variational information distillation).

    Args:
        mean, teacher_map: (B, C, H, W).
        variance: (C,) of each channel.

    >>> x = torch.zeros(2, 3, 4, 4)
    >>> vid(x + 2, torch.ones(3), x).item()
    2.0
    """
    spread = variance[:, None, None]
    return ((mean - teacher_map.detach()).square() / spread + spread.log()).mean() / 2


def srrl(projected: Tensor, teacher_pooled: Tensor, teacher_weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared difference of the projected features from the teacher's (B, C), and of the logits (B, N) that the teacher's classifier
    makes of both (Yang et al., ICLR 2021, softmax regression representation learning). Its bias cancels.

    Args:
        projected, teacher_pooled: (B, C).
        teacher_weight: (N, C).

    >>> [part.item() for part in srrl(torch.ones(2, 3), torch.zeros(2, 3), torch.ones(4, 3))]
    [1.0, 9.0]
    """
    difference = projected - teacher_pooled.detach()
    return difference.square().mean(), (difference @ teacher_weight.detach().T).square().mean()


def hcl(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean squared difference of two maps (B, C, H, W) and of both averaged to 4, 2 and 1 cells a side, where these are coarser; with
    weights 1, 1/2, 1/4, 1/8 in this order, over their sum (Chen et al., CVPR 2021, hierarchical context loss); 0 where they agree.

    >>> x = torch.rand(2, 3, 8, 8)
    >>> hcl(x, x).item(), round(hcl(x + 1, x).item(), 4)
    (0.0, 1.0)
    """
    teacher_map = teacher_map.detach()
    grids = [grid for grid in _GRIDS if grid < min(student_map.shape[-2:])]
    pooled = [(F.adaptive_avg_pool2d(student_map, grid), F.adaptive_avg_pool2d(teacher_map, grid)) for grid in grids]
    terms = [F.mse_loss(s, t) / 2**number for number, (s, t) in enumerate([(student_map, teacher_map), *pooled])]
    return torch.stack(terms).sum() / (2 - 0.5 ** len(grids))


class _Gaussian(nn.Module):
    """The distribution that VID predicts of a teacher's map: three 1x1 convolutions give the mean, a parameter for each channel the
    variance."""

    def __init__(self, channels: int, teacher_channels: int, variance: float) -> None:
        super().__init__()
        widths = [channels, teacher_channels, teacher_channels, teacher_channels]
        layers = [nn.Conv2d(a, b, 1, bias=False) for a, b in itertools.pairwise(widths)]
        self.mean = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        self.scale = nn.Parameter(torch.full((teacher_channels,), math.log(math.expm1(variance - _VARIANCE_EPS))))

    @property
    def variance(self) -> Tensor:
        return F.softplus(self.scale) + _VARIANCE_EPS


@LOSSES.register("vid")
class VID(SingleTermLoss):
    """CE + weight times the sum of `vid` over the stages. The variance begins at `variance`."""

    weight: float = weight_option(1.0)
    variance: float = option(5.0, gt=1e-4)

    summary = "the teacher's maps as Gaussians of the student's (Ahn et al. 2019)"
    needs = frozenset({"stages"})
    has_adapters = True

    def build_adapters(self, student: Observation, reference: Observation) -> None:
        pairs = paired(student.stages, reference.stages)
        self.predictors = nn.ModuleList(_Gaussian(s.shape[1], t.shape[1], self.variance) for s, t in pairs)

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        terms = []
        for predictor, pair in zip(self.predictors, paired(student.stages, reference.stages), strict=True):
            of_student, of_teacher = to_smaller(*pair)
            terms.append(vid(predictor.mean(of_student), predictor.variance, of_teacher))  # type: ignore[operator, arg-type]
        return torch.stack(terms).sum()


@LOSSES.register("srrl")
class SRRL(Loss):
    """CE + feature_weight and regression_weight times the parts of `srrl`; the student's pooled features are projected by a linear layer
    without bias, batch norm and ReLU."""

    feature_weight: float = weight_option(1.0)
    regression_weight: float = weight_option(1.0)

    summary = "features as the teacher's classifier sees them (Yang et al. 2021)"
    needs = frozenset({"pooled", "weight"})
    has_adapters = True
    min_batch_size = 2

    def build_adapters(self, student: Observation, reference: Observation) -> None:
        width = reference.pooled.shape[1]
        self.projection = nn.Sequential(nn.Linear(student.pooled.shape[1], width, bias=False), nn.BatchNorm1d(width), nn.ReLU())

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        features, regression = srrl(self.projection(student.pooled), reference.pooled, reference.weight)
        return {"features": self.feature_weight * features, "regression": self.regression_weight * regression}


@LOSSES.register("simkd")
class SimKD(SingleTermLoss):
    """weight times the mean squared difference of the last maps, the larger averaged to the smaller (Chen et al., CVPR 2022). The student
    ends in a projector and its teacher's classifier, and is kept with both; labels are not looked at."""

    ce_weight: float = weight_option(0.0)
    weight: float = weight_option(1.0)

    summary = "the teacher's classifier on projected features (Chen et al. 2022)"
    needs = frozenset({"features", "weight"})
    reuses_classifier = True

    def check_observations(self, student: Observation, reference: Observation | None) -> None:
        super().check_observations(student, reference)
        if reference is not None and student.features.shape[1] != reference.features.shape[1]:
            widths = f"{student.features.shape[1]} channels, the teacher's of {reference.features.shape[1]}"
            raise ConfigError(f"loss simkd: a last map of {widths}: it is computed on a student that ends in the teacher's classifier")

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        return fitnets(*to_smaller(student.features, reference.features))


class _Fusion(nn.Module):
    """Attention-based fusion of a student's map with what the coarser ones were fused to (Chen et al. 2021, figure 3)."""

    def __init__(self, channels: int, width: int, teacher_channels: int, fuse: bool) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
        self.attend = nn.Sequential(nn.Conv2d(2 * width, 2, 1), nn.Sigmoid()) if fuse else None
        self.leave = nn.Sequential(nn.Conv2d(width, teacher_channels, 3, padding=1, bias=False), nn.BatchNorm2d(teacher_channels))
        for layers in (self.enter, self.leave):
            nn.init.kaiming_uniform_(layers[0].weight, a=1)  # type: ignore[arg-type]

    def forward(self, maps: Tensor, coarser: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The map in the teacher's channels and of the size given, and the fused map that the next finer one is fused with."""
        fused = self.enter(maps)
        if self.attend is not None and coarser is not None:
            coarser = F.interpolate(coarser, fused.shape[-2:], mode="nearest")
            shares = self.attend(torch.cat([fused, coarser], 1))
            fused = fused * shares[:, :1] + coarser * shares[:, 1:]
        if fused.shape[-2:] != size:
            fused = F.interpolate(fused, size, mode="nearest")
        return self.leave(fused), fused


@LOSSES.register("reviewkd")
class ReviewKD(SingleTermLoss):
    """CE + weight times the sum of `hcl` over the stages and the pooled features, growing over the first `warmup` epochs (of 240; fewer in
    a shorter training). From the coarsest on, each of the student's maps is fused with those before it; the teacher's are those before the
    ReLU. Weight: .6 for ResNet-56 to 20, 1 for ResNet-110 to 32, 8 for ResNet-32x4 to ShuffleNetV2."""

    weight: float = weight_option(5.0)
    warmup: int = option(20, ge=0, le=1_000_000)
    width: int = option(512, ge=1, le=65_536)

    summary = "every map reviewed with the coarser ones (Chen et al. 2021)"
    needs = frozenset({"pooled", "stages", "preacts"})
    has_adapters = True
    min_batch_size = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.share = 1.0

    def begin_epoch(self, epoch: int) -> None:
        self.share = warmup_share(epoch, self.scaled_epochs(self.warmup))

    @staticmethod
    def _pairs(student: Observation, reference: Observation) -> list[tuple[Tensor, Tensor]]:
        """Maps of the student and of the teacher, from the coarsest: the pooled features are maps of one pixel."""
        pooled = student.pooled[:, :, None, None], reference.pooled[:, :, None, None]
        return [pooled, *paired(student.stages, reference.preacts)[::-1]]

    def build_adapters(self, student: Observation, reference: Observation) -> None:
        pairs = self._pairs(student, reference)
        width = min(self.width, student.pooled.shape[1])
        self.fusions = nn.ModuleList(_Fusion(s.shape[1], width, t.shape[1], number > 0) for number, (s, t) in enumerate(pairs))

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        terms, coarser = [], None
        for fusion, (of_student, of_teacher) in zip(self.fusions, self._pairs(student, reference), strict=True):
            reviewed, coarser = fusion(of_student, coarser, of_teacher.shape[-2:])
            terms.append(hcl(reviewed, of_teacher))
        return self.share * torch.stack(terms).sum()
