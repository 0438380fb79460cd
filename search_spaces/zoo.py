"""The hand-made networks of the literature as a search space.

They are baselines that can be scored, shown and distilled like any other candidate.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from diswot.architecture import Architecture
from diswot.errors import ArchitectureError, suggest
from diswot.space import SearchSpace

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

TIMM = "timm/"
_MAX_LENGTH = 300  # characters of a choice
_FIXED = ("num_classes", "in_chans", "features_only", "scriptable", "exportable", "drop_path_rate")  # said elsewhere, or of no classifier


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
            _timm_options(arch.choices)
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


def timm_name(choice: str) -> str:
    """The name of timm in a choice.

    >>> timm_name("timm/vit_tiny_patch16_224(img_size=32)")
    'vit_tiny_patch16_224'
    """
    return choice.removeprefix(TIMM).partition("(")[0].strip()


def _in_timm(choice: str) -> bool:
    if not choice.startswith(TIMM):
        return False
    import timm

    return timm.is_model(timm_name(choice))


def _timm_options(choice: str) -> dict[str, float | bool]:
    """The options that stand in brackets after a name: numbers and truth values alone, for an arch.json may come from anyone."""
    if "(" not in choice:
        return {}
    remedy = "write options as timm/vit_tiny_patch16_224(img_size=32, patch_size=4): numbers, true or false"
    try:
        call = ast.parse(choice.removeprefix(TIMM).strip(), mode="eval").body
        if not isinstance(call, ast.Call) or call.args or len(choice) > _MAX_LENGTH:
            raise ValueError
        options = {str(keyword.arg): _plain(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ArchitectureError(f"zoo: {choice!r:.80}: {remedy}") from None
    if odd := next((name for name in options if name.startswith("pretrained") or name in _FIXED), ""):
        raise ArchitectureError(f"zoo: {choice!r:.80}: {odd} is no option of an architecture: leave it out")
    return options


def _plain(node: ast.expr) -> float | bool:
    if isinstance(node, ast.Name) and node.id.lower() in ("true", "false"):
        return node.id.lower() == "true"
    value = ast.literal_eval(node)
    if not isinstance(value, int | float):
        raise ValueError
    return value


def create_timm(choice: str, num_classes: int, in_chans: int, drop_path: float = 0.0, pretrained: bool = False) -> nn.Module:
    """The network of timm that a choice names.

    Args:
        choice: `timm/NAME`, or `timm/NAME(option=number, ...)`.
        num_classes, in_chans: of the images.
        drop_path: probability that a residual path is dropped in training.
        pretrained: with timm's weights, downloaded; a classifier of other classes is drawn anew.

    Raises:
        ArchitectureError: an option that the network does not take.
    """
    import timm

    name, options = timm_name(choice), _timm_options(choice)
    dropped = {"drop_path_rate": drop_path} if drop_path else {}
    try:
        return timm.create_model(name, num_classes=num_classes, in_chans=in_chans, pretrained=pretrained, **options, **dropped)
    except TypeError:
        if drop_path and not options:
            raise ArchitectureError(f"--drop-path {drop_path}: timm's {name} has no drop path: leave it out") from None
        raise ArchitectureError(f"timm's {name} does not take {', '.join(options)}: leave out what it does not know") from None


space = Zoo()
