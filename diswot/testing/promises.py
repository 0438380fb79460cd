"""A decorator of the conformance checks: a broken promise is an AssertionError, also where the part's own code raised something else."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

from diswot.errors import DiswotError, first_line

P = ParamSpec("P")


def told_as_assertions(check: Callable[P, None]) -> Callable[P, None]:
    """Make a conformance check raise AssertionErrors, and the errors that a user would meet; nothing else."""

    @functools.wraps(check)
    def checked(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            check(*args, **kwargs)
        except (AssertionError, DiswotError):
            raise
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise AssertionError(f"{_name(args[0])}: {reason} (line {where.lineno} of {Path(where.filename).name})") from error

    return checked


def _name(part: Any) -> str:
    return part if isinstance(part, str) else getattr(part, "__name__", type(part).__name__)
