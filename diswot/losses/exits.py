"""OFA-KD: every stage of the student learns the teacher's answer by an exit of its own, so that maps of different families never meet."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diswot.config.fields import option
from diswot.losses.base import LOSSES, Loss, hard_labels, temperature_option, weight_option
from diswot.observe import Observation
from diswot.schemes.base import Terms


def ofa(student_logits: Tensor, teacher_logits: Tensor, target: Tensor, power: float = 1.0, temperature: float = 1.0) -> Tensor:
    """- mean_i sum_n ((p_t,n + y_n)^power - y_n) log p_s,n with y one-hot: a cross-entropy of the teacher's answer, whose target class is
    enhanced by powers above 1, most where the teacher is sure (Hao et al., NeurIPS 2023, equation 7).

    At power 1 it is the cross-entropy of the teacher's answer, and so not 0 where both agree.

    Args:
        student_logits, teacher_logits: (B, N).
        target: (B,) classes, or (B, N) shares of which the largest counts.

    >>> round(ofa(torch.zeros(2, 4), torch.zeros(2, 4), torch.tensor([0, 1])).item(), 4)  # log 4
    1.3863
    """
    teacher, student = F.softmax(teacher_logits.detach() / temperature, 1), F.log_softmax(student_logits / temperature, 1)
    asked = F.one_hot(hard_labels(target), student.shape[1])
    return -(((teacher + asked) ** power - asked) * student).sum(1).mean()


def _halving(channels: int, out: int) -> nn.Sequential:
    """Two separable convolutions of 3x3, the first of stride 2."""
    layers: list[nn.Module] = []
    for stride, width in ((2, channels), (1, out)):
        layers += [
            nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


def _exit(channels: int, halvings: int, width: int, classes: int) -> nn.Sequential:
    """From a map to logits: halved as often as the stages after it do, pooled, classified; channels double with every halving."""
    widths = [channels * 2**number for number in range(halvings)] + [width]
    halved: list[nn.Module] = [_halving(a, b) for a, b in itertools.pairwise(widths)]
    steps = halved or [nn.Conv2d(channels, width, 1)]
    return nn.Sequential(*steps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


@LOSSES.register("ofa")
class OFA(Loss):
    """CE + kd_weight times `ofa` of the logits + weight times the sum of `ofa` over exits from the student's stages. Only the teacher's
    logits are looked at, so any pair of families will do. At power 1 the labels do not matter."""

    weight: float = weight_option(1.0)
    kd_weight: float = weight_option(1.0)
    power: float = option(1.5, ge=1)
    temperature: float = temperature_option(1.0)

    summary = "exits from every stage, for any pair of families (Hao et al. 2023)"
    needs = frozenset({"logits"})
    student_needs = frozenset({"stages"})
    has_adapters = True
    min_batch_size = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reads_labels = self.power != 1

    def build_adapters(self, student: Observation, reference: Observation) -> None:
        last = len(student.stages) - 1
        width = max(student.stages[-1].shape[1], *reference.pooled.shape[1:], 1)
        exits = [_exit(maps.shape[1], last - place, width, student.logits.shape[1]) for place, maps in enumerate(student.stages)]
        self.exits = nn.ModuleList(exits).apply(_initialise)

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        def answer(logits: Tensor) -> Tensor:
            return ofa(logits, reference.logits, target, self.power, self.temperature)

        exits = [answer(leave(maps)) for leave, maps in zip(self.exits, student.stages, strict=True)]
        return {"kd": self.kd_weight * answer(student.logits), "ofa": self.weight * torch.stack(exits).sum()}
