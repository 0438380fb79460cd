"""DOT against its definition in a loop over numbers, and against SGD."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diswot.errors import ConfigError
from diswot.losses import create
from diswot.training.dot import DOT
from tests.training.samples import make_recipe, trainer, weights


def gradients(seed: int, like: Tensor) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    asked, taught = (torch.randn(like.shape, generator=generator, dtype=like.dtype) for _ in range(2))
    return asked, taught


def steps(optimizer: DOT, parameter: nn.Parameter, sides: list[str]) -> None:
    """Steps in which the labels, the teacher, or both have gradients."""
    for number, which in enumerate(sides):
        asked, taught = gradients(number, parameter)
        if "t" in which:
            parameter.grad = taught.clone()
            optimizer.hold()
        parameter.grad = asked.clone() if "l" in which else None
        optimizer.step()
        optimizer.zero_grad()


def by_hand(start: list[float], sides: list[str], lr: float, momentum: float, delta: float, decay: float) -> list[float]:
    out = []
    for place, weight in enumerate(start):
        of_labels: float | None = None
        of_teacher: float | None = None
        for number, which in enumerate(sides):
            asked, taught = (side[place].item() for side in gradients(number, torch.zeros(len(start), dtype=torch.float64)))
            apart = delta if which == "lt" else 0.0
            step = 0.0
            if "l" in which:
                gradient = asked + decay * weight
                of_labels = gradient if of_labels is None else (momentum - apart) * of_labels + gradient
                step += of_labels
            if "t" in which:
                gradient = taught + (decay * weight if which == "t" else 0.0)
                of_teacher = gradient if of_teacher is None else (momentum + apart) * of_teacher + gradient
                step += of_teacher
            weight -= lr * step
        out.append(weight)
    return out


@pytest.mark.parametrize("sides", [["lt"] * 5, ["l"] * 4, ["t"] * 4, ["lt", "lt", "l", "l", "lt"]])
def test_steps_are_those_by_hand(sides: list[str]) -> None:
    start = [0.5, -1.0, 2.0]
    parameter = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = DOT([{"params": [parameter], "weight_decay": 0.1}], lr=0.3, momentum=0.6, delta=0.2)
    steps(optimizer, parameter, sides)
    assert parameter.tolist() == pytest.approx(by_hand(start, sides, 0.3, 0.6, 0.2, 0.1), rel=1e-12)


def test_without_a_difference_it_is_sgd() -> None:
    start = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    apart, plain = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    steps(DOT([{"params": [apart], "weight_decay": 0.1}], lr=0.3, momentum=0.6, delta=0.0), apart, ["lt"] * 6)
    sgd = torch.optim.SGD([plain], lr=0.3, momentum=0.6, weight_decay=0.1)
    for number in range(6):
        plain.grad = sum(gradients(number, plain), torch.zeros(3, dtype=torch.float64))
        sgd.step()
    torch.testing.assert_close(apart, plain, rtol=1e-12, atol=0)


def test_gradients_of_parts_of_a_batch_add_up() -> None:
    whole, parts = (nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2))
    for parameter, several in ((whole, 1), (parts, 4)):
        optimizer = DOT([parameter], lr=0.1, momentum=0.9, delta=0.05)
        total: Any = None
        for _ in range(several):
            parameter.grad = torch.ones(3, dtype=torch.float64) / several
            optimizer.hold()
            total = (0 if total is None else total) + 2 * torch.ones(3, dtype=torch.float64) / several
        parameter.grad = total
        optimizer.step()
    torch.testing.assert_close(whole, parts)


@pytest.mark.parametrize("loss", ["kd", "vid", "ab"])
def test_a_training_tells_the_teachers_terms_from_those_of_the_labels(loss: str) -> None:
    """With a difference of nearly nothing it is the training with SGD; with a real one it is not."""
    found = {}
    for delta in (0.0, 1e-12, 0.05):
        one = trainer(loss, make_recipe(epochs=2, dot_delta=delta), ["resnet8"], dtype=torch.float64)
        one.epoch(0)
        found[delta] = copy.deepcopy(weights(one))
    for name, weight in found[0.0].items():
        torch.testing.assert_close(found[1e-12][name], weight, rtol=1e-6, atol=1e-9)
    assert any(not torch.allclose(found[0.05][name], weight, atol=1e-6) for name, weight in found[0.0].items()) == (loss != "ab")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"opt": "adamw"}, "--opt adamw cannot be had with it"),
        ({"clip_grad": 1.0}, "--clip-grad cannot"),
        ({"precision": "fp16"}, "--precision fp16 cannot"),
        ({"nesterov": True}, "--nesterov cannot"),
        ({"momentum": 0.95}, "momentum 0.95 less and more that must lie between 0 and 1"),
        ({"momentum": 0.05}, "momentum 0.05 less and more"),
    ],
)
def test_what_dot_has_no_definition_for_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=f"--dot-delta 0.075: .*{says}"):
        make_recipe(dot_delta=0.075, **options).check_combinations()
    assert create("kd").is_supervised
