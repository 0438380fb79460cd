"""The conversion of the official files of NAS-Bench-101, NAS-Bench-201 and NATS-Bench to tables."""

from __future__ import annotations

import base64
import contextlib
import csv
import gzip
import importlib
import io
import json
import math
import pickle
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from diswot.architecture import Architecture, canonical_json
from diswot.benchmarks import tfrecord
from diswot.errors import ConfigError, DataError, DiswotError, first_line
from diswot.runs import write_atomic
from diswot.space import SearchSpace, load_space

_META = "meta.pickle.pbz2"
_KNOWN = (
    "nasbench_only108.tfrecord or nasbench_full.tfrecord, the unpacked folder NATS-tss-v1_0-3ffb9-simple or NATS-sss-v1_0-50262-simple, "
    "or NAS-Bench-201-v1_1-096897.pth"
)
_FULL_EPOCHS = 108  # of NAS-Bench-101

Row = Sequence[object]
Table = tuple[list[str], Iterable[Row]]


def convert(source: Path, out: Path, *, trust: bool = False) -> int:
    """Convert the official file of a benchmark to a table that `read_benchmark` reads, and return the number of its rows.

    Accuracies are means over the runs, in percent. Those of the full training are in the columns `{dataset}_{split}_acc`, those of shorter
    ones in columns with a suffix such as `_12ep`. On CIFAR-10, the test accuracies of NATS-Bench and NAS-Bench-201 come from a second
    training on all training images.

    Args:
        source: one of the following.
            The TFRecord of NAS-Bench-101, which is read record by record and without tensorflow; three runs of each cell are averaged.
            The folder of NATS-Bench, topology or size, which the `nats_bench` package reads architecture by architecture.
            The single .pth of NAS-Bench-201, which torch can only read as a whole, and which then takes several times its size in memory.
            If that is too much, use NATS-Bench's topology folder, which has more runs of the same architectures.
        out: the CSV file to write, which is gzipped if its name ends in .gz. It is written as a whole or not at all.
        trust: whether the source may be unpickled, which runs any code that it contains. The files of NATS-Bench are pickles. A .pth is
            first read with `weights_only`, and is unpickled only if that fails. A TFRecord is never unpickled.

    Raises:
        DataError: the source is none of these or is damaged, or the output cannot be written.
        ConfigError: the source contains pickles and is not trusted, or `nats_bench` is not installed.

    >>> convert(Path("nasbench_only109.tfrecord"), Path("nasbench101.csv.gz"))
    Traceback (most recent call last):
    diswot.errors.DataError: nasbench_only109.tfrecord: no such file or folder: give nasbench_only108.tfrecord or ...
    """
    source, out = Path(source), Path(out)
    if not out.parent.is_dir():  # checked first, since reading takes minutes
        raise DataError(f"{out}: its folder does not exist: make it, or choose another place")
    columns, rows = _table(source, trust)
    return _write(out, columns, rows)


def _table(source: Path, trust: bool) -> Table:
    """Read the source with the reader for its kind of file."""
    if source.is_dir() and (source / _META).is_file():
        return _nats(source, trust)
    if source.is_dir() or not source.exists():
        reason = f"a folder without {_META}" if source.is_dir() else "no such file or folder"
        raise DataError(f"{source}: {reason}: give {_KNOWN}")
    if source.suffix == ".pth":
        return _nasbench201(source, trust)
    with _read_errors(source), open(source, "rb") as file:
        is_tfrecord = tfrecord.length_in(file.read(tfrecord.HEAD)) is not None
    if is_tfrecord:
        return _nasbench101(source)
    remedy = "unpack it first: tar xf" if source.suffix == ".tar" else f"give {_KNOWN}"
    raise DataError(f"{source}: not an official file of a known benchmark: {remedy}")


def _write(out: Path, columns: Sequence[str], rows: Iterable[Row]) -> int:
    buffer, num_rows = io.BytesIO(), 0
    binary = gzip.GzipFile("", "wb", fileobj=buffer, mtime=0) if out.suffix == ".gz" else buffer
    text = io.TextIOWrapper(cast(BinaryIO, binary), encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(row)
        num_rows += 1
    text.detach()
    if binary is not buffer:
        binary.close()
    try:
        write_atomic(out, buffer.getvalue())
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror}): choose another place") from None
    return num_rows


def _check_trust(source: Path, trust: bool) -> None:
    if not trust:
        raise ConfigError(f"{source} contains pickles, which can run any code when they are read: if you trust the file, set --trust")


# NATS-Bench and NAS-Bench-201, whose results have the same classes.

_SETS = {  # data set -> split -> (data set trained on, split evaluated on), as the package calls them
    "cifar10": {"valid": ("cifar10-valid", "x-valid"), "test": ("cifar10", "ori-test")},
    "cifar100": {"valid": ("cifar100", "x-valid"), "test": ("cifar100", "x-test")},
    "imagenet16_120": {"valid": ("ImageNet16-120", "x-valid"), "test": ("ImageNet16-120", "x-test")},
}
_TOPOLOGY = {"200": "", "12": "_12ep"}  # name of a training in the package -> suffix of our columns; the full training first
_SIZE = {"90": "", "12": "_12ep", "01": "_1ep"}


def _import_nats_bench() -> Any:
    try:
        return importlib.import_module("nats_bench")
    except ImportError:
        raise ConfigError('nats_bench is not installed: pip install "diswot[benchmarks]"') from None


def _nats(source: Path, trust: bool) -> Table:
    """Read the folder of NATS-Bench, which has one file per architecture."""
    _check_trust(source, trust)
    package = _import_nats_bench()
    with _damage_errors(str(source / _META)):
        api = package.create(str(source), "tss", fast_mode=True, verbose=False)
        space = load_space("nats_size" if ":" in api.arch(0) else "nasbench201")
        if space.name == "nats_size":
            api = package.create(str(source), "sss", fast_mode=True, verbose=False)
    trainings = _SIZE if space.name == "nats_size" else _TOPOLOGY
    return _nats_columns(trainings), _nats_rows(source, api, space, trainings)


def _nats_rows(source: Path, api: Any, space: SearchSpace, trainings: Mapping[str, str]) -> Iterator[Row]:
    """Yield one row per architecture; its results are dropped from memory as soon as they are read.

    Args:
        api: the package's object, with a length, `arch(index)`, `reload(archive_root, index)` and the dict `arch2infos_dict`, which
            `reload` fills.
    """
    for index in range(len(api)):
        with _damage_errors(f"{source}: architecture {index}"):
            api.reload(str(source), index)
            row = _nats_row(index, api.arch(index), api.arch2infos_dict.pop(index), space, trainings)
        yield row


@contextlib.contextmanager
def _damage_errors(subject: str) -> Iterator[None]:
    """Turn any exception that a damaged file causes inside this context into a `DataError` of one line."""
    try:
        yield
    except Exception as error:
        reason = str(error) if isinstance(error, DiswotError) else f"{type(error).__name__}: {first_line(error, 100)}"
        raise DataError(f"{subject} cannot be read ({reason}): download the file again") from None


def _nats_columns(trainings: Mapping[str, str]) -> list[str]:
    costs = [f"{dataset}_{quantity}_m" for dataset in _SETS for quantity in ("flops", "params")]
    return [
        "index",
        "arch_str",
        *costs,
        *(f"{d}_{split}_acc{suffix}" for suffix in trainings.values() for d in _SETS for split in _SETS[d]),
    ]


def _nats_row(index: int, text: str, results: Mapping[str, Any], space: SearchSpace, trainings: Mapping[str, str]) -> Row:
    """Return the row of one architecture, with the columns of `_nats_columns`.

    Args:
        results: a `nats_bench.ArchResults` for each training. Shorter trainings may be missing; the full one must be there.
    """
    space.check(Architecture(space.name, text))
    full, *shorter = trainings
    costs = [results[full].get_compute_costs(splits["test"][0]) for splits in _SETS.values()]
    pairs = [pair for splits in _SETS.values() for pair in splits.values()]
    accuracies = [_accuracy(results[full], *pair) for pair in pairs]
    for training in shorter:
        for pair in pairs:
            try:
                accuracies.append(_accuracy(results[training], *pair))
            except (KeyError, ValueError):
                accuracies.append("")
    return index, text, *(round(float(cost[quantity]), 6) for cost in costs for quantity in ("flops", "params")), *accuracies


def _accuracy(results: Any, trained: str, evaluated: str) -> object:
    """Return the accuracy after the last epoch, in percent, as a mean over the runs."""
    return round(float(results.get_metrics(trained, evaluated, is_random=False)["accuracy"]), 4)


def _nasbench201(source: Path, trust: bool) -> Table:
    """Read the single file of NAS-Bench-201, where "full" is the training of 200 epochs and "less" that of 12."""
    package = _import_nats_bench()
    document = _load_pth(source, trust)
    if not isinstance(document, dict) or not {"meta_archs", "arch2infos"} <= set(document):
        raise DataError(f"{source}: a .pth without meta_archs and arch2infos, so it is not NAS-Bench-201: give {_KNOWN}")
    return _nats_columns(_TOPOLOGY), _nasbench201_rows(source, package, document["meta_archs"], document["arch2infos"])


def _nasbench201_rows(source: Path, package: Any, archs: Sequence[str], infos: dict[int, Any]) -> Iterator[Row]:
    space = load_space("nasbench201")
    for index, text in enumerate(archs):
        with _damage_errors(f"{source}: architecture {index}"):
            states = infos.pop(index)
            results = {
                training: package.ArchResults.create_from_state_dict(states[key])
                for training, key in (("200", "full"), ("12", "less"))
                if key in states
            }
            row = _nats_row(index, text, results, space, _TOPOLOGY)
        yield row


def _load_pth(source: Path, trust: bool) -> Any:
    """Load a .pth with torch's reader for plain data, memory-mapped if its format allows it; unpickle it only if that reader refuses."""
    import torch

    try:
        try:
            return torch.load(source, map_location="cpu", mmap=True, weights_only=True)
        except RuntimeError:  # files written before torch 1.6 cannot be memory-mapped
            return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        _check_trust(source, trust)
    except Exception as error:
        raise DataError(
            f"{source}: torch cannot read it ({type(error).__name__}: {first_line(error, 100)}): download the file again"
        ) from None
    with _damage_errors(str(source)):
        return torch.load(source, map_location="cpu", weights_only=False)


# NAS-Bench-101, a TFRecord of JSON lists, each of which contains the metrics of one run as a protocol buffer.


@contextlib.contextmanager
def _read_errors(source: Path) -> Iterator[None]:
    """Turn an `OSError` inside this context into a `DataError`."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror}): check the path and its permissions") from None


def _nasbench101(source: Path) -> Table:
    """Read NAS-Bench-101. The runs of a cell are spread over the whole file, so a few numbers per cell are kept until its end."""
    means = _Means()
    with _read_errors(source), open(source, "rb") as file:
        for number, record in enumerate(tfrecord.records(source, file), 1):
            try:
                means.add(*_run(record))
            except (ValueError, LookupError, TypeError, OverflowError, RecursionError, struct.error) as error:
                reason = f"{type(error).__name__}: {first_line(error, 100)}"
                raise DataError(f"{source}: record {number} is none of NAS-Bench-101 ({reason}): download the file again") from None
    return means.columns(), _nasbench101_rows(source, means)


def _nasbench101_rows(source: Path, means: _Means) -> Iterator[Row]:
    space = load_space("nasbench101")
    for index, (key, adjacency, operations) in enumerate(means.cells()):
        with _damage_errors(f"{source}: cell {key}"):
            choices = {"matrix": _square(adjacency), "ops": operations.split(",")}
            space.check(Architecture(space.name, choices))
        yield index, canonical_json(choices), key, *means.numbers(index)


def _square(digits: str) -> list[list[int]]:
    """Return the square matrix whose rows stand one after the other in a text; the last row is short if the length is no square."""
    size = math.isqrt(len(digits) - 1) + 1 if digits else 1
    return [[int(digit) for digit in digits[start : start + size]] for start in range(0, len(digits), size)]


def _run(record: bytes) -> tuple[str, int, str, str, int, float, float]:
    """Return one run: hash of the cell, epochs, adjacency matrix, operations, parameters, validation and test accuracy in [0, 1]."""
    key, epochs, adjacency, operations, metrics = json.loads(record)
    evaluations: list[dict[int, Any]] = []
    params = 0
    for field, value in tfrecord.fields(base64.b64decode(metrics, validate=True)):
        if field == 1:
            evaluations.append(dict(tfrecord.fields(value)))
        elif field == 2:
            params = value
    final = evaluations[-1]  # the others are at the start and halfway
    return str(key), int(epochs), str(adjacency), str(operations), params, float(final[4]), float(final[5])


class _Means:
    """The mean accuracies of all cells over their runs, for each number of epochs.

    The sums are kept in flat arrays, which take about 200 MB for the 423,624 cells.
    """

    def __init__(self) -> None:
        self._indices: dict[bytes, int] = {}
        self._graphs: list[tuple[str, str]] = []
        self._params = array("q")
        # by epochs: the sums of the validation and of the test accuracies, and the number of runs
        self._sums: dict[int, tuple[array[float], array[float], array[float]]] = {}

    def add(self, key: str, epochs: int, adjacency: str, operations: str, params: int, valid: float, test: float) -> None:
        """Add one run, as `_run` returns it."""
        if not (math.isfinite(valid) and math.isfinite(test)):
            raise ValueError(f"the accuracies {valid} and {test} are not finite")
        index = self._indices.setdefault(bytes.fromhex(key), len(self._graphs))
        if index == len(self._graphs):
            self._graphs.append((adjacency, sys.intern(operations)))
            self._params.append(params)
            for sums in self._sums.values():
                for column in sums:
                    column.append(0.0)
        if epochs not in self._sums:
            zeros = bytes(8 * len(self._graphs))
            self._sums[epochs] = (array("d", zeros), array("d", zeros), array("d", zeros))
        for column, value in zip(self._sums[epochs], (valid, test, 1.0), strict=True):
            column[index] += value

    def _epochs(self) -> list[int]:
        return sorted(self._sums, reverse=True)

    def columns(self) -> list[str]:
        """Return the names of the columns of the table."""
        suffixes = ["" if epochs == _FULL_EPOCHS else f"_{epochs}ep" for epochs in self._epochs()]
        accuracies = [f"cifar10_{split}_acc{suffix}" for suffix in suffixes for split in ("valid", "test")]
        return ["index", "arch_str", "module_hash", "cifar10_params_m", *accuracies]

    def cells(self) -> Iterator[tuple[str, str, str]]:
        """Yield the hash, the adjacency matrix and the operations of each cell, in the order of the rows."""
        for key, (adjacency, operations) in zip(self._indices, self._graphs, strict=True):
            yield key.hex(), adjacency, operations

    def numbers(self, index: int) -> list[object]:
        """Return a cell's parameters in millions and its mean accuracies in percent, with empty text where there is no run."""
        numbers: list[object] = [self._params[index] / 1e6]
        for epochs in self._epochs():
            valid, test, runs = (column[index] for column in self._sums[epochs])
            numbers += [round(100 * total / runs, 4) if runs else "" for total in (valid, test)]
        return numbers
