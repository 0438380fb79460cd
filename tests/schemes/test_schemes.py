"""Every scheme by itself: what it refuses, who is trained together, what a student is compared with, and the terms that come of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from diswot.config import DistillConfig
from diswot.errors import ConfigError, DiswotError, TeacherError
from diswot.losses import LOSSES, SupervisedLoss, create
from diswot.observe import Observation
from diswot.schemes import Alone, Peers, PreviousStep, Scheme, StepObservations, UnderTeacher
from diswot.testing import check_scheme

SCHEMES: dict[type[Scheme], str] = {UnderTeacher: "kd", Peers: "dml", PreviousStep: "dlb", Alone: "none"}  # each with a loss of its own
NOTHING = torch.empty(0)
TARGET = torch.tensor([0, 1, 2, 0, 1, 2])


def observation(seed: int, images: int = 6) -> Observation:
    logits = torch.randn(images, 3, generator=torch.Generator().manual_seed(seed))
    return Observation(NOTHING, NOTHING, logits, NOTHING)


def kl(of: Observation, to: Observation, temperature: float = 1.0) -> float:
    """T^2 KL(to || of)."""
    p, q = F.log_softmax(to.logits / temperature, 1), F.log_softmax(of.logits / temperature, 1)
    return temperature**2 * F.kl_div(q, p, log_target=True, reduction="batchmean").item()


def ce(seen: Observation) -> float:
    return F.cross_entropy(seen.logits, TARGET).item()


def values(terms: dict[str, torch.Tensor]) -> Any:
    return pytest.approx({name: value.item() for name, value in terms.items()}, rel=1e-5)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_schemes_keep_their_promises(scheme: type[Scheme]) -> None:
    check_scheme(scheme)


def test_every_loss_has_one_of_the_schemes() -> None:
    of_loss = {name: LOSSES[name].scheme for name in LOSSES}
    others = {"none": Alone, "dml": Peers, "udml": Peers, "dlb": PreviousStep}
    assert of_loss == {name: others.get(name, UnderTeacher) for name in LOSSES}
    assert create("2*kd + rkd").scheme is UnderTeacher


def test_what_schemes_say_of_themselves() -> None:
    facts = {s: (s.reference_name, s.uses_teacher, s.independent_students, s.repeats_half_batch) for s in SCHEMES}
    assert facts == {
        UnderTeacher: ("teacher", True, True, False),
        Peers: ("peer", False, False, False),
        PreviousStep: ("last step", False, True, True),
        Alone: ("reference", False, True, False),
    }


# what is refused before anything is loaded


def check(scheme: type[Scheme], loss: str | None = None, num_students: int = 1, **options: Any) -> None:
    scheme.check(DistillConfig(**options), create(loss or SCHEMES[scheme]), num_students)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("num_students", [1, 3])
def test_the_defaults_are_accepted(scheme: type[Scheme], num_students: int) -> None:
    check(scheme, num_students=num_students)


REFUSED: list[tuple[type[Scheme], dict[str, Any], str]] = [
    *((scheme, {"unlabelled": "more"}, "--unlabelled: the loss .* looks at labels; use one that does not, as ssld") for scheme in SCHEMES),
    *(
        (scheme, {"assistants": "resnet20"}, f"--assistants: the loss {SCHEMES[scheme]} looks at no teacher; use one that does, as kd")
        for scheme in (Peers, PreviousStep, Alone)
    ),
    *(
        (scheme, {"distill_fraction": 0.5}, f"--distill-fraction 0.5: it ends what a teacher teaches; {SCHEMES[scheme]} looks at none")
        for scheme in (Peers, PreviousStep, Alone)
    ),
    (
        UnderTeacher,
        {"teacher_weights": "random"},
        "--teacher-weights random: a random teacher has nothing to teach; give --teacher-weights",
    ),
    (UnderTeacher, {"teacher": "self", "teacher_weights": "w.pth"}, "--teacher self is trained first, .*: leave --teacher-weights out"),
    (UnderTeacher, {"teacher_norm": "imagenet"}, "--teacher-norm imagenet: a teacher that is trained first sees .*; leave it out"),
    (
        UnderTeacher,
        {"teacher": "self", "num_students": 2},
        "--teacher self is a twin of the student, and there are 2: distil them one by one",
    ),
    (
        UnderTeacher,
        {"loss": "ssld", "unlabelled": "more", "distill_fraction": 0.5},
        "--distill-fraction 0.5: the labels alone are left then",
    ),
    (Peers, {"weights": "w.pth"}, "--weights: the peers of dml would begin as one; name a second network, or leave the weights out"),
    (PreviousStep, {"grad_accum_steps": 2}, "--grad-accum-steps 2: the loss dlb repeats half of each batch; a part has no half"),
    (PreviousStep, {"loss": "dlb(ce_weight=0)"}, "loss dlb: with ce_weight 0 there are steps without anything to learn from"),
    (Alone, {"loss": "none(ce_weight=0)"}, "loss none: with ce_weight 0 there are steps without anything to learn from"),
]


@pytest.mark.parametrize(("scheme", "options", "says"), REFUSED)
def test_options_that_do_not_go_with_a_scheme_are_refused(scheme: type[Scheme], options: dict[str, Any], says: str) -> None:
    with pytest.raises(DiswotError, match=says):
        check(scheme, **options)


ACCEPTED: list[tuple[type[Scheme], dict[str, Any]]] = [
    (UnderTeacher, {"loss": "ssld", "unlabelled": "more"}),
    (UnderTeacher, {"assistants": "resnet20", "distill_fraction": 0.5}),
    (UnderTeacher, {"teacher": "self"}),
    (UnderTeacher, {"teacher_norm": "imagenet", "teacher_weights": "w.pth"}),
    (UnderTeacher, {"teacher_weights": "pretrained", "num_students": 3}),
    (UnderTeacher, {"loss": "kd(ce_weight=0)", "grad_accum_steps": 2}),
    (Peers, {"weights": "w.pth", "num_students": 2}),
    (Peers, {"loss": "dml(ce_weight=0)", "unlabelled": "more"}),
    (Peers, {"grad_accum_steps": 2}),
    (Alone, {"weights": "w.pth", "grad_accum_steps": 2}),
    (Alone, {"teacher": "self", "teacher_weights": "random", "teacher_norm": "imagenet"}),  # which nobody looks at
]


@pytest.mark.parametrize(("scheme", "options"), ACCEPTED)
def test_options_that_go_with_a_scheme_are_accepted(scheme: type[Scheme], options: dict[str, Any]) -> None:
    check(scheme, **options)


def test_what_is_wrong_with_a_teacher_is_an_error_of_the_teacher() -> None:
    for options in ({"teacher_weights": "random"}, {"teacher_norm": "imagenet"}):
        with pytest.raises(TeacherError):
            check(UnderTeacher, **options)
    with pytest.raises(ConfigError):
        check(UnderTeacher, teacher="self", teacher_weights="w.pth")


# who is trained, and with whom


def test_a_single_peer_gets_a_twin_and_others_stay_as_they_are() -> None:
    for scheme in SCHEMES:
        assert scheme().complete_students(["a"]) == (["a", "a"] if scheme is Peers else ["a"])
        assert scheme().complete_students(["a", "b", "c"]) == ["a", "b", "c"]


def test_peers_begin_from_seeds_of_their_own() -> None:
    for scheme in SCHEMES:
        assert [scheme().init_seed(7, student) for student in range(3)] == ([7, 8, 9] if scheme is Peers else [7, 7, 7])


def test_peers_share_a_backward_pass_and_others_do_not() -> None:
    for scheme in SCHEMES:
        assert scheme().groups(3) == ([[0, 1, 2]] if scheme is Peers else [[0], [1], [2]])


def test_what_a_student_is_compared_with() -> None:
    """One entry for each of its losses."""
    students = {0: "a", 1: "b", 2: "c"}
    assert UnderTeacher().references(1, {1: "b"}, "t") == ["t"]
    assert UnderTeacher().references(1, {1: "b"}, None) == [None]
    assert Peers().references(1, students, None) == ["a", "c"]
    assert PreviousStep().references(1, {1: "b"}, None) == [None]
    assert Alone().references(1, {1: "b"}, "t") == [None]


# the terms of a step


def test_under_a_teacher_the_terms_are_those_of_the_loss() -> None:
    student, teacher = observation(0), observation(1)
    step = StepObservations({0: student}, teacher, TARGET)
    expected = {"ce": 0.1 * ce(student), "kd": 0.9 * kl(student, teacher, 4.0)}
    assert expected == values(UnderTeacher().terms(0, [create("kd")], step))


@pytest.mark.parametrize("loss", ["kd", "skd", "ssld", "rkd(ce_weight=0) + kd"])
def test_once_the_teacher_is_silent_the_labels_count_in_full(loss: str) -> None:
    """By the supervised loss of the recipe, with weight 1."""
    made, student = create(loss), observation(0)
    made.set_supervised_loss(SupervisedLoss("bce", 0.1))
    expected = {"bce": SupervisedLoss("bce", 0.1)(student.logits, TARGET).item()}
    assert expected == values(UnderTeacher().terms(0, [made], StepObservations({0: student}, None, TARGET)))


def test_among_peers_the_terms_are_means_over_the_others() -> None:
    students = {number: observation(number) for number in range(3)}
    step = StepObservations(students, None, TARGET)
    for number, others in ((0, (1, 2)), (1, (0, 2)), (2, (0, 1))):
        expected = {"ce": ce(students[number]), "dml": sum(kl(students[number], students[other]) for other in others) / 2}
        assert expected == values(Peers().terms(number, [create("dml"), create("dml")], step))


def test_two_peers_have_a_loss_each_and_no_mean() -> None:
    students = {number: observation(number) for number in range(2)}
    terms = Peers().terms(1, [create("dml")], StepObservations(students, None, TARGET))
    assert {"ce": ce(students[1]), "dml": kl(students[1], students[0])} == values(terms)


def test_as_many_losses_as_references_are_needed() -> None:
    students = {number: observation(number) for number in range(3)}
    with pytest.raises(ValueError, match="zip"):
        Peers().terms(0, [create("dml")], StepObservations(students, None, TARGET))


def test_a_step_learns_from_the_later_half_of_the_one_before() -> None:
    """By the first images of this step, which are those; every student from its own."""
    scheme, loss = PreviousStep(), create("dlb")
    steps = [{number: observation(10 * step + number) for number in range(2)} for step in range(3)]
    for number in range(2):
        first, second, third = (
            scheme.terms(number, [loss], StepObservations(seen, None, TARGET, 3 * (i > 0))) for i, seen in enumerate(steps)
        )
        assert {"ce": ce(steps[0][number])} == values(first), "nothing was seen before"
        for before, now, terms in ((steps[0], steps[1], second), (steps[1], steps[2], third)):
            half = [Observation(NOTHING, NOTHING, logits, NOTHING) for logits in (now[number].logits[:3], before[number].logits[3:])]
            assert {"ce": ce(now[number]), "dlb": kl(*half, 3.0)} == values(terms)


def test_what_no_step_repeats_is_not_learned_from() -> None:
    scheme, loss = PreviousStep(), create("dlb")
    for _ in range(2):
        assert set(scheme.terms(0, [loss], StepObservations({0: observation(0)}, None, TARGET, 0))) == {"ce"}


def test_the_last_step_of_an_epoch_is_forgotten() -> None:
    """Or a resumed training would differ from one that was left alone."""
    scheme, loss = PreviousStep(), create("dlb")
    step = StepObservations({0: observation(0)}, None, TARGET, 3)
    assert set(scheme.terms(0, [loss], step)) == {"ce"}
    assert set(scheme.terms(0, [loss], step)) == {"ce", "dlb"}
    scheme.begin_epoch()
    assert set(scheme.terms(0, [loss], step)) == {"ce"}


def test_no_gradient_flows_into_the_last_step() -> None:
    scheme, loss = PreviousStep(), create("dlb")
    logits = [torch.randn(6, 3, requires_grad=True) for _ in range(2)]
    for step, one in enumerate(logits):
        terms = scheme.terms(0, [loss], StepObservations({0: Observation(NOTHING, NOTHING, one, NOTHING)}, None, TARGET, 3 * step))
    terms["dlb"].backward()
    assert logits[0].grad is None and logits[1].grad is not None


def test_alone_the_terms_are_the_labels() -> None:
    student = observation(0)
    assert {"ce": ce(student)} == values(Alone().terms(0, [create("none")], StepObservations({0: student}, observation(1), TARGET)))
