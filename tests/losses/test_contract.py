"""What every loss holds to: which images it needs, its adapters, its reference, what it says where it cannot be computed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diswot.errors import ConfigError
from diswot.losses import LOSSES, SupervisedLoss, create
from diswot.observe import Observation
from diswot.schemes import UnderTeacher
from tests.losses.observations import NOTHING, STUDENT, TARGET, TEACHER, draw, made, near, numbers, observation, pick, reference_of


@pytest.mark.parametrize("name", ["dml", "udml", "dlb"])
def test_without_a_reference_yet_the_supervised_loss_is_left(name: str) -> None:
    assert numbers(create(name)(STUDENT, None, TARGET)) == near(numbers(create("none")(STUDENT, None, TARGET)))


@pytest.mark.parametrize("name", [name for name in LOSSES if LOSSES[name].scheme is UnderTeacher])
def test_without_a_teacher_there_is_no_distillation(name: str) -> None:
    with pytest.raises(ConfigError, match=f"loss {name}: .*teacher"):
        create(name)(STUDENT, None, TARGET)


def test_losses_say_which_images_they_need() -> None:
    """An angle has three; batch norm over images has two; a loss of pairs all of the batch."""
    of_pairs = {"mlkd", "dist", "rkd", "sp", "cc", "pkt", "semantic", "relation", "diswot"}
    assert {name for name in LOSSES if create(name).needs_whole_batch} == of_pairs | {"crd"}  # every process remembers all of it
    of_two = of_pairs - {"rkd"} | {"fitnets", "ickd", "ofd", "afd", "ab", "ft", "ofa", "srrl", "reviewkd"}
    fewest = {"rkd": 3, **dict.fromkeys(of_two, 2)}
    assert {name: create(name).min_batch_size for name in LOSSES} == {name: fewest.get(name, 1) for name in LOSSES}
    with pytest.raises(ConfigError, match="loss rkd: a batch of 2; it needs 3 images"):
        create("rkd")(pick(STUDENT, slice(2)), pick(TEACHER, slice(2)), TARGET[:2])


def test_afd_refuses_a_single_image() -> None:
    with pytest.raises(ConfigError, match="loss afd: a batch of 1; it needs 2 images"):
        create("afd")(pick(STUDENT, slice(1)), pick(TEACHER, slice(1)), TARGET[:1])


ADAPTED = ["fitnets", "ickd", "ofd", "mgd", "pefd", "afd", "udml", "crd", "ctkd", "ofa", "ab", "ft", "vid", "srrl", "reviewkd"]


@pytest.mark.parametrize("name", [*LOSSES, "kd + 2*pefd"])
def test_adapters_are_made_once_and_stay(name: str) -> None:
    loss = made(name)
    assert loss.has_adapters == (name in [*ADAPTED, "kd + 2*pefd"])
    assert list(loss.parameters()) == []
    other = TEACHER if "+" in name else reference_of(name, TEACHER)
    loss.make_adapters(STUDENT, other)
    adapters = list(loss.parameters())
    assert bool(adapters) == loss.has_adapters
    loss(STUDENT, other, TARGET)
    loss.make_adapters(STUDENT, other)
    assert [id(p) for p in loss.parameters()] == [id(p) for p in adapters]


@pytest.mark.parametrize("name", [name for name in LOSSES if LOSSES[name].scheme is UnderTeacher and "logits" not in create(name).needs])
def test_teachers_that_know_other_classes_or_none_serve_losses_of_features(name: str) -> None:
    """Terms and adapters are the same whatever the teacher's logits are."""
    reference, found = reference_of(name, TEACHER), []
    assert reference is not None
    for logits in (reference.logits, draw(6, 9), NOTHING):
        loss, other = made(name), replace(reference, logits=logits)
        loss.make_adapters(STUDENT, other)
        torch.manual_seed(1)
        found.append(numbers(loss(STUDENT, other, TARGET)))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("name", ["kd", "dkd", "afd", "diswot", "icKD(kd_weight=1)"])
def test_teachers_without_logits_are_refused_by_losses_of_logits(name: str) -> None:
    with pytest.raises(ConfigError, match="the teacher shows no logits: use a loss of features, as rkd"):
        create(name)(STUDENT, replace(TEACHER, logits=NOTHING), TARGET)


@pytest.mark.parametrize("blind", ["student", "teacher"])
@pytest.mark.parametrize("name", [name for name in LOSSES if create(name).needs - {"logits"}])
def test_without_maps_losses_of_features_say_so(name: str, blind: str) -> None:
    sides = {"student": STUDENT, "teacher": TEACHER}
    sides[blind] = Observation(NOTHING, NOTHING, sides[blind].logits, NOTHING)
    named = blind if LOSSES[name].scheme is UnderTeacher or blind == "student" else "peer"
    with pytest.raises(ConfigError, match=f"loss {name}: the {named} shows no .*: use a loss of logits, as kd"):
        create(name)(sides["student"], sides["teacher"], TARGET)


def test_a_sum_names_the_loss_that_cannot_be_computed() -> None:
    blind = Observation(NOTHING, NOTHING, STUDENT.logits, NOTHING)
    with pytest.raises(ConfigError, match="loss fitnets: the student shows no feature maps"):
        create("kd + fitnets")(blind, TEACHER, TARGET)
    with pytest.raises(ConfigError, match="loss rkd: a batch of 2"):
        create("kd + rkd")(pick(STUDENT, slice(2)), pick(TEACHER, slice(2)), TARGET[:2])


@pytest.mark.parametrize("norms", [(), (NOTHING,) * 3])
def test_ofd_refuses_a_teacher_without_batch_norm(norms: tuple[Tensor, ...]) -> None:
    with pytest.raises(ConfigError, match="loss ofd: its margins come from the teacher's batch norm"):
        create("ofd")(STUDENT, replace(TEACHER, norms=norms), TARGET)


@pytest.mark.parametrize("name", ["kd", "diswot", "dml"])
def test_networks_that_know_other_classes_are_refused(name: str) -> None:
    """Of a peer as of a teacher; both numbers are named."""
    five = observation((2, 3, 5), (8, 4, 2), classes=5)
    other = {"dml": "peer"}.get(name, "teacher")
    with pytest.raises(ConfigError, match=f"loss {name}: the student knows 4 classes, the {other} 5: they must know the same"):
        create(name)(STUDENT, five, TARGET)


@pytest.mark.parametrize("name", list(LOSSES))
def test_losses_say_whether_they_look_at_labels(name: str) -> None:
    """Those that do not give the same for any target; those that do, another."""
    target = torch.tensor([3, 0, 0, 2, 1, 1])
    loss, reference = made(name), reference_of(name, TEACHER)
    loss.begin_epoch(239)
    with torch.no_grad():
        before, after = (numbers(loss(STUDENT, reference, classes)) for classes in (TARGET, target))
    changed = {term for term in before if before[term] != near(after[term])}
    assert loss.uses_labels == bool(changed)
    assert loss.reads_labels == bool(changed - {"ce"})
    assert create(f"{name}(ce_weight=0)").uses_labels == loss.reads_labels


@pytest.mark.parametrize("expression", ["kd", "skd", "ssld", "kd(ce_weight=0)", "skd + kd", "dlb"])
def test_the_plain_supervised_loss_has_weight_one_whatever_the_loss_gives_it(expression: str) -> None:
    loss = create(expression)
    loss.set_supervised_loss(SupervisedLoss("bce", 0.1))
    expected = SupervisedLoss("bce", 0.1)(STUDENT.logits, TARGET).item()
    assert numbers(loss.plain_supervised(STUDENT, TARGET)) == near({"bce": expected})
