"""Teachers that have no classifier, or one of other classes: features and maps are all that is asked of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

import diswot
from diswot.errors import TeacherError
from diswot.models.teachers import build_teacher
from diswot.models.zoo import ZOO
from diswot.observe import has_classifier, observe
from diswot.space import ImageSpec
from tests.distillation.samples import QUICK
from tests.trained import ARCH

SPEC, MAPS = ImageSpec(4, 3, 32), frozenset({"features", "pooled"})


def _weights(path: Path, model: torch.nn.Module) -> str:
    torch.save(model.state_dict(), path)
    return str(path)


@pytest.mark.parametrize(
    ("name", "model", "kept"),
    [
        ("resnet8", ZOO["resnet8"](num_classes=7), False),
        ("resnet8", ZOO["resnet8"](num_classes=4), True),
        ("timm/resnet10t", timm.create_model("resnet10t", num_classes=4), True),  # of the data's classes, not ImageNet's
        ("timm/resnet10t", timm.create_model("resnet10t", num_classes=9), False),
        ("timm/resnet10t", timm.create_model("resnet10t", num_classes=0), False),
        ("convnext_atto", timm.create_model("convnext_atto", num_classes=5), False),  # its norm lies in its head, and stays
    ],
)
def test_the_classifier_is_left_out_only_where_it_must_be(tmp_path: Path, name: str, model: torch.nn.Module, kept: bool) -> None:
    weights = _weights(tmp_path / "w.pth", model)
    built = build_teacher(name, SPEC, weights, needs=MAPS).eval()
    assert has_classifier(built) is kept
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(observe(built, images, MAPS).features, observe(model.eval(), images, MAPS).features)
    if not kept:
        with pytest.raises(TeacherError):
            build_teacher(name, SPEC, weights, needs={"logits"})


def test_weights_of_another_network_are_refused_as_ever(tmp_path: Path) -> None:
    weights = _weights(tmp_path / "w.pth", ZOO["resnet14"](num_classes=4))
    with pytest.raises(TeacherError, match="does not fit resnet8"):
        build_teacher("resnet8", SPEC, weights, needs=MAPS)


@pytest.fixture
def vit(tmp_path: Path) -> str:
    torch.manual_seed(0)
    return _weights(tmp_path / "vit.pth", timm.create_model("vit_tiny_patch16_224.augreg_in21k", num_classes=0, img_size=32, depth=12))


@pytest.mark.slow
def test_a_transformer_without_classes_leads_a_search_and_teaches_its_winner(tmp_path: Path, vit: str) -> None:
    teacher = {"teacher": "vit_tiny_patch16_224.augreg_in21k", "teacher_weights": vit}
    options = {"space": "s0", "num_classes": 4, "population_size": 3, "iterations": 3, "data": "synthetic"}
    found = diswot.search(proxy="relation", folder=tmp_path / "search", workers=1, **teacher, **options)
    with pytest.raises(TeacherError, match="it has no classifier, use a loss of features, as rkd, or the proxy relation"):
        diswot.search(proxy="semantic_profile", folder=tmp_path / "refused", workers=1, **teacher, **options)
    common = {**QUICK, **teacher, "data": "synthetic", "num_classes": 4, "limit": 32, "batch_size": 16, "epochs": 1}
    for number, loss in enumerate(("rkd", "fitnets")):
        result = diswot.distill(found.winner, folder=tmp_path / f"run-{number}", loss=loss, **common)
        assert result.teacher is None and result.taught_by == "vit_tiny_patch16_224.augreg_in21k"
    with pytest.raises(TeacherError, match="it has no classifier"):
        diswot.distill(found.winner, folder=tmp_path / "kd", loss="kd", **common)


def test_a_ranking_that_asks_for_no_teacher_takes_one_without_classes(tmp_path: Path, small_npz: Path) -> None:
    weights = _weights(tmp_path / "w.pth", ZOO["resnet8"](num_classes=9))
    rows = diswot.score([ARCH], data=str(small_npz), teacher="resnet8", teacher_weights=weights, proxy="params")
    assert len(rows) == 1
