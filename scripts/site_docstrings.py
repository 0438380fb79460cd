"""An extension of griffe, which reads the docstrings for the site: examples and drawings are shown as code, class attributes as a list."""

from __future__ import annotations

import re
from typing import Any

import griffe

_SECTION = re.compile(r"(?<=^Class attributes:\n)(?: {4}.*\n?)+", re.MULTILINE)
_ITEM = re.compile(r"^ {4}(?P<names>[a-z_]+(?:, [a-z_]+)*):", re.MULTILINE)
_CODE = re.compile(r"^(?P<indent> *)(?:>>> |.*\n *├── )")


class Docstrings(griffe.Extension):
    """Fences what is code, and makes a list of class attributes, for which griffe knows no section."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = fenced(listed(obj.docstring.value))


def listed(text: str) -> str:
    """The text with its class attributes as a list.

    >>> print(listed("A part.\\n\\nClass attributes:\\n    low, high: its range,\\n        in units.\\n"))
    A part.
    <BLANKLINE>
    Class attributes:
        - `low`, `high`: its range,
            in units.
    <BLANKLINE>
    """

    def item(match: re.Match[str]) -> str:
        return "    - " + ", ".join(f"`{name}`" for name in match["names"].split(", ")) + ":"

    return _SECTION.sub(lambda section: _ITEM.sub(item, section[0]), text)


def fenced(text: str) -> str:
    """The text with its doctests as fenced code.

    >>> fenced("The sum.\\n\\n>>> 1 + 1\\n2").splitlines()[2]
    '```pycon'
    """
    return "\n\n".join(_fence(paragraph) for paragraph in text.split("\n\n"))


def _fence(paragraph: str) -> str:
    match = _CODE.match(paragraph)
    return f"{match['indent']}```pycon\n{paragraph}\n{match['indent']}```" if match else paragraph
