"""Where the time of a search goes, and how long the second of two equal ones takes.

    python scripts/benchmark_search.py [--iterations 1000] [--workers 2] [KEY=VALUE ...]

The default search of the README, in this process, its parts timed from outside; then once more, its scores from the store, and the journals
compared. Needs no data and no GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from diswot.config import SearchConfig, resolve
from diswot.execution import Execution
from diswot.progress.terminal import progress_shown
from diswot.scoring.engine import Engine
from diswot.searching import recipe
from diswot.searching.loop import Search
from diswot.sessions import Session

WORDS = ["teacher=resnet56", "params=1M"]
PARTS = {
    "setting up (images, teacher, budget)": (Search, "__init__"),
    "breeding, and checking the budget": (Search, "_breed"),
    "waiting for scores": (Engine, "completed"),
    "writing trials, ranking": (Search, "_write"),
    "the finalists, and the winner under another seed": (recipe, "rank_finalists"),
}


@contextlib.contextmanager
def timed(seconds: Counter[str]) -> Iterator[None]:
    """Inside, the time in each part is added up; of parts within parts, the outer one has it."""
    depth = 0

    def wrap(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal depth
            depth += 1
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                depth -= 1
                if depth == 0:
                    seconds[name] += time.perf_counter() - begun  # type: ignore[assignment]

        return run

    originals = {name: getattr(*place) for name, place in PARTS.items()}
    for name, (owner, attribute) in PARTS.items():
        setattr(owner, attribute, wrap(name, originals[name]))
    try:
        yield
    finally:
        for name, (owner, attribute) in PARTS.items():
            setattr(owner, attribute, originals[name])


def search(words: list[str], folder: Path, workers: int) -> float:
    seconds: Counter[str] = Counter()
    plan = recipe.SearchPlan(resolve(SearchConfig, None, words, {}))
    begun = time.perf_counter()
    with (
        progress_shown(quiet=False) as reporter,
        timed(seconds),
        Session.create(plan, folder, Execution("cpu", workers, reporter)) as session,
    ):
        session.run()
    whole = time.perf_counter() - begun
    for name in (*PARTS, "the rest"):
        part = seconds[name] if name in seconds else whole - sum(seconds.values()) if name == "the rest" else 0.0
        print(f"  {name}: {part:.1f} s, {100 * part / whole:.1f} %")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"  {whole:.1f} s in all; the most memory of the main process so far {memory:.2f} GB", flush=True)
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("words", nargs="*", default=[])
    given = parser.parse_args()
    words = [*WORDS, *given.words, f"iterations={given.iterations}"]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DISWOT_HOME"] = f"{folder}/home"
        os.environ.pop("DISWOT_CACHE", None)
        print(f"a search: {' '.join(words)}, {given.workers} workers")
        first = search(words, Path(folder) / "first", given.workers)
        print("the same again, from the store")
        second = search(words, Path(folder) / "second", given.workers)
        journals = [(Path(folder) / name / "trials.jsonl").read_bytes() for name in ("first", "second")]
        print(f"the second took {second:.1f} s, 1/{first / second:.0f} of the first; the same journal: {journals[0] == journals[1]}")


if __name__ == "__main__":
    main()
