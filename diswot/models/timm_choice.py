"""A network of timm with its options, as text: `timm/vit_tiny_patch16_224(img_size=32, patch_size=4)`."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from diswot.errors import ArchitectureError

if TYPE_CHECKING:
    from torch import nn

TIMM = "timm/"
_MAX_LENGTH = 300  # characters of a choice
_FIXED = ("num_classes", "in_chans", "features_only", "scriptable", "exportable", "drop_path_rate")  # said elsewhere, or of no classifier


def timm_name(choice: str) -> str:
    """The name of timm in a choice.

    >>> timm_name("timm/vit_tiny_patch16_224(img_size=32)")
    'vit_tiny_patch16_224'
    """
    return choice.removeprefix(TIMM).partition("(")[0].strip()


def timm_options(choice: str) -> dict[str, float | bool]:
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

    name, options = timm_name(choice), timm_options(choice)
    dropped = {"drop_path_rate": drop_path} if drop_path else {}
    try:
        return timm.create_model(name, num_classes=num_classes, in_chans=in_chans, pretrained=pretrained, **options, **dropped)
    except TypeError:
        if drop_path and not options:
            raise ArchitectureError(f"--drop-path {drop_path}: timm's {name} has no drop path: leave it out") from None
        raise ArchitectureError(f"timm's {name} does not take {', '.join(options)}: leave out what it does not know") from None
