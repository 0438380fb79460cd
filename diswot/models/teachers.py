"""Teachers: any network of the CIFAR zoo, of timm, or of your own."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diswot import plugins
from diswot.budget import count_network
from diswot.errors import DiswotError, TeacherError, first_line, suggest
from diswot.models.init import seeded
from diswot.models.weights import load_weights
from diswot.models.zoo import ZOO, zoo_name
from diswot.observe import FINAL, batch_statistics, observe
from diswot.space import Cost, ImageSpec

NORMS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


def build_teacher(name: str, spec: ImageSpec, weights: str = "random", *, needs: Collection[str] = FINAL, seed: int = 0) -> nn.Module:
    """Build the teacher called `name`, with the weights asked for, and make sure, by one pass of black images, that it fits the images.

    Args:
        name: of the CIFAR zoo (`resnet56`), of timm (`resnet34`, or `timm/vgg13` where the zoo has the name too), or your own
            `module:name`: a function or a class that is called with num_classes and in_chans and gives a `torch.nn.Module`.
        spec: classes, channels and size of the images.
        weights: `random`, `pretrained` (timm's own, downloaded), or a file.
        needs: the fields of `Observation` that it must show; for logits alone any network will do. Where neither these nor the classifier's
            weight are among them, a network whose weights know other classes, or none, is made without its classifier (not your own).
        seed: random seed of weights that are not loaded.

    Raises:
        TeacherError: unknown name, weights that do not fit, or a network that cannot take the images.

    >>> build_teacher("resnet20", ImageSpec(10, 3, 32)).num_features
    64
    """
    optional = not {"logits", "weight"}.intersection(needs)
    known = weights in ("random", "pretrained")
    with seeded(seed):
        model = _create(name, spec, weights, headless=optional and known and _knows_other_classes(name, spec))
        if not known:
            model = _with_weights(model, name, spec, Path(weights), optional)
    _check_runs(model, name, spec, needs)
    return model


def teacher_cost(name: str, spec: ImageSpec) -> Cost:
    """Count the parameters, FLOPs and depth of the teacher called `name`, without memory for its weights where that can be.

    Raises:
        TeacherError, BudgetError: unknown name, or a network that cannot take the images.

    >>> teacher_cost("resnet56", ImageSpec(10, 3, 32)).params
    855770
    """
    try:
        with torch.device("meta"):
            model = _create(name, spec, "random")
        return count_network(model, spec.in_chans, spec.input_size)
    except (DiswotError, RuntimeError):  # among others a network that looks at its own weights, or moves them, while it is made
        return count_network(_create(name, spec, "random"), spec.in_chans, spec.input_size)


def pretrained_classes(name: str) -> int | None:
    """The number of classes that timm's weights of a network know; None where they know none.

    >>> pretrained_classes("resnet34"), pretrained_classes("vit_small_patch16_224.dino")
    (1000, None)
    """
    import timm

    cfg = timm.models.get_pretrained_cfg(name.removeprefix("timm/"), allow_unregistered=True)
    return (cfg.num_classes or None) if cfg is not None else None


def _knows_other_classes(name: str, spec: ImageSpec) -> bool:
    """Whether timm's weights of a network know other classes than the data's, or none."""
    if zoo_name(name) in ZOO or plugins.is_reference(name):
        return False
    import timm

    return timm.is_model(name.removeprefix("timm/")) and pretrained_classes(name) != spec.num_classes


def _with_weights(model: nn.Module, name: str, spec: ImageSpec, path: Path, optional: bool) -> nn.Module:
    """The network with the weights of a file; where its classifier is optional, and the file has another one or none, without it."""
    try:
        load_weights(model, path, name)
        return model
    except TeacherError:
        if not optional or plugins.is_reference(name):
            raise
    headless = _create(name, spec, "random", headless=True)
    load_weights(headless, path, name)
    return headless


def _create(name: str, spec: ImageSpec, weights: str, headless: bool = False) -> nn.Module:
    if "+" in name:
        raise TeacherError(f"teacher {name}: an ensemble teaches in distill and compare; here one network is needed")
    if plugins.is_reference(name):
        return _own(name, spec)
    if zoo_name(name) in ZOO:
        if weights == "pretrained":
            raise TeacherError(f"{name} has no weights to download: give a file, or random")
        return ZOO[zoo_name(name)](num_classes=0 if headless else spec.num_classes, in_chans=spec.in_chans)
    return _timm(name.removeprefix("timm/"), spec, weights, headless)


def _own(name: str, spec: ImageSpec) -> nn.Module:
    build = plugins.load_object(name, "teacher")
    try:
        model = build(num_classes=spec.num_classes, in_chans=spec.in_chans)
    except Exception as error:  # it is the user's own code
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise TeacherError(f"the teacher {name!r} cannot be made ({reason}): it is called with num_classes and in_chans") from None
    if not isinstance(model, nn.Module):
        raise TeacherError(f"the teacher {name!r} gave {type(model).__name__}, not a torch.nn.Module")
    return model


def _timm(name: str, spec: ImageSpec, weights: str, headless: bool) -> nn.Module:
    import timm

    if not timm.is_model(name):
        raise TeacherError(f"unknown teacher {name!r}: {suggest(name, [*ZOO, *timm.list_models()])}"[:250] + "; see `diswot list teachers`")
    kwargs: dict[str, Any] = {"num_classes": spec.num_classes, "in_chans": spec.in_chans}
    cfg = timm.models.get_pretrained_cfg(name, allow_unregistered=True)
    if headless:
        kwargs |= {"num_classes": 0}
    if weights == "pretrained":
        kwargs |= {"pretrained": True}
        if cfg is not None and cfg.num_classes != spec.num_classes and not headless:
            raise TeacherError(
                f"{name}: its weights know {cfg.num_classes} classes, the data has {spec.num_classes}: fine-tune it first, or use a loss "
                "of features, as rkd"
            )
    elif cfg is not None and cfg.fixed_input_size:
        kwargs |= {"img_size": spec.input_size}  # a transformer's position embedding is made for one size
    try:
        return timm.create_model(name, **kwargs)
    except (RuntimeError, OSError, ValueError, AssertionError, TypeError) as error:
        raise TeacherError(f"teacher {name} for {spec.input_size}x{spec.input_size} images cannot be made: {first_line(error)}") from None


def _check_runs(model: nn.Module, name: str, spec: ImageSpec, needs: Collection[str]) -> None:
    """Refuse a teacher for other images or classes, in one line."""
    try:
        with torch.inference_mode(), batch_statistics(model):
            seen = observe(model, torch.zeros(2, *spec.shape), needs)
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        raise TeacherError(f"teacher {name} cannot take {'x'.join(map(str, spec.shape))} images: {first_line(error)}") from None
    if "logits" in needs and not seen.logits.numel():
        raise TeacherError(f"teacher {name} has no classifier: use a loss of features, as rkd")
    if "logits" in needs and seen.logits.shape[1] != spec.num_classes:
        raise TeacherError(f"teacher {name} knows {seen.logits.shape[1]} classes, the data has {spec.num_classes}")


def normalisation(norm: str, mean: Tensor, std: Tensor, option: str = "--teacher-norm") -> tuple[Tensor, Tensor]:
    """The mean and the deviation that a teacher's images are normalised by, each (in_chans,).

    Args:
        norm: `data` (the data set's own, given as `mean` and `std`), `imagenet`, `half`, or numbers as `m,m,m/s,s,s`.
        option: the flag that the user said it with.

    >>> normalisation("half", torch.zeros(3), torch.ones(3))[0].tolist()
    [0.5, 0.5, 0.5]
    """
    if norm == "data":
        return mean, std
    try:
        pair = NORMS.get(norm) or [[float(v) for v in part.split(",")] for part in norm.split("/")]
        new_mean, new_std = (torch.tensor(values, dtype=mean.dtype) for values in pair)
    except ValueError:
        raise TeacherError(f"{option} {norm!r}: write data, imagenet, half, or m,m,m/s,s,s") from None
    if (
        new_mean.shape != mean.shape
        or new_std.shape != mean.shape
        or not bool((new_std > 0).all() and (new_mean + new_std).isfinite().all())
    ):
        raise TeacherError(f"{option} {norm!r}: {len(mean)} means and {len(mean)} positive deviations are needed")
    return new_mean, new_std
