"""The scoring context: the images, and what the teacher shows of them."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch

from diswot.architecture import Architecture
from diswot.data import load_data
from diswot.models.teachers import build_teacher
from tests.scoring.samples import make_context, score

RESNET8 = Architecture("zoo", "resnet8")


def test_counting_alone_builds_no_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diswot.scoring.context.build_teacher", None)
    context = make_context(("params", "flops"))
    assert context.teachers == []
    assert score(context, RESNET8).scores["flops"][0] > 1e6


def test_a_teacher_is_built_with_weights_once_for_all_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr("diswot.scoring.context.build_teacher", lambda *a, **k: calls.append(a) or build_teacher(*a, **k))
    context = make_context(seeds=5)
    assert len(context.teachers) == len(context.batches) == 5
    assert len(calls) == 1


def test_every_seed_has_images_and_a_random_teacher_of_its_own() -> None:
    context = make_context(seeds=3, seed=2)
    assert [batch.seed for batch in context.batches] == [2000, 2001, 2002]
    features = [teacher.observation.features for teacher in context.teachers]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(context.batches[one].images, context.batches[other].images)
        assert not torch.allclose(features[one], features[other])


def test_a_teacher_with_weights_shows_what_they_give(teacher_file: Any) -> None:
    """The weights of a file are used under every seed, and no initialisation in their place."""
    given = make_context(seeds=2, num_classes=4, teacher="resnet8", teacher_weights=str(teacher_file))
    assert all(torch.equal(teacher.observation.weight, given.teachers[0].observation.weight) for teacher in given.teachers)
    drawn = make_context(seeds=2, num_classes=4, teacher="resnet8")
    assert not torch.equal(drawn.teachers[0].observation.weight, drawn.teachers[1].observation.weight)


def test_the_teachers_own_normalisation_is_used() -> None:
    """A random teacher sees other images under another normalisation, so the score moves; batch norm after the first layer absorbs scale,
    so a pure rescaling of all channels does not move it."""
    mean, std = (values.tolist() for values in load_data("synthetic", num_classes=10).statistics)
    doubled = "/".join(",".join(str(value) for value in values) for values in (mean, [2 * value for value in std]))
    plain, moved, rescaled = (
        score(make_context(("relation",), seeds=1, teacher_norm=norm), RESNET8).scores["relation"][0]
        for norm in ("data", "0.5,0.5,0.5/0.1,0.9,0.3", doubled)
    )
    assert rescaled == pytest.approx(plain, rel=1e-3)
    assert abs(moved / plain - 1) > 1e-2


def test_a_context_travels_to_other_processes() -> None:
    context = make_context(seeds=1)
    there = pickle.loads(pickle.dumps(context))
    assert score(there, RESNET8).scores == score(context, RESNET8).scores
