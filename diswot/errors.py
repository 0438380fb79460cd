"""What can go wrong, as a tree. Every error is one line that names the value and the remedy.

DiswotError
├── ConfigError         a flag, a key or a value that cannot be used
├── ArchitectureError   an architecture, or an arch.json, outside its space or its format
├── BudgetError         a budget that cannot be read or that nothing meets
├── DataError           images or labels that cannot be used
├── TeacherError        a teacher that does not fit, or weights that do not
└── RunError            a run directory that cannot be written or resumed
"""

from __future__ import annotations


class DiswotError(Exception):
    """Base of every error that a user can mend; the command line prints it as one line and exits with 2."""


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
    """The first line of an error's message, cut to a length; its type where it has none.

    >>> first_line(ValueError("one\\ntwo")), first_line(KeyError())
    ('one', 'KeyError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:length]


def shown(value: object, length: int = 60) -> str:
    """A value in an error message: plain ones as they are, cut to a length, others by their type, so that a huge one is never written out.

    >>> shown("x" * 100, 5), shown([[1]]), shown(0.5)
    ("'xxxx…'", 'a list', '0.5')
    """
    if not (isinstance(value, str | int | float | bool) or value is None):
        return f"a {type(value).__name__}"
    text = repr(value)
    closing = text[0] if isinstance(value, str) else ""
    return text if len(text) <= length else text[:length] + "…" + closing
