"""Error messages name flags on the command line, and arguments from Python."""

from __future__ import annotations

import ast
import contextlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import diswot
from diswot import errors
from diswot.cli.app import cli
from diswot.errors import (
    ConfigError,
    DataError,
    DiswotError,
    RunError,
    TeacherError,
    brief_repr,
    first_line,
    flags_to_arguments,
    speaking_flags,
    suggest,
)

PACKAGE = Path(inspect.getfile(diswot)).parent


@pytest.fixture(autouse=True)
def _flags_in_messages() -> Iterator[None]:
    """Here messages are read as Python callers read them."""
    yield


MESSAGES = [
    ("--batch-size 1: at least 2 is needed", "batch_size 1: at least 2 is needed"),
    ("use --no-teacher-cache", "use teacher_cache=False"),
    ("go on with --resume runs/a; or", "go on with diswot.resume(runs/a); or"),
    (
        "exists: resume it with --resume runs/a, or choose another --name",
        "exists: resume it with diswot.resume(runs/a), or choose another folder",
    ),
    ("cannot be made (x): choose another --runs", "cannot be made (x): choose another folder"),
    ("--iterations 0: x; --top-k -1: y", "iterations 0: x; top_k -1: y"),
    ("a--b and --- stay, and -v, and --Name", "a--b and --- stay, and -v, and --Name"),
    ("(--space mylab:Mine)", "(space mylab:Mine)"),
    ("no flag at all", "no flag at all"),
]


@pytest.mark.parametrize(("flags", "arguments"), MESSAGES)
def test_flags_become_arguments(flags: str, arguments: str) -> None:
    assert flags_to_arguments(flags) == arguments
    for kind in (DiswotError, ConfigError, RunError):
        assert str(kind(flags)) == arguments
        with speaking_flags():
            assert str(kind(flags)) == flags


CALLS = [
    (lambda: diswot.score(["resnet8"], batch_size=1), ConfigError, r"^batch_size 1: at least 2 is needed$"),
    (lambda: diswot.search(top_k=0), ConfigError, r"^top_k 0: at least 1 is needed$"),
    (lambda: diswot.search(top_k="x"), ConfigError, r"^top_k 'x' is not a whole number$"),
    (lambda: diswot.search(workers=-1, params="1M"), ConfigError, r"^workers -1: 0 \(one for each core\) to 100,000 is needed$"),
    (lambda: diswot.search(device="tpu", params="1M"), ConfigError, r"^device 'tpu': known: auto, cpu, cuda, mps, and cuda:0"),
    (lambda: diswot.distill("resnet8", folder="a", teacher_weights="random"), TeacherError, r"^teacher_weights random: "),
    (lambda: diswot.train("resnet8", folder="a", data_dir="none"), DataError, r": add download, or say data_dir$"),
]


@pytest.mark.parametrize(("call", "error", "says"), CALLS)
def test_python_callers_read_the_arguments_name(
    call: Callable[[], object], error: type[Exception], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=says) as caught:
        call()
    assert "--" not in str(caught.value)


def test_the_command_line_speaks_of_flags(diswot: Any) -> None:
    code, _, err = diswot("score", "resnet8", "--batch-size", "1")
    assert code == 2 and err == "diswot: --batch-size 1: at least 2 is needed\n"
    assert not errors._flags_spoken, "and of arguments again once it has ended"


def test_a_folder_that_exists_is_resumed_as_the_reader_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from diswot.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "mine").write_text("")
    with pytest.raises(RunError, match=r"runs/a exists: resume it with diswot\.resume\(runs/a\), or choose another folder$"):
        diswot.search(folder="runs/a", params="1M")
    assert main(["search", "--params", "1M", "--name", "a", "--quiet"]) == 2
    assert capsys.readouterr().err == "diswot: runs/a exists: resume it with --resume runs/a, or choose another --name\n"


def test_reasons_in_journals_do_not_depend_on_who_reads_them() -> None:
    error = DiswotError("--params 1Q: no quantity")
    with speaking_flags():
        assert first_line(error) == "--params 1Q: no quantity"
    assert first_line(error) == "--params 1Q: no quantity"


def test_flags_are_spoken_inside_alone() -> None:
    with contextlib.suppress(RuntimeError), speaking_flags():
        with speaking_flags():
            assert errors._flags_spoken
        assert errors._flags_spoken, "the inner of two does not end the outer"
        raise RuntimeError
    assert not errors._flags_spoken


FLAGS = {flag for command in cli.commands.values() for option in command.params for flag in (*option.opts, *option.secondary_opts)}
NOT_OURS = {"--nproc-per-node", "--standalone", "--help"}  # torchrun's, and every command's


def _texts(path: Path) -> Iterator[str]:
    """The texts in a module's code: what it may say to a user, and its docstrings."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_flag_that_is_spoken_of_is_there(path: Path) -> None:
    spoken = {flag for text in _texts(path) for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9](?![\w{-])", text)}
    assert spoken - FLAGS - NOT_OURS == set()


def test_a_value_is_shown_in_one_short_line() -> None:
    assert brief_repr("a\nb") == "'a\\nb'" and brief_repr(None) == "None" and brief_repr({"a": 1}) == "a dict"
    assert len(brief_repr("x" * 1000)) < 70 and len(brief_repr(10**1000)) < 70


def test_the_nearest_name_is_found_whatever_its_capitals() -> None:
    assert suggest("mylos", ["MyLoss", "other"]) == "did you mean MyLoss?"
    assert suggest("RESNET56", ["resnet56", "vgg8"]) == "did you mean resnet56?"
    assert suggest("x", [str(number) for number in range(101)]) == "101 names are known, and none is like it"
    assert suggest("x", [str(number) for number in range(100)]).startswith("known: 0, 1, 10")
