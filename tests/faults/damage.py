"""Damaged files: every field left out or of another kind, and the file cut at many places."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

WRONG: tuple[Any, ...] = (None, "x", "\x1b[31m", -1, 0.5, True, [], {}, [[1]], {"a": {}}, 10**400, float("nan"), 1e300)
_DEEP = 5000
_PLACE = "place of the deep one"


def damaged(name: str, content: bytes, cuts: int = 10) -> Iterator[tuple[str, bytes]]:
    """Yield a description of each damage to a file, and its content then.

    Args:
        name: of the file; its suffix says what it is.
        content: as it is whole.
        cuts: places at which it is cut.
    """
    if name.endswith(".jsonl"):
        first, *others = content.splitlines(keepends=True)
        for what, text in _changed(json.loads(first), json.dumps):
            yield what, text.encode() + b"\n" + b"".join(others)
    elif name.endswith(".json"):
        for what, text in _changed(json.loads(content), json.dumps):
            yield what, text.encode()
    elif name.endswith(".safetensors"):
        yield from _damaged_tensors(content)
    elif name.endswith(".yaml"):
        for what, text in _changed(yaml.safe_load(content), yaml.safe_dump):
            yield what, text.encode(errors="replace")
    for number in range(cuts):
        place = len(content) * number // cuts
        yield f"cut at byte {place}", content[:place]
    yield "of zeros", bytes(len(content))
    yield "text after it", content + b"\xff\xfe{"


def _damaged_tensors(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Every field of the header of a safetensors file: of its first tensor, of its metadata, and of the header itself; and its length."""
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]

    def packed(text: str) -> bytes:
        return len(text.encode()).to_bytes(8, "little") + text.encode() + data

    first = next(name for name in header if name != "__metadata__")
    for part in (first, "__metadata__"):
        others = {name: value for name, value in header.items() if name != part}
        for what, text in _changed({part: header.get(part)}, json.dumps):
            yield what, packed(_joined(text, json.dumps(others)))
        for what, text in _changed(header.get(part) or {}, json.dumps):
            yield f"{part}: {what}", packed(_joined(f"{{{json.dumps(part)}: {text}}}", json.dumps(others)))
    for wrong in (0, 1, length - 1, length + 1, len(content), 2**31, 2**63, 2**64 - 1):
        yield f"a header of {wrong} bytes", wrong.to_bytes(8, "little") + content[8:]


def _joined(*objects: str) -> str:
    """The fields of several objects of JSON in one."""
    return "{" + ", ".join(fields for text in objects if (fields := text.strip()[1:-1])) + "}"


def _changed(document: dict[str, Any], write: Any) -> Iterator[tuple[str, str]]:
    """Every field of an object left out, or with each of the wrong values."""
    for field in document:
        yield f"without {field}", write({name: value for name, value in document.items() if name != field})
        for wrong in WRONG:
            yield f"{field} is {wrong!r:.20}", write({**document, field: wrong})
        deep = "[" * _DEEP + "]" * _DEEP
        yield f"{field} is nested deep", write({**document, field: _PLACE}).replace(f'"{_PLACE}"', deep).replace(_PLACE, deep)
    yield "with one field more", write({**document, "extra": 1})
