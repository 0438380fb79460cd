"""A network as a drawing of characters: a bar for each block, as long as it has channels, from the image down to the classes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diswot.describe import Part

_BAR = 24  # characters of the widest
_MOST = 6  # bars of one part; of more, the number is written
_PLAIN = str.maketrans({"█": "#", "│": "|", "▼": "v", "├": "+", "◀": "<", "─": "-", "×": "x", "⋮": ":"})


@dataclass(frozen=True)
class _Layer:
    """What a drawing needs of a part: where it is, how wide, and how many blocks it has."""

    place: str
    width: int
    part: Part


def draw_network(parts: Sequence[Part], image: tuple[int, int, int], num_classes: int, sketch: Sequence[str] = ()) -> list[str]:
    """The lines of the drawing, at most 80 characters wide.

    Args:
        parts: of the network, in the order they run.
        image: (C, H, W).
        num_classes: at its end.
        sketch: lines of the space, such as the graph of a cell; they come last.
    """
    layers = [_layer(part) for part in parts if not _is_norm(part)]
    place = max((len(layer.place) for layer in layers), default=0)
    widest = max((layer.width for layer in layers if layer.place), default=1)
    chans, height, width = image
    lines = [f"{f'{height} x {width}':>{place}}   image, {chans} channel{'s' if chans > 1 else ''}"]
    before = ""
    for layer in layers:
        if layer.place and layer.place != before:
            lines.append(f"{'':{place}} ▼")
        for label, bar, text in _bars(layer, widest, shown=layer.place != before):
            lines.append(f"{label:>{place}} {bar:{_BAR + 7}} {text}"[:80].rstrip())
        before = layer.place or before
    lines += [f"{'':{place}} ▼", f"{'':{place}}   {num_classes:,} classes"]
    return [*lines, *(["", *sketch] if sketch else [])]


def encodable(lines: Sequence[str], encoding: str | None = None) -> list[str]:
    """The lines, in plain ASCII where the output can hold nothing else.

    >>> encodable(["│ ██ ▼"], "ascii"), encodable(["│ ██ ▼"], "utf-8")
    (['| ## v'], ['│ ██ ▼'])
    """
    try:
        "\n".join(lines).encode(encoding or sys.stdout.encoding or "ascii")
        return list(lines)
    except UnicodeEncodeError:
        return [line.translate(_PLAIN).encode("ascii", "replace").decode() for line in lines]


def _is_norm(part: Part) -> bool:
    """Whether a part is a normalisation alone, which would be drawn as a block."""
    return part.flops == 0 and part.kind.rstrip("123d").endswith("Norm")


def _layer(part: Part) -> _Layer:
    """Where a part is: its resolution, or the number of its tokens; "" once there is one number for each channel."""
    if len(part.output) == 3:
        chans, height, width = part.output if part.output[1] == part.output[2] else (part.output[2], *part.output[:2])
        return _Layer(f"{height} x {width}", chans, part)
    if len(part.output) == 2:
        return _Layer(f"{part.output[0]} tokens", part.output[1], part)
    return _Layer("", part.output[0] if part.output else 1, part)


def _bars(layer: _Layer, widest: int, shown: bool) -> Iterator[tuple[str, str, str]]:
    """Yield a line for each block: the resolution (of the first alone), the bar with its channels, and what it is (of the first alone)."""
    part, place = layer.part, layer.place if shown else ""
    if not layer.place:
        yield "", f"│ {'':{_BAR}} {layer.width:,}", f"{part.name}: {part.kind}"
        return
    bar = "│ " + "█" * max(1, round(_BAR * layer.width / widest))
    count = min(part.blocks, _MOST)
    for number in range(count):
        first = number == 0
        label = f"{bar:{_BAR + 2}} {layer.width:,}" if first else bar
        yield place if first else "", label, f"{part.name}: {part.kind}" if first else ""
    if part.blocks > count:
        yield "", "│ ⋮", f"{part.blocks} blocks in all"
