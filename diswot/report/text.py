"""Cleaning of text before it is written to a table, a chart or a page."""

from __future__ import annotations

import re

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]")  # all but tab and line feed
_MINUS = re.compile(r"-(?=[\d.])")


def remove_control_characters(text: str) -> str:
    """Removes what HTML and XML cannot hold; tabs and line feeds stay, half a UTF-16 pair becomes a question mark.

    >>> remove_control_characters("  a:\\t1\\x00"), remove_control_characters("\\udc80")
    ('  a:\\t1', '?')
    """
    return _CONTROL_CHARACTERS.sub("", text.encode("utf-8", "replace").decode())


def single_line(value: object) -> str:
    """Any value as text on one line: each run of white space becomes one space, control characters are removed.

    >>> single_line("a\\n b\\x00"), single_line("\\udc80")
    ('a b', '?')
    """
    return remove_control_characters(" ".join(str(value).split()))


def replace_minus(text: str, sign: str = "−") -> str:
    """Replaces the hyphen before each negative number by a true minus sign, or by `sign`.

    >>> replace_minus("-.5 [-0.7, a-b]"), replace_minus("-1", "$-$")
    ('−.5 [−0.7, a-b]', '$-$1')
    """
    return _MINUS.sub(sign, text)


def file_name(text: str) -> str:
    """A text as the name of a file, without a suffix: safe whatever characters it holds, and not too long.

    >>> file_name("../x_loss:kd")
    '.._x_loss_kd'
    """
    return re.sub(r"[^\w.+-]", "_", text)[:120]


def millions(number: float) -> str:
    """A number of parameters or FLOPs in millions, for a reader.

    >>> millions(472_756), millions(87_501_408)
    ('0.473M', '87.5M')
    """
    return f"{number / 1e6:.3f}M" if number < 1e7 else f"{number / 1e6:,.1f}M"
