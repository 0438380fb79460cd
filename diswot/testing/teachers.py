"""The conformance check of teachers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from diswot.models.teachers import build_teacher
from diswot.observe import batch_statistics, observe
from diswot.space import ImageSpec
from diswot.testing.promises import told_as_assertions


@told_as_assertions
def check_teacher(teacher: Callable[..., nn.Module] | str, spec: ImageSpec | None = None, *, logits_only: bool = False) -> None:
    """Check that a teacher can be used everywhere: it takes the images, knows the classes, and follows timm's protocol.

    Args:
        teacher: a function or class that is called with num_classes and in_chans, or a teacher's name: `resnet56`, `module:name`.
        spec: classes, channels and size of the images; CIFAR's by default.
        logits_only: whether it needs to show nothing but logits, which losses of logits are content with.

    Raises:
        AssertionError: says what is missing.

    >>> check_teacher("resnet20")
    """
    spec = spec or ImageSpec(10, 3, 32)
    for images in (spec, ImageSpec(spec.num_classes + 1, spec.in_chans, spec.input_size)):
        model = _build(teacher, images).eval()
        pixels = torch.randn(2, *images.shape)
        with torch.no_grad():
            logits = model(pixels)
            assert logits.shape == (2, images.num_classes), f"logits of shape {tuple(logits.shape)} for {images}"
            assert torch.equal(model(pixels), logits), "in evaluation mode the same images must give the same logits"
            if not logits_only:
                with batch_statistics(model):
                    seen, plain = observe(model, pixels), model(pixels)
                torch.testing.assert_close(seen.logits, plain, msg="forward is not forward_head of forward_features")


def _build(teacher: Callable[..., nn.Module] | str, spec: ImageSpec) -> nn.Module:
    if isinstance(teacher, str):
        return build_teacher(teacher, spec, needs=("logits",))
    return teacher(num_classes=spec.num_classes, in_chans=spec.in_chans)
