"""The contract of a distillation loss: a module with options, called on two observations and a target, that returns named terms."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import dataclass_transform

from diswot import plugins
from diswot.config.fields import option, range_fault
from diswot.errors import ConfigError
from diswot.observe import Observation
from diswot.registry import Registry
from diswot.schemes import Alone, Scheme, Terms, UnderTeacher

NO_LABEL = -1
"""The class of an image without a label."""
FULL_LENGTH = 240
"""Epochs of the trainings that the literature's options are meant for."""
OBSERVED = frozenset(field.name for field in dataclasses.fields(Observation))
_SHOWN = {"logits": "logits", "pooled": "pooled features", "weight": "classifier"}


@dataclasses.dataclass(frozen=True)
class SupervisedLoss:
    """The loss on the labels: cross-entropy (`ce`), or the binary cross-entropy of every class (`bce`), with label smoothing.

    Called on logits (B, N) and classes (B,) or, of mixed images, shares of classes (B, N); gives the mean over the batch (and, for
    `bce`, over the classes).

    >>> import torch
    >>> round(SupervisedLoss()(torch.tensor([[2.0, 0.0]]), torch.tensor([0])).item(), 4)
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


def hard_labels(target: Tensor) -> Tensor:
    """Return the classes (B,) of a target; of mixed images (B, N), the class with the largest share."""
    return target if target.ndim == 1 else target.argmax(1)


def weight_option(default: float) -> Any:
    """An option that multiplies something: 0 or more."""
    return option(default, ge=0)


def temperature_option(default: float) -> Any:
    """An option that divides something: more than 0."""
    return option(default, gt=0)


@dataclass_transform(eq_default=False, kw_only_default=True)
class _Options(nn.Module):
    """A module whose annotated attributes are options: its subclasses are dataclasses without being decorated."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(eq=False, kw_only=True)(cls)


class Loss(_Options):
    """Base class of the distillation losses.

    To write one, subclass it, define `distil`, and give its options as annotated attributes with defaults (`gamma: float = option(0.5,
    ge=0)`); it is then asked for by `module:Name`, with options as `module:Name(gamma=1)`. A training calls, in this order: `make_adapters`
    and `begin_training` once, `begin_epoch` in every epoch, and the loss itself in every step.

    Class attributes:
        summary: one line for `diswot list losses`.
        scheme: what students learn from with it: `UnderTeacher`, `Peers`, `PreviousStep`, `Alone`, or your own.
        needs: the fields of `Observation` that it reads, of the student and of the reference.
        student_needs: the fields that it reads besides, of the student alone.
        needs_whole_batch: whether it relates the images of a batch to each other, so that a part of the batch is not enough.
        reads_labels: whether `distil` reads the target.
        min_batch_size: the fewest images that it can be computed on.
        has_adapters: whether it has layers of its own, which are trained beside the student and left behind with the loss.
        grad_to_reference: whether gradients also flow into the reference.
        reuses_classifier: whether the student ends in a projector and its teacher's classifier, which is not trained.

    Attributes:
        ce_weight: weight of the loss on the labels.
        supervised_loss: the loss on the labels.
    """

    ce_weight: float = weight_option(1.0)
    supervised_loss: SupervisedLoss = dataclasses.field(default_factory=SupervisedLoss, init=False, repr=False)

    summary: ClassVar[str] = ""
    scheme: ClassVar[type[Scheme]] = UnderTeacher
    needs = frozenset({"logits"})
    student_needs = frozenset[str]()
    needs_whole_batch = False
    reads_labels = False
    min_batch_size = 1
    has_adapters = False
    grad_to_reference = False
    reuses_classifier = False

    def __post_init__(self) -> None:
        super().__init__()
        self.adapters_made = False
        self.epochs = FULL_LENGTH

    @property
    def label(self) -> str:
        """The loss's name: as it is registered, or that of its class."""
        name = LOSSES.name_of(type(self)) or type(self).__name__
        return name.rpartition(":")[2]

    @property
    def student_fields(self) -> frozenset[str]:
        """The fields of `Observation` that it reads of the student: the labels are held against its logits in any case."""
        return self.needs | self.student_needs | {"logits"}

    @property
    def is_supervised(self) -> bool:
        """Whether the labels teach in this epoch."""
        return self.ce_weight > 0

    @property
    def uses_labels(self) -> bool:
        """Whether the target is looked at at all."""
        return self.ce_weight > 0 or self.reads_labels

    @property
    def teacher_batch_statistics(self) -> bool:
        """Whether the teacher normalises by the statistics of the batch, as in training."""
        return False

    def set_supervised_loss(self, supervised_loss: SupervisedLoss) -> None:
        """Use another loss on the labels."""
        self.supervised_loss = supervised_loss

    def begin_training(self, epochs: int, labels: Tensor) -> None:
        """Called once, after the adapters are made and before anything of an earlier part of the training is loaded.

        Args:
            epochs: of the whole training.
            labels: (n,) classes of all images that train, in the order in which `Observation.indices` counts them; -1 without a label.
        """
        self.epochs = epochs

    def scaled_epochs(self, epochs: int) -> float:
        """Return what a number of epochs, which papers give for trainings of 240, comes to in one that is shorter.

        >>> loss = NoDistillation()
        >>> loss.begin_training(60, torch.zeros(0))
        >>> loss.scaled_epochs(20)
        5.0
        """
        return epochs * min(1.0, self.epochs / FULL_LENGTH)

    def begin_epoch(self, epoch: int) -> None:
        """Called before every epoch, counted from 0; for losses that change over time."""

    def make_adapters(self, student: Observation, reference: Observation | None) -> None:
        """Make the layers of the loss between networks of these shapes, and refuse networks that it cannot be computed on.

        Called once, before an optimizer is made; the first call of the loss does it at the latest.

        Raises:
            ConfigError: names the loss and what it misses.
        """
        if self.adapters_made:
            return
        if self.scheme.uses_teacher and reference is None:
            raise ConfigError(f"loss {self.label}: it needs a teacher")
        self.check_observations(student, reference)
        if reference is not None:
            self.build_adapters(student.detach(), reference.detach())
            self.to(student.logits.device, student.logits.dtype)
        self.adapters_made = True

    def check_observations(self, student: Observation, reference: Observation | None) -> None:
        """Refuse observations that the loss cannot be computed on.

        Raises:
            ConfigError: too few images, other classes, or nothing to see of what it needs.
        """
        if len(student.logits) < self.min_batch_size:
            raise ConfigError(f"loss {self.label}: a batch of {len(student.logits)}; it needs {self.min_batch_size} images")
        if reference is None:
            return
        theirs = self.scheme.reference_name
        for side, seen, fields in (("student", student, self.student_fields), (theirs, reference, self.needs)):
            for name in sorted(fields):
                shown = getattr(seen, name)
                if not (shown.numel() if isinstance(shown, Tensor) else len(shown)):
                    what = _SHOWN.get(name, "feature maps")
                    remedy = "features, as rkd" if name == "logits" else "logits, as kd"
                    raise ConfigError(f"loss {self.label}: the {side} shows no {what}: use a loss of {remedy}")
        if "logits" in self.needs and student.logits.shape[1] != reference.logits.shape[1]:
            classes = f"{student.logits.shape[1]} classes, the {theirs} {reference.logits.shape[1]}"
            raise ConfigError(f"loss {self.label}: the student knows {classes}: they must know the same")

    def build_adapters(self, student: Observation, reference: Observation) -> None:
        """Set the layers of a subclass that `has_adapters` as attributes; called by `make_adapters`."""

    def forward(self, student: Observation, reference: Observation | None, target: Tensor) -> Terms:
        """The weighted terms by name, each a scalar; their sum is what is minimised.

        Args:
            student: the student's observation of B images.
            reference: what it is compared with, as the scheme says: the teacher's observation of the same images, a peer's, that of the
                last step; None where there is nothing to compare with.
            target: (B,) classes, or (B, N) shares of classes.
        """
        self.check_observations(student, reference)
        self.make_adapters(student, reference)
        terms = self.supervised(student, target)
        if reference is not None:
            terms |= self.checked_terms(student, reference if self.grad_to_reference else reference.detach(), target)
        return terms

    def checked_terms(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        """Return what `distil` gives, once it is known to be a dict of scalar tensors.

        Raises:
            ConfigError: it is no dict of scalar tensors.
        """
        terms = self.distil(student, reference, target)
        if not isinstance(terms, dict):
            raise ConfigError(f"loss {self.label}: distil must return a dict of scalar tensors by name, not {type(terms).__name__}")
        for name, value in terms.items():
            if not isinstance(value, Tensor) or value.ndim:
                what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                raise ConfigError(f"loss {self.label}: the term {name} must be a scalar tensor, not {what}")
        return terms

    def supervised(self, student: Observation, target: Tensor) -> Terms:
        """The weighted term of the labels; none where its weight is 0."""
        return {name: self.ce_weight * value for name, value in self.plain_supervised(student, target).items()} if self.ce_weight else {}

    def plain_supervised(self, student: Observation, target: Tensor) -> Terms:
        """The loss on the labels with weight 1, whatever `ce_weight` is."""
        return {self.supervised_loss.kind: self.supervised_loss(student.logits, target)}

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        """The weighted terms of a subclass besides that of the labels.

        Args:
            student: the student's observation of B images.
            reference: what it is compared with; without gradient, unless `grad_to_reference`.
            target: (B,) classes, or (B, N) shares of classes; -1 for an image without a label.
        """
        return {}


def idle(*layers: nn.Module) -> Tensor:
    """Return 0, with a gradient of 0 into layers that have no part in this step: several processes wait for the gradients of all.

    >>> idle(nn.Linear(2, 3)).item()
    0.0
    """
    return torch.stack([0.0 * parameter.sum() for layer in layers for parameter in layer.parameters()]).sum()


class SingleTermLoss(Loss):
    """Base class of the losses that are the supervised loss plus `weight` times one number, which is logged by the loss's own name."""

    weight: float = weight_option(1.0)

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        """The number, a scalar."""
        raise NotImplementedError

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        """The one term: `weight` times the number, by the loss's own name."""
        value = self.value(student, reference, target)
        if not isinstance(value, Tensor):
            raise ConfigError(f"loss {self.label}: value must return a scalar tensor, not {type(value).__name__}")
        return {self.label: self.weight * value}


def _load(reference: str) -> type[Loss]:
    found = plugins.load_object(reference, "loss")
    if not (isinstance(found, type) and issubclass(found, Loss)):
        raise ConfigError(f"the loss {reference!r} is no subclass of diswot.losses.Loss")
    return found


def check_loss(name: str, loss: type[Loss]) -> None:
    """Refuse what a loss declares wrongly.

    Raises:
        ConfigError: names the attribute and the nearest known value.
    """
    for attribute in ("needs", "student_needs"):
        plugins.check_names(f"loss {name}", attribute, getattr(loss, attribute), OBSERVED)
    if not (isinstance(loss.scheme, type) and issubclass(loss.scheme, Scheme)):
        raise ConfigError(f"loss {name}: scheme must be a subclass of diswot.schemes.Scheme, such as UnderTeacher")
    without = [field.name for field in dataclasses.fields(loss) if field.init and field.default is dataclasses.MISSING]
    if without:
        raise ConfigError(f"loss {name}: the option {without[0]!r} has no default")
    for field in dataclasses.fields(loss):
        if fault := range_fault(field, field.default):
            raise ConfigError(f"loss {name}: the default of the option {field.name!r}, {field.default}: {fault}")
    if issubclass(loss, SingleTermLoss) and loss.value is SingleTermLoss.value and loss.distil is SingleTermLoss.distil:
        raise ConfigError(f"loss {name}: define value(student, reference, target), or distil")


LOSSES = Registry[type[Loss]]("loss", load=_load, check=check_loss)
"""The losses by name: `LOSSES["kd"]` is the class."""


@LOSSES.register("none")
class NoDistillation(Loss):
    """The supervised loss alone: how a teacher, or a baseline, is trained."""

    summary = "the labels alone"
    scheme = Alone
    needs = frozenset[str]()
