"""The latency of any network of a space from a table of its units: the CSV, and what is read from it.

The file begins with lines `# key: value` (see `TableSetup`), then has a row for each unit that was measured and for some whole networks:

    kind            class of the unit's first module; head (pooling and classifier); network
    in_channels, out_channels, kernel, stride, resolution, flops
                    what it looks like, for a reader: channels, largest kernel, ratio of the sides, side of its input in pixels, FLOPs
    ms              median time of a forward pass in milliseconds; empty where it has not been measured yet
    p10_ms, p90_ms, repeats
                    the spread of that
    reference_ms    the time of one and the same network, measured in turn with the row: the machine's pace at that time
    input, layers   what decides its time: the shape of its input, and its layers with their shapes
    choices         of a network: its architecture, as JSON
    file            of an export: the ONNX file of the row
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diswot.architecture import Architecture, canonical_json
from diswot.errors import ArchitectureError, ConfigError, first_line
from diswot.files import read_text
from diswot.latency.fill_in import FillIn, held_out_error
from diswot.latency.measure import Timing
from diswot.latency.runtimes import describe_setup
from diswot.latency.units import Layer, Unit, UnitReader
from diswot.space import ImageSpec, SearchSpace

Vector = NDArray[np.float64]
TITLE = "# diswot latency table, format 1"
NETWORK = "network"
MAX_UNITS, MAX_NETWORKS = 1_000, 200  # what is filled in takes the cube of them
MAX_BYTES, MAX_CELL = 64 << 20, 200_000
_MAX_MS = 1e7  # hours
_FEWEST_UNITS = 4
_LEAST = 0.25  # of the sum: a correction that takes more away was fitted to other networks
_FEWEST_NETWORKS = 5  # below which sums are taken as they are
_TIMES = ("ms", "p10_ms", "p90_ms", "repeats", "reference_ms")
COLUMNS = (
    *("kind", "in_channels", "out_channels", "kernel", "stride", "resolution", "flops"),
    *(*_TIMES, "input", "layers", "choices", "file"),
)


@dataclass(frozen=True)
class TableSetup:
    """What a table was measured of, and how.

    Attributes:
        space: name of the search space.
        num_classes, in_chans, input_size: of the images.
        limits: on the networks whose units were considered, in words.
        device, processor: what it was measured on; `processor` is its name.
        runtime, threads, batch_size: how networks were run.
        versions: of the runtime.
        units, networks: how many rows of each there are.
        seed: that drew the networks.
        reference: of an export: the ONNX file that gives the pace.
    """

    space: str
    num_classes: int
    in_chans: int
    input_size: int
    limits: str
    device: str
    processor: str
    runtime: str
    threads: int
    batch_size: int
    versions: str
    units: int
    networks: int
    seed: int
    reference: str = ""

    @property
    def spec(self) -> ImageSpec:
        """The images."""
        return ImageSpec(self.num_classes, self.in_chans, self.input_size)

    def __str__(self) -> str:
        how = describe_setup(self.device, self.runtime, self.threads, self.batch_size)
        return f"{how}, {self.processor}, {self.versions}"

    def lines(self) -> str:
        """The first lines of the file."""
        facts = (f"# {field.name}: {getattr(self, field.name)}" for field in dataclasses.fields(self))
        return "\n".join([TITLE, *(fact.replace("\n", " ") for fact in facts)]) + "\n"


@dataclass(frozen=True)
class Row:
    """A row: a unit or a network, its time, and the time of the reference then; both None where nothing has been measured yet."""

    subject: Unit | Architecture
    timing: Timing | None = None
    reference: float | None = None
    file: str = ""

    def cells(self, flops: int) -> dict[str, Any]:
        """The row as the CSV has it."""
        cells: dict[str, Any] = {"flops": flops, "file": self.file}
        if isinstance(self.subject, Unit):
            cells |= _unit_cells(self.subject)
        else:
            cells |= {"kind": NETWORK, "choices": canonical_json(self.subject.choices)}
        if self.timing is not None and self.reference is not None:
            values = (self.timing.median, self.timing.p10, self.timing.p90, self.timing.repeats, self.reference)
            cells |= {name: f"{value:.6g}" for name, value in zip(_TIMES, values, strict=True)}
        return cells


def _unit_cells(unit: Unit) -> dict[str, Any]:
    outputs = unit.layers[-1].outputs if unit.layers else unit.inputs
    kernel = max((layer.kernel for layer in unit.layers if layer.kernel), default=())
    sides = unit.inputs[1:], outputs[1:]
    stride = round(math.prod(sides[0]) ** 0.5 / math.prod(sides[1]) ** 0.5) if all(sides) else ""
    return {
        "kind": unit.kind,
        "in_channels": unit.inputs[0],
        "out_channels": outputs[0],
        "kernel": "x".join(map(str, kernel)),
        "stride": stride,
        "resolution": unit.inputs[-1],
        "input": "x".join(map(str, unit.inputs)),
        "layers": unit.layers_text,
    }


def csv_text(rows: Sequence[Mapping[str, Any]], with_header: bool = True) -> str:
    """The rows as lines of the CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    if with_header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_rows(path: Path) -> tuple[TableSetup, list[Row]]:
    """Read a table, whole or not.

    Raises:
        ConfigError: the file is none, is too large, or has a line that cannot be used, which is named.
    """
    text = _read_text(path)
    lines = text.splitlines()
    if not lines or lines[0] != TITLE:
        raise ConfigError(f"{path}: no latency table (its first line is not {TITLE!r}): make one with diswot latency --table")
    head = [line for line in lines[1:] if line.startswith("# ")]
    setup = _read_setup(path, head)
    reader = csv.DictReader(io.StringIO("\n".join(lines[1 + len(head) :]) + "\n"))
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise ConfigError(f"{path}: its columns are not {', '.join(COLUMNS)}: measure it again")
    rows = []
    for number, cells in _numbered(path, reader, 2 + len(head)):
        try:
            rows.append(_read_row(cells, setup.space))
        except (ValueError, RecursionError, ArchitectureError) as error:
            raise ConfigError(f"{path}, line {number}: {first_line(error)}: mend the line, or measure the table again") from None
    return setup, rows


def _read_text(path: Path) -> str:
    try:
        return read_text(path, MAX_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read ({reason}): give a table that `diswot latency --table` made") from None


def _read_setup(path: Path, lines: Sequence[str]) -> TableSetup:
    facts = dict(line[2:].partition(": ")[::2] for line in lines)
    try:
        kinds = {field.name: int if field.type == "int" else str for field in dataclasses.fields(TableSetup)}
        values: dict[str, Any] = {name: kind(facts[name]) for name, kind in kinds.items()}
        setup = TableSetup(**values)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{path}: its first lines are damaged ({first_line(error)}): measure the table again") from None
    counts = (setup.num_classes, setup.in_chans, setup.input_size, setup.threads, setup.batch_size)
    if 1 <= min(counts) <= max(counts) <= 1_000_000 and 1 <= setup.units <= MAX_UNITS and 0 <= setup.networks <= MAX_NETWORKS:
        return setup
    raise ConfigError(f"{path}: its first lines are damaged (a number is out of range): measure the table again")


def _numbered(path: Path, reader: csv.DictReader[str], first: int) -> Iterator[tuple[int, dict[str, str]]]:
    before = csv.field_size_limit(MAX_CELL)
    try:
        for count, cells in enumerate(reader):
            if count == MAX_UNITS + MAX_NETWORKS:
                raise ConfigError(f"{path}: more than {count:,} rows are no latency table")
            yield first + reader.line_num - 1, cells
    except csv.Error as error:
        raise ConfigError(f"{path}, line {first + reader.line_num - 1}: {error}: measure the table again") from None
    finally:
        csv.field_size_limit(before)


def _read_row(cells: Mapping[str, str], space: str) -> Row:
    if None in cells or None in cells.values():
        raise ValueError(f"{len(COLUMNS)} cells are needed")
    subject = _read_subject(cells, space)
    if not cells["ms"]:
        return Row(subject, file=cells["file"])
    ms, p10, p90, repeats, reference = (_positive(cells, name) for name in _TIMES)
    return Row(subject, Timing(ms, p10, p90, int(repeats)), reference, cells["file"])


def _read_subject(cells: Mapping[str, str], space: str) -> Unit | Architecture:
    if cells["kind"] == NETWORK:
        return Architecture(space, json.loads(cells["choices"]))
    layers = tuple(Layer.parse(text) for text in cells["layers"].split("; ") if text)
    inputs = tuple(int(side) for side in cells["input"].split("x"))
    if not cells["kind"].isidentifier() or not all(0 < side < 10**7 for side in inputs) or len(inputs) > 4:
        raise ValueError(f"input {cells['input']!r:.40} of a {cells['kind']!r:.40} is no shape such as 16x32x32")
    return Unit(cells["kind"], inputs, layers)


def _positive(cells: Mapping[str, str], name: str) -> float:
    try:
        value = float(cells[name])
    except ValueError:
        value = math.nan
    if not 0 < value <= _MAX_MS:
        raise ValueError(f"{name} {cells[name]!r:.40} is no positive number")
    return value


@dataclass(frozen=True)
class TableQuality:
    """How far a table can be trusted.

    Attributes:
        units: median relative error of units that are filled in, on measured ones that were held out; NaN for fewer than ten.
        networks: median relative error of the whole networks of the table, each held out of what corrects the sums; NaN for fewer than 5.
    """

    units: float
    networks: float


class LatencyTable:
    """The latency of the networks of a space on one device, without running any.

    It is the sum over a network's units; a unit that was not measured is filled in (`FillIn`). Every time is divided by the machine's pace
    then (the reference's time over its median). A unit that runs alone also pays for being called and for handing over its input, so sums
    are corrected, by a factor and a constant for the network or one for each unit, fitted to the whole networks of the table: whichever
    lowers their error most, each held out, or none.

    Attributes:
        path: the file.
        setup: what was measured, and how.
    """

    def __init__(self, path: Path, setup: TableSetup, rows: Sequence[Row]) -> None:
        self.path, self.setup = path, setup
        times = _at_one_pace(rows)
        self._measured = {row.subject: ms for row, ms in zip(rows, times, strict=True) if isinstance(row.subject, Unit)}
        self._fill_in = FillIn(list(self._measured), list(self._measured.values()))
        self._networks = {row.subject: ms for row, ms in zip(rows, times, strict=True) if isinstance(row.subject, Architecture)}
        self._times: dict[Unit, float] = dict(self._measured)
        self._correction = Correction()
        self._reader: UnitReader | None = None

    @classmethod
    def read(cls, path: str | Path) -> LatencyTable:
        """Read a table.

        Raises:
            ConfigError: the file is none, is damaged, or is not whole yet; the line is named.
        """
        path = Path(path)
        setup, rows = read_rows(path)
        done = [row for row in rows if row.timing is not None]
        if len(done) < setup.units + setup.networks:
            exported = any(row.file for row in rows)
            remedy = "run measure_blocks.py of the export on the device" if exported else "go on with the command that began it"
            raise ConfigError(f"{path}: {len(done)} of its {setup.units + setup.networks} rows have been measured: {remedy}")
        if sum(isinstance(row.subject, Unit) for row in done) < min(_FEWEST_UNITS, setup.units):
            raise ConfigError(f"{path}: too few units were measured: measure it again")
        return cls(path, setup, done)

    @property
    def digest(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:12]

    def check(self, space: SearchSpace, spec: ImageSpec) -> None:
        """Refuse to be used for another space, or for other images.

        Raises:
            ConfigError: names what differs.
        """
        own, remedy = f"{self.path}: a table of", f"measure one with diswot latency --space {space.name}"
        if space.name != self.setup.space:
            raise ConfigError(f"{own} {self.setup.space}, not of {space.name}: {remedy} --table FILE.csv")
        if self.setup.spec != spec:
            options = f"--num-classes {spec.num_classes} --input-size {spec.input_size}"
            raise ConfigError(f"{own} {self.setup.spec}, not of {spec}: {remedy} {options} --table FILE.csv")

    def latency(self, space: SearchSpace, arch: Architecture, spec: ImageSpec) -> float:
        """The latency of a network in milliseconds.

        Args:
            space: the space of the table.
            arch: one of its architectures.
            spec: classes, channels and size of the images, as the table has them.

        Raises:
            ConfigError: the table is of another space or of other images.
        """
        reader = self._reader
        if reader is None or reader.space is not space or reader.spec != spec:
            self.check(space, spec)
            reader = self._reader = UnitReader(space, spec)
            self._correction = self._corrected(reader)[0]
        units = reader.units(arch)
        return self._correction(self._sum(units), len(units))

    def quality(self, space: SearchSpace) -> TableQuality:
        """How far the table can be trusted, by what it holds itself."""
        units = held_out_error(list(self._measured), list(self._measured.values()))
        return TableQuality(units, self._corrected(UnitReader(space, self.setup.spec))[1])

    def _corrected(self, reader: UnitReader) -> tuple[Correction, float]:
        for arch in self._networks:
            reader.space.check(arch)
        cut = [reader.units(arch) for arch in self._networks]
        return best_correction([self._sum(units) for units in cut], [len(units) for units in cut], list(self._networks.values()))

    def _sum(self, units: Sequence[Unit]) -> float:
        if new := [unit for unit in dict.fromkeys(units) if unit not in self._times]:
            self._times |= dict(zip(new, self._fill_in(new).tolist(), strict=True))
        return sum(self._times[unit] for unit in units)


def _at_one_pace(rows: Sequence[Row]) -> list[float]:
    """The times of rows that were measured, as if all had been when the machine ran at its median pace."""
    pairs = [(row.timing.median, row.reference) for row in rows if row.timing is not None and row.reference is not None]
    usual = statistics.median(reference for _, reference in pairs)
    return [median * usual / reference for median, reference in pairs]


@dataclass(frozen=True)
class Correction:
    """What makes a sum over units the time of a network: `factor * sum + constant + each * units`, but never below a quarter of the sum.

    >>> Correction(factor=1.0, each=-0.04)(1.0, 5)
    0.8
    """

    factor: float = 1.0
    constant: float = 0.0
    each: float = 0.0

    def __call__(self, total: float, units: int) -> float:
        return max(self.factor * total + self.constant + self.each * units, _LEAST * total)

    @classmethod
    def fit(cls, sums: Vector, units: Vector, times: Vector, what: str) -> Correction:
        """The factor and the `constant` or `each` with the least squares of the relative error."""
        others = units if what == "each" else np.ones(len(units))
        (factor, other), *_ = np.linalg.lstsq(np.stack([sums, others], axis=1) / times[:, None], np.ones(len(times)), rcond=None)
        return cls(float(factor), **{what: float(other)})


def best_correction(sums: Sequence[float], units: Sequence[int], times: Sequence[float]) -> tuple[Correction, float]:
    """The correction that brings sums nearest to the times of whole networks, each held out, and its median relative error then.

    Args:
        sums: over the units of each network, in milliseconds.
        units: how many each has.
        times: of the whole networks.
    """
    total, number, measured = (np.asarray(values, np.float64) for values in (sums, units, times))
    if len(total) < _FEWEST_NETWORKS:
        return Correction(), math.nan
    errors = {"": np.abs(total / measured - 1)}
    for what in ("constant", "each"):
        errors[what] = np.array([_held_out(total, number, measured, what, index) for index in range(len(total))])
    best = min(errors, key=lambda what: float(errors[what].mean()))
    return Correction.fit(total, number, measured, best) if best else Correction(), float(np.median(errors[best]))


def _held_out(sums: Vector, units: Vector, times: Vector, what: str, index: int) -> float:
    """The relative error of a network that the correction was not fitted to."""
    others = np.arange(len(sums)) != index
    correction = Correction.fit(sums[others], units[others], times[others], what)
    return float(abs(correction(sums[index], units[index]) / times[index] - 1))
