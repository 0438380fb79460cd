"""S2: as S1, with bottleneck blocks 1x1 - k x k - 1x1 beside the basic ones and wider steps (DisWOT, CVPR 2023)."""

from __future__ import annotations

from search_spaces._staged import CIFAR, IMAGENET, Seed, StagedSpace, ratios


def _s2(name: str, seed: Seed) -> StagedSpace:
    factors = ratios(2.5, 2.0, 1.5, 1.25)
    return StagedSpace(name, seed, blocks=("basic", "bottleneck"), factors=factors, depth_steps=(-2, -1, 0, 1, 2))


space = _s2("resnet_mixed", CIFAR)
imagenet = _s2("resnet_mixed_imagenet", IMAGENET)
