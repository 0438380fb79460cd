"""Processes: which of them torchrun started, how they start others, and how they end: at once, when their work is done; with their parent,
if they are children, which leave Ctrl-C to it."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import multiprocessing
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn

_SAFE_PATH = "PYTHONSAFEPATH"
_PATIENT_THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads of OpenMP's that sleep while they wait: where several processes have more threads than there are cores, those that wait busily
keep the others from work."""


def launched_by_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "WORLD_SIZE" in os.environ and "RANK" in os.environ


def is_main_process() -> bool:
    """Whether this process is the only one, or the first of those that torchrun started."""
    return not launched_by_torchrun() or os.environ["RANK"] == "0"


def start_process(target: Callable[..., Any], *args: Any) -> BaseProcess:
    """Start a process that ends with this one and does not hear Ctrl-C.

    It is the fork of a helper that has imported what this process has, once for all, and run nothing: a fork of this process itself could
    hang, as it may have run torch's threads. Where there can be no helper (Windows, macOS, Python 3.10, no room for its socket, or it has
    died), the process imports everything itself.
    """
    given = {**_PATIENT_THREADS, **os.environ}, target, args
    with interrupts_ignored():
        if sys.platform == "linux" and sys.version_info >= (3, 11):
            with contextlib.suppress(OSError, EOFError):
                return _forked(given)
        process = multiprocessing.get_context("spawn").Process(target=_run, args=given, daemon=True)
        with _environment_at_start():
            process.start()
        return process


def _run(environment: dict[str, str], target: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """The main function of a process that was started."""
    obey_parent()
    os.environ.clear()  # a fork has that of the helper, as it was when that one was started
    os.environ.update(environment)
    target(*args)
    end_process(0)


def _forked(given: tuple[Any, ...]) -> BaseProcess:
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(sorted(name for name in list(sys.modules) if _is_preloaded(name)))
    with _environment_at_start():
        forkserver.ensure_running()
    process = context.Process(target=_run, args=given, daemon=True)
    process.start()
    return process


def _is_preloaded(module: str) -> bool:
    package, _, rest = module.partition(".")
    return (package in ("diswot", "search_spaces") and not rest.endswith("__main__")) or module in ("timm", "torch._dynamo")


@contextlib.contextmanager
def _environment_at_start() -> Iterator[None]:
    """Inside, a Python that is started does not look for modules in the working folder, where a user's random.py may lie, and has threads
    that sleep while they wait."""
    needed = {_SAFE_PATH: "1", **{name: os.environ.get(name, value) for name, value in _PATIENT_THREADS.items()}}
    before = {name: os.environ.get(name) for name in needed}
    os.environ.update(needed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def end_process(code: int) -> NoReturn:
    """End this process as `sys.exit` does, once its threads have ended and what was registered for its exit has run, but without taking the
    interpreter apart.

    Where torch and timm were imported, that takes two to four seconds, for memory that is given back with the process anyway. Cut short, as
    by `gc.freeze`, it lets triton 3.9 write sixty lines on leaked objects.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # what the interpreter itself calls
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # nobody reads, it is closed, or there is none
            stream.flush()
    os._exit(code)


def obey_parent() -> None:
    """Make this child process ignore Ctrl-C, which is for its parent, and end when its parent has ended, however that came about."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def peak_memory() -> int:
    """The most memory that this process has held so far, in bytes; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


_TRIM = "MALLOC_TRIM_THRESHOLD_"
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20  # that it takes


def reuse_freed_memory() -> None:
    """Let this process reuse the memory of large tensors, as glibc does where MALLOC_TRIM_THRESHOLD_ is not set.

    dask sets it for its workers. Every tensor above 128 KiB is then given back when it is freed and mapped anew for the next, whose pages
    the kernel clears first: that takes longer than scoring a small network itself.
    """
    if _TRIM in os.environ and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_MMAP_THRESHOLD)


@contextlib.contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Inside, this thread starts processes that ignore Ctrl-C from their first instruction on, before they come to `obey_parent`.

    They inherit that the signal is held back. Where there is no such thing (Windows) nothing is done.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it is started with the first process, and would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
