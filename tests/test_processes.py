"""How processes end, and the memory that they free."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_END = """
import atexit, sys, threading, time
from diswot.processes import end_process

class Module:
    def __del__(self):
        print("taken apart")

kept = Module()
atexit.register(print, "registered", flush=True)
threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
sys.stdout.write("buffered, ")
if sys.argv[1] == "at once":
    end_process(3)
sys.exit(3)
"""


@pytest.mark.parametrize(("way", "more"), [("at once", []), ("as ever", ["taken apart"])])
def test_a_process_ends_with_its_threads_and_what_was_registered(way: str, more: list[str]) -> None:
    """As Python ends it, but for what it holds, which is not taken apart."""
    done = subprocess.run([sys.executable, "-c", _END, way], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["buffered, thread", "registered", *more]
    assert (done.returncode, done.stderr) == (3, "")


_FAULTS = """
import resource, sys
import torch
from diswot.processes import reuse_freed_memory

if sys.argv[1] == "reuse":
    reuse_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(10):  # until the heap has found its size
    torch.zeros(1_000_000)
before = faults()
for _ in range(20):
    torch.zeros(1_000_000)  # 4 MB, 1,000 pages
print(faults() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the variable is of glibc's malloc")
def test_freed_memory_is_reused_in_a_worker_of_dask() -> None:
    """dask starts its workers with this variable; counted is how often the kernel must provide a page."""
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"}
    counts = {
        way: int(subprocess.run([sys.executable, "-c", _FAULTS, way], env=environment, check=True, capture_output=True, text=True).stdout)
        for way in ("as_started", "reuse")
    }
    assert counts["reuse"] < counts["as_started"] / 5
