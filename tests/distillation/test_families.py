"""Every loss, under teachers of other families than the student's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from diswot.errors import ConfigError
from diswot.losses import LOSSES, create
from diswot.models.teachers import build_teacher
from diswot.models.zoo import ZOO
from diswot.observe import Observer, observe_without_gradients
from diswot.space import ImageSpec

FAMILIES = [
    *("wrn_16_1", "vgg8", "mobilenetv2", "shufflenetv2", "resnet10t"),
    *("convnext_atto", "vit_tiny_patch16_224", pytest.param("swin_tiny_patch4_window7_224", marks=pytest.mark.slow)),
]


WITHOUT_NORMS = ("convnext_atto", "vit_tiny_patch16_224", "shufflenetv2")  # the last ends its stages in two branches with a norm each


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_of_maps_meet_teachers_of_all_families(family: str) -> None:
    """Other widths, resolutions and layouts: a value and a gradient, and adapters as needed; or one line that says what is missing."""
    side = 224 if "window" in family else 32
    teacher = build_teacher(family, ImageSpec(5, 3, side))
    student = ZOO["resnet8"](num_classes=5).train()
    images = torch.randn(3, 3, side, side)
    few = ("at", "afd", "fitnets", "ickd")  # of a large teacher
    for name, kind in LOSSES.items():
        if name == "deit" or not kind.scheme.uses_teacher or ("window" in family and name not in few):
            continue
        loss = create(name, **({"negatives": 8} if name == "crd" else {}))
        seen, reference = Observer(student, loss.student_fields)(images), observe_without_gradients(teacher, images, loss.needs)
        seen = replace(seen, indices=torch.arange(3))
        loss.begin_training(10, torch.tensor([0, 1, 4]))
        if name in ("fsp", "kdsvd", "simkd") and family != "wrn_16_1":  # which is as wide as resnet8
            with pytest.raises(ConfigError, match=r"channels|share one stage"):
                loss.make_adapters(seen, reference)
            continue
        if name == "ofd" and family in WITHOUT_NORMS:
            with pytest.raises(ConfigError, match="batch norm"):
                loss.make_adapters(seen, reference)
            continue
        terms = loss(seen, reference, torch.tensor([0, 1, 4]))
        total = torch.stack(list(terms.values())).sum()
        assert total.isfinite(), name
        grads = torch.autograd.grad(total, list(student.parameters()), allow_unused=True)
        assert any(g is not None and bool(g.abs().sum() > 0) for g in grads), name
