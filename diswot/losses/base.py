"""What every loss is: a module with options, called on two observations and a target, that returns named terms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from diswot.errors import ConfigError
from diswot.observe import Observation
from diswot.registry import Registry

Terms = dict[str, Tensor]
Partner = Literal["teacher", "nobody", "peers", "previous"]
NO_LABEL = -1
_PARTNERS = {"teacher": "teacher", "peers": "peer", "previous": "last step", "nobody": "partner"}
_SHOWN = {"logits": "logits", "pooled": "pooled features", "weight": "classifier"}


@dataclass(frozen=True)
class Truth:
    """How a student is held to the labels: cross-entropy, or the binary one of each class (`bce`), with label smoothing.

    Called on logits (B, N) and classes (B,) or, of mixed images, shares of classes (B, N); gives the mean over the batch (and, for
    `bce`, over the classes).

    >>> import torch
    >>> round(Truth()(torch.tensor([[2.0, 0.0]]), torch.tensor([0])).item(), 4)
    0.1269
    """

    kind: Literal["ce", "bce"] = "ce"
    smoothing: float = 0.0

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.kind == "ce":
            return F.cross_entropy(logits, target, label_smoothing=self.smoothing)
        shares = F.one_hot(target, logits.shape[1]).to(logits.dtype) if target.ndim == 1 else target
        shares = shares * (1 - self.smoothing) + self.smoothing / logits.shape[1]
        return F.binary_cross_entropy_with_logits(logits, shares)


def hard(target: Tensor) -> Tensor:
    """(B,) classes, the largest share where the target is of mixed images (B, N)."""
    return target if target.ndim == 1 else target.argmax(1)


@dataclass(eq=False)
class Loss(nn.Module):
    """Base of the losses. Its fields are the options; their defaults are the paper's, for CIFAR where it has several.

    Class attributes:
        summary: the line of `diswot list losses`.
        partner: whom it is called with: the teacher; nobody; the other students in training; or the student's own last step.
        needs: the fields of `Observation` that it reads, of the student and of the partner.
        across_batch: whether it relates the images of a batch to each other, so that a part of the batch is not enough.
        reads_labels: whether its own terms read the target, besides the cross-entropy.
        least_batch: the fewest images it can be computed on.
        adapters: whether it has layers of its own, which are trained beside the student.
        keeps_partner: whether gradients also flow into the partner.
        teacher_batch_statistics: whether the teacher normalises by the batch, as in training.
    """

    ce_weight: float = 1.0
    truth: Truth = field(default_factory=Truth, init=False, repr=False)

    summary = ""
    partner: ClassVar[Partner] = "teacher"
    needs = frozenset({"logits"})
    across_batch = False
    reads_labels = False
    least_batch = 1
    adapters = False
    keeps_partner = False

    def __post_init__(self) -> None:
        super().__init__()
        self.prepared = False

    @property
    def labels(self) -> bool:
        """Whether it looks at the target at all."""
        return self.ce_weight > 0 or self.reads_labels

    @property
    def teacher_batch_statistics(self) -> bool:
        return False

    def hold_to(self, truth: Truth) -> None:
        """Takes another term for the labels."""
        self.truth = truth

    def begin_epoch(self, epoch: int) -> None:
        """Told of every epoch, counted from 0, for losses that change with time."""

    def prepare(self, student: Observation, partner: Observation | None) -> None:
        """Makes the adapters between networks of these shapes, if the loss has any, and refuses what it cannot be computed on. Done by
        the first call at the latest; an optimiser must be made after it.

        Raises:
            ConfigError: names the loss and what it misses.
        """
        if self.prepared:
            return
        if self.partner == "teacher" and partner is None:
            raise ConfigError(f"loss {self.label}: it needs a teacher")
        self.check(student, partner)
        if partner is not None:
            self.build(student.detach(), partner.detach())
            self.to(student.logits.device, student.logits.dtype)
        self.prepared = True

    def check(self, student: Observation, partner: Observation | None) -> None:
        """`ConfigError` where it cannot be computed on these: too few images, other classes, or nothing to see of what it needs."""
        if len(student.logits) < self.least_batch:
            raise ConfigError(f"loss {self.label}: a batch of {len(student.logits)}; it needs {self.least_batch} images")
        if partner is None:
            return
        theirs = _PARTNERS[self.partner]
        for side, seen in (("student", student), (theirs, partner)):
            for name in sorted(self.needs):
                found = getattr(seen, name)
                if not (found.numel() if isinstance(found, Tensor) else len(found)):
                    raise ConfigError(
                        f"loss {self.label}: the {side} shows no {_SHOWN.get(name, 'feature maps')}: use a loss of logits, as kd"
                    )
        if student.logits.shape[1] != partner.logits.shape[1]:
            classes = f"{student.logits.shape[1]} classes, the {theirs} {partner.logits.shape[1]}"
            raise ConfigError(f"loss {self.label}: the student knows {classes}: they must know the same")

    @property
    def label(self) -> str:
        """Its name in the registry."""
        return next((name for name in LOSSES if LOSSES[name] is type(self)), type(self).__name__)

    def build(self, student: Observation, partner: Observation) -> None:
        """Adapters of a subclass; nothing by default."""

    def forward(self, student: Observation, partner: Observation | None, target: Tensor) -> Terms:
        """The weighted terms, each a scalar; their sum is what is minimised.

        Args:
            student: of B images.
            partner: the teacher's observation of the same images, detached here; a peer's; or the last step's (see `partner`).
            target: (B,) classes, or (B, N) shares of classes.
        """
        self.check(student, partner)
        self.prepare(student, partner)
        terms = self.supervised(student, target)
        if partner is not None:
            terms |= self.distil(student, partner if self.keeps_partner else partner.detach(), target)
        return terms

    def supervised(self, student: Observation, target: Tensor) -> Terms:
        """The term of the labels; none where its weight is 0."""
        return {self.truth.kind: self.ce_weight * self.truth(student.logits, target)} if self.ce_weight else {}

    def distil(self, student: Observation, partner: Observation, target: Tensor) -> Terms:
        """The terms of a subclass."""
        return {}


@dataclass(eq=False)
class Weighted(Loss):
    """Base of the losses that are CE + weight times one number, which is logged by the loss's own name."""

    weight: float = 1.0

    def value(self, student: Observation, partner: Observation, target: Tensor) -> Tensor:
        """The number, a scalar."""
        raise NotImplementedError

    def distil(self, student: Observation, partner: Observation, target: Tensor) -> Terms:
        return {self.label: self.weight * self.value(student, partner, target)}


LOSSES = Registry[type[Loss]]("loss")


@LOSSES.register("none")
@dataclass(eq=False)
class Plain(Loss):
    """Cross-entropy alone: how a teacher, or a baseline, is trained."""

    summary = "cross-entropy alone"
    partner = "nobody"
