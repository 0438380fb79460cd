"""Traps of single losses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diswot import losses as L
from diswot.errors import ConfigError
from diswot.losses import LOSSES, NO_LABEL, Loss, create
from diswot.models.zoo import ZOO
from diswot.observe import Observer
from tests.losses import functions_by_hand as hand
from tests.losses.observations import STUDENT, TARGET, TEACHER, draw, made, near, numbers, observation, pick


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
        terms = numbers(loss(STUDENT, TEACHER, TARGET))
        return [terms["ce"] / full["ce"], terms["tckd"] / full["tckd"], terms["nckd"] / full["nckd"]]

    full = numbers(create("dkd", warmup=0)(STUDENT, TEACHER, TARGET))
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
    plain = numbers(create("skd")(STUDENT, TEACHER, TARGET))
    assert set(plain) == {"ce", "skd"}
    assert numbers(create("skd")(replace(STUDENT, logits=7 * STUDENT.logits + 3), TEACHER, TARGET)) == near(plain, rel=1e-5)


def test_ssld_needs_no_labels() -> None:
    loss = create("ssld")
    assert not loss.uses_labels
    assert NO_LABEL < 0
    assert numbers(loss(STUDENT, TEACHER, torch.full((6,), NO_LABEL))) == numbers(loss(STUDENT, TEACHER, TARGET))


def test_both_sides_of_udml_add_up() -> None:
    peer = observation((3, 4), (4, 2))
    there, back = (numbers(made("udml")(a, b, TARGET)) for a, b in ((STUDENT, peer), (peer, STUDENT)))
    assert there["js"] + back["js"] == near(L.symmetric(STUDENT.logits, peer.logits).item())
    assert there["features"] + back["features"] == near(F.mse_loss(STUDENT.pooled, peer.pooled).item())


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
        loss.make_adapters(ones, ones)
        loss.generator = nn.Identity()  # type: ignore[assignment]
        torch.manual_seed(0)
        dropped = loss(ones, ones, torch.zeros(40, dtype=torch.long))["mgd"].item() * 40 / 9
        assert dropped == near(round(dropped))
        assert dropped / 4000 == pytest.approx(mask, abs=0.03)


def test_ickd_embeds_the_student_only() -> None:
    loss: Any = made("ickd")
    loss.make_adapters(STUDENT, TEACHER)
    assert {tuple(p.shape) for p in loss.parameters() if p.ndim == 4} == {(5, 4, 1, 1)}
    assert [name for name, _ in loss.named_children() if name != "embedding"] == []


def test_the_connectors_of_ofd_have_no_bias() -> None:
    loss: Any = made("ofd")
    loss.make_adapters(STUDENT, TEACHER)
    assert [(tuple(conv.weight.shape), conv.bias) for conv, *_ in loss.connectors] == [((3, 3, 1, 1), None), ((5, 4, 1, 1), None)]


def test_fitnets_takes_the_middle_unless_told() -> None:
    student, teacher = observation((2, 3, 4), (8, 4, 2)), observation((5, 6, 7), (8, 4, 2))

    def shape(**options: int) -> tuple[int, ...]:
        loss: Any = create("fitnets", **options)
        loss.make_adapters(student, teacher)
        return tuple(loss.regressor[0].weight.shape)

    assert [shape(), shape(stage=-1), shape(stage=-3)] == [(6, 3, 1, 1), (7, 4, 1, 1), (5, 2, 1, 1)]


@pytest.mark.parametrize("stage", [0, 1, -4])
def test_a_stage_that_is_not_there_is_refused(stage: int) -> None:
    with pytest.raises(ConfigError, match=rf"loss fitnets: stage {stage}[:;] .*-1"):
        create("fitnets", stage=stage).make_adapters(STUDENT, TEACHER)


def with_drawn_norms(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return model


def test_ofd_sees_a_resnet_before_its_relu() -> None:
    model: Any = with_drawn_norms(ZOO["resnet8"](num_classes=4))
    seen = Observer(model, {"preacts", "stages", "logits"})(torch.randn(2, 3, 32, 32))
    assert [len(norm) for norm in seen.norms] == [2, 2, 2]
    for preact, stage, norm, layer in zip(seen.preacts, seen.stages, seen.norms, (model.layer1, model.layer2, model.layer3), strict=True):
        assert (preact < 0).any()
        assert not torch.equal(preact, stage)
        assert torch.equal(preact.relu(), stage)
        torch.testing.assert_close(norm, torch.stack([layer[-1].bn2.bias, layer[-1].bn2.weight.abs()]))


def test_ofd_sees_a_wide_resnet_after_the_next_norm() -> None:
    model: Any = with_drawn_norms(ZOO["wrn_16_1"](num_classes=4))
    following = [model.stages[1][0].bn1, model.stages[2][0].bn1, model.bn]
    outputs: list[Tensor] = []
    for norm in following:
        norm.register_forward_hook(lambda _m, _i, output: outputs.append(output.clone()))
    seen = Observer(model, {"preacts", "stages"})(torch.randn(2, 3, 32, 32))
    for preact, output, seen_norm, norm in zip(seen.preacts, outputs, seen.norms, following, strict=True):
        assert torch.equal(preact, output)
        assert (preact < 0).any()
        torch.testing.assert_close(seen_norm, torch.stack([norm.bias, norm.weight.abs()]))


def test_ofd_lets_the_teacher_run_on_batch_statistics() -> None:
    assert create("ofd").teacher_batch_statistics
    assert create("kd + ofd").teacher_batch_statistics
    assert not create("ofd", batch_statistics=False).teacher_batch_statistics
    assert [name for name in LOSSES if create(name).teacher_batch_statistics] == ["ofd"]
