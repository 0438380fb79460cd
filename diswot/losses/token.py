"""DeiT: a transformer's distillation token learns the teacher's answer, its class token the labels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from diswot.config.fields import option
from diswot.errors import ConfigError
from diswot.losses.base import LOSSES, Loss, temperature_option
from diswot.losses.logits import kd
from diswot.observe import Observation
from diswot.schemes.base import Terms


def hard_label(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return the cross-entropy of the class that the teacher puts first (Touvron et al., ICML 2021, equation 3): (B, N), (B, N) -> scalar.

    >>> import torch
    >>> round(hard_label(torch.zeros(2, 4), torch.eye(4)[:2]).item(), 4)  # log 4
    1.3863
    """
    return F.cross_entropy(student_logits, teacher_logits.detach().argmax(1))


@LOSSES.register("deit")
class DeiT(Loss):
    """(1 - share) CE of the class token's logits + share times `hard_label` of the distillation token's, or, with `soft`, their `kd`; the
    student is one of timm's transformers with that token, as deit_tiny_distilled_patch16_224. Soft: temperature 3, share .1."""

    share: float = option(0.5, ge=0, le=1)
    soft: bool = False
    temperature: float = temperature_option(3.0)

    summary = "a token of its own for the teacher's answer (Touvron et al. 2021)"
    student_needs = frozenset({"token_logits"})

    def check_observations(self, student: Observation, reference: Observation | None) -> None:
        if not student.token_logits.numel():
            raise ConfigError(
                "loss deit: the student has no distillation token: use one of timm's that has, as deit_tiny_distilled_patch16_224"
            )
        super().check_observations(student, reference)

    def supervised(self, student: Observation, target: Tensor) -> Terms:
        value = self.supervised_loss(student.token_logits[:, 0], target)
        return {self.supervised_loss.kind: self.ce_weight * (1 - self.share) * value} if self.ce_weight else {}

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        answer = student.token_logits[:, 1]
        value = kd(answer, reference.logits, self.temperature) if self.soft else hard_label(answer, reference.logits)
        return {"token": self.share * value}
