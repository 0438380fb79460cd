"""The exceptions that diswot raises. Every message is one line that names the value and the remedy.

DiswotError
├── ConfigError         a flag, a key or a value that cannot be used
├── ArchitectureError   an architecture, or an arch.json, outside its space or its format
├── BudgetError         a budget that cannot be read or that nothing meets
├── DataError           images or labels that cannot be used
├── TeacherError        a teacher that does not fit, or weights that do not
└── RunError            a run directory that cannot be written or resumed

Messages are written once, with the flags of the command line (`--batch-size 1: at least 2 is needed`). Read from Python they name the
arguments instead (`batch_size 1: at least 2 is needed`); `speaking_flags` is what the command line turns on.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator
from itertools import takewhile

_FLAG = re.compile(r"(?<![\w-])--(?P<no>no-)?(?P<name>[a-z][a-z0-9]*(?:-[a-z0-9]+)*)")
_RESUME = re.compile(r"(?<![\w-])--resume (?P<folder>[^\s,;:]+)")
_ARGUMENTS = {"name": "folder", "runs": "folder"}  # where a flag and the argument of the Python function have different names
_MAX_SUGGESTIONS = 100  # names that an error message has room for
_LOOKS_LIKE = str.maketrans("oli", "011")
_ALIKE = 50  # names that are as like as any others are compared more closely: timm has dozens that one letter tells from resnet2O
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MOST_OF_WORD, _MOST = 200, 1500  # characters of a message
_flags_spoken = False


@contextlib.contextmanager
def speaking_flags() -> Iterator[None]:
    """Inside, messages name the flags of the command line and not the arguments of Python functions."""
    global _flags_spoken
    before, _flags_spoken = _flags_spoken, True
    try:
        yield
    finally:
        _flags_spoken = before


def flags_to_arguments(message: str) -> str:
    """A message with the names of arguments in place of flags.

    >>> flags_to_arguments("--batch-size 1: at least 2 is needed; go on with --resume runs/a, or add --no-teacher-cache")
    'batch_size 1: at least 2 is needed; go on with diswot.resume(runs/a), or add teacher_cache=False'
    """
    message = _RESUME.sub(r"diswot.resume(\g<folder>)", message)

    def argument(flag: re.Match[str]) -> str:
        name = flag["name"].replace("-", "_")
        return _ARGUMENTS.get(name, name) + ("=False" if flag["no"] else "")

    return _FLAG.sub(argument, message)


def readable(message: str) -> str:
    """A message as one line that a terminal can show, whatever file or argument a part of it comes from.

    Control characters, which could move the cursor or turn the direction of writing, are written as their codes; long words and long
    messages lose their middle.

    >>> readable("a.csv\\n line 1: \\x1b[31m" + "x" * 5000)[:40]
    'a.csv line 1: \\\\x1b[31mxxxxxxxxxxxxxxxxxx'
    >>> len(readable("x" * 5000)), len(readable("a " * 5000))
    (200, 1500)
    """
    words = (_CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), word) for word in message.split())
    return _without_middle(" ".join(_without_middle(word, _MOST_OF_WORD) for word in words), _MOST)


def _without_middle(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - length // 4 - 1]}…{text[-(length // 4) :]}"


class DiswotError(Exception):
    """Base of every error that a user can mend; the command line prints it as one line and exits with 2."""

    def __str__(self) -> str:
        message = readable(super().__str__())
        return message if _flags_spoken else flags_to_arguments(message)


class ConfigError(DiswotError):
    """A flag, a key or a value that cannot be used."""


class ArchitectureError(DiswotError):
    """An architecture, or an arch.json, outside its space or its format."""


class BudgetError(DiswotError):
    """A budget that cannot be read, or that no network of the space meets."""


class DataError(DiswotError):
    """Images or labels that cannot be used."""


class TeacherError(DiswotError):
    """A teacher that does not fit the data or the student, or weights that do not fit the teacher."""


class RunError(DiswotError):
    """A run directory that cannot be written, read or resumed."""


def first_line(error: BaseException, length: int = 160) -> str:
    """The first line of an error's message, cut to a length; the error's type where it has no message.

    >>> first_line(ValueError("one\\ntwo")), first_line(KeyError())
    ('one', 'KeyError')
    """
    text = str(error.args[0]) if isinstance(error, DiswotError) and error.args else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0][:length]


def brief_repr(value: object, length: int = 60) -> str:
    """A value as an error message shows it: text and numbers as Python writes them, cut to a length; of anything else the type alone.

    >>> brief_repr("x" * 100, 5), brief_repr([[1]]), brief_repr(0.5)
    ("'xxxx…'", 'a list', '0.5')
    """
    if not (isinstance(value, str | int | float | bool) or value is None):
        return f"a {type(value).__name__}"
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of thousands of digits"
    closing = text[0] if isinstance(value, str) else ""
    return text if len(text) <= length else text[:length] + "…" + closing


def _likeness(typed: str, known: str) -> tuple[float, int, bool]:
    """By the letters they share; of equals, by how far they begin alike, and by whether they look alike."""
    alike = takewhile(lambda letters: letters[0] == letters[1], zip(typed, known, strict=False))
    looks_alike = typed.translate(_LOOKS_LIKE) == known.translate(_LOOKS_LIKE)
    return difflib.SequenceMatcher(None, known, typed).ratio(), len(list(alike)), looks_alike


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the nearest known name, or all of them where none is near and they are few.

    >>> suggest("resnet65", ["resnet56", "vgg8"])
    'did you mean resnet56?'
    >>> suggest("resnet2O", ["resnet32", "resnet26", "resnet20"])
    'did you mean resnet20?'
    >>> suggest("mylos", ["MyLoss", "Other"])
    'did you mean MyLoss?'
    >>> suggest("x", ["b", "a"])
    'known: a, b'
    >>> suggest("x", map(str, range(1000)))
    '1,000 names are known, and none is like it'
    """
    names = sorted(known)
    spellings = {known_name.lower(): known_name for known_name in reversed(names)}
    near = difflib.get_close_matches(name.lower(), spellings, n=_ALIKE, cutoff=0.6)
    if near:
        return f"did you mean {spellings[max(near, key=lambda one: _likeness(name.lower(), one))]}?"
    return f"known: {', '.join(names)}" if len(names) <= _MAX_SUGGESTIONS else f"{len(names):,} names are known, and none is like it"
