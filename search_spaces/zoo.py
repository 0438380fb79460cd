"""The hand-made networks of the literature as a search space.

They are baselines that can be scored, shown and distilled like any other candidate.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from diswot.architecture import Architecture
from diswot.errors import ArchitectureError, suggest
from diswot.models.timm_choice import TIMM, create_timm, timm_name, timm_options
from diswot.space import SearchSpace

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


class Zoo(SearchSpace):
    """The search space of the networks of `diswot.models.zoo`, which the choice names.

    The choice can also be `timm/NAME` for any network of timm, with options as timm's constructor has them:
    `timm/vit_tiny_patch16_224(img_size=32, patch_size=4)`; these are known but not enumerated.

    >>> space.build(Architecture("zoo", "resnet20"), num_classes=10).num_features
    64
    >>> space.build(Architecture("zoo", "timm/vit_tiny_patch16_224(img_size=32, patch_size=4, depth=2)"), 10).patch_embed.grid_size
    (8, 8)
    """

    name = "zoo"

    def names(self) -> list[str]:
        """Return the names of the networks that the space enumerates."""
        from diswot.models.zoo import ZOO

        return list(ZOO)

    def size(self) -> int:
        return len(self.names())

    def enumerate(self) -> Iterator[Architecture]:
        return (Architecture(self.name, name) for name in self.names())

    def sample(self, rng: np.random.Generator) -> Architecture:
        return Architecture(self.name, self.names()[int(rng.integers(self.size()))])

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        neighbours = list(self.neighbours(arch))
        return neighbours[int(rng.integers(len(neighbours)))]

    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        return (other for other in self.enumerate() if other != arch)

    def check(self, arch: Architecture) -> None:
        if isinstance(arch.choices, str) and (arch.choices in self.names() or _in_timm(arch.choices)):
            timm_options(arch.choices)
            return
        raise ArchitectureError(f"zoo: unknown network {arch.choices!r:.80}: {suggest(str(arch.choices), self.names())}")

    def extremes(self) -> list[Architecture]:
        return list(self.enumerate())

    def build(self, arch: Architecture, num_classes: int, in_chans: int = 3, drop_path: float = 0.0) -> nn.Module:
        from diswot.models.zoo import ZOO

        if _in_timm(arch.choices):
            return create_timm(arch.choices, num_classes, in_chans, drop_path)
        if drop_path:
            raise ArchitectureError(
                f"--drop-path {drop_path}: {arch.choices} has no drop path: leave it out, or take a network of timm that has"
            )
        return ZOO[arch.choices](num_classes=num_classes, in_chans=in_chans)


def _in_timm(choice: str) -> bool:
    if not choice.startswith(TIMM):
        return False
    import timm

    return timm.is_model(timm_name(choice))


space = Zoo()
