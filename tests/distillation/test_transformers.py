"""timm's transformers as students: of any image size by their options, by a distillation token, from timm's own weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file

import diswot
import diswot.models.student
from diswot.architecture import Architecture
from diswot.distillation.students import load_pretrained
from diswot.errors import ArchitectureError, ConfigError
from diswot.observe import observe
from diswot.space import ImageSpec, load_space
from tests.distillation.samples import QUICK

TINY = "img_size=16,patch_size=4,embed_dim=24,depth=2,num_heads=2"
STUDENTS = {"kd": "vit_tiny_patch16_224", "ofa": "vit_tiny_patch16_224", "deit": "deit_tiny_distilled_patch16_224"}


@pytest.mark.slow
@pytest.mark.parametrize("loss", [*STUDENTS, "deit(soft=true, share=0.1)", "rkd", "fitnets"])
def test_a_transformer_learns_under_a_convolutional_teacher(tmp_path: Path, small_npz: Path, teacher_file: Path, loss: str) -> None:
    """And is exported, loaded and evaluated as any other student."""
    name = next((student for key, student in STUDENTS.items() if loss.startswith(key)), "vit_tiny_patch16_224")
    student = f"{name}({TINY})"
    options = {**QUICK, "data": str(small_npz), "teacher_weights": str(teacher_file), "opt": "adamw", "lr": 1e-3}
    result = diswot.distill(student, folder=tmp_path / "run", loss=loss, **options)
    folder = tmp_path / "run" / "student"
    model = diswot.load_student(folder)
    assert result.students[0].arch.choices == f"timm/{student}"
    assert set(load_file(folder / "model.safetensors")) == set(model.state_dict())
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(loaded(images), model(images))


def test_the_answer_of_two_tokens_is_their_mean() -> None:
    model = load_space("zoo").build(Architecture("zoo", f"timm/deit_tiny_distilled_patch16_224({TINY})"), 5).eval()
    seen, images = None, torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        seen = observe(model, images)
        torch.testing.assert_close(seen.logits, model(images))
        model.set_distilled_training(True)
        apart = model.train()(images)
    torch.testing.assert_close(seen.token_logits, torch.stack(apart, 1))
    assert seen.features.shape == (3, 24, 4, 4)


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ("timm/vit_tiny_patch16_224(img_size=32", "write options as"),
        ("timm/vit_tiny_patch16_224(32)", "write options as"),
        ("timm/vit_tiny_patch16_224(norm_layer='layernorm')", "write options as"),
        ("timm/vit_tiny_patch16_224(img_size=__import__('os'))", "write options as"),
        ("timm/vit_tiny_patch16_224(pretrained=True)", "pretrained is no option of an architecture"),
        ("timm/vit_tiny_patch16_224(num_classes=3)", "num_classes is no option of an architecture"),
        ("timm/no_such_network(img_size=3)", "unknown network"),
    ],
)
def test_options_of_timm_are_plain_and_of_the_architecture(choice: str, says: str) -> None:
    with pytest.raises(ArchitectureError, match=says):
        load_space("zoo").check(Architecture("zoo", choice))


def test_options_that_a_network_does_not_take_are_named() -> None:
    with pytest.raises(ArchitectureError, match="timm's resnet18 does not take patch_size"):
        load_space("zoo").build(Architecture("zoo", "timm/resnet18(patch_size=4)"), 5)


def test_another_size_is_answered_with_the_option_that_mends_it(tmp_path: Path, small_npz: Path, teacher_file: Path) -> None:
    options = {**QUICK, "data": str(small_npz), "teacher_weights": str(teacher_file)}
    with pytest.raises(ConfigError, match=r"vit_tiny_patch16_224 cannot take 16x16 images .*: write vit_tiny_patch16_224\(img_size=16\)"):
        diswot.distill("vit_tiny_patch16_224", folder=tmp_path / "run", loss="kd", **options)


def test_a_student_without_the_token_is_refused(tmp_path: Path, small_npz: Path, teacher_file: Path) -> None:
    options = {**QUICK, "data": str(small_npz), "teacher_weights": str(teacher_file)}
    with pytest.raises(ConfigError, match="loss deit: the student has no distillation token"):
        diswot.distill("resnet8", folder=tmp_path / "run", loss="deit", **options)


@pytest.mark.parametrize(("classes", "kept"), [(1000, True), (7, False)])
def test_timms_weights_are_those_of_a_student_but_for_other_classes(monkeypatch: pytest.MonkeyPatch, classes: int, kept: bool) -> None:
    """The download is stood in for by weights that timm is made to load."""
    real: Any = timm.create_model

    def create(name: str, pretrained: bool = False, **options: Any) -> torch.nn.Module:
        torch.manual_seed(1 if pretrained else 0)
        return real(name, **options)

    monkeypatch.setattr(timm, "create_model", create)
    arch, spec = Architecture("zoo", "timm/resnet10t"), ImageSpec(classes, 3, 32)
    student = load_space("zoo").build(arch, classes)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    load_pretrained(student, arch, spec)
    expected = create("resnet10t", pretrained=True, num_classes=classes).state_dict()
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, expected[name] if kept or not name.startswith("fc.") else before[name]), name
    with pytest.raises(ConfigError, match="--weights pretrained: resnet20 has no weights to download, networks of timm have"):
        load_pretrained(student, Architecture("zoo", "resnet20"), spec)
