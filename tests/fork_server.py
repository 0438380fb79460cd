"""Runs commands in forks of itself, so that what they import is imported once. `tests.forks` starts it and talks to it in JSON."""

from __future__ import annotations

import ctypes
import io
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

import timm  # noqa: F401 - imported here, once, for all forks
import torch._dynamo  # noqa: F401

import diswot.distillation.recipe
import diswot.pages
import diswot.searching.finalists
import diswot.searching.recipe
import diswot.studies.recipe
import diswot.tabulation.recipe
from diswot.architecture import canonical_json
from diswot.cli import main
from diswot.runs import RunDir
from tests.forks import FEW_PEERS

_NO_NEW_PRIVILEGES = 38  # PR_SET_NO_NEW_PRIVS of linux/prctl.h
_CAPABILITIES_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3 of linux/capability.h


def serve() -> None:
    """Answer until there is no further question."""
    diswot.searching.finalists.PEERS = FEW_PEERS
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)


def _answer(question: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a command, and while it is stopped others."""
    pid, errors = _fork(question["words"], question)
    if question["signal"] != signal.SIGSTOP:
        return [_ended(pid, errors)]
    _, status = os.waitpid(pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        return [{"code": os.waitstatus_to_exitcode(status), "errors": _read(errors), "peak_mb": 0.0}]
    others = [_ended(*_fork(words, {**question, "signal": None})) for words in question["meanwhile"]]
    os.kill(pid, signal.SIGCONT)
    return [_ended(pid, errors), *others]


def _ended(pid: int, errors: int) -> dict[str, Any]:
    text = _read(errors)
    _, status, usage = os.wait4(pid, 0)
    return {"code": os.waitstatus_to_exitcode(status), "errors": text, "peak_mb": usage.ru_maxrss / 1024}


def _read(descriptor: int) -> str:
    with open(descriptor, errors="replace") as file:
        return file.read()


def _fork(words: list[str], question: dict[str, Any]) -> tuple[int, int]:
    """Begin a command; return its process and what reads its stderr."""
    reading, writing = os.pipe()
    if pid := os.fork():
        os.close(writing)
        return pid, reading
    os.dup2(writing, 2)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(0, 1)
    sys.stderr, sys.stdout = (io.TextIOWrapper(io.FileIO(descriptor, "w"), line_buffering=True) for descriptor in (2, 1))
    code = 1
    try:
        os.chdir(question["folder"])
        os.environ.update(question["environment"])
        _limit(question)
        code = main(words)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _limit(question: dict[str, Any]) -> None:
    """Put this process under the limits that were asked for."""
    if question["file_size"] is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (question["file_size"],) * 2)
    if question["unprivileged"]:
        _drop_capabilities()
    if question["signal"] is not None:
        _signal_at(question["count"], question["moment"], question["signal"])


def _drop_capabilities() -> None:
    """Let the modes of files bind this process and those that it starts even where they are root's, who could write anywhere. A user who
    is nobody would not do: the interpreter and its packages may lie where only root can read."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    none = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, each of 64 bits
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.capset(header, none):
        raise OSError(ctypes.get_errno(), "the capabilities cannot be dropped")


def _signal_at(count: int, moment: str, number: int) -> None:
    """Send a signal to this process at the n-th moment of a kind: `disk` before a file is flushed or put in another's place, `whole` after
    a line of a journal, `torn` in the middle of one."""
    left, append = count, RunDir.append

    def is_last() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    def step(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            if is_last():
                os.kill(os.getpid(), number)
            return function(*arguments, **options)

        return called

    def line(run: RunDir, name: str, *records: Any, sync: bool = True) -> None:
        for record in records:
            ending = is_last()
            if ending and moment == "torn":
                with open(run.path / name, "a") as file:
                    file.write(canonical_json(dict(record))[:-1])
            else:
                append(run, name, record, sync=sync)
            if ending:
                os.kill(os.getpid(), number)

    if moment == "disk":
        os.fsync, os.replace = step(os.fsync), step(os.replace)  # type: ignore[assignment]
    else:
        RunDir.append = line  # type: ignore[method-assign]


if __name__ == "__main__":
    serve()
