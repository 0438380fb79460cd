"""`Benchmark`: architectures and what they reached, read from a CSV of any space."""

from __future__ import annotations

import contextlib
import csv
import gzip
import itertools
import json
import math
import re
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from diswot.architecture import Architecture
from diswot.errors import ArchitectureError, ConfigError, DataError, first_line, shown
from diswot.registry import suggest
from diswot.space import SearchSpace, load_space

MAX_BYTES = 1 << 30
_MAX_LINE = 1_000_000
_ARCH_COLUMNS = ("arch_str", "arch", "architecture", "choices", "name")  # looked for in this order
_ACCURACY = re.compile(r"(?P<dataset>.+)_(?P<split>valid|test|given)_acc(?P<epochs>_\d+ep)?")
_GIVEN = "accuracy_given_acc"  # what a column of the caller's choice becomes, since nobody knows which split it is of
_RECOGNISED = ("nasbench201", "nats_size", "nasbench101")  # spaces whose choices no other space has


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A table: one row an architecture, the same one as often as it was trained.

    Attributes:
        name: of the file, without its suffixes.
        space: name of the space that all `archs` are of.
        archs: the n architectures, in the order of the rows.
        columns: (n,) float64 each, NaN where a cell is empty. Accuracies are named `{dataset}_{split}_acc`, or with the epochs of a
            shorter training `{dataset}_{split}_acc_12ep`; they are as the file has them, percentages or fractions.

    >>> table = Benchmark("t", "s", [Architecture("s", 1)], {"cifar10_valid_acc": np.array([91.0]), "cifar10_valid_acc_12ep": np.zeros(1)})
    >>> table.dataset_names(), table.splits("cifar10"), table.accuracy("cifar10", "valid")
    (['cifar10'], ['valid', 'valid_12ep'], array([91.]))
    >>> table.accuracy("cifar10", "test")
    Traceback (most recent call last):
    diswot.errors.ConfigError: t has no 'test' accuracy on cifar10: it has valid, valid_12ep
    """

    name: str
    space: str
    archs: list[Architecture]
    columns: dict[str, NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.archs)

    def dataset_names(self) -> list[str]:
        """The data sets with accuracies, in the order of the columns."""
        return list(dict.fromkeys(dataset for dataset, _ in self._accuracies()))

    def splits(self, dataset: str) -> list[str]:
        """What there is for a data set: `valid`, `test`, `valid_12ep`, ...; `given` for a column chosen by hand.

        Raises:
            ConfigError: an unknown data set.
        """
        found = [split for name, split in self._accuracies() if name == dataset]
        if not found:
            raise ConfigError(f"{self.name} has no accuracies on {dataset!r}: {suggest(dataset, self.dataset_names())}")
        return found

    def accuracy(self, dataset: str, split: str) -> NDArray[np.float64]:
        """(n,) accuracies of exactly this split: one split never stands in for another.

        Raises:
            ConfigError: an unknown data set, or a split that is not there; the message lists those that are.
        """
        splits = self.splits(dataset)
        if split not in splits:
            raise ConfigError(f"{self.name} has no {split!r} accuracy on {dataset}: it has {', '.join(splits)}")
        return self.columns[self._accuracies()[dataset, split]]

    def _accuracies(self) -> dict[tuple[str, str], str]:
        """The accuracy columns by data set and split."""
        matches = [match for name in self.columns if (match := _ACCURACY.fullmatch(name))]
        return {(match["dataset"], match["split"] + (match["epochs"] or "")): match[0] for match in matches}


def read_benchmark(
    path: str | Path,
    space: str | SearchSpace | None = None,
    arch_column: str | None = None,
    accuracy_column: str | None = None,
) -> Benchmark:
    """Reads a table: plain or gzipped CSV, separated by commas, semicolons or tabs, whose first line names the columns.

    Args:
        space: the space, or the name of a built-in one; not needed where the architectures are of NAS-Bench-201, NAS-Bench-101 or
            NATS-Bench's size space.
        arch_column: the column of architectures, each the text of a space's choices (the string, the name) or their JSON; else the
            first there is of arch_str, arch, architecture, choices, name.
        accuracy_column: the column to take for the accuracy, the only one then: split `given` of the data set `accuracy`. Else every
            column named `{dataset}_valid_acc` or `{dataset}_test_acc`, with `_12ep` or the like after it.

    Other columns are kept where they hold numbers alone. Empty cells are NaN.

    Raises:
        DataError: not a table, damaged, larger than 1 GiB, without rows, or with a cell that cannot be used: the message names its line.
        ConfigError: an unknown space or column.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "mine.csv")
    ...     _ = path.write_text('arch;score\\n{"depths": [1, 3, 5]};61.5\\n')
    ...     found = read_benchmark(path, space="s0", accuracy_column="score")
    >>> found.archs[0].choices, found.accuracy("accuracy", "given")
    ({'depths': [1, 3, 5]}, array([61.5]))
    """
    path = Path(path)
    with _opened(path) as stream:
        lines = _lines(path, stream)
        first = next(lines, "")
        rows = _rows(path, itertools.chain([first], lines), _delimiter(first))
        header = _header(path, rows)
        arch_at = _arch_place(path, header, arch_column)
        columns = _columns(path, header, arch_at, accuracy_column)
        known = load_space(space) if isinstance(space, str) else space
        archs = _read_rows(path, rows, len(header), arch_at, known, columns)
    if not archs:
        raise DataError(f"{path}: no rows below the names of the columns")
    arrays = {column.name: np.array(column.values) for column in columns}
    return Benchmark(_stem(path), archs[0].space, archs, arrays)


@dataclass
class _Column:
    """A column on its way in, under the `heading` of the file; `needed` ones must hold numbers, others are dropped where they do not."""

    heading: str
    name: str
    place: int
    needed: bool
    values: array[float]


def _stem(path: Path) -> str:
    """The name without .csv, .csv.gz and the like."""
    name = path.name.removesuffix(".gz")
    return name.removesuffix(Path(name).suffix) or name


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a plain or gzipped file, told apart by how it begins."""
    try:
        with open(path, "rb") as file:
            packed = file.peek(2)[:2] == b"\x1f\x8b"
            yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise DataError(f"{path}: cannot be read ({reason}): a table is text, plain or gzipped") from None


def _lines(path: Path, stream: BinaryIO) -> Iterator[str]:
    """Line by line, so that neither a huge file nor a small one that unpacks to a huge one fills the memory."""
    left = MAX_BYTES
    for number in itertools.count(1):
        raw = stream.readline(_MAX_LINE + 1)
        if not raw:
            return
        left -= len(raw)
        if left < 0:
            raise DataError(f"{path}: more than {MAX_BYTES:,} bytes of text: split the table")
        if len(raw) > _MAX_LINE:
            raise DataError(f"{path} line {number}: longer than {_MAX_LINE:,} bytes: is this a table?")
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:
            raise DataError(f"{path} line {number}: not UTF-8 text: a table is a CSV, plain or gzipped")
        yield text


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)


def _rows(path: Path, lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, and the numbers of their lines."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num}: {first_line(error)}") from None


def _header(path: Path, rows: Iterator[tuple[int, list[str]]]) -> list[str]:
    names = [" ".join(name.splitlines()).strip() for name in next(rows, (0, []))[1]]
    if not names:
        raise DataError(f"{path}: the file is empty: its first line must name the columns")
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    if twice:
        raise DataError(f"{path}: two columns are named {shown(twice[0])}: rename one")
    return names


def _arch_place(path: Path, header: list[str], wanted: str | None) -> int:
    """Which column holds the architectures."""
    known = [name for name in _ARCH_COLUMNS if name in header]
    if wanted is None and not known:
        raise DataError(f"{path}: which column holds the architectures? name it with --arch-column; there are {_named(header)}")
    return _place(path, header, known[0] if wanted is None else wanted)


def _place(path: Path, header: list[str], name: str) -> int:
    if name not in header:
        raise ConfigError(f"{path} has no column {shown(name)}: {suggest(name, header)[:300]}")
    return header.index(name)


def _named(names: Sequence[str]) -> str:
    return ", ".join(names)[:300]


def _columns(path: Path, header: list[str], arch_at: int, accuracy_column: str | None) -> list[_Column]:
    """What is to be read beside the architectures."""
    accuracies = {name: name for name in header if _ACCURACY.fullmatch(name)}
    if accuracy_column is not None:
        _place(path, header, accuracy_column)
        chosen = {accuracy_column: _GIVEN}
    elif accuracies:
        chosen = accuracies
    else:
        raise DataError(f"{path}: which column holds the accuracy? name it (accuracy_column); there are {_named(header)}")
    left_out = {header[arch_at], "index", *accuracies} - set(chosen)
    return [
        _Column(name, chosen.get(name, name), place, name in chosen, array("d"))
        for place, name in enumerate(header)
        if name not in left_out
    ]


def _recognise(path: Path, line: int, text: str) -> SearchSpace:
    """The space whose choices the text is; no two of those that are tried share any."""
    for space in map(load_space, _RECOGNISED):
        with contextlib.suppress(ArchitectureError):
            _architecture(space, text)
            return space
    raise DataError(f"{path} line {line}: of which space is the architecture {shown(text)}? name it (--space)")


def _architecture(space: SearchSpace, text: str) -> Architecture:
    """The text taken for the choices, or else for their JSON."""
    arch = Architecture(space.name, text)
    try:
        space.check(arch)
        return arch
    except ArchitectureError as error:
        try:
            choices = json.loads(text, parse_constant=_finite, parse_float=_finite)
        except (ValueError, RecursionError):
            raise error from None
    arch = Architecture(space.name, choices)
    space.check(arch)
    return arch


def _finite(text: str) -> float:
    """A number of the JSON; infinities and NaN have no canonical text."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not JSON")
    return value


def _read_rows(
    path: Path,
    rows: Iterator[tuple[int, list[str]]],
    width: int,
    arch_at: int,
    space: SearchSpace | None,
    columns: list[_Column],
) -> list[Architecture]:
    """Fills the columns, drops those that hold no numbers, and gives the architectures."""
    archs: list[Architecture] = []
    known: dict[str, Architecture] = {}
    for line, row in rows:
        if len(row) != width:
            raise DataError(f"{path} line {line}: {len(row)} cells, where the first line names {width} columns")
        text = row[arch_at].strip()
        if text not in known:
            space = space or _recognise(path, line, text)
            try:
                known[text] = _architecture(space, text)
            except ArchitectureError as error:
                raise DataError(f"{path} line {line}: {error}") from None
        archs.append(known[text])
        for column in [c for c in columns if not _append(c, row[c.place])]:
            if column.needed:
                value = row[column.place]
                raise DataError(f"{path} line {line}: {column.heading} is {shown(value)}, not a number: leave it empty where it is unknown")
            columns.remove(column)
    return archs


def _append(column: _Column, cell: str) -> bool:
    """Whether the cell is a number or empty."""
    try:
        value = float(cell.strip() or math.nan)
    except ValueError:
        return False
    column.values.append(value)
    return not math.isinf(value)
