"""From the official files of NAS-Bench-101, NAS-Bench-201 and NATS-Bench to one table, once."""

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
    """Writes the table of an official file, which `read_benchmark` reads, and gives the number of its rows.

    Args:
        source: one of the following.
            The TFRecord of NAS-Bench-101: read record by record, without tensorflow; three runs of each cell are averaged.
            The folder of NATS-Bench, topology or size: read architecture by architecture, by the `nats_bench` package.
            The single .pth of NAS-Bench-201: torch can read it only whole, which takes several times its size in memory; where that is
            too much, take NATS-Bench's topology folder, which holds the same architectures with more runs.
        out: the CSV to write, gzipped where its name ends in .gz; whole or not at all.
        trust: whether the source may be unpickled, which runs whatever code it holds. The files of NATS-Bench are pickles. A .pth is
            first read with `weights_only`, and unpickled only where that does not do. A TFRecord never is.

    Accuracies are means over the runs in percent: of the full training in `{dataset}_{split}_acc`, of shorter ones with `_12ep` or the like
    after it. On CIFAR-10, NATS-Bench and NAS-Bench-201 tested after a second training, on all training images.

    Raises:
        DataError: a source that is none of these, or damaged; an output that cannot be written.
        ConfigError: the source holds pickles and is not trusted, or `nats_bench` is not installed.

    >>> convert(Path("nasbench_only109.tfrecord"), Path("nasbench101.csv.gz"))
    Traceback (most recent call last):
    diswot.errors.DataError: nasbench_only109.tfrecord: no such file or folder: give nasbench_only108.tfrecord or ...
    """
    source, out = Path(source), Path(out)
    if not out.parent.is_dir():  # said at once, not after minutes of reading
        raise DataError(f"{out}: its folder does not exist: make it, or choose another place")
    columns, rows = _table(source, trust)
    return _write(out, columns, rows)


def _table(source: Path, trust: bool) -> Table:
    """Picks the reader by what the source is."""
    if source.is_dir() and (source / _META).is_file():
        return _nats(source, trust)
    if source.is_dir() or not source.exists():
        what = f"a folder without {_META}" if source.is_dir() else "no such file or folder"
        raise DataError(f"{source}: {what}: give {_KNOWN}")
    if source.suffix == ".pth":
        return _nasbench201(source, trust)
    with _opening(source), open(source, "rb") as file:
        begins_a_record = tfrecord.length_in(file.read(tfrecord.HEAD)) is not None
    if begins_a_record:
        return _nasbench101(source)
    remedy = "unpack it first: tar xf" if source.suffix == ".tar" else f"give {_KNOWN}"
    raise DataError(f"{source}: not an official file that is known here: {remedy}")


def _write(out: Path, columns: Sequence[str], rows: Iterable[Row]) -> int:
    buffer, written = io.BytesIO(), 0
    packed = gzip.GzipFile("", "wb", fileobj=buffer, mtime=0) if out.suffix == ".gz" else buffer
    text = io.TextIOWrapper(cast(BinaryIO, packed), encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(row)
        written += 1
    text.detach()
    if packed is not buffer:
        packed.close()
    try:
        write_atomic(out, buffer.getvalue())
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror}): choose another place") from None
    return written


def _unpickling(source: Path, trust: bool) -> None:
    if not trust:
        raise ConfigError(f"{source} holds pickles, which run whatever code is in them: if you trust the file, say so with --trust")


# NATS-Bench and NAS-Bench-201: the same classes hold the results of both.

_SETS = {  # data set -> split -> (what it was trained on, what it was evaluated on), in the words of the package
    "cifar10": {"valid": ("cifar10-valid", "x-valid"), "test": ("cifar10", "ori-test")},
    "cifar100": {"valid": ("cifar100", "x-valid"), "test": ("cifar100", "x-test")},
    "imagenet16_120": {"valid": ("ImageNet16-120", "x-valid"), "test": ("ImageNet16-120", "x-test")},
}
_TOPOLOGY = {"200": "", "12": "_12ep"}  # the name of a training in the package -> the ending of our columns; the full one first
_SIZE = {"90": "", "12": "_12ep", "01": "_1ep"}


def _package() -> Any:
    try:
        return importlib.import_module("nats_bench")
    except ImportError:
        raise ConfigError('nats_bench is not installed: pip install "diswot[benchmarks]"') from None


def _nats(source: Path, trust: bool) -> Table:
    """The folder with one file an architecture."""
    _unpickling(source, trust)
    package = _package()
    with _reading(str(source / _META)):
        api = package.create(str(source), "tss", fast_mode=True, verbose=False)
        space = load_space("nats_size" if ":" in api.arch(0) else "nasbench201")
        if space.name == "nats_size":
            api = package.create(str(source), "sss", fast_mode=True, verbose=False)
    trainings = _SIZE if space.name == "nats_size" else _TOPOLOGY
    return _nats_columns(trainings), _nats_rows(source, api, space, trainings)


def _nats_rows(source: Path, api: Any, space: SearchSpace, trainings: Mapping[str, str]) -> Iterator[Row]:
    """One row an architecture, whose results are dropped again as soon as they are read.

    Args:
        api: has a length, `arch(index)`, `reload(archive_root, index)`, and `arch2infos_dict` that reload fills.
    """
    for index in range(len(api)):
        with _reading(f"{source}: architecture {index}"):
            api.reload(str(source), index)
            row = _nats_row(index, api.arch(index), api.arch2infos_dict.pop(index), space, trainings)
        yield row


@contextlib.contextmanager
def _reading(what: str) -> Iterator[None]:
    """Makes one line of whatever a damaged file makes the package raise."""
    try:
        yield
    except Exception as error:
        reason = str(error) if isinstance(error, DiswotError) else f"{type(error).__name__}: {first_line(error, 100)}"
        raise DataError(f"{what} cannot be read ({reason})") from None


def _nats_columns(trainings: Mapping[str, str]) -> list[str]:
    costs = [f"{dataset}_{what}_m" for dataset in _SETS for what in ("flops", "params")]
    return ["index", "arch_str", *costs, *(f"{d}_{split}_acc{end}" for end in trainings.values() for d in _SETS for split in _SETS[d])]


def _nats_row(index: int, text: str, results: Mapping[str, Any], space: SearchSpace, trainings: Mapping[str, str]) -> Row:
    """The cells of one architecture, in the order of the columns; a shorter training may be missing, the full one may not.

    Args:
        results: a `nats_bench.ArchResults` for each training.
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
    return index, text, *(round(float(cost[what]), 6) for cost in costs for what in ("flops", "params")), *accuracies


def _accuracy(results: Any, trained: str, evaluated: str) -> object:
    """In percent, the mean over the runs, after the last epoch."""
    return round(float(results.get_metrics(trained, evaluated, is_random=False)["accuracy"]), 4)


def _nasbench201(source: Path, trust: bool) -> Table:
    """The single file, whose classes became those of NATS-Bench: "full" is the training of 200 epochs, "less" that of 12."""
    package = _package()
    document = _load_pth(source, trust)
    if not isinstance(document, dict) or not {"meta_archs", "arch2infos"} <= set(document):
        raise DataError(f"{source}: a .pth without meta_archs and arch2infos is not NAS-Bench-201")
    return _nats_columns(_TOPOLOGY), _nasbench201_rows(source, package, document["meta_archs"], document["arch2infos"])


def _nasbench201_rows(source: Path, package: Any, archs: Sequence[str], infos: dict[int, Any]) -> Iterator[Row]:
    space = load_space("nasbench201")
    for index, text in enumerate(archs):
        with _reading(f"{source}: architecture {index}"):
            states = infos.pop(index)
            results = {
                training: package.ArchResults.create_from_state_dict(states[key])
                for training, key in (("200", "full"), ("12", "less"))
                if key in states
            }
            row = _nats_row(index, text, results, space, _TOPOLOGY)
        yield row


def _load_pth(source: Path, trust: bool) -> Any:
    """By torch's reader of plain data, mapped into memory where the file's format allows that; unpickled only where that does not do."""
    import torch

    try:
        try:
            return torch.load(source, map_location="cpu", mmap=True, weights_only=True)
        except RuntimeError:  # the format of before torch 1.6 cannot be mapped
            return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        _unpickling(source, trust)
    except Exception as error:
        raise DataError(f"{source}: torch cannot read it ({type(error).__name__}: {first_line(error, 100)})") from None
    with _reading(str(source)):
        return torch.load(source, map_location="cpu", weights_only=False)


# NAS-Bench-101: a TFRecord of JSON lists, each with the metrics of one run as a protocol buffer.


@contextlib.contextmanager
def _opening(source: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror})") from None


def _nasbench101(source: Path) -> Table:
    """One row a cell. The whole file has to be seen before the first mean is known: what is kept are a few numbers a cell."""
    means = _Means()
    with _opening(source), open(source, "rb") as file:
        for number, record in enumerate(tfrecord.records(source, file), 1):
            try:
                means.add(*_run(record))
            except (ValueError, LookupError, TypeError, OverflowError, RecursionError, struct.error) as error:
                reason = f"{type(error).__name__}: {first_line(error, 100)}"
                raise DataError(f"{source}: record {number} is none of NAS-Bench-101 ({reason})") from None
    return means.columns(), _nasbench101_rows(source, means)


def _nasbench101_rows(source: Path, means: _Means) -> Iterator[Row]:
    space = load_space("nasbench101")
    for index, (key, adjacency, operations) in enumerate(means.cells()):
        with _reading(f"{source}: cell {key}"):
            choices = {"matrix": _square(adjacency), "ops": operations.split(",")}
            space.check(Architecture(space.name, choices))
        yield index, canonical_json(choices), key, *means.numbers(index)


def _square(digits: str) -> list[list[int]]:
    """A square matrix from its rows in one line; where they make none, the last row is short."""
    size = math.isqrt(len(digits) - 1) + 1 if digits else 1
    return [[int(digit) for digit in digits[start : start + size]] for start in range(0, len(digits), size)]


def _run(record: bytes) -> tuple[str, int, str, str, int, float, float]:
    """One run: the cell's hash, its epochs, adjacency matrix and operations as text, parameters, validation and test accuracy (0 to 1)."""
    key, epochs, adjacency, operations, metrics = json.loads(record)
    evaluations: list[dict[int, Any]] = []
    params = 0
    for field, value in tfrecord.fields(base64.b64decode(metrics, validate=True)):
        if field == 1:
            evaluations.append(dict(tfrecord.fields(value)))
        elif field == 2:
            params = value
    final = evaluations[-1]  # before them: at the start, and halfway
    return str(key), int(epochs), str(adjacency), str(operations), params, float(final[4]), float(final[5])


class _Means:
    """Sums over the runs of each cell, for each number of epochs, in flat arrays: the 423,624 cells take some 200 MB."""

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}
        self._graphs: list[tuple[str, str]] = []
        self._params = array("q")
        self._sums: dict[int, tuple[array[float], array[float], array[float]]] = {}  # validation, test, runs

    def add(self, key: str, epochs: int, adjacency: str, operations: str, params: int, valid: float, test: float) -> None:
        if not (math.isfinite(valid) and math.isfinite(test)):
            raise ValueError(f"accuracies {valid} and {test}")
        place = self._places.setdefault(bytes.fromhex(key), len(self._graphs))
        if place == len(self._graphs):
            self._graphs.append((adjacency, sys.intern(operations)))
            self._params.append(params)
            for sums in self._sums.values():
                for one in sums:
                    one.append(0.0)
        if epochs not in self._sums:
            zeros = bytes(8 * len(self._graphs))
            self._sums[epochs] = (array("d", zeros), array("d", zeros), array("d", zeros))
        for one, value in zip(self._sums[epochs], (valid, test, 1.0), strict=True):
            one[place] += value

    def _epochs(self) -> list[int]:
        return sorted(self._sums, reverse=True)

    def columns(self) -> list[str]:
        ends = ["" if epochs == _FULL_EPOCHS else f"_{epochs}ep" for epochs in self._epochs()]
        accuracies = [f"cifar10_{split}_acc{end}" for end in ends for split in ("valid", "test")]
        return ["index", "arch_str", "module_hash", "cifar10_params_m", *accuracies]

    def cells(self) -> Iterator[tuple[str, str, str]]:
        """The hash, the adjacency matrix and the operations of each cell, in the order of the columns' rows."""
        for key, (adjacency, operations) in zip(self._places, self._graphs, strict=True):
            yield key.hex(), adjacency, operations

    def numbers(self, place: int) -> list[object]:
        """Parameters in millions, then the mean accuracies in percent; empty where there was no run."""
        found: list[object] = [self._params[place] / 1e6]
        for epochs in self._epochs():
            valid, test, runs = (one[place] for one in self._sums[epochs])
            found += [round(100 * total / runs, 4) if runs else "" for total in (valid, test)]
        return found
