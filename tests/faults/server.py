"""Runs commands in forks of itself, so that what they import is imported once. `Children` starts it and talks to it in JSON."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

import timm  # noqa: F401 - imported here, once, for all forks
import torch._dynamo  # noqa: F401

import diswot.distillation.recipe
import diswot.pages
import diswot.searching.recipe
import diswot.studies.recipe
import diswot.tabulation.recipe  # noqa: F401
from diswot.cli import main

_NOBODY = 65534


def serve() -> None:
    """Answer until there is no further question."""
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)


def _answer(question: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a command, and while it is stopped others."""
    pid, errors = _fork(question["words"], question)
    if question.get("stopped_at") is None:
        return [_ended(pid, errors)]
    _, status = os.waitpid(pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        return [{"code": os.waitstatus_to_exitcode(status), "errors": _read(errors), "peak_mb": 0.0}]
    others = [_ended(*_fork(words, {})) for words in question["meanwhile"]]
    os.kill(pid, signal.SIGCONT)
    return [_ended(pid, errors), *others]


def _ended(pid: int, errors: int) -> dict[str, Any]:
    text = _read(errors)
    _, status, usage = os.wait4(pid, 0)
    return {"code": os.waitstatus_to_exitcode(status), "errors": text, "peak_mb": usage.ru_maxrss / 1024}


def _read(descriptor: int) -> str:
    with open(descriptor, errors="replace") as file:
        return file.read()


def _fork(words: list[str], limits: dict[str, Any]) -> tuple[int, int]:
    """Begin a command; return its process and what reads its stderr."""
    reading, writing = os.pipe()
    if pid := os.fork():
        os.close(writing)
        return pid, reading
    os.dup2(writing, 2)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(0, 1)
    sys.stderr, sys.stdout = (io.TextIOWrapper(io.FileIO(descriptor, "w"), line_buffering=True) for descriptor in (2, 1))
    if limits.get("file_size") is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits["file_size"],) * 2)
    if limits.get("unprivileged") and os.getuid() == 0:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    for name, number in (("stopped_at", signal.SIGSTOP), ("killed_at", signal.SIGKILL)):
        if limits.get(name) is not None:
            _signal_at(limits[name], number)
    code = 1
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    finally:
        sys.stderr.flush()
        os._exit(code)


def _signal_at(step_number: int, number: signal.Signals) -> None:
    """Send a signal to this process at its n-th step on the disk: a file is flushed, or put in another's place."""
    left = step_number

    def step(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), number)
            return function(*arguments, **options)

        return called

    os.fsync, os.replace = step(os.fsync), step(os.replace)  # type: ignore[assignment]


if __name__ == "__main__":
    serve()
