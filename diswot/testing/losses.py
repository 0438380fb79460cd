"""The conformance check of distillation losses."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from diswot.errors import ConfigError
from diswot.losses import LOSSES, Loss
from diswot.losses.base import check_loss as check_declarations
from diswot.observe import Observation
from diswot.testing.promises import told_as_assertions

_IMAGES, _CLASSES = 8, 5


@told_as_assertions
def check_loss(loss: type[Loss] | str) -> None:
    """Check that a loss keeps the promises of `diswot.losses.Loss`.

    Args:
        loss: the class, or its name: `kd`, `module:Class`.

    Raises:
        AssertionError: says which promise it breaks.

    >>> check_loss("dkd")
    """
    kind = LOSSES[loss] if isinstance(loss, str) else loss
    check_declarations(kind.__name__, kind)
    assert kind.summary, f"{kind.__name__}: no summary for `diswot list losses`"
    made = kind()
    student, reference, of_its_widths = (_observation(kind, width, seed) for width, seed in ((6, 0), (9, 1), (6, 1)))
    target = torch.arange(_IMAGES) % _CLASSES
    torch.manual_seed(0)
    try:
        made.make_adapters(student, reference)
    except ConfigError:  # a loss may refuse networks of other widths
        reference = of_its_widths
        made.make_adapters(student, reference)
    made.begin_training(10, target)
    _check_terms(made, student, reference, target)
    _check_adapters(made)
    _check_labels(made, student, reference, target)
    _check_batch(made, student, reference, target)


def _observation(kind: type[Loss], width: int, seed: int) -> Observation:
    """A random observation that has nothing but what the loss says it needs (and logits), as the tensors of a network in training."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    maps = tuple(random(_IMAGES, width * scale, 8 // scale, 8 // scale) for scale in (1, 2, 4))
    last = width * 4
    fields = {
        "features": maps[-1],
        "pooled": random(_IMAGES, last),
        "logits": random(_IMAGES, _CLASSES),
        "weight": random(_CLASSES, last),
        "blocks": maps,
        "stages": maps,
        "preacts": maps,
        "norms": tuple(torch.stack([torch.zeros(m.shape[1]), torch.ones(m.shape[1])]) for m in maps),
        "indices": torch.arange(_IMAGES),
        "token_logits": random(_IMAGES, 2, _CLASSES),
    }
    nothing = torch.empty(0)
    shown = kind.needs | kind.student_needs | {"logits"} | ({"norms"} if "preacts" in kind.needs else set())
    empty = {name: () if isinstance(value, tuple) else nothing for name, value in fields.items()}
    return Observation(**{**empty, **{name: fields[name] for name in shown}})  # type: ignore[arg-type]


def _tensors(seen: Observation) -> list[Tensor]:
    several = [*seen.blocks, *seen.stages, *seen.preacts]
    return [t for t in (seen.features, seen.pooled, seen.logits, seen.weight, seen.token_logits, *several) if t.requires_grad]


def _check_terms(loss: Loss, student: Observation, reference: Observation, target: Tensor) -> None:
    terms = loss(student, reference, target)
    assert terms, f"{loss.label}: no terms"
    for name, value in terms.items():
        assert value.isfinite(), f"{loss.label}: the term {name} is {value.item()}: does it read what is not in its needs?"
    total = torch.stack(list(terms.values())).sum()
    gradients = torch.autograd.grad(total, [*_tensors(student), *_tensors(reference)], allow_unused=True)
    ours, theirs = gradients[: len(_tensors(student))], gradients[len(_tensors(student)) :]
    assert any(g is not None and bool(g.any()) for g in ours), f"{loss.label}: no gradient reaches the student"
    reached = any(g is not None and bool(g.any()) for g in theirs)
    assert reached == loss.grad_to_reference, f"{loss.label}: grad_to_reference is {loss.grad_to_reference}, gradients say {reached}"


def _check_adapters(loss: Loss) -> None:
    has_layers = bool(list(loss.parameters()))
    assert has_layers <= loss.has_adapters, f"{loss.label}: it has layers of its own; say has_adapters = True"


def _distil(loss: Loss, student: Observation, reference: Observation, target: Tensor) -> dict[str, float]:
    with torch.no_grad():
        torch.manual_seed(0)
        return {name: float(value) for name, value in copy.deepcopy(loss).eval().distil(student, reference, target).items()}


def _check_labels(loss: Loss, student: Observation, reference: Observation, target: Tensor) -> None:
    if not loss.reads_labels:
        other = _distil(loss, student, reference, target.roll(1))
        assert other == _distil(loss, student, reference, target), f"{loss.label}: it reads the labels; say reads_labels = True"


def _check_batch(loss: Loss, student: Observation, reference: Observation, target: Tensor) -> None:
    """A loss that does not relate images is the mean of what it is on the two halves of a batch."""
    if loss.needs_whole_batch or loss.has_adapters or loss.scheme.repeats_half_batch:
        return
    half = _IMAGES // 2
    halves = [_distil(loss, _rows(student, rows), _rows(reference, rows), target[rows]) for rows in (slice(0, half), slice(half, None))]
    for name, value in _distil(loss, student, reference, target).items():
        mean = (halves[0][name] + halves[1][name]) / 2
        close = abs(mean - value) <= 1e-4 * max(1.0, abs(value))
        assert close, f"{loss.label}: {name} relates the images of a batch; say needs_whole_batch = True"


def _rows(seen: Observation, rows: slice) -> Observation:
    kept = {"weight", "norms"}
    fields = {name: getattr(seen, name) for name in seen.__dataclass_fields__}
    part = {name: value if name in kept else _part(value, rows) for name, value in fields.items()}
    return Observation(**part)  # type: ignore[arg-type]


def _part(value: Tensor | tuple[Tensor, ...], rows: slice) -> Tensor | tuple[Tensor, ...]:
    return tuple(tensor[rows] for tensor in value) if isinstance(value, tuple) else value[rows] if value.numel() else value
