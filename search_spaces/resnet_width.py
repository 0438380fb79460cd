"""The search space S1 (DisWOT, CVPR 2023): residual networks whose kernels, widths and depths are searched.

A block has two k x k convolutions.
"""

from __future__ import annotations

from search_spaces._staged import CIFAR, IMAGENET, SeedNetwork, StagedSpace, with_inverses


def _s1(name: str, seed: SeedNetwork) -> StagedSpace:
    return StagedSpace(name, seed, blocks=("basic",), factors=with_inverses(1.5, 1.25), depth_steps=(-1, 0, 1))


space = _s1("resnet_width", CIFAR)
imagenet = _s1("resnet_width_imagenet", IMAGENET)
