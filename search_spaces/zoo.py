"""The hand-made networks of the literature as a space of their own: baselines that are scored, shown and distilled as any candidate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from diswot.architecture import Architecture
from diswot.errors import ArchitectureError
from diswot.registry import suggest
from diswot.space import SearchSpace

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


class Zoo(SearchSpace):
    """The CIFAR zoo; the choice is a name.

    >>> space.build(Architecture("zoo", "resnet20"), num_classes=10).num_features
    64
    """

    name = "zoo"

    def names(self) -> list[str]:
        from diswot.models.zoo import ZOO

        return list(ZOO)

    def size(self) -> int:
        return len(self.names())

    def enumerate(self) -> Iterator[Architecture]:
        return (Architecture(self.name, name) for name in self.names())

    def sample(self, rng: np.random.Generator) -> Architecture:
        return Architecture(self.name, self.names()[int(rng.integers(self.size()))])

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        others = list(self.neighbours(arch))
        return others[int(rng.integers(len(others)))]

    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        return (other for other in self.enumerate() if other != arch)

    def check(self, arch: Architecture) -> None:
        if not isinstance(arch.choices, str) or arch.choices not in self.names():
            raise ArchitectureError(f"zoo: unknown network {arch.choices!r:.80}: {suggest(str(arch.choices), self.names())}")

    def extremes(self) -> list[Architecture]:
        return list(self.enumerate())

    def build(self, arch: Architecture, num_classes: int, in_chans: int = 3) -> nn.Module:
        from diswot.models.zoo import ZOO

        return ZOO[arch.choices](num_classes=num_classes, in_chans=in_chans)


space = Zoo()
