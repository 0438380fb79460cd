"""An extension of griffe, which reads the docstrings for the site: examples and drawings of a docstring are shown as code."""

from __future__ import annotations

import re
from typing import Any

import griffe

_CODE = re.compile(r"^(?P<indent> *)(?:>>> |.*\n *├── )")


class Doctests(griffe.Extension):
    """Fences the paragraphs of a docstring that are doctests, or trees drawn with lines."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """The text with its doctests as fenced code.

    >>> print(fenced("The sum.\\n\\n>>> 1 + 1\\n2"))
    The sum.
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    """
    return "\n\n".join(_fence(paragraph) for paragraph in text.split("\n\n"))


def _fence(paragraph: str) -> str:
    match = _CODE.match(paragraph)
    return f"{match['indent']}```pycon\n{paragraph}\n{match['indent']}```" if match else paragraph
