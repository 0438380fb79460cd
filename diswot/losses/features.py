"""Losses on feature maps. Adapters between networks of different shapes are layers of the loss: trained beside the student, and left
behind with the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diswot.config.fields import option
from diswot.errors import ConfigError
from diswot.losses.base import LOSSES, Loss, SingleTermLoss, temperature_option, weight_option
from diswot.losses.logits import kd, symmetric
from diswot.observe import Observation
from diswot.schemes.base import Terms
from diswot.schemes.peers import Peers


def resized(maps: Tensor, like: Tensor) -> Tensor:
    """Resize maps (B, C, H, W) to the height and width of `like`: averaged over the cells of the new grid."""
    return _averaged(maps, (like.shape[-2], like.shape[-1]))


def _averaged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return maps if maps.shape[-2:] == size else F.adaptive_avg_pool2d(maps, size)


def to_smaller(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps at one height and width, the smaller of each."""
    size = min(a.shape[-2], b.shape[-2]), min(a.shape[-1], b.shape[-1])
    return _averaged(a, size), _averaged(b, size)


def paired(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return pairs of maps, stage by stage, from the coarsest: where one network has more stages, its finest have no reference.

    >>> [(s.item(), t.item()) for s, t in paired(torch.tensor([2, 3]), torch.tensor([1, 2, 3]))]
    [(2, 2), (3, 3)]
    """
    count = min(len(student), len(teacher))
    return list(zip(student[-count:], teacher[-count:], strict=True))


def fitnets(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean squared difference of two maps of equal shape, the student's after its regressor (Romero et al., ICLR 2015); 0 where they agree.

    >>> fitnets(torch.ones(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)).item()
    1.0
    """
    return F.mse_loss(student_map, teacher_map.detach())


def attention(maps: Tensor, power: float = 2.0) -> Tensor:
    """Return the attention maps (B, H W) of maps (B, C, H, W): the mean of |f|^power over the channels, scaled to length 1.

    >>> attention(torch.ones(1, 5, 2, 2))
    tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """
    return F.normalize(maps.abs().pow(power).mean(1).flatten(1), dim=1)


def at(student_map: Tensor, teacher_map: Tensor, power: float = 2.0, form: Literal["squared", "norm"] = "squared") -> Tensor:
    """Return the distance between the `attention` of two maps, the larger averaged to the smaller (Zagoruyko & Komodakis, ICLR 2017).

    Args:
        student_map, teacher_map: (B, C, H, W), (B, C', H', W').
        form: `squared`, the mean squared difference over (B, H W), as the authors' code has it; `norm`, the mean over the batch of the
            Euclidean norm, as the paper.

    Returns:
        Scalar, 0 where they agree.

    >>> x = torch.rand(2, 3, 4, 4)
    >>> at(2 * x, x).item() < 1e-12
    True
    """
    student, teacher = to_smaller(student_map, teacher_map.detach())
    difference = attention(student, power) - attention(teacher, power)
    return difference.square().mean() if form == "squared" else difference.norm(dim=1).mean()


def nst(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared maximum mean discrepancy, kernel (x . y)^2, between the channels of two maps, each channel of length 1 over its pixels; mean
    over the batch (Huang & Wang 2017, neuron selectivity transfer). Channels may differ in number; 0 where they agree.

    >>> x = torch.rand(2, 3, 4, 4)
    >>> abs(nst(2 * x[:, [2, 0, 1]], x).item()) < 1e-4  # neither scale nor the order of channels matters
    True
    """
    student, teacher = (F.normalize(x.flatten(2), dim=2) for x in to_smaller(student_map, teacher_map.detach()))

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.transpose(1, 2)).square().mean()

    return kernel(teacher, teacher) + kernel(student, student) - 2 * kernel(student, teacher)


def ickd(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared difference of the Gram matrices (C, C) of the channels of each image, rows of length 1, summed over C and averaged over the
    batch and C (Liu et al., ICCV 2021, inter-channel correlation); 0 where they agree. Heights and widths may differ.

    Args:
        student_map: (B, C, H, W), embedded in the teacher's channels.
        teacher_map: (B, C, H', W').

    >>> x = torch.rand(2, 3, 4, 4)
    >>> ickd(2 * x, x).item() < 1e-12
    True
    """

    def correlation(maps: Tensor) -> Tensor:
        flat = maps.flatten(2)
        return F.normalize(flat @ flat.transpose(1, 2), dim=2)

    difference = correlation(student_map) - correlation(teacher_map.detach())
    return difference.square().sum() / (difference.shape[0] * difference.shape[1])


def ofd_margin(mean: Tensor, deviation: Tensor) -> Tensor:
    """E[x | x < 0] of a normal x with these means and deviations (C,): the batch norm's bias and |weight|; -3 deviations where x is
    hardly ever below 0 (probability of .001 or less) (Heo et al., ICCV 2019, section 3).

    >>> round(ofd_margin(torch.zeros(1), torch.ones(1)).item(), 4)  # -sqrt(2 / pi)
    -0.7979
    """
    mean, deviation = mean.double(), deviation.double().clamp_min(1e-12)
    ratio = mean / deviation
    below = 0.5 * torch.erfc(ratio / math.sqrt(2))
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    return torch.where(below > 1e-3, mean - deviation * density / below.clamp_min(1e-3), -3 * deviation)


def ofd(student_map: Tensor, teacher_map: Tensor, margin: Tensor) -> Tensor:
    """Partial L2 of maps before their ReLU, summed over all but the batch, averaged over that (Heo et al., ICCV 2019).

    With t' = max(t, margin), (s - t')^2 counts where s > t' or t > 0.

    Args:
        student_map: (B, C, H, W), in the teacher's channels.
        teacher_map: (B, C, H, W).
        margin: (C,) from `ofd_margin`.

    >>> ofd(torch.tensor([[[[-5.0]], [[3.0]]]]), torch.tensor([[[[-1.0]], [[1.0]]]]), torch.tensor([-2.0, -2.0])).item()
    4.0
    """
    teacher = torch.maximum(teacher_map.detach(), margin.to(teacher_map)[:, None, None])
    counts = (student_map > teacher) | (teacher > 0)
    return ((student_map - teacher).square() * counts).sum() / len(student_map)


def mgd(generated: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared difference summed over all but the batch, averaged over that (Yang et al., ECCV 2022); 0 where they agree.

    Args:
        generated: (B, C, H, W) what the generator made of the student's masked map.
        teacher_map: (B, C, H, W).

    >>> mgd(torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)).item()
    48.0
    """
    return F.mse_loss(generated, teacher_map.detach(), reduction="sum") / len(generated)


def pefd(projected: Tensor, teacher_pooled: Tensor, eps: float = 1e-8) -> Tensor:
    """1 - cosine of projected and teacher features (B, C), mean over the batch (Chen et al., NeurIPS 2022); in [0, 2].

    >>> x = torch.rand(4, 3)
    >>> abs(pefd(2 * x, x).item()) < 1e-4
    True
    """
    return (1 - F.cosine_similarity(projected, teacher_pooled.detach(), dim=1, eps=eps)).mean()


def _conv_bn(student: Tensor, teacher: Tensor, *more: nn.Module) -> nn.Sequential:
    """Return a convolution and a batch norm from the student's channels to the teacher's."""
    channels = teacher.shape[1]
    return nn.Sequential(nn.Conv2d(student.shape[1], channels, 1, bias=False), nn.BatchNorm2d(channels), *more)


@LOSSES.register("fitnets")
class FitNets(SingleTermLoss):
    """CE + weight times `fitnets` of one stage's map, the student's through a 1x1 convolution, batch norm and ReLU.

    `stage` counts from the coarsest, -1; the middle one where it is not given.
    """

    weight: float = weight_option(100.0)
    stage: int | None = option(None, le=-1)

    summary = "a map in the middle (Romero et al. 2015)"
    needs = frozenset({"stages"})
    has_adapters = True
    min_batch_size = 2

    def _pair(self, student: Observation, reference: Observation) -> tuple[Tensor, Tensor]:
        pairs = paired(student.stages, reference.stages)
        place = len(pairs) // 2 - len(pairs) if self.stage is None else self.stage
        if not -len(pairs) <= place <= -1:
            raise ConfigError(f"loss fitnets: stage {place}; the two networks share {len(pairs)}: -{len(pairs)} to -1")
        return pairs[place]

    def build_adapters(self, student: Observation, reference: Observation) -> None:
        self.regressor = _conv_bn(*self._pair(student, reference), nn.ReLU())

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        of_student, of_teacher = self._pair(student, reference)
        return fitnets(*to_smaller(self.regressor(of_student), of_teacher))


@LOSSES.register("at")
class AT(SingleTermLoss):
    """CE + weight times the sum of `at` over the stages."""

    weight: float = weight_option(1000.0)
    power: float = temperature_option(2.0)
    form: Literal["squared", "norm"] = "squared"

    summary = "attention maps of every stage (Zagoruyko & Komodakis 2017)"
    needs = frozenset({"stages"})

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        terms = [at(s, t, self.power, self.form) for s, t in paired(student.stages, reference.stages)]
        return torch.stack(terms).sum()


@LOSSES.register("nst")
class NST(SingleTermLoss):
    """CE + weight times the sum of `nst` over the stages."""

    weight: float = weight_option(50.0)

    summary = "what the channels of every stage select (Huang & Wang 2017)"
    needs = frozenset({"stages"})

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        return torch.stack([nst(s, t) for s, t in paired(student.stages, reference.stages)]).sum()


@LOSSES.register("ickd")
class ICKD(Loss):
    """CE + weight times `ickd` of the last map + kd_weight KD; the student's map is embedded by a 1x1 convolution and batch norm, the
    teacher's is not."""

    weight: float = weight_option(2.5)
    kd_weight: float = weight_option(0.0)
    temperature: float = temperature_option(4.0)

    summary = "which channels are alike (Liu et al. 2021)"
    needs = frozenset({"features"})
    has_adapters = True
    min_batch_size = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.needs = with_logits(self.needs, self.kd_weight)

    def build_adapters(self, student: Observation, reference: Observation) -> None:
        self.embedding = _conv_bn(student.features, reference.features)

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        terms = {"ickd": self.weight * ickd(self.embedding(student.features), reference.features)}
        return terms | softened_term(student, reference, self.kd_weight, self.temperature)


def with_logits(needs: frozenset[str], kd_weight: float) -> frozenset[str]:
    """The fields that a loss reads, where softened logits may be among its terms."""
    return needs | {"logits"} if kd_weight else needs


def softened_term(student: Observation, reference: Observation, kd_weight: float, temperature: float) -> Terms:
    """The term of softened logits, for losses that take it beside their own; none where its weight is 0."""
    return {"kd": kd_weight * kd(student.logits, reference.logits, temperature)} if kd_weight else {}


@LOSSES.register("ofd")
class OFD(SingleTermLoss):
    """CE + weight times the sum of `ofd` over the stages, the i-th of n divided by 2^(n - 1 - i); the student's maps go through a 1x1
    convolution without bias and batch norm. ImageNet: weight 1e-4. The teacher runs on batch statistics, as in training, unless
    `batch_statistics` is false; its running statistics are left alone."""

    weight: float = weight_option(1e-3)
    batch_statistics: bool = True

    summary = "maps before the ReLU, with a margin (Heo et al. 2019)"
    needs = frozenset({"preacts"})
    has_adapters = True
    min_batch_size = 2

    @property
    def teacher_batch_statistics(self) -> bool:
        return self.batch_statistics

    def build_adapters(self, student: Observation, reference: Observation) -> None:
        pairs = paired(student.preacts, reference.preacts)
        norms = reference.norms[-len(pairs) :]
        if len(norms) < len(pairs) or not all(norm.numel() for norm in norms):
            raise ConfigError("loss ofd: its margins come from the teacher's batch norm, and a stage has none: use at, fitnets or mgd")
        self.connectors = nn.ModuleList(_conv_bn(s, t) for s, t in pairs)
        for connector in self.connectors:
            convolution = connector[0]  # type: ignore[index]
            nn.init.normal_(convolution.weight, 0, math.sqrt(2 / convolution.out_channels))
        for index, norm in enumerate(norms):
            self.register_buffer(f"margin{index}", ofd_margin(norm[0], norm[1]))

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        total = student.logits.new_zeros(())
        last = len(self.connectors) - 1
        for index, (of_student, of_teacher) in enumerate(paired(student.preacts, reference.preacts)):
            adapted = resized(self.connectors[index](of_student), of_teacher)
            total = total + ofd(adapted, of_teacher, self.get_buffer(f"margin{index}")) / 2 ** (last - index)
        return total


@LOSSES.register("mgd")
class MGD(Loss):
    """CE + alpha times `mgd`: of the student's last map, in the teacher's channels, a share `mask` of the channels is zeroed, and two 3x3
    convolutions with a ReLU between them make the teacher's map of what is left."""

    alpha: float = weight_option(7e-5)
    mask: float = option(0.15, ge=0, lt=1)

    summary = "making the teacher's map of a masked one (Yang et al. 2022)"
    needs = frozenset({"features"})
    has_adapters = True

    def build_adapters(self, student: Observation, reference: Observation) -> None:
        mine, theirs = student.features.shape[1], reference.features.shape[1]
        self.align = nn.Conv2d(mine, theirs, 1) if mine != theirs else nn.Identity()
        self.generator = nn.Sequential(nn.Conv2d(theirs, theirs, 3, padding=1), nn.ReLU(), nn.Conv2d(theirs, theirs, 3, padding=1))

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        aligned = resized(self.align(student.features), reference.features)
        kept = torch.rand(*aligned.shape[:2], 1, 1, device=aligned.device) >= self.mask
        return {"mgd": self.alpha * mgd(self.generator(aligned * kept), reference.features)}


@LOSSES.register("pefd")
class PEFD(SingleTermLoss):
    """CE + weight times `pefd` of the pooled features, the student's through the mean of `projectors` linear layers with ReLU."""

    weight: float = weight_option(25.0)
    projectors: int = option(3, ge=1, le=64)

    summary = "direction of pooled features, by several projectors (Chen et al. 2022)"
    needs = frozenset({"pooled"})
    has_adapters = True

    def build_adapters(self, student: Observation, reference: Observation) -> None:
        widths = student.pooled.shape[1], reference.pooled.shape[1]
        self.layers = nn.ModuleList(nn.Linear(*widths) for _ in range(self.projectors))

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        projected = torch.stack([F.relu(layer(student.pooled)) for layer in self.layers]).mean(0)
        return pefd(projected, reference.pooled)


@LOSSES.register("udml")
class UDML(Loss):
    """CE + js_weight times the symmetric divergence of the logits + feature_weight times the mean squared difference of the pooled
    features, of two students that both receive the gradients (Cui et al. 2021).

    Each pair is met from both sides, so each side counts half; where the widths differ, a linear layer leads to the peer's.
    """

    js_weight: float = weight_option(1.0)
    feature_weight: float = weight_option(1.0)

    summary = "students that meet each other half-way, features too (Cui et al. 2021)"
    needs = frozenset({"logits", "pooled"})
    has_adapters = True
    scheme = Peers
    grad_to_reference = True

    def build_adapters(self, student: Observation, reference: Observation) -> None:
        widths = student.pooled.shape[1], reference.pooled.shape[1]
        self.adapter = nn.Linear(*widths) if widths[0] != widths[1] else nn.Identity()

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        features = F.mse_loss(self.adapter(student.pooled), reference.pooled)
        divergence = symmetric(student.logits, reference.logits)
        return {"js": self.js_weight / 2 * divergence, "features": self.feature_weight / 2 * features}
