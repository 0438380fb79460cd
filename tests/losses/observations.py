"""What the tests of losses share: observations of a student and a teacher, drawn at random, and what is done to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from diswot.losses import LOSSES, Loss, Terms, create
from diswot.observe import Observation
from diswot.schemes import Alone, PreviousStep

TARGET = torch.tensor([0, 1, 2, 3, 0, 1])
LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 3, 2, 1, 0])  # of all images that train, the batch among them
GENERATOR = torch.Generator().manual_seed(0)
NOTHING = torch.empty(0, dtype=torch.float64)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def observation(channels: tuple[int, ...], sides: tuple[int, ...], batch: int = 6, classes: int = 4) -> Observation:
    """A network with a stem and one block for each stage."""
    preacts = tuple(draw(batch, c, n, n) for c, n in zip(channels, sides, strict=True))
    stages = tuple(p.relu() for p in preacts)
    norms = tuple(torch.stack([draw(c), draw(c).abs() + 0.1]) for c in channels)
    pooled, weight = stages[-1].mean((2, 3)), draw(classes, channels[-1])
    stem = draw(batch, channels[0], sides[0], sides[0]).relu()
    logits, indices = pooled @ weight.T + draw(classes), torch.arange(batch)
    seen = Observation(stages[-1], pooled, logits, weight, (stem, *stages), stages, preacts, norms, indices)
    return replace(seen, token_logits=torch.stack([logits.flip(1), 2 * logits], 1))


STUDENT, TEACHER = observation((3, 4), (4, 2)), observation((2, 3, 5), (8, 4, 2))
OTHER_SIZES = observation((2, 3, 5), (8, 5, 3))


def pick(seen: Observation, index: Any) -> Observation:
    """These images of it."""
    lists = {name: tuple(one[index] for one in getattr(seen, name)) for name in ("blocks", "stages", "preacts")}
    rows = {
        name: getattr(seen, name)[index] for name in ("features", "pooled", "logits", "indices", "token_logits") if len(getattr(seen, name))
    }
    return replace(seen, **rows, **lists)


def leaves(seen: Observation) -> Observation:
    """With every tensor asking for its gradient."""
    return seen.map(lambda tensor: tensor.detach().clone().requires_grad_())


def tensors(seen: Observation) -> list[Tensor]:
    return [seen.features, seen.pooled, seen.logits, seen.weight, seen.token_logits, *seen.blocks, *seen.stages, *seen.preacts, *seen.norms]


def with_widths(seen: Observation, like: Observation) -> Observation:
    """A network whose coarsest stages, and its stem, have as many channels as another's."""
    stages = tuple(maps[:, : other.shape[1]] for maps, other in zip(seen.stages[-len(like.stages) :], like.stages, strict=True))
    stem = torch.cat([seen.blocks[0], seen.blocks[0]], 1)[:, : like.blocks[0].shape[1]]
    return replace(seen, stages=stages, blocks=(stem, *stages), features=seen.features[:, : like.features.shape[1]])


def reference_of(name: str, teacher: Observation) -> Observation | None:
    """What a loss compares a student with: a teacher or a peer; nothing; of the last step, half a batch."""
    scheme = LOSSES[name].scheme
    if scheme is Alone:
        return None
    if name in ("fsp", "kdsvd", "simkd"):
        return with_widths(teacher, STUDENT)
    return pick(teacher, slice(0, len(teacher.logits) // 2)) if scheme is PreviousStep else teacher


def made(name: str, **options: Any) -> Loss:
    """A loss whose adapters, drawn at its first call, are the same each time, and which draws no masks."""
    torch.manual_seed(0)
    fewer = {"mgd": {"mask": 0}, "crd": {"negatives": 7, "width": 4}}
    loss = create(name, **{**fewer.get(name, {}), **options})
    loss.begin_training(240, LABELS)
    torch.manual_seed(0)
    return loss


def numbers(terms: Terms) -> dict[str, float]:
    return {name: value.item() for name, value in terms.items()}


def near(expected: Any, rel: float = 1e-9) -> Any:
    return pytest.approx(expected, rel=rel, abs=1e-12)


def _lists(value: Any) -> Any:
    return [_lists(one) for one in value] if isinstance(value, tuple) else value.tolist()


def as_lists(seen: Observation | None) -> SimpleNamespace | None:
    """Plain numbers, for what is computed by hand."""
    return None if seen is None else SimpleNamespace(**{field.name: _lists(getattr(seen, field.name)) for field in fields(seen)})


def linear_options() -> Iterator[tuple[str, str]]:
    """Names of losses with an option that multiplies a term."""
    for name in LOSSES:
        for key in create(name).__dataclass_fields__:
            if key.endswith("weight") or (name, key) in {("dkd", "alpha"), ("dkd", "beta"), ("mgd", "alpha"), ("dlb", "alpha")}:
                yield name, key
