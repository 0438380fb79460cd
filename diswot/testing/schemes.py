"""The conformance check of training schemes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from diswot.losses import Loss
from diswot.losses.logits import kd
from diswot.observe import Observation
from diswot.plugins import load_object
from diswot.schemes import Alone, Scheme, StepObservations, Terms
from diswot.testing.promises import told_as_assertions

_IMAGES, _CLASSES = 8, 5


@told_as_assertions
def check_scheme(scheme: type[Scheme] | str) -> None:
    """Check that a scheme keeps the promises of `diswot.schemes.Scheme`, with one student and with three.

    Args:
        scheme: the class, or its `module:Class`.

    Raises:
        AssertionError: says which promise it breaks.

    >>> from diswot.schemes import Peers
    >>> check_scheme(Peers)
    """
    scheme = load_object(scheme, "scheme") if isinstance(scheme, str) else scheme
    assert isinstance(scheme, type) and issubclass(scheme, Scheme), f"{scheme!r} is no subclass of diswot.schemes.Scheme"
    name = scheme.__name__
    assert isinstance(getattr(scheme, "reference_name", None), str), f"{name}: reference_name is missing"
    for asked in (1, 3):
        made = scheme()
        students = len(made.complete_students(list(range(asked))))
        assert students >= asked, f"{name}: complete_students leaves students out"
        teacher = _observation(99) if scheme.uses_teacher else None
        for number in range(students):
            made.initial_references(number, {other: _observation(other) for other in range(students)}, teacher)
            made.checked_init_seed(0, number)
        _check_steps(made, made.checked_groups(students))


def _check_steps(scheme: Scheme, groups: Sequence[Sequence[int]]) -> None:
    name = type(scheme).__name__
    first = _epoch(scheme, groups)
    assert all(value.isfinite() for terms in first for value in terms.values()), f"{name}: a term is not finite"
    again = _epoch(scheme, groups)
    same = all(a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) for a, b in zip(first, again, strict=True))
    assert same, f"{name}: another epoch gives other terms for the same steps: begin_epoch must forget what is kept"


def _epoch(scheme: Scheme, groups: Sequence[Sequence[int]]) -> list[Terms]:
    """The terms of two steps."""
    scheme.begin_epoch()
    found = []
    for step in range(2):
        for group in groups:
            students = {number: _observation(10 * step + number) for number in group}
            teacher = _observation(99 + step) if scheme.uses_teacher else None
            shown = StepObservations(students, teacher, torch.arange(_IMAGES) % _CLASSES, _IMAGES // 2 if step else 0)
            for number in group:
                references = scheme.checked_references(number, students, teacher)
                found.append(scheme.terms(number, [_Kd() for _ in references], shown))
    return found


def _observation(seed: int) -> Observation:
    nothing = torch.empty(0)
    return Observation(nothing, nothing, torch.randn(_IMAGES, _CLASSES, generator=torch.Generator().manual_seed(seed)), nothing)


class _Kd(Loss):
    """Softened logits, of as many images as the reference has; the labels alone where there is none."""

    scheme = Alone

    def distil(self, student: Observation, reference: Observation, target: torch.Tensor) -> Terms:
        return {"kd": kd(student.logits[: len(reference.logits)], reference.logits)}
