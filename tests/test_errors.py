"""Error messages name flags on the command line, and arguments from Python."""

from __future__ import annotations

import contextlib

import pytest

import diswot
from diswot import errors
from diswot.errors import ConfigError, DiswotError, first_line, flags_to_arguments, speaking_flags


@pytest.fixture(autouse=True)
def _flags_in_messages():  # type: ignore[no-untyped-def]
    """Here messages are read as Python callers read them."""
    yield


@pytest.mark.parametrize(
    ("flags", "arguments"),
    [
        ("--batch-size 1: at least 2 is needed", "batch_size 1: at least 2 is needed"),
        ("use --no-teacher-cache", "use teacher_cache=False"),
        ("go on with --resume runs/a; or", "go on with diswot.resume(runs/a); or"),
        ("choose another --name", "choose another folder"),
        ("a--b and --- stay", "a--b and --- stay"),
    ],
)
def test_flags_become_arguments(flags: str, arguments: str) -> None:
    assert flags_to_arguments(flags) == arguments
    assert str(DiswotError(flags)) == arguments
    with speaking_flags():
        assert str(DiswotError(flags)) == flags


def test_python_callers_read_the_arguments_name() -> None:
    with pytest.raises(ConfigError, match=r"^batch_size 1: at least 2 is needed$"):
        diswot.score(["resnet8"], batch_size=1)


def test_reasons_in_journals_do_not_depend_on_who_reads_them() -> None:
    error = DiswotError("--params 1Q: no quantity")
    with speaking_flags():
        assert first_line(error) == "--params 1Q: no quantity"
    assert first_line(error) == "--params 1Q: no quantity"


def test_flags_are_spoken_inside_alone() -> None:
    with contextlib.suppress(RuntimeError), speaking_flags():
        raise RuntimeError
    assert not errors._flags_spoken
