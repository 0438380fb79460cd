"""The search space S2 (DisWOT, CVPR 2023), which extends S1 by bottleneck blocks and larger steps of width and depth.

A bottleneck block has a 1x1, a k x k and a 1x1 convolution.
"""

from __future__ import annotations

from search_spaces._staged import CIFAR, IMAGENET, SeedNetwork, StagedSpace, with_inverses


def _s2(name: str, seed: SeedNetwork) -> StagedSpace:
    factors = with_inverses(2.5, 2.0, 1.5, 1.25)
    return StagedSpace(name, seed, blocks=("basic", "bottleneck"), factors=factors, depth_steps=(-2, -1, 0, 1, 2))


space = _s2("resnet_mixed", CIFAR)
imagenet = _s2("resnet_mixed_imagenet", IMAGENET)
