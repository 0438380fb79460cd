"""Loss expressions: what can be written, what is refused, and what a weighted sum gives."""

from __future__ import annotations

import math
from typing import Any

import pytest

from diswot.errors import ConfigError
from diswot.losses import LOSSES, WeightedSum, create
from diswot.losses.expression import options_of
from diswot.losses.logits import KD
from diswot.schemes import UnderTeacher
from tests.losses.observations import STUDENT, TARGET, TEACHER, linear_options, near, numbers


def test_unknown_losses_and_options_are_named() -> None:
    with pytest.raises(ConfigError, match="'diswott': did you mean diswot"):
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
    """By the name of the option as one writes it, and what it must be."""
    (option,) = options
    with pytest.raises(ConfigError, match=rf"^loss {name}: {option} .*( is needed| is not .+)$") as refusal:
        create(name, **options)
    assert "\n" not in str(refusal.value)


def test_every_fault_of_a_loss_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"loss kd: kd_weight -1.0: 0 or more is needed; temperature 'x' is not a number"):
        create("kd(kd_weight=-1, temperature=x)")


ACCEPTED = (
    "dkd(warmup=0) mgd(mask=0) cc(order=0) skd(alpha=0) skd(alpha=1) pefd(projectors=1) afd(width=1) fitnets(stage=-1) kd(kd_weight=0)"
)


@pytest.mark.parametrize("expression", ACCEPTED.split())
def test_the_ends_of_ranges_are_accepted(expression: str) -> None:
    assert all(value.isfinite() for value in create(expression)(STUDENT, TEACHER, TARGET).values())


MALFORMED = [
    *("", " ", "+", "kd+", "+kd", "kd++rkd", "kd - rkd", "kd,rkd", "kd kd", "kd; rkd", "lambda: kd", "kd[0]", "kd\\"),
    *("2*", "*kd", "2**kd", "2 kd", "2kd", "2*kd*2", "-1*kd", "nan*kd", "inf*kd", "1e999*kd", "x*kd", "True*kd", "'2'*kd", "1j*kd"),
    *("2*(kd + rkd)", "kd + (rkd + at)"),
    *("kd(", "kd)", "kd)(", "kd\n)", "kd()()", "kd(temperature)", "kd(=1)", "kd(temperature=0)", "kd(x=1)", "kd(**{})"),
    *("kd(temperature=1, temperature=2)", "kd(temperature=1+1)", "kd(temperature=[1])"),
    *("kd" * 2000, "(" * 900 + "kd" + ")" * 900),
]


@pytest.mark.parametrize("expression", MALFORMED)
def test_malformed_expressions_are_refused_in_one_line(expression: str) -> None:
    with pytest.raises(ConfigError, match="loss") as refusal:
        create(expression)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    ("expression", "plain"), [("(kd)", "kd"), ("kd(temperature=(1))", "kd(temperature=1)"), ("(kd + rkd) + at", "kd+rkd+at")]
)
def test_brackets_mean_what_they_mean_in_python(expression: str, plain: str) -> None:
    loss, other = create(expression), create(plain)
    assert loss.label == other.label
    parts, others = (one.parts if isinstance(one, WeightedSum) else [one] for one in (loss, other))
    for part, its in zip(parts, others, strict=True):
        assert {key: getattr(part, key) for key in options_of(part.label)} == {key: getattr(its, key) for key in options_of(part.label)}


def test_an_option_is_given_once() -> None:
    with pytest.raises(ConfigError, match="loss kd: temperature is given twice"):
        create("rkd + kd(temperature=1, kd_weight=1, temperature=2)")


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


def test_options_that_are_given_apart_win_over_written_ones() -> None:
    loss: Any = create("kd(temperature=2, kd_weight=3)", temperature=5)
    assert (loss.temperature, loss.kd_weight) == (5, 3)


@pytest.mark.parametrize(("weight", "factor"), [("1e+1", 10), ("1E1", 10), ("0.5", 0.5), (".5", 0.5), ("3", 3), ("1e-2", 0.01), ("0", 0)])
def test_weights_of_an_expression(weight: str, factor: float) -> None:
    plain = numbers(create("rkd")(STUDENT, TEACHER, TARGET))
    expected = {term: value if term == "ce" else factor * value for term, value in plain.items()}
    for expression in (f"{weight}*rkd", f" rkd * {weight} "):
        assert numbers(create(expression)(STUDENT, TEACHER, TARGET)) == near(expected)


def test_a_sum_holds_the_terms_of_its_losses_and_one_of_the_labels() -> None:
    first, second = (numbers(loss(STUDENT, TEACHER, TARGET)) for loss in (create("dkd", beta=2), create("rkd", angle_weight=10)))
    got = numbers(create("dkd(beta=2) + 0.5 * rkd(ce_weight=9, angle_weight=10)")(STUDENT, TEACHER, TARGET))
    assert got == near(first | {term: 0.5 * second[term] for term in ("distance", "angle")})


def test_the_supervised_loss_of_a_sum_is_the_first_ones() -> None:
    of_kd, of_skd = (numbers(create(name)(STUDENT, TEACHER, TARGET))["ce"] for name in ("kd", "skd"))
    assert numbers(create("kd + skd")(STUDENT, TEACHER, TARGET))["ce"] == near(of_kd)
    assert numbers(create("skd + kd")(STUDENT, TEACHER, TARGET))["ce"] == near(of_skd)
    assert of_kd != near(of_skd)
    assert "ce" not in create("ssld + kd")(STUDENT, TEACHER, TARGET)


def test_terms_of_the_same_name_do_not_overwrite_each_other() -> None:
    got = numbers(create("kd + 3*diswot")(STUDENT, TEACHER, TARGET))
    one, other = (numbers(create(name)(STUDENT, TEACHER, TARGET)) for name in ("kd", "diswot"))
    assert set(got) == {"ce", "kd", "diswot.kd", "semantic", "relation"}
    assert sum(got.values()) == near(sum(one.values()) + 3 * (sum(other.values()) - other["ce"]))


def test_a_sum_asks_for_what_its_losses_ask_for() -> None:
    loss = create("ssld + ickd + rkd")
    assert loss.needs == {"logits", "features", "pooled"}
    assert (loss.scheme, loss.needs_whole_batch, loss.min_batch_size, loss.has_adapters) == (UnderTeacher, True, 3, True)
    assert create("ssld + dkd").uses_labels
    assert not create("2*ssld").uses_labels
    assert loss.label == "ssld + ickd + rkd"


def test_text_and_numbers_are_the_same_options() -> None:
    for loss in (create("at", power="3", form="norm"), create("at(power=3, form=norm)"), create(" at( power = 3 ,form=norm )")):
        assert (loss.power, loss.form) == (3, "norm")
    assert create("at(power='3', form='norm')").form == "norm"
    for text, value in (("true", True), ("True", True), ("false", False), ("False", False)):
        assert create(f"ofd(batch_statistics={text})").batch_statistics is value
    for text in ("None", "null"):
        assert create(f"fitnets(stage={text})").stage is None


@pytest.mark.parametrize(("written", "name"), [("logit-std", "logit_std"), ("KD", "kd"), ("kd(kd-weight=2)", "kd")])
def test_hyphens_and_capitals_are_no_other_names(written: str, name: str) -> None:
    loss: Any = create(written)
    assert type(loss) is LOSSES[name]
    assert loss.kd_weight == (2 if "(" in written else options_of(name)["kd_weight"])


class Spelled(KD):
    """Keeps the text it is given."""

    mode: str = "none"


def test_a_quoted_text_stays_as_it_is_written() -> None:
    with LOSSES.registered("spelled", Spelled):
        loss: Any = create("spelled(mode='top-k of a:b') + 2*logit-std").parts[0]  # type: ignore[attr-defined]
    assert loss.mode == "top-k of a:b"
