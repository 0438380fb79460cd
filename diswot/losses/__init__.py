"""Distillation losses: `create(name, **options)` gives a module called as `loss(student, teacher, target)`, which returns a dict of
named terms, already weighted; their sum is what is minimised.

KL divergences are KL(teacher || student), summed over classes and averaged over the batch. The teacher's side is detached.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from diswot.errors import ConfigError
from diswot.observe import Observation
from diswot.proxies.similarity import cam_gram, gram_distance, sample_gram
from diswot.registry import Registry

Terms = dict[str, Tensor]
LOSSES = Registry[type["Loss"]]("loss")


def kd(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) (Hinton et al. 2015): (B, N), (B, N) -> scalar.

    >>> import torch
    >>> logits = torch.randn(4, 10)
    >>> round(kd(logits, logits).item(), 6)
    0.0
    """
    student = F.log_softmax(student_logits / temperature, 1)
    teacher = F.log_softmax(teacher_logits.detach() / temperature, 1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def semantic(student: Observation, teacher: Observation) -> Tensor:
    """(1 / N^2) || G_T - G_S ||_2 with G the class-by-class correlation of the class activation maps (DisWOT, section 3.4).

    At most 2 / N^2 as the paper writes it: for many classes give it a weight.
    """
    grams = [cam_gram(seen.features, seen.weight) for seen in (teacher.detach(), student)]
    return gram_distance(grams[0], grams[1], "frobenius") / len(student.weight) ** 2


def relation(student: Observation, teacher: Observation) -> Tensor:
    """(1 / B^2) || A_T - A_S ||_2 with A the correlation of samples on the last map (DisWOT, section 3.4); at most 2 / B^2."""
    grams = [sample_gram(seen.features) for seen in (teacher.detach(), student)]
    return gram_distance(grams[0], grams[1], "frobenius") / len(student.logits) ** 2


class Loss(nn.Module):
    """Base of the losses. `needs_teacher` says whether the teacher is run at all; `summary` is the line of `diswot list losses`."""

    needs_teacher = True
    summary = ""

    def forward(self, student: Observation, teacher: Observation | None, target: Tensor) -> Terms:
        raise NotImplementedError


@LOSSES.register("none")
class PlainLoss(Loss):
    """Cross-entropy alone: how a teacher, or a baseline, is trained."""

    needs_teacher = False
    summary = "cross-entropy alone"

    def forward(self, student: Observation, teacher: Observation | None, target: Tensor) -> Terms:
        return {"ce": F.cross_entropy(student.logits, target)}


@LOSSES.register("kd")
class KDLoss(Loss):
    """ce_weight CE + kd_weight T^2 KL (Hinton et al. 2015); the defaults are the CIFAR ones of the literature."""

    summary = "softened logits (Hinton et al. 2015)"

    def __init__(self, ce_weight: float = 0.1, kd_weight: float = 0.9, temperature: float = 4.0) -> None:
        super().__init__()
        self.ce_weight, self.kd_weight, self.temperature = ce_weight, kd_weight, temperature

    def forward(self, student: Observation, teacher: Observation | None, target: Tensor) -> Terms:
        assert teacher is not None
        ce = F.cross_entropy(student.logits, target)
        return {"ce": self.ce_weight * ce, "kd": self.kd_weight * kd(student.logits, teacher.logits, self.temperature)}


@LOSSES.register("diswot")
class DisWOTLoss(KDLoss):
    """KD and the search metrics as higher-order losses (DisWOT-dagger).

    >>> import torch
    >>> student, teacher = (Observation(torch.rand(4, c, 2, 2), torch.rand(4, c), torch.rand(4, 3), torch.rand(3, c)) for c in (5, 8))
    >>> sorted(DisWOTLoss()(student, teacher, torch.tensor([0, 1, 2, 0])))
    ['ce', 'kd', 'relation', 'semantic']
    """

    summary = "kd, plus the semantic and the relation metric as losses (DisWOT-dagger)"

    def __init__(self, semantic_weight: float = 1.0, relation_weight: float = 1.0, **kd_options: float) -> None:
        super().__init__(**kd_options)
        self.semantic_weight, self.relation_weight = semantic_weight, relation_weight

    def forward(self, student: Observation, teacher: Observation | None, target: Tensor) -> Terms:
        assert teacher is not None
        terms = super().forward(student, teacher, target)
        terms["semantic"] = self.semantic_weight * semantic(student, teacher)
        terms["relation"] = self.relation_weight * relation(student, teacher)
        return terms


def create(name: str, **options: Any) -> Loss:
    """The loss called `name`, its options overriding the paper's defaults; `ConfigError` for a name or an option it does not know.

    >>> create("kd", temperature=2.0).temperature
    2.0
    """
    try:
        return LOSSES[name](**options)
    except TypeError as error:
        raise ConfigError(f"loss {name}: {str(error).split('() ')[-1]}") from None
