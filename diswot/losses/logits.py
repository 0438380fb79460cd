"""Losses on logits. z_s, z_t (B, N); p^T = softmax(z / T); KL(a || b) is summed over classes and averaged over the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from diswot.config.fields import option
from diswot.errors import ConfigError
from diswot.losses.base import LOSSES, Loss, SingleTermLoss, hard_labels, temperature_option, weight_option
from diswot.observe import Observation
from diswot.schemes.base import Terms
from diswot.schemes.peers import Peers
from diswot.schemes.previous_step import PreviousStep

_HIDDEN = -1e4  # a logit so low that its class has probability 0, and finite, so that 0 times its logarithm is 0


def _divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of log probabilities (B, N)."""
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def kd(student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor = 4.0) -> Tensor:
    """T^2 KL(p_t^T || p_s^T) (Hinton, Vinyals & Dean 2015): (B, N), (B, N) -> scalar, 0 where they agree.

    >>> logits = torch.randn(4, 10)
    >>> abs(kd(logits, logits).item()) < 1e-4
    True
    """
    student = F.log_softmax(student_logits / temperature, 1)
    teacher = F.log_softmax(teacher_logits.detach() / temperature, 1)
    return _divergence(teacher, student) * temperature**2


def warmup_share(epoch: int, epochs: float) -> float:
    """Return the share of a term that grows over so many epochs, in this one, counted from 0.

    >>> warmup_share(0, 4), warmup_share(3, 4), warmup_share(9, 4), warmup_share(0, 0)
    (0.25, 1.0, 1.0, 1.0)
    """
    return min((epoch + 1) / epochs, 1.0) if epochs else 1.0


def decoupled(student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The two parts of `dkd`, times T^2: of the target against all other classes, and among the others."""
    if student_logits.shape[1] < 3:
        raise ConfigError(f"loss dkd: {student_logits.shape[1]} classes; with fewer than 3 there are no others to compare: use kd")
    place = hard_labels(target)[:, None]

    def split(logits: Tensor) -> tuple[Tensor, Tensor]:
        scaled = logits / temperature
        others = scaled.scatter(1, place, _HIDDEN)
        of_target = torch.cat([scaled.gather(1, place), others.logsumexp(1, keepdim=True)], 1) - scaled.logsumexp(1, keepdim=True)
        return of_target, F.log_softmax(others, 1)

    (target_s, others_s), (target_t, others_t) = split(student_logits), split(teacher_logits.detach())
    return _divergence(target_t, target_s) * temperature**2, _divergence(others_t, others_s) * temperature**2


def dkd(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0
) -> Tensor:
    """T^2 (alpha TCKD + beta NCKD) (Zhao et al., CVPR 2022, equation 7): KD taken apart into the target class against the rest, and the
    rest among themselves.

    Args:
        student_logits, teacher_logits: (B, N), N of 3 or more.
        target: (B,) classes, or (B, N) shares of which the largest counts.

    Returns:
        Scalar, 0 where they agree.

    Raises:
        ConfigError: of fewer than 3 classes.

    >>> s, t, y = torch.randn(4, 10), torch.randn(4, 10), torch.tensor([1, 2, 3, 4])
    >>> p = torch.softmax(t / 4, 1)[range(4), y]
    >>> tckd, nckd = decoupled(s[:1], t[:1], y[:1], 4.0)  # KD is TCKD + (1 - p_y) NCKD
    >>> torch.allclose(kd(s[:1], t[:1]), tckd + (1 - p[0]) * nckd, atol=1e-4)
    True
    """
    of_target, of_others = decoupled(student_logits, teacher_logits, target, temperature)
    return alpha * of_target + beta * of_others


def _mean_correlation(a: Tensor, b: Tensor, eps: float = 1e-8) -> Tensor:
    """Mean over the rows of the Pearson correlation of a row of `a` with that of `b`."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + eps)).mean()


def dist(student_logits: Tensor, teacher_logits: Tensor, beta: float = 1.0, gamma: float = 1.0, temperature: float = 4.0) -> Tensor:
    """T^2 [beta (1 - mean_i corr(rows)) + gamma (1 - mean_n corr(columns))] of the probabilities (Huang et al., NeurIPS 2022).

    Rows relate the classes of an image, columns the images of a batch for a class, so the value depends on what is in the batch.

    Returns:
        Scalar in [0, 2 T^2 (beta + gamma)], 0 where they agree.

    >>> logits = torch.randn(8, 10)
    >>> abs(dist(logits, logits).item()) < 1e-2
    True
    """
    student, teacher = (F.softmax(z / temperature, 1) for z in (student_logits, teacher_logits.detach()))
    rows, columns = _mean_correlation(student, teacher), _mean_correlation(student.T, teacher.T)
    return temperature**2 * (beta * (1 - rows) + gamma * (1 - columns))


def _cross_entropies(logits: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy of each image, (B,)."""
    return F.cross_entropy(logits, target, reduction="none")


def wsl(student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float = 4.0) -> Tensor:
    """T^2 mean_i w_i SoftCE(p_t^T, p_s^T), w = 1 - exp(-CE_s / CE_t) without gradient, CE at T = 1 (Zhou et al., ICLR 2021).

    A soft cross-entropy, not a divergence: where they agree it is w T^2 times the teacher's entropy, not 0.

    >>> round(wsl(torch.zeros(2, 4), torch.zeros(2, 4), torch.tensor([0, 1]), temperature=1.0).item(), 4)  # (1 - 1/e) log 4
    0.8763
    """
    teacher_logits = teacher_logits.detach()
    with torch.no_grad():
        ratio = _cross_entropies(student_logits, target) / (_cross_entropies(teacher_logits, target) + 1e-7)
        weight = 1 - torch.exp(-ratio)
    soft = -(F.softmax(teacher_logits / temperature, 1) * F.log_softmax(student_logits / temperature, 1)).sum(1)
    return temperature**2 * (weight * soft).mean()


def spherical(logits: Tensor, multiplier: float = 2.0) -> Tensor:
    """Each row with mean 0 and standard deviation `multiplier` (biased, eps 1e-7): (B, N) -> (B, N).

    >>> spherical(torch.tensor([[1.0, 3.0]])).round(decimals=4)
    tensor([[-2.,  2.]])
    """
    return F.layer_norm(logits, logits.shape[1:], eps=1e-7) * multiplier


def skd(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0, multiplier: float = 2.0) -> Tensor:
    """`kd` of logits that are layer-normalised, then multiplied, in both networks (Guo et al. 2020, spherical KD); 0 where they agree.

    >>> logits = torch.randn(4, 10)
    >>> abs(skd(3 * logits + 1, logits).item()) < 1e-4
    True
    """
    return kd(spherical(student_logits, multiplier), spherical(teacher_logits, multiplier), temperature)


def symmetric(a: Tensor, b: Tensor) -> Tensor:
    """Return (KL(a || b) + KL(b || a)) / 2 of logits (B, N), with gradients into both."""
    a, b = F.log_softmax(a, 1), F.log_softmax(b, 1)
    return (_divergence(a, b) + _divergence(b, a)) / 2


def ssld(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return (KL(p_s || p_t) + KL(p_t || p_s)) / 2 at T = 1 (Cui et al. 2021): no labels, so any images will do; 0 where they agree.

    >>> a, b = torch.randn(4, 10), torch.randn(4, 10)
    >>> torch.allclose(ssld(a, b), ssld(b, a))
    True
    """
    return symmetric(student_logits, teacher_logits.detach())


def logit_std(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 2.0) -> Tensor:
    """`kd` of the z-scores of the logits, unbiased standard deviation + 1e-7 (Sun et al., CVPR 2024); 0 where they agree.

    >>> logits = torch.randn(4, 10)
    >>> abs(logit_std(3 * logits + 1, logits).item()) < 1e-4
    True
    """
    student, teacher = ((z - z.mean(1, keepdim=True)) / (z.std(1, keepdim=True) + 1e-7) for z in (student_logits, teacher_logits))
    return kd(student, teacher, temperature)


def wttm(student_logits: Tensor, teacher_logits: Tensor, exponent: float = 0.2) -> Tensor:
    """mean_i U_i KL(p_t^g / U_i || p_s), U_i = sum_n p_t,n^g over the classes: the teacher alone is softened, by the power g, and smoother
    images count more (Zheng & Yang, ICLR 2024).

    Args:
        student_logits, teacher_logits: (B, N).
        exponent: g, 1 / T of a teacher softened by a temperature T.

    Returns:
        Scalar, 0 where the student agrees with the softened teacher.

    >>> logits = torch.randn(4, 10)
    >>> abs(wttm(logits / 4, logits, exponent=0.25).item()) < 1e-4
    True
    """
    powers = exponent * F.log_softmax(teacher_logits.detach(), 1)
    log_sums = powers.logsumexp(1, keepdim=True)
    each = F.kl_div(F.log_softmax(student_logits, 1), powers - log_sums, reduction="none", log_target=True).sum(1)
    return (log_sums.squeeze(1).exp() * each).mean()


def mlkd(student_logits: Tensor, teacher_logits: Tensor, temperatures: Sequence[float] = (2, 3, 4, 5, 6)) -> tuple[Tensor, Tensor, Tensor]:
    """The three levels of multi-level logit distillation, each summed over the temperatures (Jin et al., CVPR 2023): `kd` of each image;
    the squared difference of the Gram matrices P P' (B, B) of the images, over B; of P' P (N, N) of the classes, over N.

    >>> logits = torch.randn(4, 10)
    >>> [abs(level.item()) < 1e-4 for level in mlkd(logits, logits)]
    [True, True, True]
    """
    levels = []
    for temperature in temperatures:
        student, teacher = (F.softmax(z / temperature, 1) for z in (student_logits, teacher_logits.detach()))
        images = (student @ student.T - teacher @ teacher.T).square().sum() / student.shape[0]
        classes = (student.T @ student - teacher.T @ teacher).square().sum() / student.shape[1]
        levels.append(torch.stack([kd(student_logits, teacher_logits, temperature), images, classes]))
    instance, images, classes = torch.stack(levels).sum(0)
    return instance, images, classes


@LOSSES.register("kd")
class KD(Loss):
    """ce_weight CE + kd_weight T^2 KL; the defaults are the CIFAR ones of the literature (ImageNet: .5, .5, T 1)."""

    ce_weight: float = weight_option(0.1)
    kd_weight: float = weight_option(0.9)
    temperature: float = temperature_option(4.0)

    summary = "softened logits (Hinton et al. 2015)"

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        return {"kd": self.kd_weight * kd(student.logits, reference.logits, self.temperature)}


@LOSSES.register("dkd")
class DKD(Loss):
    """CE + alpha TCKD + beta NCKD, the last two growing over the first `warmup` epochs (of 240; fewer in a shorter training). beta: 2 for
    ResNet-56 to 20 and 110 to 32, 6 for WRN pairs and VGG-13, 8 elsewhere; ImageNet beta .5, T 1."""

    alpha: float = weight_option(1.0)
    beta: float = weight_option(8.0)
    temperature: float = temperature_option(4.0)
    warmup: int = option(20, ge=0, le=1_000_000)

    summary = "KD with the target class and the others apart (Zhao et al. 2022)"
    reads_labels = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.share = 1.0

    def begin_epoch(self, epoch: int) -> None:
        self.share = warmup_share(epoch, self.scaled_epochs(self.warmup))

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        tckd, nckd = decoupled(student.logits, reference.logits, target, self.temperature)
        return {"tckd": self.share * self.alpha * tckd, "nckd": self.share * self.beta * nckd}


@LOSSES.register("wttm")
class WTTM(SingleTermLoss):
    """CE + weight times `wttm`. The paper chooses exponent and weight anew for each pair of networks; these are those its authors combine
    with CRD."""

    weight: float = weight_option(4.0)
    exponent: float = option(0.2, gt=0, le=1)

    summary = "KD of a teacher that alone is softened (Zheng & Yang 2024)"

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        return wttm(student.logits, reference.logits, self.exponent)


@LOSSES.register("mlkd")
class MLKD(Loss):
    """ce_weight CE + kd_weight times the levels of `mlkd`. The published figures are of two augmented views of each image, one of them
    strong (RandAugment), and a learning rate of .025; the authors' code halves the terms of the batch and the classes."""

    ce_weight: float = weight_option(0.1)
    kd_weight: float = weight_option(0.9)
    batch_weight: float = weight_option(0.9)
    class_weight: float = weight_option(0.9)

    summary = "logits of images, batches and classes, at five temperatures (Jin et al. 2023)"
    needs_whole_batch = True
    min_batch_size = 2

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        instance, images, classes = mlkd(student.logits, reference.logits)
        return {"kd": self.kd_weight * instance, "batch": self.batch_weight * images, "classes": self.class_weight * classes}


@LOSSES.register("dist")
class DIST(SingleTermLoss):
    """CE + weight times `dist`; ImageNet T 1."""

    weight: float = weight_option(2.0)
    beta: float = weight_option(1.0)
    gamma: float = weight_option(1.0)
    temperature: float = temperature_option(4.0)

    summary = "correlation of classes and of images (Huang et al. 2022)"
    needs_whole_batch = True
    min_batch_size = 2

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        return dist(student.logits, reference.logits, self.beta, self.gamma, self.temperature)


@LOSSES.register("wsl")
class WSL(SingleTermLoss):
    """CE + weight times `wsl`; ImageNet weight 2.5, T 2."""

    weight: float = weight_option(2.25)
    temperature: float = temperature_option(4.0)

    summary = "soft labels weighted by how much they help (Zhou et al. 2021)"
    reads_labels = True

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        return wsl(student.logits, reference.logits, target, self.temperature)


@LOSSES.register("skd")
class SKD(Loss):
    """(1 - alpha) CE of the normalised logits + alpha times `skd`: it holds its own cross-entropy (`ce_weight` multiplies it)."""

    alpha: float = option(0.9, ge=0, le=1)
    temperature: float = temperature_option(1.0)
    multiplier: float = temperature_option(2.0)

    summary = "normalised logits (Guo et al. 2020)"

    def supervised(self, student: Observation, target: Tensor) -> Terms:
        terms = self.supervised_loss(spherical(student.logits, self.multiplier), target)
        return {self.supervised_loss.kind: self.ce_weight * (1 - self.alpha) * terms} if self.ce_weight else {}

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        return {"skd": self.alpha * skd(student.logits, reference.logits, self.temperature, self.multiplier)}


@LOSSES.register("ssld")
class SSLD(SingleTermLoss):
    """`ssld` alone: labels are not looked at."""

    ce_weight: float = weight_option(0.0)
    weight: float = weight_option(1.0)

    summary = "symmetric divergence without labels (Cui et al. 2021)"

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        return ssld(student.logits, reference.logits)


@LOSSES.register("logit_std")
class LogitStd(Loss):
    """ce_weight CE + kd_weight times `logit_std`."""

    ce_weight: float = weight_option(0.1)
    kd_weight: float = weight_option(9.0)
    temperature: float = temperature_option(2.0)

    summary = "KD of standardised logits (Sun et al. 2024)"

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        return {"logit_std": self.kd_weight * logit_std(student.logits, reference.logits, self.temperature)}


@LOSSES.register("dml")
class DML(Loss):
    """CE + kd_weight KL(peer || self), the peer detached; every peer is a student of its own (Zhang et al., CVPR 2018)."""

    kd_weight: float = weight_option(1.0)
    temperature: float = temperature_option(1.0)

    summary = "students that teach each other (Zhang et al. 2018)"
    scheme = Peers

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        return {"dml": self.kd_weight * kd(student.logits, reference.logits, self.temperature)}


@LOSSES.register("dlb")
class DLB(Loss):
    """CE + alpha T^2 KL(the last step's logits || now) on the images that the last step saw too, half of each batch (Shen et al. 2022).

    The reference's logits (B', N) belong to the first B' images of the batch.
    """

    alpha: float = weight_option(1.0)
    temperature: float = temperature_option(3.0)

    summary = "a student that learns from its own last step (Shen et al. 2022)"
    scheme = PreviousStep

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        now = student.logits[: len(reference.logits)]
        return {"dlb": self.alpha * kd(now, reference.logits, self.temperature)}
