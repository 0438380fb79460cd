"""Trainings by every scheme, a step of each by hand; and by a scheme of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import diswot
from diswot.config.fields import option
from diswot.losses import LOSSES, Loss, Terms
from diswot.losses.logits import kd
from diswot.observe import Observation
from diswot.schemes import PreviousStep, Scheme, StepObservations
from diswot.schemes.base import DistillationLoss
from diswot.testing import check_scheme
from tests.training.samples import make_recipe, normalised, same, trainer, weights

T = TypeVar("T")
ONE_STEP = make_recipe(epochs=2, batch_size=48, lr=0.05, weight_decay=0.0)


def test_peers_learn_from_each_other_at_once() -> None:
    """Three peers, one step by hand: each minimises CE + the mean of KL(peer || self), all from the weights before the step."""
    ours, theirs = (trainer("dml", ONE_STEP, ["small", "small", "small"]) for _ in range(2))
    ours.epoch(0)
    (batch,) = theirs.loader.epoch(0)
    models = [student.model for student in theirs.students]
    logits = [model(normalised(batch.pixels)) for model in models]
    for number, (model, own) in enumerate(zip(models, logits, strict=True)):
        others = [F.softmax(one.detach(), 1) for at, one in enumerate(logits) if at != number]
        divergence = sum(F.kl_div(F.log_softmax(own, 1), other, reduction="batchmean") for other in others) / 2
        loss = F.cross_entropy(own, batch.target) + divergence
        grads = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        for parameter, gradient, mine in zip(model.parameters(), grads, ours.students[number].model.parameters(), strict=True):
            torch.testing.assert_close(mine, parameter - 0.05 * gradient)


def test_udml_moves_both_towards_each_other() -> None:
    ours, theirs = (trainer("udml", ONE_STEP, ["small", "small"]) for _ in range(2))
    ours.epoch(0)
    (batch,) = theirs.loader.epoch(0)
    first, second = (student.model for student in theirs.students)
    pooled = [model.forward_features(normalised(batch.pixels)).mean((2, 3)) for model in (first, second)]  # type: ignore[operator]
    a, b = (model.fc(x) for model, x in zip((first, second), pooled, strict=True))  # type: ignore[operator]
    p, q = F.log_softmax(a, 1), F.log_softmax(b, 1)
    js = (F.kl_div(p, q, log_target=True, reduction="batchmean") + F.kl_div(q, p, log_target=True, reduction="batchmean")) / 2
    loss = F.cross_entropy(a, batch.target) + F.cross_entropy(b, batch.target) + js + F.mse_loss(*pooled)
    for model, student in zip((first, second), ours.students, strict=True):
        grads = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        for parameter, gradient, mine in zip(model.parameters(), grads, student.model.parameters(), strict=True):
            torch.testing.assert_close(mine, parameter - 0.05 * gradient)


def test_dlb_learns_from_the_last_step_of_the_repeated_half() -> None:
    recipe = make_recipe(epochs=2, batch_size=8, lr=0.05)
    ours, theirs = (trainer("dlb", recipe, ["small"]) for _ in range(2))
    terms = ours.epoch(0)
    model = theirs.students[0].model
    optimizer = torch.optim.SGD(model.parameters(), 0.05, 0.9, weight_decay=5e-4)
    before: Tensor | None = None
    added = []
    for batch in theirs.loader.epoch(0):
        logits = model(normalised(batch.pixels))
        loss = F.cross_entropy(logits, batch.target)
        if before is not None:
            soft = F.softmax(before / 3, 1)
            added.append(9 * F.kl_div(F.log_softmax(logits[:4] / 3, 1), soft, reduction="batchmean"))
            loss = loss + added[-1]
        before = logits.detach()[4:]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for (name, a), b in zip(ours.students[0].model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    assert terms["dlb"] == pytest.approx(sum(one.item() for one in added) / len(added), rel=1e-4), "of the steps that have it"


# a scheme of one's own


class Chain(Scheme):
    """Every student learns from the one before it, in the same step; the first from the labels alone."""

    reference_name = "student before"
    independent_students = False

    def init_seed(self, seed: int, student: int) -> int:
        return seed + 10 * student

    def references(self, student: int, students: Mapping[int, T], teacher: T | None) -> list[T | None]:
        return [students.get(student - 1)]

    def groups(self, num_students: int) -> list[list[int]]:
        return [list(range(num_students))]


class ChainLoss(Loss):
    """CE + weight times KD with temperature 2."""

    weight: float = option(1.0, ge=0)

    summary = "students in a row"
    scheme = Chain

    def distil(self, student: Observation, reference: Observation, target: Tensor) -> Terms:
        return {"chain": self.weight * kd(student.logits, reference.logits, 2.0)}


class EverySecondStep(Scheme):
    """Under a teacher in every second step; it counts the steps, and so must forget them between epochs."""

    reference_name = "teacher"
    uses_teacher = True

    def __init__(self) -> None:
        self.steps = 0

    def begin_epoch(self) -> None:
        self.steps = 0

    def references(self, student: int, students: Mapping[int, T], teacher: T | None) -> list[T | None]:
        return [teacher]

    def terms(self, student: int, losses: Sequence[DistillationLoss], step: StepObservations) -> Terms:
        self.steps += 1
        if self.steps % 2 == 0:
            return losses[0].plain_supervised(step.students[student], step.target)
        return super().terms(student, losses, step)


class SometimesKd(ChainLoss):
    scheme = EverySecondStep


def test_schemes_of_ones_own_keep_the_promises() -> None:
    check_scheme(Chain)
    check_scheme(EverySecondStep)


@pytest.mark.parametrize("kept", ["an odd number of steps", "the last step"])
def test_a_scheme_that_does_not_forget_is_found_out(kept: str) -> None:
    """Whether a term is missing in the next epoch, or another one comes up."""

    class Remembers(EverySecondStep):
        def begin_epoch(self) -> None:
            self.steps += 1

    class KeepsTheLastStep(PreviousStep):
        def begin_epoch(self) -> None:
            pass

        def terms(self, student: int, losses: Sequence[DistillationLoss], step: StepObservations) -> Terms:
            return super().terms(student, losses, replace(step, repeated=1))

    with pytest.raises(AssertionError, match="begin_epoch must forget"):
        check_scheme(Remembers if kept == "an odd number of steps" else KeepsTheLastStep)


def test_a_scheme_of_ones_own_trains_by_its_references() -> None:
    """One step of three students by hand, all from the weights before it."""
    with LOSSES.registered("chain", ChainLoss):
        ours, theirs = (trainer("chain(weight=3)", ONE_STEP, ["small", "small", "small"]) for _ in range(2))
    terms = ours.epoch(0)
    assert set(terms) == {"lr", "small-0/ce", "small-1/ce", "small-1/chain", "small-2/ce", "small-2/chain"}
    (batch,) = theirs.loader.epoch(0)
    models = [student.model for student in theirs.students]
    logits = [model(normalised(batch.pixels)) for model in models]
    for number, (model, own) in enumerate(zip(models, logits, strict=True)):
        loss = F.cross_entropy(own, batch.target)
        if number:
            soft = F.softmax(logits[number - 1].detach() / 2, 1)
            chain = 3 * 4 * F.kl_div(F.log_softmax(own / 2, 1), soft, reduction="batchmean")
            assert terms[f"small-{number}/chain"] == pytest.approx(chain.item(), rel=1e-4)
            loss = loss + chain
        grads = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        for parameter, gradient, mine in zip(model.parameters(), grads, ours.students[number].model.parameters(), strict=True):
            torch.testing.assert_close(mine, parameter - 0.05 * gradient)


def test_a_scheme_with_a_memory_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    recipe = make_recipe(epochs=2)
    with LOSSES.registered("sometimes", SometimesKd):
        whole, first, second = (trainer("sometimes", recipe, ["small"], seed=seed) for seed in (0, 0, 9))
    for epoch in range(2):
        terms = whole.epoch(epoch)
    assert set(terms) == {"lr", "ce", "chain"}
    first.epoch(0)
    first.save(tmp_path, 1, {})
    assert second.load(tmp_path, {}) == 1
    second.epoch(1)
    assert same(weights(second), weights(whole))


def test_a_scheme_of_ones_own_is_distilled_with_by_the_name_of_its_loss(
    tmp_path: Path, small_npz: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Students of one name begin with other weights, as the scheme says."""
    (tmp_path / "row_of_mine.py").write_text(
        "from diswot.losses import Loss\n"
        "from diswot.losses.logits import kd\n"
        "from diswot.schemes import Scheme\n"
        "class Row(Scheme):\n"
        "    reference_name = 'neighbour'\n"
        "    independent_students = False\n"
        "    def init_seed(self, seed, student): return seed + student\n"
        "    def references(self, student, students, teacher): return [students.get(student - 1)]\n"
        "    def groups(self, num_students): return [list(range(num_students))]\n"
        "class RowLoss(Loss):\n"
        "    scheme = Row\n"
        "    summary = 'students in a row'\n"
        "    def distil(self, student, reference, target): return {'row': kd(student.logits, reference.logits)}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    result: Any = diswot.distill(
        ["resnet8", "resnet8"],
        folder=tmp_path / "run",
        device="cpu",
        data=str(small_npz),
        loss="row_of_mine:RowLoss",
        epochs=2,
        batch_size=16,
        lr=0.02,
    )
    assert [student.name for student in result.students] == ["resnet8", "resnet8-2"]
    assert all(set(line) >= {"resnet8/ce", "resnet8-2/ce", "resnet8-2/row"} and "resnet8/row" not in line for line in result.history)
    first, second = (diswot.load_student(student.folder).get_parameter("fc.weight") for student in result.students)
    assert not np.allclose(first.detach(), second.detach())
    assert result.teacher is None
