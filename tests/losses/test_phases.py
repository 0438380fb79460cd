"""Losses that change in the course of a training: phases, warm-ups that shrink with it, memories."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from diswot.errors import ConfigError
from diswot.losses import create
from diswot.losses.contrast import OtherClasses
from tests.losses.observations import LABELS, STUDENT, TARGET, TEACHER, leaves, made, near, numbers, reference_of


@pytest.mark.parametrize(("epochs", "expected"), [(240, 30), (480, 60), (40, 5), (4, 1), (2, 1), (1, 0)])
def test_the_first_phase_is_an_eighth_of_the_training(epochs: int, expected: int) -> None:
    """At least one epoch, and never all of them."""
    loss: Any = create("ab")
    loss.begin_training(epochs, LABELS)
    phases = []
    for epoch in range(epochs):
        loss.begin_epoch(epoch)
        phases.append(loss.in_first_phase)
    assert phases == [True] * expected + [False] * (epochs - expected)


@pytest.mark.parametrize("name", ["fsp", "ab"])
def test_what_only_initialises_leaves_the_labels_alone_afterwards(name: str) -> None:
    loss, reference = made(name), reference_of(name, TEACHER)
    assert set(loss(STUDENT, reference, TARGET)) == {name} and not loss.is_supervised
    loss.begin_epoch(30)
    after = numbers(loss(STUDENT, reference, TARGET))
    assert after.pop(name, 0.0) == 0
    assert after == near(numbers(create("none")(STUDENT, None, TARGET)))


def test_the_paraphraser_is_the_encoder_as_the_first_phase_left_it() -> None:
    """And stays so, whatever becomes of the encoder after it."""
    loss: Any = made("ft")
    loss.make_adapters(STUDENT, TEACHER)
    assert all(not p.requires_grad for p in loss.paraphraser.parameters())
    for epoch, change in ((0, 1.0), (29, 1.0), (30, 5.0), (31, 7.0)):
        loss.begin_epoch(epoch)
        loss.encoder[0].weight.data.add_(change)
    expected = loss.encoder[0].weight - 12
    assert torch.allclose(loss.paraphraser[0].weight, expected)


def test_in_the_first_phase_of_ft_the_student_learns_from_the_labels_alone() -> None:
    loss, student = made("ft"), leaves(STUDENT)
    torch.stack(list(loss(student, TEACHER, TARGET).values())).sum().backward()
    assert student.logits.grad is not None and (student.features.grad is None or not student.features.grad.any())


@pytest.mark.parametrize(("name", "warmup"), [("dkd", 20), ("reviewkd", 20)])
def test_warm_ups_shrink_with_the_training_and_do_not_grow(name: str, warmup: int) -> None:
    for epochs, length in ((240, warmup), (480, warmup), (60, warmup / 4), (12, 1), (1, 1 / 12)):
        loss: Any = made(name)
        loss.begin_training(epochs, LABELS)
        for epoch in (0, 1, 4, 100):
            loss.begin_epoch(epoch)
            assert loss.share == near(min(1.0, (epoch + 1) / length))


def test_the_temperature_of_ctkd_ascends_the_loss() -> None:
    """By the slope of the loss itself, from numerical differences, times a strength that grows along half a cosine."""
    loss: Any = made("ctkd")
    loss.make_adapters(STUDENT, TEACHER)
    position = loss.position.item()

    def at(value: float) -> float:
        with torch.no_grad():
            loss.position.fill_(value)
            return loss(STUDENT, TEACHER, TARGET)["kd"].item()

    slope = (at(position + 1e-5) - at(position - 1e-5)) / 2e-5
    assert at(position) != near(at(position + 1))
    at(position)
    for epoch, strength in ((0, 0.0244717), (4, 0.5), (9, 1.0), (200, 1.0)):
        loss.begin_epoch(epoch)
        loss.position.grad = None
        loss(STUDENT, TEACHER, TARGET)["kd"].backward()
        assert loss.position.grad.item() == pytest.approx(-strength * slope, rel=1e-5)


def test_negatives_are_of_all_other_classes_alike() -> None:
    labels = torch.tensor([2, 0, 1, 0, 2, 2, 1])
    torch.manual_seed(0)
    drawn = OtherClasses(labels).draw(torch.tensor([0, 1, 2]), 6000)
    for name, row in enumerate(drawn):
        counts = row.bincount(minlength=7)
        others = labels != name
        assert not counts[~others].any()
        assert (counts[others] / 6000).tolist() == pytest.approx([1 / int(others.sum())] * int(others.sum()), abs=0.02)


def test_memories_follow_the_features_of_the_batch_and_of_no_other_image() -> None:
    loss: Any = made("crd")
    loss.make_adapters(STUDENT, TEACHER)
    before = copy.deepcopy({name: buffer.clone() for name, buffer in loss.named_buffers()})
    loss(STUDENT, TEACHER, TARGET)
    for name, layer, seen in (("memory_student", loss.embed_student, STUDENT), ("memory_teacher", loss.embed_teacher, TEACHER)):
        memory = getattr(loss, name)
        features = F.normalize(layer(seen.pooled), dim=1)
        assert torch.equal(memory[6:], before[name][6:])
        torch.testing.assert_close(memory[:6], F.normalize(0.5 * before[name][:6] + 0.5 * features.to(memory), dim=1))
    scales = loss.normalisers.clone()
    assert scales.all()
    loss(STUDENT, TEACHER, TARGET)
    assert torch.equal(loss.normalisers, scales)  # set by the first batch, and kept


def test_crd_says_what_it_needs() -> None:
    with pytest.raises(ConfigError, match=r"loss crd: call begin_training\(epochs, labels\)"):
        create("crd")(STUDENT, TEACHER, TARGET)
    with pytest.raises(ConfigError, match=r"loss crd: .* all images are of one"):
        create("crd").begin_training(1, torch.zeros(5, dtype=torch.long))


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("fsp", "they must be the same; use vid"), ("kdsvd", "they must be the same; use vid"), ("simkd", "it is computed on")],
)
def test_networks_of_other_widths_are_refused_where_channels_are_compared(name: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match=f"loss {name}: .* of . channels, the teacher's of .: {remedy}"):
        made(name)(STUDENT, TEACHER, TARGET)
