"""The functions of `diswot.losses` against `functions_by_hand`: values, gradients, what they are zero at, what twice the pixels do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diswot import losses as L
from diswot.observe import Observation
from tests.losses import functions_by_hand as hand
from tests.losses.observations import GENERATOR, NOTHING, TARGET, draw, near


@dataclass(frozen=True)
class Case:
    """A function of the student's tensors, then the teacher's; the same by hand; and how near 0 it is where both agree."""

    run: Callable[..., Tensor]
    hand: Callable[..., Any]
    student: tuple[Tensor, ...]
    teacher: tuple[Tensor, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    zero: float | None = 1e-9

    def __call__(self, *given: Tensor) -> Tensor:
        return self.run(*given, **self.options)


def _observed(features: Tensor, weight: Tensor) -> Observation:
    pooled = features.mean((2, 3))
    return Observation(features, pooled, pooled @ weight.T, weight)


def _semantic(features: Tensor, weight: Tensor, teacher_features: Tensor, teacher_weight: Tensor) -> Tensor:
    return L.semantic(_observed(features, weight), _observed(teacher_features, teacher_weight))


def _relation(features: Tensor, teacher_features: Tensor) -> Tensor:
    return L.relation(*(Observation(seen, NOTHING, NOTHING, NOTHING) for seen in (features, teacher_features)))


def _afd_of_one(student: Tensor, teacher: Tensor) -> Tensor:
    return L.afd([student], [teacher], torch.ones(len(student), 1, 1, dtype=torch.float64))


def _afd(first: Tensor, second: Tensor, weights: Tensor, *teacher: Tensor) -> Tensor:
    return L.afd([first, second], teacher, weights)


def _afd_by_hand(first: Any, second: Any, weights: Any, *teacher: Any) -> float:
    return hand.afd([first, second], list(teacher), weights)


def _vid(middle: Tensor, teacher: Tensor, variance: Tensor) -> Tensor:
    return L.vid(middle, variance, teacher)


def _mlkd(student: Tensor, teacher: Tensor, **options: Any) -> Tensor:
    return torch.stack(L.mlkd(student, teacher, **options))


def _srrl(projected: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    return torch.stack(L.srrl(projected, teacher, weight))


def _of_stages(run: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the stages of two networks, given the student's and then the teacher's."""

    def call(*maps: Any, **options: Any) -> Any:
        half = len(maps) // 2
        return run(list(maps[:half]), list(maps[half:]), **options)

    return call


def stages(run: Callable[..., Tensor], by_hand: Callable[..., Any], student: list[Any], teacher: list[Any], **options: Any) -> Case:
    drawn = [tuple(draw(3, *shape) for shape in shapes) for shapes in (student, teacher)]
    return Case(_of_stages(run), _of_stages(by_hand), *drawn, options)


def logits(run: Callable[..., Tensor], by_hand: Callable[..., Any], zero: float | None = 1e-9, **options: Any) -> Case:
    return Case(run, by_hand, (2 * draw(6, 4),), (2 * draw(6, 4),), options, zero)


def pooled(run: Callable[..., Tensor], by_hand: Callable[..., Any], **options: Any) -> Case:
    return Case(run, by_hand, (draw(6, 4),), (draw(6, 7),), options)


def maps(run: Callable[..., Tensor], by_hand: Callable[..., Any], student: Any, teacher: Any, **options: Any) -> Case:
    return Case(run, by_hand, (draw(3, *student),), (draw(3, *teacher),), options)


GENERATOR.manual_seed(0)
FUNCTIONS = {
    "kd": logits(L.kd, hand.kd),
    "kd, T 1": logits(L.kd, hand.kd, temperature=1.0),
    "dkd": logits(L.dkd, hand.dkd, target=TARGET),
    "dkd, options": logits(L.dkd, hand.dkd, target=TARGET, alpha=3.0, beta=0.5, temperature=1.0),
    "dist": logits(L.dist, hand.dist, zero=1e-3),  # by its eps
    "dist, options": logits(L.dist, hand.dist, zero=1e-3, beta=3.0, gamma=0.5, temperature=1.0),
    "wsl": logits(L.wsl, hand.wsl, zero=None, target=TARGET),
    "wsl, T 2": logits(L.wsl, hand.wsl, zero=None, target=TARGET, temperature=2.0),
    "skd": logits(L.skd, hand.skd),
    "skd, options": logits(L.skd, hand.skd, temperature=3.0, multiplier=4.0),
    "ssld": logits(L.ssld, hand.symmetric),
    "logit_std": logits(L.logit_std, hand.logit_std),
    "logit_std, T 1": logits(L.logit_std, hand.logit_std, temperature=1.0),
    "hard_label": logits(L.hard_label, hand.hard_label, zero=None),
    "wttm": Case(L.wttm, hand.wttm, (2 * draw(6, 4),), (2 * draw(6, 4),), zero=None),
    "wttm, as kd": logits(L.wttm, hand.wttm, exponent=1.0),
    "mlkd": logits(_mlkd, hand.mlkd),
    "mlkd, others": logits(_mlkd, hand.mlkd, temperatures=(1, 8)),
    "ofa": logits(L.ofa, hand.ofa, zero=None, target=TARGET),
    "ofa, options": logits(L.ofa, hand.ofa, zero=None, target=TARGET, power=1.5, temperature=2.0),
    "symmetric": Case(L.symmetric, hand.symmetric, (draw(6, 4), draw(6, 4))),
    "spherical": Case(L.spherical, hand.spherical, (draw(6, 4),), options={"multiplier": 3.0}),
    "fitnets": maps(L.fitnets, hand.fitnets, (2, 3, 3), (2, 3, 3)),
    "attention": Case(L.attention, hand.attention, (draw(3, 2, 4, 4),)),
    "attention, power 3": Case(L.attention, hand.attention, (draw(3, 2, 4, 4),), options={"power": 3.0}),
    "at": maps(L.at, hand.at, (2, 4, 4), (3, 4, 4)),
    "at, as the paper": maps(L.at, hand.at, (2, 4, 4), (3, 4, 4), power=3.0, form="norm"),
    "at, larger student": maps(L.at, hand.at, (2, 5, 5), (3, 3, 3)),
    "at, larger teacher": maps(L.at, hand.at, (2, 3, 3), (3, 4, 4)),
    "at, not square": maps(L.at, hand.at, (2, 3, 5), (3, 4, 9)),
    "nst": maps(L.nst, hand.nst, (2, 3, 3), (4, 3, 3)),
    "nst, larger student": maps(L.nst, hand.nst, (2, 4, 4), (4, 3, 3)),
    "ickd": maps(L.ickd, hand.ickd, (3, 2, 2), (3, 2, 2)),
    "ickd, other sizes": maps(L.ickd, hand.ickd, (3, 2, 2), (3, 3, 3)),
    "ofd": maps(L.ofd, hand.ofd, (4, 3, 3), (4, 3, 3), margin=-draw(4).abs()),
    "ofd_margin": Case(
        L.ofd_margin,
        lambda means, deviations: [hand.ofd_margin(m, d) for m, d in zip(means, deviations, strict=True)],
        (torch.tensor([0.0, -2.0, 1.5, 3.0, 3.2, 50.0, -0.1]).double(), torch.tensor([1.0, 0.5, 1.0, 1.0, 1.0, 2.0, 3.0]).double()),
    ),
    "mgd": maps(L.mgd, hand.mgd, (2, 3, 3), (2, 3, 3)),
    "pefd": Case(L.pefd, hand.pefd, (draw(6, 4),), (draw(6, 4),)),
    "afd": Case(
        _afd, _afd_by_hand, (draw(3, 2, 4, 4), draw(3, 3, 2, 2), draw(3, 2, 2).softmax(2)), (draw(3, 2, 4, 4), draw(3, 5, 3, 3)), zero=None
    ),
    "afd of one": maps(_afd_of_one, lambda s, t: hand.afd([s], [t], [[[1.0]]] * 3), (2, 3, 3), (2, 3, 3)),
    "vid": Case(_vid, hand.vid, (draw(2, 3, 4, 4),), (draw(2, 3, 4, 4),), {"variance": draw(3).exp()}, zero=None),
    "srrl": Case(_srrl, hand.srrl, (draw(6, 5),), (draw(6, 5),), {"weight": draw(4, 5)}),
    "hcl": maps(L.hcl, hand.hcl, (2, 6, 6), (2, 6, 6)),
    "hcl, one pixel": maps(L.hcl, hand.hcl, (2, 1, 1), (2, 1, 1)),
    "hcl, not square": maps(L.hcl, hand.hcl, (2, 3, 5), (2, 3, 5)),
    "fsp": stages(L.fsp, hand.fsp, [(2, 4, 4), (3, 2, 2), (3, 2, 2)], [(2, 6, 6), (3, 3, 3), (3, 3, 3)]),
    "ab": Case(L.ab, hand.ab, (draw(3, 2, 3, 3),), (draw(3, 2, 3, 3),), {"margin": 0.5}, zero=None),
    "ft": maps(L.ft, hand.ft, (2, 3, 3), (4, 2, 2)),
    "kdsvd": stages(L.kdsvd, hand.kdsvd, [(5, 3, 3), (4, 3, 3)], [(5, 4, 4), (4, 2, 2)]),
    "kdsvd, two": stages(L.kdsvd, hand.kdsvd, [(5, 4, 4), (6, 4, 4), (5, 3, 3)], [(5, 4, 4), (6, 4, 4), (5, 3, 3)], count=2),
    "crd": Case(L.crd, hand.crd, (draw(4, 6).exp(),), options={"num_images": 20}),
    "rkd_distance": pooled(L.rkd_distance, hand.rkd_distance),
    "rkd_angle": pooled(L.rkd_angle, hand.rkd_angle),
    "sp": maps(L.sp, hand.sp, (2, 3, 3), (3, 2, 2)),
    "cc": pooled(L.cc, hand.cc),
    "cc, options": pooled(L.cc, hand.cc, gamma=0.7, order=4),
    "pkt": pooled(L.pkt, hand.pkt),
    "semantic": Case(_semantic, hand.semantic, (draw(3, 2, 3, 3), draw(4, 2)), (draw(3, 5, 3, 3), draw(4, 5))),
    "relation": maps(_relation, hand.relation, (2, 3, 3), (3, 2, 2)),
}
TWO_SIDED = [name for name, case in FUNCTIONS.items() if case.teacher]


def test_every_function_has_a_case() -> None:
    names = {name for name in L.__all__ if name.islower() and name not in ("create", "scaled", "signature", "split_expressions")}
    assert names == {name.split(",")[0] for name in FUNCTIONS} - {"afd of one"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_are_those_by_hand(name: str) -> None:
    case = FUNCTIONS[name]
    options = {key: value.tolist() if isinstance(value, Tensor) else value for key, value in case.options.items()}
    expected = case.hand(*(tensor.tolist() for tensor in case.student + case.teacher), **options)
    assert hand.flat(case(*case.student, *case.teacher).tolist()) == near(hand.flat(expected))


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if not name.startswith(("wsl", "ofd_margin"))])
def test_gradients_into_the_student_are_right(name: str) -> None:
    case = FUNCTIONS[name]
    inputs = tuple(tensor.clone().requires_grad_() for tensor in case.student)
    assert torch.autograd.gradcheck(lambda *student: case(*student, *case.teacher), inputs)


def test_the_gradient_of_wsl_takes_its_weights_as_given() -> None:
    student, teacher = 2 * draw(6, 4).requires_grad_(), 2 * draw(6, 4)
    (gradient,) = torch.autograd.grad(L.wsl(student, teacher, TARGET, 3.0), student)
    weights = hand.wsl_weights(student.tolist(), teacher.tolist(), TARGET.tolist())
    for row, w, s, t in zip(gradient.tolist(), weights, student.tolist(), teacher.tolist(), strict=True):
        assert row == near([w * 3 / 6 * (a - b) for a, b in zip(hand.softmax(s, 3.0), hand.softmax(t, 3.0), strict=True)])


@pytest.mark.parametrize("name", TWO_SIDED)
def test_gradients_do_not_flow_into_the_teacher(name: str) -> None:
    case = FUNCTIONS[name]
    student, teacher = ([tensor.clone().requires_grad_() for tensor in side] for side in (case.student, case.teacher))
    case(*student, *teacher).sum().backward()
    assert all(tensor.grad is None for tensor in teacher)
    assert all(tensor.grad is not None and tensor.grad.any() for tensor in student)


@pytest.mark.parametrize("name", [name for name in TWO_SIDED if FUNCTIONS[name].zero is not None])
def test_zero_where_both_agree_and_only_there(name: str) -> None:
    case = FUNCTIONS[name]
    student = tuple(tensor.clone().requires_grad_() for tensor in case.student)
    agreed = case(*student, *case.student)
    assert agreed.abs().max().item() < (case.zero or 0)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(agreed.sum(), student))
    assert case(*case.student, *case.teacher).min().item() > 1e-4


@pytest.mark.parametrize("name", ["kd", "dkd", "dist", "wsl", "skd", "ssld", "logit_std"])
def test_confident_networks_do_not_overflow(name: str) -> None:
    """Float32, the probability of all other classes below its smallest number, and the two networks of other minds."""
    student = (400 * F.one_hot(TARGET, 4)).float().requires_grad_()
    teacher = 400 * F.one_hot((TARGET + 1) % 4, 4).float()
    for first, second in ((student, teacher), (student, student)):
        value = FUNCTIONS[name](first, second.detach())
        assert value.isfinite()
        assert torch.autograd.grad(value, student)[0].isfinite().all()


@pytest.mark.parametrize("name", ["kd", "skd", "ssld"])
def test_divergences_are_summed_over_classes(name: str) -> None:
    """Every class split in two of half its probability: the divergence is what it was."""
    case = FUNCTIONS[name]
    (student,), (teacher,) = case.student, case.teacher
    split = case(torch.cat([student, student], 1), torch.cat([teacher, teacher], 1))
    assert split.item() == near(case(student, teacher).item())


def test_the_mean_of_kldivloss_is_the_number_of_classes_too_small() -> None:
    student, teacher = draw(6, 4), draw(6, 4)
    with pytest.warns(UserWarning, match="support size"):
        averaged = nn.KLDivLoss(reduction="mean")(student.log_softmax(1), teacher.softmax(1))
    assert L.kd(student, teacher, 1.0).item() == near(4 * averaged.item())


OF_MORE_PIXELS = {
    "fitnets": 1,
    "at": 0.5,
    "at, as the paper": 1,
    "nst": 1,
    "ickd": 1,
    "ofd": 2,
    "mgd": 2,
    "afd of one": 0.5,
    "sp": 1,
    "relation": 1,
}


@pytest.mark.parametrize("name", OF_MORE_PIXELS)
def test_what_twice_the_pixels_do(name: str) -> None:
    """Every map below itself: sums over pixels double, means stay, and attention of length 1 is thinner."""
    case = FUNCTIONS[name]
    twice = case(*(torch.cat([tensor, tensor], 2) for tensor in case.student + case.teacher))
    assert twice.item() == near(OF_MORE_PIXELS[name] * case(*case.student, *case.teacher).item())
