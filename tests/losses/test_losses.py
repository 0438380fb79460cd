"""Losses against `losses_by_hand`: values, gradients, what they are zero at, what they do to the order and the size of a batch."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from diswot import losses as L
from diswot.errors import ConfigError
from diswot.losses import LOSSES, NO_LABEL, Loss, SupervisedLoss, Terms, create, signature
from diswot.models.zoo import ZOO
from diswot.observe import Observation, Observer
from tests.losses import losses_by_hand as hand

TARGET = torch.tensor([0, 1, 2, 3, 0, 1])
GENERATOR = torch.Generator().manual_seed(0)
NOTHING = torch.empty(0, dtype=torch.float64)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def seen(channels: tuple[int, ...], sides: tuple[int, ...], batch: int = 6, classes: int = 4) -> Observation:
    """A network with a stem and one block for each stage."""
    preacts = tuple(draw(batch, c, n, n) for c, n in zip(channels, sides, strict=True))
    stages = tuple(p.relu() for p in preacts)
    norms = tuple(torch.stack([draw(c), draw(c).abs() + 0.1]) for c in channels)
    pooled, weight = stages[-1].mean((2, 3)), draw(classes, channels[-1])
    stem = draw(batch, channels[0], sides[0], sides[0]).relu()
    return Observation(stages[-1], pooled, pooled @ weight.T + draw(classes), weight, (stem, *stages), stages, preacts, norms)


STUDENT, TEACHER = seen((3, 4), (4, 2)), seen((2, 3, 5), (8, 4, 2))
OTHER_SIZES = seen((2, 3, 5), (8, 5, 3))


def pick(o: Observation, index: Any) -> Observation:
    """These images of it."""
    lists = {name: tuple(one[index] for one in getattr(o, name)) for name in ("blocks", "stages", "preacts")}
    return replace(o, features=o.features[index], pooled=o.pooled[index], logits=o.logits[index], **lists)


def leaves(o: Observation) -> Observation:
    return o.map(lambda tensor: tensor.detach().clone().requires_grad_())


def tensors(o: Observation) -> list[Tensor]:
    return [o.features, o.pooled, o.logits, o.weight, *o.blocks, *o.stages, *o.preacts, *o.norms]


def partner(name: str, teacher: Observation) -> Observation | None:
    """What a loss meets: a teacher or a peer; nobody; of the last step, half a batch."""
    kind = LOSSES[name].partner
    return {"nobody": None, "previous": pick(teacher, slice(0, len(teacher.logits) // 2))}.get(kind, teacher)


def made(name: str, **options: Any) -> Loss:
    """A loss whose adapters, drawn at its first call, are the same each time, and which draws no masks."""
    torch.manual_seed(0)
    return create(name, **({"mask": 0} if name == "mgd" else {}), **options)


def is_number_list(terms: Terms) -> dict[str, float]:
    return {name: value.item() for name, value in terms.items()}


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """What a test draws does not depend on which ran before."""
    GENERATOR.manual_seed(1)
    torch.manual_seed(0)


def near(expected: Any, rel: float = 1e-9) -> Any:
    return pytest.approx(expected, rel=rel, abs=1e-12)


# The functions


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


def brief_repr(features: Tensor, weight: Tensor) -> Observation:
    pooled = features.mean((2, 3))
    return Observation(features, pooled, pooled @ weight.T, weight)


def _semantic(features: Tensor, weight: Tensor, teacher_features: Tensor, teacher_weight: Tensor) -> Tensor:
    return L.semantic(brief_repr(features, weight), brief_repr(teacher_features, teacher_weight))


def _relation(features: Tensor, teacher_features: Tensor) -> Tensor:
    return L.relation(*(Observation(seen, NOTHING, NOTHING, NOTHING) for seen in (features, teacher_features)))


def _afd_of_one(student: Tensor, teacher: Tensor) -> Tensor:
    return L.afd([student], [teacher], torch.ones(len(student), 1, 1, dtype=torch.float64))


def _afd(first: Tensor, second: Tensor, weights: Tensor, *teacher: Tensor) -> Tensor:
    return L.afd([first, second], teacher, weights)


def _afd_by_hand(first: Any, second: Any, weights: Any, *teacher: Any) -> float:
    return hand.afd([first, second], list(teacher), weights)


def logits(run: Callable[..., Tensor], by_hand: Callable[..., Any], zero: float | None = 1e-9, **options: Any) -> Case:
    return Case(run, by_hand, (2 * draw(6, 4),), (2 * draw(6, 4),), options, zero)


def pooled(run: Callable[..., Tensor], by_hand: Callable[..., Any], **options: Any) -> Case:
    return Case(run, by_hand, (draw(6, 4),), (draw(6, 7),), options)


def maps(run: Callable[..., Tensor], by_hand: Callable[..., Any], student: Any, teacher: Any, **options: Any) -> Case:
    return Case(run, by_hand, (draw(3, *student),), (draw(3, *teacher),), options)


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
    names = {name for name in vars(L)["__all__"] if name.islower() and name not in ("create", "signature")}
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
    case(*student, *teacher).backward()
    assert all(tensor.grad is None for tensor in teacher)
    assert all(tensor.grad is not None and tensor.grad.any() for tensor in student)


@pytest.mark.parametrize("name", [name for name in TWO_SIDED if FUNCTIONS[name].zero is not None])
def test_zero_where_both_agree_and_only_there(name: str) -> None:
    case = FUNCTIONS[name]
    student = tuple(tensor.clone().requires_grad_() for tensor in case.student)
    agreed = case(*student, *case.student)
    assert abs(agreed.item()) < (case.zero or 0)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(agreed, student))
    assert case(*case.student, *case.teacher).item() > 1e-4


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


# The modules


CHANGED: dict[str, dict[str, Any]] = {
    "dkd": {"alpha": 0.5, "beta": 2, "temperature": 2},
    "dist": {"beta": 2, "gamma": 0.5, "temperature": 1},
    "skd": {"alpha": 0.3, "temperature": 2, "multiplier": 3, "ce_weight": 2},
    "ssld": {"ce_weight": 0.5},
    "dml": {"temperature": 2},
    "at": {"power": 3, "form": "norm"},
    "ickd": {"kd_weight": 0.5, "temperature": 2},
    "pefd": {"projectors": 2},
    "afd": {"width": 4, "temperature": 2, "kd_weight": 0.5},
    "cc": {"gamma": 0.3, "order": 3},
}


def lists(value: Any) -> Any:
    return [lists(one) for one in value] if isinstance(value, tuple) else value.tolist()


def as_lists(o: Observation | None) -> SimpleNamespace | None:
    return None if o is None else SimpleNamespace(**{f.name: lists(getattr(o, f.name)) for f in fields(o)})


@pytest.mark.parametrize(("name", "options"), [*((name, {}) for name in LOSSES), *CHANGED.items()])
def test_terms_of_modules_are_those_by_hand(name: str, options: dict[str, Any]) -> None:
    """Adapters are those of the loss, with every parameter drawn anew, by their layers' definitions."""
    options = {"fitnets": {"stage": -1}, "afd": {"width": 5}}.get(name, {}) | options
    loss, other = made(name, **options), partner(name, TEACHER)
    loss.prepare(STUDENT, other)
    for parameter in loss.parameters():
        nn.init.normal_(parameter)
    given = loss, as_lists(STUDENT), as_lists(other), TARGET.tolist()
    expected = hand.TERMS[name](*given) | hand.label_term(name, loss, given[1], TARGET.tolist())
    assert is_number_list(loss(STUDENT, other, TARGET)) == near(expected)


LITERATURE = """
    kd(ce_weight=0.1, kd_weight=0.9, temperature=4); dkd(ce_weight=1, alpha=1, beta=8, temperature=4, warmup=20); none(ce_weight=1);
    dist(ce_weight=1, weight=2, beta=1, gamma=1, temperature=4); wsl(ce_weight=1, weight=2.25, temperature=4); ssld(ce_weight=0, weight=1);
    skd(alpha=0.9, temperature=1, multiplier=2); logit_std(ce_weight=0.1, kd_weight=9, temperature=2); dlb(alpha=1, temperature=3);
    dml(ce_weight=1, kd_weight=1, temperature=1); udml(ce_weight=1, js_weight=1, feature_weight=1); fitnets(ce_weight=1, weight=100);
    ofd(weight=0.001); afd(weight=200, kd_weight=0.9, temperature=4, width=128); mgd(alpha=7e-5, mask=0.15); at(weight=1000, power=2);
    pefd(weight=25, projectors=3); rkd(distance_weight=25, angle_weight=50); sp(weight=3000); cc(weight=0.02, gamma=0.4, order=2);
    pkt(weight=3e4); nst(weight=50); ickd(weight=2.5); semantic(weight=1); relation(weight=1); diswot(semantic_weight=1, relation_weight=1)
"""


@pytest.mark.parametrize("expression", [one.strip() for one in LITERATURE.split(";")])
def test_defaults_are_those_of_the_literature(expression: str) -> None:
    name = expression.split("(")[0]
    loss, given = create(name), create(expression)
    assert all(getattr(loss, key) == getattr(given, key) for key in loss.__dataclass_fields__)
    assert signature(name).startswith(f"{name}(ce_weight=")


@pytest.mark.parametrize("name", list(LOSSES))
def test_terms_do_not_depend_on_the_order_of_the_batch(name: str) -> None:
    loss, order = made(name), torch.tensor([2, 0, 1, 5, 3, 4])  # within each half, as the last step's is the first
    other = partner(name, OTHER_SIZES)
    moved = other if other is None else pick(other, order[: len(other.logits)])
    plain = is_number_list(loss(STUDENT, other, TARGET))
    assert is_number_list(loss(pick(STUDENT, order), moved, TARGET[order])) == near(plain)


# sp: squares of shares of twice the images. pkt: shares of them. relation: 1 / B^2 of a matrix of length 1. distance: 12 of 12 * 11 pairs
# are of one image, so that the mean is 10 / 11 of what it was, and distances differ by 11 / 10, squared.
OF_A_BATCH_TWICE = {"sp": 0.5, "pkt": 0.5, "relation": 0.25, "distance": 1.1**2}


@pytest.mark.parametrize("name", list(LOSSES))
def test_what_a_batch_beside_itself_does(name: str) -> None:
    """Means over images and triplets stay as they are, and so do correlations."""
    loss, twice = made(name), torch.tensor([0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5])
    other = partner(name, TEACHER)
    doubled = other if other is None else pick(other, twice[: 2 * len(other.logits)])
    plain = is_number_list(loss(STUDENT, other, TARGET))
    got = is_number_list(loss(pick(STUDENT, twice), doubled, TARGET[twice]))
    assert got == near({term: OF_A_BATCH_TWICE.get(term, 1) * value for term, value in plain.items()}, rel=1e-5)  # eps


@pytest.mark.parametrize("name", list(LOSSES))
def test_gradients_reach_the_student_and_the_adapters_and_no_teacher(name: str) -> None:
    loss, student, teacher = made(name), leaves(STUDENT), leaves(TEACHER)
    terms = loss(student, partner(name, teacher), TARGET)
    torch.stack(list(terms.values())).sum().backward()
    assert student.logits.grad is not None
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loss.parameters())
    reached = [tensor for tensor in tensors(teacher) if tensor.grad is not None]
    assert [id(tensor) for tensor in reached] == ([id(teacher.pooled), id(teacher.logits)] if name == "udml" else [])
    assert LOSSES[name].grad_to_reference == (name == "udml")


@pytest.mark.parametrize("of", ["student", "teacher"])
@pytest.mark.parametrize("name", list(LOSSES))
def test_dead_networks_leave_finite_numbers(name: str, of: str) -> None:
    """All maps 0, all features and all logits alike."""
    student, teacher = leaves(STUDENT), TEACHER
    if of == "student":
        student = leaves(replace(STUDENT.map(torch.zeros_like), weight=STUDENT.weight))
    else:
        teacher = replace(TEACHER.map(torch.zeros_like), weight=TEACHER.weight, norms=TEACHER.norms)
    terms = made(name)(student, partner(name, teacher), TARGET)
    torch.stack(list(terms.values())).sum().backward()
    assert all(value.isfinite() for value in terms.values())
    assert all(tensor.grad is None or tensor.grad.isfinite().all() for tensor in tensors(student))


def linear_options() -> Iterator[tuple[str, str]]:
    for name in LOSSES:
        for key in create(name).__dataclass_fields__:
            if key.endswith("weight") or (name, key) in {("dkd", "alpha"), ("dkd", "beta"), ("mgd", "alpha"), ("dlb", "alpha")}:
                yield name, key


@pytest.mark.parametrize(("name", "option"), list(linear_options()))
def test_weights_scale_their_term_and_no_other(name: str, option: str) -> None:
    def terms(weight: float) -> dict[str, float]:
        return is_number_list(made(name, **{option: weight})(STUDENT, partner(name, TEACHER), TARGET))

    one, three, none = terms(0.5), terms(1.5), terms(0)
    changed = [term for term in one if three[term] != near(one[term])]
    assert len(changed) == 1
    assert three == near(one | {term: 3 * one[term] for term in changed})
    assert none.get(changed[0], 0) == 0
    assert (option == "ce_weight") == (changed == ["ce"])


@pytest.mark.parametrize("name", list(LOSSES))
def test_shares_of_classes_in_place_of_classes(name: str) -> None:
    shares = F.one_hot(TARGET, 4).double()
    other = partner(name, TEACHER)
    assert is_number_list(made(name)(STUDENT, other, shares)) == near(is_number_list(made(name)(STUDENT, other, TARGET)))


def test_the_term_of_the_labels_by_hand() -> None:
    rows, classes = STUDENT.logits.tolist(), TARGET.tolist()
    mixed = draw(6, 4).softmax(1)
    for shares in (F.one_hot(TARGET, 4).double(), mixed):
        ce = bce = 0.0
        for row, share in zip(rows, shares.tolist(), strict=True):
            for z, p, q in zip(row, hand.softmax(row), (0.8 * a + 0.2 / 4 for a in share), strict=True):
                sigmoid = 1 / (1 + math.exp(-z))
                ce -= q * math.log(p)
                bce -= q * math.log(sigmoid) + (1 - q) * math.log(1 - sigmoid)
        assert SupervisedLoss("ce", 0.2)(STUDENT.logits, shares).item() == near(ce / 6)
        assert SupervisedLoss("bce", 0.2)(STUDENT.logits, shares).item() == near(bce / 24)
    assert SupervisedLoss()(STUDENT.logits, TARGET).item() == near(hand.cross_entropy(rows, classes))
    assert SupervisedLoss("bce", 0.2)(STUDENT.logits, TARGET).item() == near(
        SupervisedLoss("bce", 0.2)(STUDENT.logits, F.one_hot(TARGET, 4).double()).item()
    )


@pytest.mark.parametrize("expression", ["none", "kd", "kd + 0.5*rkd"])
def test_another_term_for_the_labels(expression: str) -> None:
    loss, truth = create(expression), SupervisedLoss("bce", 0.1)
    before = is_number_list(loss(STUDENT, None if expression == "none" else TEACHER, TARGET))
    loss.hold_to(truth)
    after = is_number_list(loss(STUDENT, None if expression == "none" else TEACHER, TARGET))
    weight = 1.0 if expression == "none" else 0.1
    assert after.pop("bce") == near(weight * truth(STUDENT.logits, TARGET).item())
    assert after == near({term: value for term, value in before.items() if term != "ce"})


# Traps of single losses


def test_dkd_refuses_two_classes() -> None:
    two = pick(replace(STUDENT, logits=draw(6, 2)), slice(None))
    with pytest.raises(ConfigError, match=r"[23] classes"):
        L.dkd(draw(6, 2), draw(6, 2), TARGET % 2)
    with pytest.raises(ConfigError, match="dkd"):
        create("dkd")(two, two, TARGET % 2)


def test_dkd_takes_the_largest_of_mixed_shares() -> None:
    student, teacher = draw(6, 4), draw(6, 4)
    mixed = 0.6 * F.one_hot(TARGET, 4).double() + 0.4 * F.one_hot((TARGET + 1) % 4, 4).double()
    assert L.dkd(student, teacher, mixed).item() == near(L.dkd(student, teacher, TARGET).item())


def test_dkd_warms_up_over_twenty_epochs() -> None:
    def share(loss: Loss, epoch: int) -> list[float]:
        loss.begin_epoch(epoch)
        terms = is_number_list(loss(STUDENT, TEACHER, TARGET))
        return [terms["ce"] / full["ce"], terms["tckd"] / full["tckd"], terms["nckd"] / full["nckd"]]

    full = is_number_list(create("dkd", warmup=0)(STUDENT, TEACHER, TARGET))
    for epoch, part in ((0, 1 / 20), (9, 0.5), (18, 0.95), (19, 1), (20, 1), (239, 1), (0, 1 / 20)):
        assert share(create("dkd"), epoch) == near([1, part, part])
    assert share(create("dkd", warmup=0), 0) == near([1, 1, 1])
    assert share(create("2*dkd + kd"), 4) == near([1, 0.5, 0.5])


def test_dist_of_halves_is_not_that_of_the_whole() -> None:
    student, teacher = draw(8, 4), draw(8, 4)

    def gap(**options: float) -> float:
        halves = [L.dist(student[i : i + 4], teacher[i : i + 4], **options).item() for i in (0, 4)]
        return abs(sum(halves) / 2 - L.dist(student, teacher, **options).item())

    assert gap(gamma=0.0) < 1e-9
    assert gap(beta=0.0) > 1e-2


def test_wsl_is_a_cross_entropy() -> None:
    logits, weight = 2 * draw(6, 4), 1 - math.exp(-1)
    entropies = [hand.entropy(hand.softmax(row, 3.0)) for row in logits.tolist()]
    assert L.wsl(logits, logits, TARGET, 3.0).item() == near(9 * weight * hand.mean(entropies), rel=1e-5)  # eps in the weight


def test_skd_has_a_cross_entropy_of_its_own() -> None:
    """Shift and scale of the student's logits matter to neither term."""
    plain = is_number_list(create("skd")(STUDENT, TEACHER, TARGET))
    assert set(plain) == {"ce", "skd"}
    assert is_number_list(create("skd")(replace(STUDENT, logits=7 * STUDENT.logits + 3), TEACHER, TARGET)) == near(plain, rel=1e-5)


def test_ssld_needs_no_labels() -> None:
    loss = create("ssld")
    assert not loss.labels
    assert NO_LABEL < 0
    assert is_number_list(loss(STUDENT, TEACHER, torch.full((6,), NO_LABEL))) == is_number_list(loss(STUDENT, TEACHER, TARGET))


def test_both_sides_of_udml_add_up() -> None:
    peer = seen((3, 4), (4, 2))
    there, back = (is_number_list(made("udml")(a, b, TARGET)) for a, b in ((STUDENT, peer), (peer, STUDENT)))
    assert there["js"] + back["js"] == near(L.symmetric(STUDENT.logits, peer.logits).item())
    assert there["features"] + back["features"] == near(F.mse_loss(STUDENT.pooled, peer.pooled).item())


@pytest.mark.parametrize("name", ["dml", "udml", "dlb"])
def test_without_a_partner_yet_there_is_the_term_of_the_labels(name: str) -> None:
    assert is_number_list(create(name)(STUDENT, None, TARGET)) == near(is_number_list(create("none")(STUDENT, None, TARGET)))


@pytest.mark.parametrize("name", [name for name in LOSSES if LOSSES[name].partner == "teacher"])
def test_without_a_teacher_there_is_no_distillation(name: str) -> None:
    with pytest.raises(ConfigError, match=f"loss {name}: .*teacher"):
        create(name)(STUDENT, None, TARGET)


def test_ofd_margins_far_above_zero_are_three_deviations() -> None:
    means = torch.tensor([3.09, 3.10, 40.0]).double()  # of which .00100, .00097 and nothing lies below 0
    near_the_edge, *beyond = L.ofd_margin(means, torch.ones(3).double()).tolist()
    assert beyond == [-3, -3]
    assert near_the_edge > -1


def test_mgd_drops_whole_channels_and_rescales_nothing() -> None:
    """Adapters that change nothing and a student that is the teacher: what is lost is what was masked."""
    ones = replace(STUDENT, features=torch.ones(40, 100, 3, 3).double(), logits=draw(40, 4))
    for mask in (0.15, 0.6):
        loss = create("mgd", mask=mask, alpha=1.0)
        loss.prepare(ones, ones)
        loss.generator = nn.Identity()  # type: ignore[assignment]
        torch.manual_seed(0)
        dropped = loss(ones, ones, torch.zeros(40, dtype=torch.long))["mgd"].item() * 40 / 9
        assert dropped == near(round(dropped))
        assert dropped / 4000 == pytest.approx(mask, abs=0.03)


def test_ickd_embeds_the_student_only() -> None:
    loss: Any = made("ickd")
    loss.prepare(STUDENT, TEACHER)
    assert {tuple(p.shape) for p in loss.parameters() if p.ndim == 4} == {(5, 4, 1, 1)}
    assert [name for name, _ in loss.named_children() if name != "embedding"] == []


def test_the_connectors_of_ofd_have_no_bias() -> None:
    loss: Any = made("ofd")
    loss.prepare(STUDENT, TEACHER)
    assert [(tuple(conv.weight.shape), conv.bias) for conv, *_ in loss.connectors] == [((3, 3, 1, 1), None), ((5, 4, 1, 1), None)]


def test_fitnets_takes_the_middle_unless_told() -> None:
    student, teacher = seen((2, 3, 4), (8, 4, 2)), seen((5, 6, 7), (8, 4, 2))

    def shape(**options: int) -> tuple[int, ...]:
        loss: Any = create("fitnets", **options)
        loss.prepare(student, teacher)
        return tuple(loss.regressor[0].weight.shape)

    assert [shape(), shape(stage=-1), shape(stage=-3)] == [(6, 3, 1, 1), (7, 4, 1, 1), (5, 2, 1, 1)]


@pytest.mark.parametrize("stage", [0, 1, -4])
def test_a_stage_that_is_not_there_is_refused(stage: int) -> None:
    with pytest.raises(ConfigError, match=f"loss fitnets: stage {stage}"):
        create("fitnets", stage=stage).prepare(STUDENT, TEACHER)


def test_losses_say_which_images_they_need() -> None:
    """An angle has three; batch norm over images has two; a loss of pairs all of the batch."""
    assert (LOSSES["rkd"].min_batch_size, LOSSES["afd"].min_batch_size) == (3, 2)
    assert {name for name in LOSSES if create(name).needs_whole_batch} == {
        "dist",
        "rkd",
        "sp",
        "cc",
        "pkt",
        "semantic",
        "relation",
        "diswot",
    }
    with pytest.raises(ConfigError, match="loss rkd"):
        create("rkd")(pick(STUDENT, slice(2)), pick(TEACHER, slice(2)), TARGET[:2])


def test_afd_refuses_a_single_image() -> None:
    with pytest.raises(ConfigError, match="loss afd"):
        create("afd")(pick(STUDENT, slice(1)), pick(TEACHER, slice(1)), TARGET[:1])


ADAPTED = ["fitnets", "ickd", "ofd", "mgd", "pefd", "afd", "udml"]


@pytest.mark.parametrize("name", [*LOSSES, "kd + 2*pefd"])
def test_adapters_are_there_once_prepared_and_stay(name: str) -> None:
    loss = create(name)
    assert loss.adapters == (name in [*ADAPTED, "kd + 2*pefd"])
    assert list(loss.parameters()) == []
    other = TEACHER if "+" in name else partner(name, TEACHER)
    loss.prepare(STUDENT, other)
    prepared = list(loss.parameters())
    assert bool(prepared) == loss.adapters
    loss(STUDENT, other, TARGET)
    loss.prepare(STUDENT, other)
    assert [id(p) for p in loss.parameters()] == [id(p) for p in prepared]


@pytest.mark.parametrize("blind", ["student", "teacher"])
@pytest.mark.parametrize("name", [name for name in LOSSES if LOSSES[name].needs != {"logits"}])
def test_without_maps_losses_of_features_say_so(name: str, blind: str) -> None:
    student, teacher = (
        Observation(NOTHING, NOTHING, o.logits, NOTHING) if o is {"student": STUDENT, "teacher": TEACHER}[blind] else o
        for o in (STUDENT, TEACHER)
    )
    with pytest.raises(ConfigError, match=f"loss {name}: "):
        create(name)(student, teacher, TARGET)


def test_a_sum_names_the_loss_that_cannot_be_computed() -> None:
    blind = Observation(NOTHING, NOTHING, STUDENT.logits, NOTHING)
    with pytest.raises(ConfigError, match="fitnets"):
        create("kd + fitnets")(blind, TEACHER, TARGET)
    with pytest.raises(ConfigError, match="rkd"):
        create("kd + rkd")(pick(STUDENT, slice(2)), pick(TEACHER, slice(2)), TARGET[:2])


@pytest.mark.parametrize("norms", [(), (NOTHING,) * 3])
def test_ofd_refuses_a_teacher_without_batch_norm(norms: tuple[Tensor, ...]) -> None:
    with pytest.raises(ConfigError, match="loss ofd: "):
        create("ofd")(STUDENT, replace(TEACHER, norms=norms), TARGET)


# Memory of the angles


class Peak(TorchDispatchMode):
    """The most bytes that tensors made inside took at once."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage())
        return out

    def _note(self, storage: Any) -> None:
        if storage._cdata not in self.known:
            self.known.add(storage._cdata)
            self.live += storage.nbytes()
            self.most = max(self.most, self.live)
            weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size


def angle_memory(batch: int) -> tuple[int, int]:
    """Bytes kept for the gradient, and bytes at the worst moment of both passes."""
    student, teacher, kept = torch.randn(batch, 8, requires_grad=True), torch.randn(batch, 8), [0]

    def pack(tensor: Tensor) -> Tensor:
        kept[0] += tensor.untyped_storage().nbytes()
        return tensor

    with Peak() as peak:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            value = L.rkd_angle(student, teacher)
        value.backward()
    return kept[0], peak.most


def test_angles_are_not_all_held_at_once() -> None:
    (kept, most), (_, of_more) = angle_memory(192), angle_memory(288)
    assert kept < 192**3 * 4
    assert most < 5 * 192**3 * 4
    assert of_more < 1.1 * most  # where a tensor of all the angles would be 3.4 times as large


def test_angles_in_parts_are_the_whole() -> None:
    student, teacher = draw(192, 3).requires_grad_(), draw(192, 5)

    def cosines(rows: Tensor) -> Tensor:
        lines = F.normalize(rows[None] - rows[:, None], dim=2)
        return lines @ lines.mT

    whole = F.smooth_l1_loss(cosines(student), cosines(teacher))
    parts = L.rkd_angle(student, teacher)
    assert parts.item() == near(whole.item())
    torch.testing.assert_close(*(torch.autograd.grad(value, student)[0] for value in (parts, whole)), rtol=1e-9, atol=1e-15)


def test_images_that_look_the_same_have_no_distance_and_no_direction() -> None:
    """They are a pair like any other, and their gradient is a number."""
    student, teacher = draw(6, 4), draw(6, 5)
    student[3], teacher[2] = student[0], teacher[5]
    student.requires_grad_()
    for loss, by_hand in ((L.rkd_distance, hand.rkd_distance), (L.rkd_angle, hand.rkd_angle)):
        value = loss(student, teacher)
        assert value.item() == near(by_hand(student.tolist(), teacher.tolist()), rel=1e-5)  # a distance of sqrt(eps)
        assert torch.autograd.grad(value, student)[0].isfinite().all()


# What the networks show to OFD


def drawn_norms(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return model


def test_ofd_sees_a_resnet_before_its_relu() -> None:
    model: Any = drawn_norms(ZOO["resnet8"](num_classes=4))
    o = Observer(model, {"preacts", "stages", "logits"})(torch.randn(2, 3, 32, 32))
    assert [len(norm) for norm in o.norms] == [2, 2, 2]
    for preact, stage, norm, layer in zip(o.preacts, o.stages, o.norms, (model.layer1, model.layer2, model.layer3), strict=True):
        assert (preact < 0).any()
        assert not torch.equal(preact, stage)
        assert torch.equal(preact.relu(), stage)
        torch.testing.assert_close(norm, torch.stack([layer[-1].bn2.bias, layer[-1].bn2.weight.abs()]))


def test_ofd_sees_a_wide_resnet_after_the_next_norm() -> None:
    model: Any = drawn_norms(ZOO["wrn_16_1"](num_classes=4))
    following = [model.stages[1][0].bn1, model.stages[2][0].bn1, model.bn]
    outputs: list[Tensor] = []
    for norm in following:
        norm.register_forward_hook(lambda _m, _i, output: outputs.append(output.clone()))
    o = Observer(model, {"preacts", "stages"})(torch.randn(2, 3, 32, 32))
    for preact, output, shown_norm, norm in zip(o.preacts, outputs, o.norms, following, strict=True):
        assert torch.equal(preact, output)
        assert (preact < 0).any()
        torch.testing.assert_close(shown_norm, torch.stack([norm.bias, norm.weight.abs()]))


def test_ofd_lets_the_teacher_run_on_batch_statistics() -> None:
    assert create("ofd").teacher_batch_statistics
    assert create("kd + ofd").teacher_batch_statistics
    assert not create("ofd", batch_statistics=False).teacher_batch_statistics
    assert [name for name in LOSSES if create(name).teacher_batch_statistics] == ["ofd"]


# Expressions


def test_unknown_losses_and_options_are_named() -> None:
    with pytest.raises(ConfigError, match="did you mean diswot"):
        create("diswott")
    with pytest.raises(ConfigError, match=r"loss kd.*tempreature.*did you mean temperature"):
        create("kd", tempreature=1)
    with pytest.raises(ConfigError, match=r"loss rkd.*anglee_weight.*did you mean angle_weight"):
        create("kd + rkd(anglee_weight=1)")


REFUSED = [
    *(("kd", {"temperature": value}) for value in (0, -1, math.nan, math.inf, "x", None, True)),
    *(("kd", {"kd_weight": value}) for value in (-1, math.nan, math.inf, "x", [1])),
    *(("mgd", {"mask": value}) for value in (1, -0.1, 1.5, math.nan)),
    *(("dkd", {"warmup": value}) for value in (-1, 1.5, "x")),
    *(("skd", {"alpha": value}) for value in (-0.1, 1.5)),
    *((name, {option: -1}) for name, option in linear_options()),
    ("skd", {"multiplier": 0}),
    ("cc", {"order": -1}),
    ("cc", {"gamma": -1}),
    ("at", {"power": 0}),
    ("at", {"form": "x"}),
    ("pefd", {"projectors": 0}),
    ("afd", {"width": 0}),
    ("fitnets", {"stage": 1.5}),
    ("ofd", {"batch_statistics": "x"}),
]


@pytest.mark.parametrize(("name", "options"), REFUSED)
def test_values_that_cannot_be_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"loss {name}: ") as refusal:
        create(name, **options)
    assert "\n" not in str(refusal.value)


ACCEPTED = (
    "dkd(warmup=0) mgd(mask=0) cc(order=0) skd(alpha=0) skd(alpha=1) pefd(projectors=1) afd(width=1) fitnets(stage=-1) kd(kd_weight=0)"
)


@pytest.mark.parametrize("expression", ACCEPTED.split())
def test_the_ends_of_ranges_are_accepted(expression: str) -> None:
    assert all(value.isfinite() for value in create(expression)(STUDENT, TEACHER, TARGET).values())


MALFORMED = [
    *(
        "",
        " ",
        "+",
        "kd+",
        "+kd",
        "kd++rkd",
        "kd - rkd",
        "kd,rkd",
        "kd kd",
        "2*",
        "*kd",
        "2**kd",
        "2 kd",
        "2*kd*2",
        "-1*kd",
        "nan*kd",
        "inf*kd",
    ),
    *("1e999*kd", "x*kd", "kd(", "kd)", "kd)(", "kd\n)", "(kd)", "kd()()", "kd(temperature)", "kd(=1)", "kd(temperature=0)", "kd(x=1)"),
    "kd(temperature=(1))",
]


@pytest.mark.parametrize("expression", MALFORMED)
def test_malformed_expressions_are_refused_in_one_line(expression: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        create(expression)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("expression", ["kd + kd", "kd + 2*kd(temperature=1)", "rkd + kd + rkd"])
def test_a_loss_is_named_once(expression: str) -> None:
    with pytest.raises(ConfigError, match="once"):
        create(expression)


@pytest.mark.parametrize("name", ["none", "dml", "udml", "dlb"])
def test_losses_without_a_teacher_stand_alone(name: str) -> None:
    for expression in (f"kd + {name}", f"{name} + kd", f"2*{name}"):
        with pytest.raises(ConfigError, match=f"loss {name} stands alone"):
            create(expression)


def test_options_of_several_stand_in_the_expression() -> None:
    with pytest.raises(ConfigError, match="options of several"):
        create("kd + rkd", temperature=1)


@pytest.mark.parametrize(("weight", "factor"), [("1e+1", 10), ("1E1", 10), ("0.5", 0.5), (".5", 0.5), ("3", 3), ("1e-2", 0.01)])
def test_weights_of_an_expression(weight: str, factor: float) -> None:
    plain = is_number_list(create("rkd")(STUDENT, TEACHER, TARGET))
    expected = {term: value if term == "ce" else factor * value for term, value in plain.items()}
    for expression in (f"{weight}*rkd", f" rkd * {weight} "):
        assert is_number_list(create(expression)(STUDENT, TEACHER, TARGET)) == near(expected)


def test_a_sum_holds_the_terms_of_its_losses_and_one_of_the_labels() -> None:
    first, second = (is_number_list(loss(STUDENT, TEACHER, TARGET)) for loss in (create("dkd", beta=2), create("rkd", angle_weight=10)))
    got = is_number_list(create("dkd(beta=2) + 0.5 * rkd(ce_weight=9, angle_weight=10)")(STUDENT, TEACHER, TARGET))
    assert got == near(first | {term: 0.5 * second[term] for term in ("distance", "angle")})


def test_the_label_term_of_a_sum_is_the_first_ones() -> None:
    of_kd, of_skd = (is_number_list(create(name)(STUDENT, TEACHER, TARGET))["ce"] for name in ("kd", "skd"))
    assert is_number_list(create("kd + skd")(STUDENT, TEACHER, TARGET))["ce"] == near(of_kd)
    assert is_number_list(create("skd + kd")(STUDENT, TEACHER, TARGET))["ce"] == near(of_skd)
    assert "ce" not in create("ssld + kd")(STUDENT, TEACHER, TARGET)


def test_terms_of_the_same_name_do_not_overwrite_each_other() -> None:
    got = is_number_list(create("kd + 3*diswot")(STUDENT, TEACHER, TARGET))
    one, other = (is_number_list(create(name)(STUDENT, TEACHER, TARGET)) for name in ("kd", "diswot"))
    assert len(got) == 5
    assert sum(got.values()) == near(sum(one.values()) + 3 * (sum(other.values()) - other["ce"]))


def test_a_sum_asks_for_what_its_losses_ask_for() -> None:
    loss = create("ssld + ickd + rkd")
    assert loss.needs == {"logits", "features", "pooled"}
    assert (loss.partner, loss.needs_whole_batch, loss.min_batch_size, loss.adapters) == ("teacher", True, 3, True)
    assert create("ssld + dkd").labels
    assert not create("2*ssld").labels


def test_text_and_numbers_are_the_same_options() -> None:
    for loss in (create("at", power="3", form="norm"), create("at(power=3, form=norm)"), create(" at( power = 3 ,form=norm )")):
        assert (loss.power, loss.form) == (3, "norm")
    for text, value in (("true", True), ("True", True), ("false", False), ("False", False)):
        assert create(f"ofd(batch_statistics={text})").batch_statistics == value
