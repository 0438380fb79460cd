"""Making a latency table: measured here, or exported for a device that has no torch."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.resources
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from diswot.architecture import Architecture
from diswot.budget import Budget
from diswot.errors import ConfigError, RunError
from diswot.latency.design import Design, Example, design
from diswot.latency.measure import Patience, counts_own_time, time_interleaved
from diswot.latency.runtimes import Setup, ready_to_run, running_threads, write_onnx
from diswot.latency.table import MAX_NETWORKS, MAX_UNITS, TITLE, LatencyTable, Row, TableSetup, csv_text, read_rows
from diswot.latency.units import Unit, UnitReader, cut_network
from diswot.progress import Reporter, duration
from diswot.runs import processor_name, write_atomic
from diswot.space import ImageSpec, SearchSpace

SCRIPT = "measure_blocks.py"
NOT_YET = "not measured yet"
GROUP = 12  # rows that are measured in turn, with the reference
PATIENCE = Patience(seconds=0.1, least=12, most=100)
_SECONDS_EACH = {"torch": 0.15, "onnx": 1.5, "compile": 15.0}  # to build, export or compile a row, roughly
_PACKAGES = {"torch": "torch", "compile": "torch", "onnx": "onnxruntime"}


@dataclass(frozen=True)
class TablePlan:
    """A table that is to be made.

    Attributes:
        space, spec: the search space, and the images.
        setup: how networks are run.
        limits: on params and flops of the networks whose units are considered, as text.
        units, networks: how many of each are measured.
        seed: draws the networks.
    """

    space: SearchSpace
    spec: ImageSpec
    setup: Setup
    limits: dict[str, str | None]
    units: int = 200
    networks: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, least, most in (("units", self.units, 10, MAX_UNITS), ("networks", self.networks, 0, MAX_NETWORKS)):
            if not least <= value <= most:
                raise ConfigError(f"--{name} {value}: from {least} to {most:,} is needed")
        Budget.parse(self.limits)

    @cached_property
    def design(self) -> Design:
        """What is measured."""
        reader = UnitReader(self.space, self.spec)
        return design(reader, Budget.parse(self.limits), self.units, self.networks, np.random.default_rng(self.seed))

    @cached_property
    def rows(self) -> list[Example | Architecture]:
        """What is measured, in an order that mixes units of all kinds and networks, so that the pace of the machine favours none."""
        everything: list[Example | Architecture] = [*self.design.examples, *self.design.networks]
        order = np.random.default_rng([self.seed, 1]).permutation(len(everything))
        return [everything[index] for index in order]

    @property
    def reference(self) -> Architecture:
        """The network that gives the machine's pace: the middle one by size."""
        return self.design.networks[len(self.design.networks) // 2] if self.design.networks else self.design.examples[0].arch

    def head(self, processor: str, reference: str = "") -> TableSetup:
        """The first lines of the table."""
        limits = ", ".join(f"{what} {text}" for what, text in self.limits.items() if text is not None) or "none"
        package, setup = _PACKAGES[self.setup.runtime], self.setup
        versions = NOT_YET if processor == NOT_YET else f"{package} {importlib.metadata.version(package)}"
        return TableSetup(
            space=self.space.name,
            **dataclasses.asdict(self.spec),
            limits=limits,
            **dataclasses.asdict(setup),
            processor=processor,
            versions=versions,
            units=len(self.design.examples),
            networks=len(self.design.networks),
            seed=self.seed,
            reference=reference,
        )

    def estimate(self) -> float:
        """Seconds that measuring takes, roughly."""
        each = _SECONDS_EACH[self.setup.runtime] + PATIENCE.seconds * (1 + 1 / GROUP)
        return each * len(self.rows)

    def describe(self) -> str:
        """What is going to be measured, in a line."""
        found = self.design
        seen = f"{len(found.examples)} of the {found.kinds_seen} different units" if found.kinds_seen > len(found.examples) else "all units"
        return f"{self.space.name}: {seen} of sampled networks, and {len(found.networks)} whole networks, by {self.setup}"

    def module(self, row: Example | Architecture) -> tuple[nn.Module, tuple[int, ...]]:
        """The network of a row, and the shape of its input for one image."""
        arch = row.arch if isinstance(row, Example) else row
        torch.manual_seed(self.seed)
        model = self.space.build(arch, self.spec.num_classes, self.spec.in_chans).eval()
        if not isinstance(row, Example):
            return model, self.spec.shape
        return cut_network(model, self.spec)[row.position].module(model).eval(), row.unit.inputs

    def images(self, shape: Sequence[int]) -> torch.Tensor:
        """What a row is run on."""
        return torch.randn(self.setup.batch_size, *shape, generator=torch.Generator().manual_seed(self.seed))

    def cells(self, row: Row) -> dict[str, object]:
        """A row as the CSV has it."""
        if not isinstance(row.subject, Architecture):
            return row.cells(row.subject.flops)
        return row.cells(sum(unit.flops for unit in self._reader.units(row.subject)))

    @cached_property
    def _reader(self) -> UnitReader:
        return UnitReader(self.space, self.spec)


def measure_table(plan: TablePlan, path: Path, reporter: Reporter) -> tuple[LatencyTable, str]:
    """Measure a table, or go on where a killed process left it: rows are added a group at a time, each on the disk before the next.

    Returns:
        The table, and a line on what makes its figures doubtful, or "".

    Raises:
        ConfigError: the file is another table, or holds something else.
        RunError: it cannot be written.
    """
    done = _begin(path, plan)
    left = plan.rows[done:]
    warnings: list[str] = []
    if left:
        reporter.log(plan.describe())
        so_long = duration(plan.estimate() * len(left) / len(plan.rows))
        reporter.log(f"about {so_long}; rows are kept in {path}, and the same command goes on with them")
        reporter.start(len(plan.rows), done, "row")
        for rows, warning in _measured(plan, left):
            _append(path, csv_text([plan.cells(row) for row in rows], with_header=False))
            warnings += [warning] if warning else []
            done += len(rows)
            reporter.update(done, lambda: "")
        reporter.stop()
    doubt = f"in {len(warnings)} of {-(-len(left) // GROUP)} groups of rows: {warnings[-1]}" if warnings else ""
    return LatencyTable.read(path), doubt


def _begin(path: Path, plan: TablePlan) -> int:
    """Write the first lines of a new table, or check that one that is there is of this plan; return how many rows it has."""
    head = plan.head(_processor(plan.setup))
    if not path.exists():
        _write(path, head.lines() + csv_text([]))
        return 0
    whole = path.read_bytes()
    if not whole.startswith(TITLE.encode()):
        raise ConfigError(f"--table {path}: the file holds something else: choose another name")
    if not whole.endswith(b"\n"):  # a crash cut the last line short
        _write(path, whole[: whole.rfind(b"\n") + 1].decode())
    found, rows = read_rows(path)
    begun, now = dataclasses.asdict(found), dataclasses.asdict(head)
    changed = next((name for name in now if begun[name] != now[name]), None)
    if changed is not None:
        what = f"it was begun with {changed} {begun[changed]}, and this is {now[changed]}"
        raise ConfigError(f"--table {path}: {what}: choose another file, or remove it")
    if [row.subject for row in rows] != [subject_of(row) for row in plan.rows[: len(rows)]]:
        raise ConfigError(f"--table {path}: its rows are not those of this space: choose another file, or remove it")
    return len(rows)


def _processor(setup: Setup) -> str:
    return torch.cuda.get_device_name() if setup.device == "cuda" else processor_name()


def subject_of(row: Example | Architecture) -> Unit | Architecture:
    """The unit or network that a row is about."""
    return row.unit if isinstance(row, Example) else row


def _write(path: Path, text: str) -> None:
    try:
        write_atomic(path, text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}): choose another file") from None


def _append(path: Path, text: str) -> None:
    try:
        with open(path, "ab", buffering=0) as file:
            file.write(text.encode())
            os.fsync(file.fileno())
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}; what was measured is kept, the same command goes on") from None


def _measured(plan: TablePlan, left: Sequence[Example | Architecture]) -> Iterator[tuple[list[Row], str]]:
    """The rows that are left, measured, a group at a time; and what makes a group doubtful."""
    setup = plan.setup
    with running_threads(setup), torch.inference_mode():
        pace = _call(plan, plan.reference)
        for begin in range(0, len(left), GROUP):
            group = left[begin : begin + GROUP]
            found = time_interleaved([*(_call(plan, row) for row in group), pace], PATIENCE, counts_own_time(setup))
            *timings, reference = found.timings
            rows = [Row(subject_of(row), timing, reference.median) for row, timing in zip(group, timings, strict=True)]
            yield rows, found.warning(setup)


def _call(plan: TablePlan, row: Example | Architecture) -> Callable[[], object]:
    model, shape = plan.module(row)
    return ready_to_run(model, plan.images(shape), plan.setup)


def export_table(plan: TablePlan, path: Path, folder: Path, reporter: Reporter) -> None:
    """Write an ONNX file for each row of a table, the table without its times, and the program that measures them on the device.

    Args:
        plan: its runtime is onnx.
        path: the table.
        folder: a new or empty folder.
        reporter: shown the progress.

    Raises:
        ConfigError: the table or the folder is there.
    """
    if path.exists():
        raise ConfigError(f"--table {path} exists: choose another name, or remove it")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"--export {folder} exists: choose a new folder")
    reporter.log(plan.describe())
    reporter.log(f"about {duration(_SECONDS_EACH['onnx'] * len(plan.rows))}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--export {folder}: cannot be made ({error.strerror})") from None
    reporter.start(len(plan.rows), unit="row")
    cells, reference = [], "reference.onnx"
    _export(plan, plan.reference, folder / reference)
    for number, row in enumerate(plan.rows):
        file = f"row_{number:04d}.onnx"
        _export(plan, row, folder / file)
        cells.append(plan.cells(Row(subject_of(row), file=file)))
        reporter.update(number + 1, lambda: "")
    reporter.stop()
    (folder / SCRIPT).write_text(importlib.resources.files("diswot.latency").joinpath(f"{SCRIPT}.txt").read_text(encoding="utf-8"))
    _write(path, plan.head(NOT_YET, reference).lines() + csv_text(cells))


def _export(plan: TablePlan, row: Example | Architecture, target: Path) -> None:
    model, shape = plan.module(row)
    write_onnx(model, plan.images(shape), target)
