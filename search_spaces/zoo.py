"""The hand-made networks of the literature as a search space.

They are baselines that can be scored, shown and distilled like any other candidate.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from diswot.architecture import Architecture
from diswot.errors import ArchitectureError, suggest
from diswot.space import SearchSpace

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

TIMM = "timm/"


class Zoo(SearchSpace):
    """The search space of the networks of `diswot.models.zoo`, which the choice names.

    The choice can also be `timm/NAME` for any network of timm; these are known but not enumerated.

    >>> space.build(Architecture("zoo", "resnet20"), num_classes=10).num_features
    64
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
            return
        raise ArchitectureError(f"zoo: unknown network {arch.choices!r:.80}: {suggest(str(arch.choices), self.names())}")

    def extremes(self) -> list[Architecture]:
        return list(self.enumerate())

    def build(self, arch: Architecture, num_classes: int, in_chans: int = 3, drop_path: float = 0.0) -> nn.Module:
        from diswot.models.zoo import ZOO

        if _in_timm(arch.choices):
            return _build_timm(arch.choices.removeprefix(TIMM), num_classes, in_chans, drop_path)
        if drop_path:
            raise ArchitectureError(
                f"--drop-path {drop_path}: {arch.choices} has no drop path: leave it out, or take a network of timm that has"
            )
        return ZOO[arch.choices](num_classes=num_classes, in_chans=in_chans)


def _in_timm(name: str) -> bool:
    if not name.startswith(TIMM):
        return False
    import timm

    return timm.is_model(name.removeprefix(TIMM))


def _build_timm(name: str, num_classes: int, in_chans: int, drop_path: float) -> nn.Module:
    import timm

    options = {"drop_path_rate": drop_path} if drop_path else {}
    try:
        return timm.create_model(name, num_classes=num_classes, in_chans=in_chans, **options)
    except TypeError:
        raise ArchitectureError(f"--drop-path {drop_path}: timm's {name} has no drop path: leave it out") from None


space = Zoo()
