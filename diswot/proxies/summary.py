"""`NetworkSummary`: what one network shows of a batch, and the summaries of it that proxies share."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

from torch import Tensor

from diswot import similarity
from diswot.observe import Observation, stages


def _moved(value: Any, device: str) -> Any:
    """A tensor, a list of tensors or an observation, on another device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, list):
        return [one.to(device) for one in value]
    return value.map(lambda tensor: tensor.to(device)) if isinstance(value, Observation) else value


class NetworkSummary:
    """One network's observation of a batch, and the summaries of it that proxies share, each computed when it is first asked for.

    Attributes:
        observation: of B images.
        target: (B,) their classes.
        blocks: the maps after the stem and after every block, where they were asked for.
    """

    def __init__(self, observation: Observation, target: Tensor, blocks: list[Tensor] | None = None) -> None:
        self.observation, self.target = observation, target
        self.blocks = blocks or []

    def to(self, device: str) -> NetworkSummary:
        """A copy on another device, with all that has been computed."""
        moved = object.__new__(NetworkSummary)
        moved.__dict__.update({name: _moved(value, device) for name, value in vars(self).items()})
        return moved

    @property
    def with_stages(self) -> Observation:
        """The observation, with the maps of its stages where blocks were asked for."""
        return replace(self.observation, stages=tuple(stages(self.blocks)))

    @property
    def gradients_seen(self) -> tuple[Tensor, Tensor]:
        """The gradient of the summed logits, (B, C, H, W) each, at the images and at the stem's output."""
        raise ValueError("there are no gradients of the teacher; add teacher:graph to needs")

    @cached_property
    def jacobian_gram(self) -> Tensor:
        """The similarities (B, B) of the gradients at the images."""
        return similarity.sample_gram(self.gradients_seen[0])

    @cached_property
    def stem_grad_gram(self) -> Tensor:
        """The similarities (B, B) of the gradients at the stem's output; of zeros where there is no stem with maps (B, C, H, W)."""
        return similarity.sample_gram(self.gradients_seen[1])

    @cached_property
    def gradient(self) -> Tensor:
        """The gradient (N, C) of the loss at the classifier's weight."""
        return similarity.classifier_gradient(self.observation.pooled, self.observation.logits, self.target)

    @cached_property
    def profile(self) -> Tensor:
        """Two statistics of each class's gradient, (2, N), see `similarity.channel_profile`."""
        return similarity.channel_profile(self.gradient)

    @cached_property
    def sample_gram(self) -> Tensor:
        """The similarities (B, B) of the images on the last map, see `similarity.sample_gram`."""
        return similarity.sample_gram(self.observation.features)

    @cached_property
    def stage_grams(self) -> list[Tensor]:
        """The similarities (B, B) of the images on the last map of each resolution, the finest first."""
        return [similarity.sample_gram(stage) for stage in stages(self.blocks)]

    @cached_property
    def cam_gram(self) -> Tensor:
        """The similarities (N, N) of the classes, see `similarity.cam_gram`."""
        seen = self.observation
        return similarity.cam_gram(seen.features, similarity.channel_weights(seen.features, seen.pooled, seen.weight))
