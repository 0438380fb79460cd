"""A teacher with weights that are given: one network or an ensemble, of the data's classes or of others."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from diswot.config.training import DistillConfig
from diswot.data import Dataset
from diswot.distillation.students import teacher_normalisation
from diswot.models.class_map import read_class_map, with_classes
from diswot.models.ensemble import Ensemble
from diswot.models.teachers import build_teacher, pretrained_classes
from diswot.training.checkpoint import load_tensors
from diswot.training.evaluation import Network, Normalise


def given_teacher(config: DistillConfig, data: Dataset, needs: Collection[str], *, load: bool = True) -> Network:
    """Build the teacher that `config.teacher` and `config.teacher_weights` name.

    Args:
        config: the options; its teacher has weights.
        data: the images.
        needs: the fields of `Observation` that it must show.
        load: whether to load its weights; without them it only shows what shapes it gives.

    Raises:
        TeacherError: weights that do not fit, a network that cannot take the images, a mapping of classes that is not whole.
    """
    networks = []
    for member in config.teacher_members:
        weights = str(member.weights)
        model = _network(config, member.name, weights, data, needs, load)
        networks.append(Network(model, teacher_normalisation(member.norm, weights, data)))
    if len(networks) == 1:
        return networks[0]
    used = [network.normalise for network in networks]
    ensemble = Ensemble([network.model for network in networks], [one.mean for one in used], [one.std for one in used])
    return Network(ensemble, Normalise(torch.zeros(data.in_chans), torch.ones(data.in_chans)))


def _network(config: DistillConfig, name: str, weights: str, data: Dataset, needs: Collection[str], load: bool) -> nn.Module:
    loaded = weights if load else "random"
    if config.teacher_classes is None:
        return build_teacher(name, data.spec, loaded, needs=needs)
    class_map = read_class_map(config.teacher_classes).for_teacher(_known_classes(name, weights))
    groups = class_map.groups(data.class_names)
    return with_classes(build_teacher(name, replace(data.spec, num_classes=class_map.count), loaded, needs=needs), groups)


def _known_classes(name: str, weights: str) -> Sequence[str] | int | None:
    """The classes that a teacher's weights know, as far as they say it: names, or their number."""
    if weights == "pretrained":
        return pretrained_classes(name)
    if weights.endswith(".safetensors"):
        names: Sequence[str] | None = load_tensors(Path(weights))[1].get("class_names")
        return names
    return None
