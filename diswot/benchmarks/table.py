"""A reader of tables of architectures and their accuracies, for any search space."""

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
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from diswot.architecture import Architecture
from diswot.errors import ArchitectureError, ConfigError, DataError, brief_repr, first_line, suggest
from diswot.space import SearchSpace, load_space

MAX_BYTES = 1 << 30  # of text, after unpacking
_MAX_LINE = 1_000_000  # bytes
_MOST_COLUMNS = 2_000
_EMPTY = {"", "nan", "+nan", "-nan"}
_MOST_ACCURACY = 100.0  # percent
_ARCH_COLUMNS = ("arch_str", "arch", "architecture", "choices", "name")  # the first that a table has is taken
_ACCURACY = re.compile(r"(?P<dataset>.+)_(?P<split>valid|test|given)_acc(?P<epochs>_\d+ep)?")
_GIVEN = "accuracy_given_acc"  # name of a column that the caller chooses, since its split is unknown
# spaces that are recognised by their choices, which no other space has
_RECOGNISED = ("nasbench201", "nats_size", "nasbench_macro", "channel_bench", "nasbench101")


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A table of architectures and their accuracies; an architecture that was trained several times may have several rows.

    Attributes:
        name: name of the file, without its suffixes.
        space: name of the search space of all architectures.
        archs: the n architectures, in the order of the rows.
        columns: the columns by name, each (n,) float64, with NaN for empty cells. Accuracies are named `{dataset}_{split}_acc`, or, for
            shorter trainings, with the number of epochs, as in `{dataset}_{split}_acc_12ep`. They are percentages or fractions, as in
            the file.

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
        """Return the names of the data sets that have accuracies, in the order of the columns."""
        return list(dict.fromkeys(dataset for dataset, _ in self._accuracies()))

    def splits(self, dataset: str) -> list[str]:
        """Return the splits that have accuracies on a data set: `valid`, `test`, `valid_12ep`, ...; `given` for a column chosen by hand.

        Raises:
            ConfigError: the data set is unknown.
        """
        splits = [split for name, split in self._accuracies() if name == dataset]
        if not splits:
            raise ConfigError(f"{self.name} has no accuracies on {dataset!r}: {suggest(dataset, self.dataset_names())}")
        return splits

    def accuracy(self, dataset: str, split: str) -> NDArray[np.float64]:
        """Return the (n,) accuracies of exactly this split; another split never takes its place.

        Raises:
            ConfigError: the data set is unknown, or has no accuracies of this split; the message lists the splits that it has.
        """
        splits = self.splits(dataset)
        if split not in splits:
            raise ConfigError(f"{self.name} has no {split!r} accuracy on {dataset}: it has {', '.join(splits)}")
        return self.columns[self._accuracies()[dataset, split]]

    def _accuracies(self) -> dict[tuple[str, str], str]:
        """Return the names of the accuracy columns by data set and split."""
        matches = [match for name in self.columns if (match := _ACCURACY.fullmatch(name))]
        return {(match["dataset"], match["split"] + (match["epochs"] or "")): match[0] for match in matches}


def read_benchmark(
    path: str | Path,
    space: str | SearchSpace | None = None,
    arch_column: str | None = None,
    accuracy_column: str | None = None,
) -> Benchmark:
    """Read a table from a CSV file, which may be gzipped and whose first line names the columns.

    The columns are separated by commas, semicolons or tabs. Besides the architectures and accuracies, the columns that hold only numbers
    are kept. Empty cells become NaN.

    Args:
        path: path of the file.
        space: the search space, or the name of a built-in one. It is not needed for the benchmarks' own spaces (NAS-Bench-201,
            NAS-Bench-101, NATS-Bench's size space, NAS-Bench-Macro, Channel-Bench-Macro), whose choices no other space has.
        arch_column: name of the column of architectures, whose cells are the choices in the search space, as text (a string, a name) or
            as JSON. By default, the first that exists of arch_str, arch, architecture, choices, name.
        accuracy_column: name of the one column of accuracies (0 to 100), which becomes the split `given` of the data set `accuracy`. By
            default, all columns named `{dataset}_valid_acc` or `{dataset}_test_acc` are accuracies, also with a suffix such as `_12ep`.

    Raises:
        DataError: the file is not a table, is damaged, is larger than 1 GiB, has no rows, or has a cell that cannot be used, in which case
            the message names its line.
        ConfigError: the search space or a column is unknown.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "mine.csv")
    ...     _ = path.write_text('arch;score\\n{"depths": [1, 3, 5]};61.5\\n')
    ...     table = read_benchmark(path, space="s0", accuracy_column="score")
    >>> table.archs[0].choices, table.accuracy("accuracy", "given")
    ({'depths': [1, 3, 5]}, array([61.5]))
    """
    path = Path(path)
    with _opened(path) as stream:
        lines = _lines(path, stream)
        first = next(lines, "")
        rows = _rows(path, itertools.chain([first], lines), _delimiter(first))
        header = _header(path, rows)
        arch_index = _find_arch_column(path, header, arch_column)
        columns = _columns(path, header, arch_index, accuracy_column)
        search_space = load_space(space) if isinstance(space, str) else space
        archs = _read_rows(path, rows, len(header), arch_index, search_space, columns)
    if not archs:
        raise DataError(f"{path}: the table has no rows: add them below the line with the names of the columns")
    arrays = {column.name: np.array(column.values) for column in columns}
    return Benchmark(_stem(path), archs[0].space, archs, arrays)


@dataclass(eq=False)
class _Column:
    """A column while it is being read.

    Attributes:
        heading: name of the column in the file.
        name: name of the column in the `Benchmark`.
        index: position of the column in the file.
        needed: whether a cell that is no number is an error. Otherwise it makes the reader drop the column.
        values: the numbers read so far.
    """

    heading: str
    name: str
    index: int
    needed: bool
    values: array[float]


def _stem(path: Path) -> str:
    """Return the name of a file without .csv, .csv.gz and the like."""
    name = path.name.removesuffix(".gz")
    return name.removesuffix(Path(name).suffix) or name


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a plain or gzipped file; its first bytes show which of the two it is."""
    try:
        with open(path, "rb") as file:
            is_gzip = file.peek(2)[:2] == b"\x1f\x8b"
            yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if is_gzip else file
    except FileNotFoundError:
        raise DataError(f"{path}: no such file: check the path") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise DataError(f"{path}: cannot be read ({reason}): give a CSV file, plain or gzipped") from None


def _lines(path: Path, stream: BinaryIO) -> Iterator[str]:
    """Yield the lines of a table, and refuse huge ones before they fill the memory, also if they are packed into a small file."""
    bytes_left = MAX_BYTES
    for number in itertools.count(1):
        raw = stream.readline(_MAX_LINE + 1)
        if not raw:
            return
        bytes_left -= len(raw)
        if bytes_left < 0:
            raise DataError(f"{path}: the table has more than {MAX_BYTES:,} bytes of text: split it")
        if len(raw) > _MAX_LINE:
            raise DataError(f"{path} line {number}: longer than {_MAX_LINE:,} bytes, so this is probably no table: give a CSV file")
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:
            raise DataError(f"{path} line {number}: not UTF-8 text: give a CSV file, plain or gzipped")
        yield text


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)


def _rows(path: Path, lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the line and the cells of each row that is not blank."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num}: {first_line(error)}: correct the line") from None


def _header(path: Path, rows: Iterator[tuple[int, list[str]]]) -> list[str]:
    names = [" ".join(name.splitlines()).strip() for name in next(rows, (0, []))[1]]
    if not names:
        raise DataError(f"{path}: the file is empty: give a table whose first line names the columns")
    if len(names) > _MOST_COLUMNS:
        raise DataError(f"{path}: {len(names):,} columns, and {_MOST_COLUMNS:,} are the most: leave out those that are not needed")
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{path}: two columns are named {brief_repr(twice)}: rename one")
    return names


def _find_arch_column(path: Path, header: list[str], wanted: str | None) -> int:
    """Return the index of the column of architectures."""
    candidates = [name for name in _ARCH_COLUMNS if name in header]
    if wanted is None and not candidates:
        raise DataError(f"{path}: which column holds the architectures? Set --arch-column to one of {_join(header)}")
    return _find_column(path, header, candidates[0] if wanted is None else wanted)


def _find_column(path: Path, header: list[str], name: str) -> int:
    if name not in header:
        raise ConfigError(f"{path} has no column {brief_repr(name)}: {suggest(name, header)[:300]}")
    return header.index(name)


def _join(names: Sequence[str]) -> str:
    return ", ".join(names)[:300]


def _columns(path: Path, header: list[str], arch_index: int, accuracy_column: str | None) -> list[_Column]:
    """Return the columns to read besides that of the architectures."""
    accuracies = {name: name for name in header if _ACCURACY.fullmatch(name)}
    if accuracy_column is not None:
        _find_column(path, header, accuracy_column)
        chosen = {accuracy_column: _GIVEN}
    elif accuracies:
        chosen = accuracies
    else:
        raise DataError(f"{path}: which column holds the accuracy? Set --accuracy-column to one of {_join(header)}")
    left_out = {header[arch_index], "index", *accuracies} - set(chosen)
    return [
        _Column(name, chosen.get(name, name), index, name in chosen, array("d"))
        for index, name in enumerate(header)
        if name not in left_out
    ]


def _recognise(path: Path, line: int, text: str) -> SearchSpace:
    """Return the search space whose choices the text is; no two of those that are tried have the same choices."""
    for space in map(load_space, _RECOGNISED):
        with contextlib.suppress(ArchitectureError):
            _architecture(space, text)
            return space
    raise DataError(f"{path} line {line}: of which space is the architecture {brief_repr(text)}? Set --space to its name")


def _architecture(space: SearchSpace, text: str) -> Architecture:
    """Return the architecture whose choices are the text, or else the JSON value of the text."""
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
    """Return a number in JSON, except for infinities and NaN, which have no canonical text."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number in JSON")
    return value


def _read_rows(
    path: Path,
    rows: Iterator[tuple[int, list[str]]],
    width: int,
    arch_index: int,
    space: SearchSpace | None,
    columns: list[_Column],
) -> list[Architecture]:
    """Read the rows into the columns, drop the columns that hold other things than numbers, and return the architectures."""
    archs: list[Architecture] = []
    parsed: dict[str, Architecture] = {}
    for line, row in rows:
        if len(row) != width:
            raise DataError(f"{path} line {line}: {len(row)} cells, but the first line names {width} columns: make them agree")
        text = row[arch_index].strip()
        if text not in parsed:
            space = space or _recognise(path, line, text)
            try:
                parsed[text] = _architecture(space, text)
            except ArchitectureError as error:
                raise DataError(f"{path} line {line}: {error}") from None
        archs.append(parsed[text])
        refused = [column for column in columns if not _append(column, row[column.index])]
        if needed := next((column for column in refused if column.needed), None):
            what = "not a number" if math.isnan(_number(row[needed.index])) else "not an accuracy from 0 to 100"
            raise DataError(
                f"{path} line {line}: {needed.heading} is {brief_repr(row[needed.index])}, {what}: leave it empty where it is unknown"
            )
        if refused:
            columns[:] = [column for column in columns if column not in refused]
    return archs


def _number(cell: str) -> float:
    """The number in a cell; NaN where there is none."""
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _append(column: _Column, cell: str) -> bool:
    """Append a cell to a column and return whether it is empty or a finite number, in a column of accuracies one from 0 to 100."""
    value = _number(cell)
    if math.isnan(value) and cell.strip().lower() not in _EMPTY:
        return False
    column.values.append(value)
    return not (math.isinf(value) or (column.needed and not math.isnan(value) and not 0 <= value <= _MOST_ACCURACY))
