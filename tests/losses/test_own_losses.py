"""Losses of one's own: `module:Class`, options without a decorator, and what they declare wrongly."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from diswot.config.fields import option
from diswot.errors import ConfigError
from diswot.losses import LOSSES, Loss, SingleTermLoss, SupervisedLoss, Terms, create
from diswot.losses.expression import options_of
from diswot.losses.logits import KD
from diswot.observe import Observation
from diswot.schemes import Alone, Peers, Scheme
from diswot.testing import check_loss
from tests.losses.observations import STUDENT, TARGET, TEACHER, leaves, near, numbers


class Gap(SingleTermLoss):
    """Mean absolute difference of the logits, to a power."""

    weight: float = option(2.0, ge=0)
    power: float = option(1.0, gt=0)

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        return (student.logits - reference.logits).abs().pow(self.power).mean()


def test_options_are_annotated_attributes_and_no_decorator_is_needed() -> None:
    """Those of the base class come first; `supervised_loss` is none."""
    with LOSSES.registered("gap", Gap):
        assert options_of("gap") == {"ce_weight": 1.0, "weight": 2.0, "power": 1.0}
        loss: Any = create("gap(power=2)", weight=3)
        assert (loss.weight, loss.power, loss.label) == (3.0, 2.0, "gap")
        assert loss.supervised_loss == SupervisedLoss()
        with pytest.raises(ConfigError, match=r"loss gap: power 0.0: more than 0 is needed"):
            create("gap(power=0)")
    assert "gap" not in LOSSES


def test_terms_are_computed_as_those_of_ours() -> None:
    difference = (STUDENT.logits - TEACHER.logits).abs().mean().item()
    ce = SupervisedLoss()(STUDENT.logits, TARGET).item()
    with LOSSES.registered("gap", Gap):
        assert numbers(create("gap")(STUDENT, TEACHER, TARGET)) == near({"ce": ce, "gap": 2 * difference})
        both = numbers(create("kd + 0.5*gap")(STUDENT, TEACHER, TARGET))
    assert both == near(numbers(create("kd")(STUDENT, TEACHER, TARGET)) | {"gap": difference})


def test_two_losses_of_a_kind_are_two_modules_and_equal_options_do_not_make_them_one() -> None:
    first, second = Gap(), Gap()
    assert first != second
    assert len({first, second}) == 2


def test_a_loss_of_ones_own_is_named_by_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In expressions too, with weights and options; capitals count there."""
    (tmp_path / "losses_of_mine.py").write_text(
        "from diswot.config import option\n"
        "from diswot.losses import Loss\n"
        "class Level(Loss):\n"
        "    gain: float = option(1.0, ge=0)\n"
        "    summary = 'the mean logit'\n"
        "    def distil(self, student, reference, target):\n"
        "        return {'level': self.gain * (student.logits.mean() - reference.logits.mean()).square()}\n"
        "number = 3\n"
        "def distance(student, teacher): return 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    loss: Any = create("losses_of_mine:Level(gain=3)")
    level = (STUDENT.logits.mean() - TEACHER.logits.mean()).square().item()
    assert loss.label == "Level"
    assert numbers(loss(STUDENT, TEACHER, TARGET))["level"] == near(3 * level)
    both = create("kd + 0.5 * losses_of_mine:Level")
    assert both.label == "kd + Level"
    assert numbers(both(STUDENT, TEACHER, TARGET))["level"] == near(0.5 * level)
    assert "losses_of_mine:Level" in LOSSES.loaded()
    for expression, says in {
        "losses_of_mine:distance": "is no subclass of diswot.losses.Loss",
        "losses_of_mine:number": "is no subclass of diswot.losses.Loss",
        "losses_of_mine:Levle": "did you mean Level",
        "losses_of_mine:Level(gian=1)": "unknown option 'gian': did you mean gain",
        "nowhere_at_all:Level": "cannot be imported",
    }.items():
        with pytest.raises(ConfigError, match=says):
            create(expression)


class Odd(Scheme):
    """Nothing new: another scheme than `UnderTeacher` that has a teacher."""

    uses_teacher: ClassVar[bool] = True
    reference_name = "teacher"

    def references(self, student: int, students: Any, teacher: Any) -> list[Any]:
        return [teacher]


def test_losses_of_different_schemes_cannot_be_combined() -> None:
    class OddGap(Gap):
        scheme = Odd

    with LOSSES.registered("odd_gap", OddGap):
        with pytest.raises(
            ConfigError, match=r"loss kd \+ odd_gap: they are trained by different schemes \(kd by UnderTeacher, odd_gap by Odd"
        ):
            create("kd + odd_gap")
        assert create("2*odd_gap").scheme is Odd


class NeedsTooMuch(Loss):
    needs = frozenset({"logits", "pooledd"})


class NeedsOneText(Loss):
    needs: ClassVar[Any] = "logits"


class WithoutScheme(Loss):
    scheme: ClassVar[Any] = "teacher"


class WithInstance(Loss):
    scheme: ClassVar[Any] = Alone()


def test_what_is_declared_wrongly_is_refused_when_the_loss_is_registered() -> None:
    for loss, says in (
        (NeedsTooMuch, "needs 'pooledd': did you mean pooled"),
        (NeedsOneText, "needs 'logits' is one text; write a set of names"),
        (WithoutScheme, "scheme must be a subclass of diswot.schemes.Scheme"),
        (WithInstance, "scheme must be a subclass of diswot.schemes.Scheme"),
    ):
        with pytest.raises(ConfigError, match=f"loss mine: {says}"), LOSSES.registered("mine", loss):
            pass
        assert "mine" not in LOSSES


def test_gradients_reach_the_reference_where_the_loss_says_so() -> None:
    class Meeting(Gap):
        grad_to_reference = True
        scheme = Peers

    for kind, reached in ((Gap, False), (Meeting, True)):
        reference = leaves(TEACHER)
        torch.stack(list(kind()(leaves(STUDENT), reference, TARGET).values())).sum().backward()
        assert (reference.logits.grad is not None) == reached


def test_a_subclass_of_ours_keeps_its_options_and_its_supervised_loss() -> None:
    class Warmer(KD):
        temperature: float = option(8.0, gt=0)
        kept: float = option(0.5, ge=0)

        def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
            terms = super().distil(student, reference, target)
            return {name: self.kept * value for name, value in terms.items()}

    with LOSSES.registered("warmer", Warmer):
        assert options_of("warmer") == {"ce_weight": 0.1, "kd_weight": 0.9, "temperature": 8.0, "kept": 0.5}
        got = numbers(create("warmer")(STUDENT, TEACHER, TARGET))
    plain = numbers(create("kd(temperature=8)")(STUDENT, TEACHER, TARGET))
    assert got == near({"ce": plain["ce"], "kd": 0.5 * plain["kd"]})


# the conformance check


@pytest.mark.parametrize("name", list(LOSSES))
def test_losses_keep_their_promises(name: str) -> None:
    check_loss(name)


class ReadsLabels(Gap):
    summary = "breaks a promise"

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        return super().value(student, reference, target) * (1 + target[0])


class RelatesImages(Gap):
    summary = "breaks a promise"

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        return (student.logits.std(0) - reference.logits.std(0)).abs().mean()


class HasLayers(Gap):
    summary = "breaks a promise"

    def build_adapters(self, student: Observation, reference: Observation) -> None:
        self.layer = nn.Linear(student.logits.shape[1], reference.logits.shape[1])

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        return (self.layer(student.logits) - reference.logits).square().mean()


class SaysGradients(Gap):
    summary = "breaks a promise"
    grad_to_reference = True

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        return super().value(student, reference.detach(), target)


class ReadsMore(Gap):
    summary = "breaks a promise"

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        return student.pooled.mean() + reference.pooled.mean()


class TeachesNothing(Loss):
    ce_weight: float = 0.0
    summary = "breaks a promise"

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        return {"gap": (student.logits.detach() - reference.logits).abs().mean() + 0 * student.logits.sum()}


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (ReadsLabels, "it reads the labels; say reads_labels = True"),
        (RelatesImages, "relates the images of a batch; say needs_whole_batch = True"),
        (HasLayers, "it has layers of its own; say has_adapters = True"),
        (SaysGradients, "grad_to_reference is True, gradients say False"),
        (ReadsMore, "does it read what is not in its needs"),
        (TeachesNothing, "no gradient reaches the student"),
        (Gap, "no summary"),
    ],
)
def test_a_promise_that_is_broken_is_named(loss: type[Loss], says: str) -> None:
    with pytest.raises(AssertionError, match=f"{loss.__name__}: .*{says}"):
        check_loss(loss)


def test_an_option_without_a_default_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "halfmade.py").write_text("from diswot.losses import Loss\nclass Bare(Loss):\n    delta: float\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"loss halfmade:Bare: the option 'delta' has no default"):
        create("halfmade:Bare")
