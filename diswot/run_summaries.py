"""The runs in a folder, each in a line: what `diswot runs` shows. Nothing here imports torch."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diswot import runs
from diswot.architecture import read_arch_json
from diswot.errors import ConfigError, DiswotError, first_line
from diswot.runs import RunDir

RUNNING, INTERRUPTED, FINISHED, DAMAGED = "running", "interrupted", "finished", "damaged"
JOURNALS = {
    "search": "trials.jsonl",
    "score": "scores.jsonl",
    "study": "scores.jsonl",
    "tabulate": "trainings.jsonl",
    "train": "metrics.jsonl",
    "distill": "metrics.jsonl",
    "compare": "results.jsonl",
}
_UNITS = {"search": "candidates", "score": "networks", "study": "networks", "tabulate": "trainings", "compare": "seeds"}
_LAST_WRITTEN = {"search": "arch.json", "study": "report/scores.csv"}  # files that are there once all else is
_NETWORKS = "networks.json"
_LEFT_BY_RUNS = ("config.yaml", "env.json", "lock")  # where one of these is, there is, or was to be, a run


@dataclass(frozen=True)
class RunSummary:
    """A run in a line.

    Attributes:
        name: of its folder.
        verb: that began it; "" where that cannot be read.
        state: running, interrupted, finished or damaged.
        done: steps in its journal.
        total: steps that were asked for; None where only the run itself knows.
        unit: what a step is: candidates, epochs, ...
        best: its outcome so far in a few words; "" where there is none.
        changed: when it was written to last, in seconds since 1970.
        size: bytes on the disk, of all files in it.
        fault: what is damaged; "" where nothing is.
    """

    name: str
    verb: str
    state: str
    done: int
    total: int | None
    unit: str
    best: str
    changed: float
    size: int
    fault: str = ""

    def as_json(self) -> dict[str, Any]:
        """The summary as plain JSON."""
        return asdict(self)


def summarise_runs(folder: Path) -> list[RunSummary]:
    """The runs in a folder, the one that was written to last first.

    Raises:
        ConfigError: the folder is not there, or cannot be read.
    """
    try:
        paths = [path for path in folder.iterdir() if path.is_dir() and any((path / name).exists() for name in _LEFT_BY_RUNS)]
    except OSError as error:
        raise ConfigError(f"--runs {folder}: {error.strerror}: name the folder that holds the runs") from None
    return sorted(map(summarise_run, paths), key=lambda found: (-found.changed, found.name))


def summarise_run(path: Path) -> RunSummary:
    """The run in a folder; one that cannot be read is called damaged, with the reason."""
    size, changed = _weigh(path)
    verb = ""
    try:
        verb = runs.kind_of(path)
        config = runs.read_config(path)
        if verb not in JOURNALS:
            raise DiswotError(f"{path}: a run of {verb!r}, which this version does not know")
        records = RunDir(path).read(JOURNALS[verb])
        done, total = len(records), _total(verb, path, config)
        finished = _is_finished(verb, path, done, total)
        best = _BEST[verb](path, records)
    except (DiswotError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        fault = f"lacks {error}" if isinstance(error, KeyError) else first_line(error)
        return RunSummary(path.name, verb, DAMAGED, 0, None, "", "", changed, size, fault.removeprefix(f"{path}: "))
    state = RUNNING if runs.is_in_use(path) else FINISHED if finished else INTERRUPTED
    return RunSummary(path.name, verb, state, done, total, _UNITS.get(verb, "epochs"), best, changed, size)


def _weigh(path: Path) -> tuple[int, float]:
    """The bytes of all files in a folder, and when the last of them was written."""
    size, changed = 0, 0.0
    for file in path.rglob("*"):
        try:
            found = file.lstat()
        except OSError:  # it has just gone
            continue
        if file.name != "lock":  # which is touched by who only looks
            changed = max(changed, found.st_mtime)
        size += found.st_size if not file.is_dir() else 0
    return size, changed or time.time()


def _total(verb: str, path: Path, config: Mapping[str, Any]) -> int | None:
    """The steps that were asked for; None where only the run itself knows."""
    if verb == "score":
        return len(config["archs"])
    if verb == "tabulate":
        return _trainings(path, config)
    field = {"search": "iterations", "train": "epochs", "distill": "epochs", "compare": "seeds"}.get(verb)
    return int(config[field]) if field else None


def _trainings(path: Path, config: Mapping[str, Any]) -> int | None:
    """The trainings of a table; None before its networks are chosen."""
    if not (path / _NETWORKS).exists():
        return None
    count = len(runs.read_object(path / _NETWORKS)["networks"])
    fractions = [config["repeat_fraction"], 0.0 if config["loss"] == "none" else config["baseline_fraction"]]
    return count * int(config["seeds"]) + sum(math.floor(count * fraction + 1e-9) for fraction in fractions)


def _is_finished(verb: str, path: Path, done: int, total: int | None) -> bool:
    if verb in _LAST_WRITTEN:
        return (path / _LAST_WRITTEN[verb]).exists()
    if verb in ("train", "distill") and not ((path / "student").is_dir() or (path / "students").is_dir()):
        return False
    return total is not None and done >= total


def _winner(path: Path, _records: list[dict[str, Any]]) -> str:
    if not (path / "arch.json").exists():
        return ""
    provenance = read_arch_json(path / "arch.json")[1]
    cost, finals = provenance["cost"], provenance.get("finals") or {}
    top1 = max((float(found["top1"]) for found in finals.values()), default=None)
    return f"{cost['params'] / 1e6:.3g}M params" if top1 is None else f"{top1:.2f} %"


def _last_accuracy(_path: Path, records: list[dict[str, Any]]) -> str:
    measured = [record for record in records if any(key.endswith("_top1") for key in record)]
    accuracies = {key: float(value) for key, value in measured[-1].items() if key.endswith("_top1")} if measured else {}
    return f"{max(accuracies.values()):.2f} %" if accuracies else ""


def _best_mean(_path: Path, records: list[dict[str, Any]]) -> str:
    if not records:
        return ""
    means = [statistics.fmean(values) for values in zip(*(record["top1"] for record in records), strict=True)]
    best = max(range(len(means)), key=means.__getitem__)
    names, losses = records[0]["names"], records[0]["losses"]
    differ = [given[best] for given in (names, losses) if len(set(given)) > 1]
    return f"{means[best]:.2f} % {', '.join(differ or names[:1])}"


def _best_training(_path: Path, records: list[dict[str, Any]]) -> str:
    reached = [float(record["top1"]) for record in records if record["top1"] is not None]
    return f"{max(reached):.2f} %" if reached else ""


_BEST: Mapping[str, Callable[[Path, list[dict[str, Any]]], str]] = {
    "search": _winner,
    "score": lambda _path, _records: "",
    "study": lambda _path, _records: "",
    "tabulate": _best_training,
    "train": _last_accuracy,
    "distill": _last_accuracy,
    "compare": _best_mean,
}
