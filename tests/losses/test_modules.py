"""Losses as modules against `terms_by_hand`: terms, weights, defaults, gradients, what the order and the size of a batch do."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from diswot.losses import LOSSES, SupervisedLoss, create, signature
from diswot.losses.expression import options_of
from diswot.observe import Observation
from tests.losses import functions_by_hand as hand
from tests.losses.observations import (
    OTHER_SIZES,
    STUDENT,
    TARGET,
    TEACHER,
    as_lists,
    draw,
    leaves,
    linear_options,
    made,
    near,
    numbers,
    pick,
    reference_of,
    tensors,
)
from tests.losses.terms_by_hand import TERMS, label_term

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
    "deit": {"soft": True, "share": 0.3, "temperature": 2},
    "wttm": {"exponent": 0.5},
    "mlkd": {"batch_weight": 2, "class_weight": 3},
    "ctkd": {"lowest": 2, "span": 5},
    "vid": {"variance": 1},
    "srrl": {"feature_weight": 2, "regression_weight": 3},
    "reviewkd": {"width": 2},
    "ab": {"margin": 0.5},
    "ft": {"factor_share": 0.8, "first_phase": 0},
    "fsp": {"weight": 2},
    "ofa": {"power": 1, "temperature": 2},
    "crd": {"temperature": 0.5, "width": 3},
    "kdsvd": {"count": 2},
    "semantic": {"scale": "unit"},
    "relation": {"scale": "unit", "weight": 2},
    "diswot": {"scale": "unit", "semantic_weight": 3, "relation_weight": 0.5},
}


@pytest.mark.parametrize(("name", "options"), [*((name, {}) for name in LOSSES), *CHANGED.items()])
def test_terms_of_modules_are_those_by_hand(name: str, options: dict[str, Any]) -> None:
    """Adapters are those of the loss, with every parameter drawn anew, by their layers' definitions."""
    options = {"fitnets": {"stage": -1}, "afd": {"width": 5}}.get(name, {}) | options
    loss, other = made(name, **options), reference_of(name, TEACHER)
    loss.make_adapters(STUDENT, other)
    for parameter in loss.parameters():
        nn.init.normal_(parameter)
    given = loss, as_lists(STUDENT), as_lists(other), TARGET.tolist()
    expected = TERMS[name](*given) | label_term(name, loss, given[1], TARGET.tolist())
    assert numbers(loss(STUDENT, other, TARGET)) == near(expected)


@pytest.mark.parametrize(("images", "classes"), [(2, 3), (4, 10), (64, 100)])
def test_on_the_unit_scale_the_metrics_of_diswot_are_at_most_2_whatever_the_batch(images: int, classes: int) -> None:
    """On the paper's, a last batch of 4 images weighs 256 times what one of 64 does."""
    torch.manual_seed(0)
    seen = [Observation(torch.randn(images, 5, 3, 3), torch.empty(0), torch.randn(images, classes), torch.randn(classes, 5)) for _ in "st"]
    student, teacher = (replace(one, pooled=one.features.mean((2, 3))) for one in seen)
    for name, count in (("semantic", classes), ("relation", images)):
        unit, paper = (create(f"{name}(scale={scale})")(student, teacher, torch.zeros(images).long())[name] for scale in ("unit", "paper"))
        assert 0 < unit <= 2
        torch.testing.assert_close(unit, paper * count**2)


LITERATURE = """
    none(ce_weight=1);
    kd(ce_weight=0.1, kd_weight=0.9, temperature=4);
    dkd(ce_weight=1, alpha=1, beta=8, temperature=4, warmup=20);
    dist(ce_weight=1, weight=2, beta=1, gamma=1, temperature=4);
    wsl(ce_weight=1, weight=2.25, temperature=4);
    skd(ce_weight=1, alpha=0.9, temperature=1, multiplier=2);
    ssld(ce_weight=0, weight=1);
    logit_std(ce_weight=0.1, kd_weight=9, temperature=2);
    dml(ce_weight=1, kd_weight=1, temperature=1);
    dlb(ce_weight=1, alpha=1, temperature=3);
    udml(ce_weight=1, js_weight=1, feature_weight=1);
    fitnets(ce_weight=1, weight=100, stage=None);
    at(ce_weight=1, weight=1000, power=2, form=squared);
    nst(ce_weight=1, weight=50);
    ickd(ce_weight=1, weight=2.5, kd_weight=0, temperature=4);
    ofd(ce_weight=1, weight=0.001, batch_statistics=true);
    mgd(ce_weight=1, alpha=7e-5, mask=0.15);
    pefd(ce_weight=1, weight=25, projectors=3);
    afd(ce_weight=1, weight=200, kd_weight=0.9, temperature=4, width=128);
    rkd(ce_weight=1, distance_weight=25, angle_weight=50);
    sp(ce_weight=1, weight=3000);
    cc(ce_weight=1, weight=0.02, gamma=0.4, order=2);
    pkt(ce_weight=1, weight=3e4);
    simkd(ce_weight=0, weight=1);
    deit(ce_weight=1, share=0.5, soft=false, temperature=3);
    wttm(ce_weight=1, weight=4, exponent=0.2);
    mlkd(ce_weight=0.1, kd_weight=0.9, batch_weight=0.9, class_weight=0.9);
    ctkd(ce_weight=0.1, kd_weight=0.9, lowest=1, span=20, warmup=10);
    vid(ce_weight=1, weight=1, variance=5);
    srrl(ce_weight=1, feature_weight=1, regression_weight=1);
    reviewkd(ce_weight=1, weight=5, warmup=20, width=512);
    fsp(ce_weight=1, weight=50, first_phase=0.125);
    ab(ce_weight=1, weight=0.003, margin=1, first_phase=0.125);
    ft(ce_weight=1, weight=200, factor_share=0.5, first_phase=0.125);
    kdsvd(ce_weight=1, weight=1, count=1);
    ofa(ce_weight=1, weight=1, kd_weight=1, power=1.5, temperature=1);
    crd(ce_weight=1, weight=0.8, negatives=16384, temperature=0.07, width=128, momentum=0.5);
    semantic(ce_weight=1, weight=1, scale=paper);
    relation(ce_weight=1, weight=1, scale=paper);
    diswot(ce_weight=0.1, kd_weight=0.9, temperature=4, semantic_weight=1, relation_weight=1, scale=paper)
"""
IN_LITERATURE = {expression.strip().partition("(")[0]: expression.strip() for expression in LITERATURE.split(";")}


@pytest.mark.parametrize("name", list(LOSSES))
def test_defaults_are_those_of_the_literature(name: str) -> None:
    """Every option of every loss."""
    loss, given = create(name), create(IN_LITERATURE[name])
    written = {option.partition("=")[0].strip() for option in IN_LITERATURE[name].partition("(")[2].split(",")}
    assert written == set(options_of(name))
    assert {key: getattr(loss, key) for key in written} == {key: getattr(given, key) for key in written} == options_of(name)
    assert loss.supervised_loss == SupervisedLoss("ce", 0.0)
    assert signature(name).startswith(f"{name}(ce_weight=")


REMEMBERS = {"crd"}  # what it gives depends on the step, and on what it draws


@pytest.mark.parametrize("name", sorted(set(LOSSES) - REMEMBERS))
def test_terms_do_not_depend_on_the_order_of_the_batch(name: str) -> None:
    loss, order = made(name), torch.tensor([2, 0, 1, 5, 3, 4])  # within each half, as the last step's is the first
    other = reference_of(name, OTHER_SIZES)
    moved = other if other is None else pick(other, order[: len(other.logits)])
    plain = numbers(loss(STUDENT, other, TARGET))
    assert numbers(loss(pick(STUDENT, order), moved, TARGET[order])) == near(plain)


# sp: squares of shares of twice the images. pkt: shares of them. relation: 1 / B^2 of a matrix of length 1. distance: 12 of 12 * 11 pairs
# are of one image, so that the mean is 10 / 11 of what it was, and distances differ by 11 / 10, squared.
# batch: squares of 4 times as many pairs, over twice the images. classes: sums over twice the images, squared.
OF_A_BATCH_TWICE = {"batch": 2, "classes": 4, "sp": 0.5, "pkt": 0.5, "relation": 0.25, "distance": 1.1**2}


@pytest.mark.parametrize("name", sorted(set(LOSSES) - REMEMBERS))
def test_what_a_batch_beside_itself_does(name: str) -> None:
    """Means over images and triplets stay as they are, and so do correlations."""
    loss, twice = made(name), torch.tensor([0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5])
    other = reference_of(name, TEACHER)
    doubled = other if other is None else pick(other, twice[: 2 * len(other.logits)])
    plain = numbers(loss(STUDENT, other, TARGET))
    got = numbers(loss(pick(STUDENT, twice), doubled, TARGET[twice]))
    assert got == near({term: OF_A_BATCH_TWICE.get(term, 1) * value for term, value in plain.items()}, rel=1e-5)  # eps


@pytest.mark.parametrize("name", list(LOSSES))
def test_gradients_reach_the_student_and_the_adapters_and_no_teacher(name: str) -> None:
    loss, student, teacher = made(name), leaves(STUDENT), leaves(TEACHER)
    terms = loss(student, reference_of(name, teacher), TARGET)
    torch.stack(list(terms.values())).sum().backward()
    answer = student.token_logits if name == "deit" else student.logits
    assert (answer.grad is not None) == loss.is_supervised or name == "ssld"
    assert any(tensor.grad is not None and tensor.grad.any() for tensor in tensors(student))
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loss.parameters() if p.requires_grad)
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
    terms = made(name)(student, reference_of(name, teacher), TARGET)
    torch.stack(list(terms.values())).sum().backward()
    assert all(value.isfinite() for value in terms.values())
    assert all(tensor.grad is None or tensor.grad.isfinite().all() for tensor in tensors(student))


IN_THE_SECOND_PHASE = {("fsp", "ce_weight"), ("ab", "ce_weight"), ("ft", "weight")}


@pytest.mark.parametrize(("name", "option"), list(linear_options()))
def test_weights_scale_their_term_and_no_other(name: str, option: str) -> None:
    def terms(weight: float) -> dict[str, float]:
        loss = made(name, **{option: weight})
        if (name, option) in IN_THE_SECOND_PHASE:
            loss.begin_epoch(239)
        return numbers(loss(STUDENT, reference_of(name, TEACHER), TARGET))

    one, three, none = terms(0.5), terms(1.5), terms(0)
    changed = [term for term in one if three[term] != near(one[term])]
    assert len(changed) == 1
    assert three == near(one | {term: 3 * one[term] for term in changed})
    assert none.get(changed[0], 0) == 0
    assert (option == "ce_weight") == (changed == ["ce"])


@pytest.mark.parametrize("name", list(LOSSES))
def test_shares_of_classes_in_place_of_classes(name: str) -> None:
    shares = F.one_hot(TARGET, 4).double()
    other = reference_of(name, TEACHER)
    assert numbers(made(name)(STUDENT, other, shares)) == near(numbers(made(name)(STUDENT, other, TARGET)))


def test_the_supervised_loss_is_that_by_hand() -> None:
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
def test_another_supervised_loss_takes_the_place_of_cross_entropy_alone(expression: str) -> None:
    loss, supervised = create(expression), SupervisedLoss("bce", 0.1)
    before = numbers(loss(STUDENT, None if expression == "none" else TEACHER, TARGET))
    loss.set_supervised_loss(supervised)
    after = numbers(loss(STUDENT, None if expression == "none" else TEACHER, TARGET))
    weight = 1.0 if expression == "none" else 0.1
    assert after.pop("bce") == near(weight * supervised(STUDENT.logits, TARGET).item())
    assert after == near({term: value for term, value in before.items() if term != "ce"})
