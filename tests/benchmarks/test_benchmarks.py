from __future__ import annotations

import base64
import bz2
import csv
import gzip
import io
import json
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diswot.architecture import Architecture
from diswot.benchmarks import convert, read_benchmark, table, tfrecord
from diswot.errors import ConfigError, DataError, DiswotError
from diswot.space import load_space

FIRST = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
SECOND = FIRST.replace("avg_pool_3x3", "none")


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# --- tables


def test_the_table_of_nasbench201_reads_as_the_csv_module_reads_it(real_data: Path) -> None:
    path = real_data / "nasbench201" / "nasbench201.csv.gz"
    found = read_benchmark(path)
    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file))
    assert (found.name, found.space, len(found)) == ("nasbench201", "nasbench201", 15_625)
    assert found.archs == [Architecture("nasbench201", row["arch_str"]) for row in rows]
    assert set(found.columns) == set(rows[0]) - {"index", "arch_str"}
    for name, values in found.columns.items():
        np.testing.assert_array_equal(values, [float(row[name] or "nan") for row in rows])
    assert found.dataset_names() == ["cifar10", "cifar100", "imagenet16_120"]
    assert all(found.splits(name) == ["valid", "test", "valid_12ep", "test_12ep"] for name in found.dataset_names())
    best = [round(np.nanmax(found.accuracy(name, "test")), 3) for name in found.dataset_names()]
    assert best == [94.373, 73.513, 47.311]  # as published


def test_reading_a_table_needs_no_torch(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", f"arch,c_valid_acc\n{FIRST},1\n")
    code = f"import sys; from diswot.benchmarks import read_benchmark; read_benchmark({str(path)!r}); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_splits_are_never_mixed(tmp_path: Path) -> None:
    text = f"arch_str,a_valid_acc,b_test_acc,b_test_acc_12ep,a_test_acc_std\n{FIRST},1,2,3,4\n"
    found = read_benchmark(write(tmp_path / "t.csv", text))
    assert found.dataset_names() == ["a", "b"]
    assert (found.splits("a"), found.splits("b")) == (["valid"], ["test", "test_12ep"])
    assert found.accuracy("b", "test_12ep").tolist() == [3.0]
    for dataset, split, has in (("a", "test", "valid"), ("b", "valid", "test, test_12ep"), ("a", "test_std", "valid")):
        with pytest.raises(ConfigError, match=f"no '{split}' accuracy on {dataset}: it has {has}$"):
            found.accuracy(dataset, split)
    with pytest.raises(ConfigError, match="no accuracies on 'c': known: a, b"):
        found.accuracy("c", "test")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("packed", [False, True])
def test_any_csv_of_any_space(tmp_path: Path, delimiter: str, packed: bool) -> None:
    """Written by the csv module: JSON in quotes, a byte order mark, blank lines, empty cells, duplicates, columns of words."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(["note", "spec", "my score", "params", "cifar10_test_acc"])
    depths = [[1, 3, 5], [7, 7, 7], [1, 3, 5]]
    for d, score in zip(depths, ["1.5", "", "2.5e1"], strict=True):
        writer.writerow(["a, b; c\td", json.dumps({"depths": d}), score, sum(d), "junk"])
        text.write("\r\n")
    raw = text.getvalue().encode("utf-8-sig")
    path = write(tmp_path / "mine.v2.csv.gz", gzip.compress(raw) if packed else raw)  # what it is counts, not how it is called
    found = read_benchmark(path, space="s0", arch_column="spec", accuracy_column="my score")
    assert found.archs == [Architecture("resnet_depth", {"depths": d}) for d in depths]
    assert (found.name, found.space, found.dataset_names()) == ("mine.v2", "resnet_depth", ["accuracy"])
    (split,) = found.splits("accuracy")
    np.testing.assert_array_equal(found.accuracy("accuracy", split), [1.5, np.nan, 25.0])
    assert found.columns["params"].tolist() == [9.0, 21.0, 9.0]
    assert set(found.columns) == {"params", "accuracy_given_acc"}  # words, and accuracies that were not asked for, are left out


@pytest.mark.parametrize(
    ("space", "cells"),
    [
        (None, [FIRST, SECOND]),
        (None, ["8:16:24:32:64", "8:8:8:8:8"]),
        (None, ['"{""matrix"": [[0, 1], [0, 0]], ""ops"": [""input"", ""output""]}"']),
        ("zoo", ["resnet20", "wrn_16_2"]),
        ("nasbench201", [FIRST]),
    ],
)
def test_spaces_are_named_or_recognised(tmp_path: Path, space: str | None, cells: list[str]) -> None:
    path = write(tmp_path / "t.csv", "arch,x_valid_acc\n" + "".join(f"{cell},1\n" for cell in cells))
    found = read_benchmark(path, space)
    for arch in found.archs:
        load_space(found.space).check(arch)
    assert len(found) == len(cells)


def test_a_space_of_ones_own_is_given_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.test_spaces import OWN_SPACE

    (tmp_path / "mylab_table.py").write_text(OWN_SPACE.replace("mylab_space", "mylab_table"))
    monkeypatch.syspath_prepend(tmp_path)
    path = write(tmp_path / "t.csv", "arch,accuracy\n8,1\n32,2\n")
    found = read_benchmark(path, load_space("mylab_table:own", trusted=True), accuracy_column="accuracy")
    assert [arch.choices for arch in found.archs] == [8, 32]
    with pytest.raises(ConfigError, match="Python code of your own"):
        read_benchmark(path, "mylab_table:own", accuracy_column="accuracy")
    with pytest.raises(DataError, match="line 2: of which space is the architecture '8'"):
        read_benchmark(path, accuracy_column="accuracy")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ("arch,a_test_acc\n", "no rows"),
        ('"foo\nbar",a_test_acc\nx,1\n', "which column holds the architectures.*foo bar, a_test_acc"),
        ("foo,a_test_acc\nx,1\n", "which column holds the architectures.*foo, a_test_acc"),
        (f"arch,test\n{FIRST},1\n", "which column holds the accuracy.*arch, test"),
        (f"arch,a_test_acc,a_test_acc\n{FIRST},1,2\n", "two columns are named 'a_test_acc'"),
        (f"arch,a_test_acc\n{FIRST},1\n{FIRST}\n", "line 3: 1 cells.*2 columns"),
        (f"arch,a_test_acc\n{FIRST},1\n\n{FIRST},high\n", "line 4: a_test_acc is 'high', not a number"),
        (f"arch,a_test_acc\n{FIRST},inf\n", "line 2: a_test_acc is 'inf'"),
        (f"arch,a_test_acc\n{FIRST},1\n{FIRST.replace('skip', 'skop')},1\n", "line 3: nasbench201: unknown operation 'skop_connect'"),
        ("arch,a_test_acc\nresnet20,1\n", "line 2: of which space is the architecture 'resnet20'"),
        (f'arch,a_test_acc\n{FIRST},1\n"{FIRST},1\n', "line 3: unexpected end of data"),
        ("arch,a_test_acc\n" + "[" * 100_000 + ",1\n", "line 2: of which space"),
        (f"arch,a_test_acc\n{'x' * 200_000},1\n", "line 2: field larger"),
        (f"arch,a_test_acc\n{'x' * 2_000_000},1\n", "line 2: longer than 1,000,000 bytes"),
        (b"arch,a_test_acc\n\xff\xfe,1\n", "line 2: not UTF-8"),
        ("arch,a_test_acc\n".encode("utf-16"), "line 1: not UTF-8"),
        (b"PK\x03\x04\0\0\0\0", "line 1: not UTF-8"),
        (b"\x1f\x8bnonsense", "cannot be read"),
        (gzip.compress(b"arch,a_test_acc\n" + FIRST.encode(), mtime=0)[:-9], "cannot be read"),
    ],
)
def test_faults_of_a_table_are_one_line(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        read_benchmark(write(tmp_path / "t.csv", text))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert "t.csv" in str(caught.value)


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", f"arch,a_test_acc\n{FIRST},1\n")
    with pytest.raises(ConfigError, match="no column 'a_tset_acc': did you mean a_test_acc"):
        read_benchmark(path, accuracy_column="a_tset_acc")
    for name in ("archs", ""):
        with pytest.raises(ConfigError, match=f"no column '{name}'"):
            read_benchmark(path, arch_column=name)
    with pytest.raises(DataError, match="no such file"):
        read_benchmark(tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_benchmark(tmp_path)


def test_a_chosen_column_without_numbers_is_called_as_the_file_calls_it(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", f"arch,top1\n{FIRST},good\n")
    with pytest.raises(DataError, match="line 2: top1 is 'good', not a number"):
        read_benchmark(path, accuracy_column="top1")


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_BYTES", 1_000_000)
    row = f"{FIRST},1\n".encode()
    bomb = gzip.compress(b"arch,a_test_acc\n" + row * 20_000)
    assert len(bomb) < 20_000
    with pytest.raises(DataError, match="more than 1,000,000 bytes"):
        read_benchmark(write(tmp_path / "t.csv.gz", bomb))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_file_whatever_is_a_traceback(tmp_path: Path, data: st.DataObject) -> None:
    good = f'arch,a_test_acc,n\n{FIRST},1,2\n"{SECOND}",,x\n'.encode()
    base = data.draw(st.sampled_from([good, gzip.compress(good, mtime=0), b""]))
    at = data.draw(st.integers(0, len(base)))
    path = write(tmp_path / "t.csv", base[:at] + data.draw(st.binary(max_size=20)) + base[at + data.draw(st.integers(0, 5)) :])
    try:
        read_benchmark(path)
    except DiswotError as error:
        assert "\n" not in str(error)


# --- NAS-Bench-101: records written from the formats' definitions

CELL = "0100110001000000010010000010000001000000010000000"
OPS = "input,conv3x3-bn-relu,maxpool3x3,conv3x3-bn-relu,conv3x3-bn-relu,conv1x1-bn-relu,output"
KEY = "00005c142e6f48ac74fdcf73e3439874"  # as published, as are the 8,555,530 parameters


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def evaluation(valid: float, test: float) -> bytes:
    doubles = [54.0, 900.0, 1.0, valid, test]
    return b"".join(bytes([number << 3 | 1]) + struct.pack("<d", value) for number, value in enumerate(doubles, 1))


def metrics(valid: float, test: float, params: int = 8_555_530) -> bytes:
    parts = [evaluation(0.1, 0.1), evaluation(0.5, 0.5), evaluation(valid, test) + b"\x32\x04path"]
    repeated = b"".join(b"\x0a" + varint(len(part)) + part for part in parts)
    return repeated + b"\x10" + varint(params) + b"\x19" + struct.pack("<d", 1.0)


def crc32c(data: bytes) -> int:
    """As polynomial division over whole numbers, the bits of a byte from the lowest."""
    bits = int("".join(f"{byte:08b}"[::-1] for byte in data) or "0", 2) << 32
    bits ^= 0xFFFFFFFF << 8 * len(data)
    for place in reversed(range(32, 32 + 8 * len(data))):
        if bits >> place & 1:
            bits ^= 0x11EDC6F41 << place - 32
    return int(f"{bits:032b}"[::-1], 2) ^ 0xFFFFFFFF


def framed(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    crc = crc32c(length)
    return length + struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF) + data + b"\0\0\0\0"


def record(epochs: int, valid: float, test: float, key: str = KEY, cell: str = CELL, ops: str = OPS, params: int = 8_555_530) -> bytes:
    message = base64.b64encode(metrics(valid, test, params)).decode()
    return framed(json.dumps([key, epochs, cell, ops, message]).encode())


def nasbench101() -> bytes:
    """Two cells, not side by side; one has three runs of 108 epochs and one of 36, the other two of 108."""
    other = {"key": "ab" * 16, "cell": "0100", "ops": "input,output", "params": 3}
    runs = [record(108, 0.90, 0.80), record(108, 0.5, 0.25, **other), record(36, 0.7, 0.6), record(108, 0.92, 0.82)]
    return b"".join([*runs, record(108, 0.94, 0.87), record(108, 0.25, 0.5, **other)])


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz"])
def test_nasbench101_becomes_a_table(tmp_path: Path, name: str) -> None:
    source = write(tmp_path / "nasbench.tfrecord", nasbench101())
    assert convert(source, tmp_path / name) == 2
    found = read_benchmark(tmp_path / name)
    assert found.space == "nasbench101" and found.splits("cifar10") == ["valid", "test", "valid_36ep", "test_36ep"]
    np.testing.assert_allclose(found.accuracy("cifar10", "valid"), [92.0, 37.5])
    np.testing.assert_allclose(found.accuracy("cifar10", "test"), [83.0, 37.5])
    np.testing.assert_allclose(found.accuracy("cifar10", "valid_36ep"), [70.0, np.nan])
    cost = load_space("nasbench101").count(found.archs[0], 10, 3, 32)
    assert cost is not None and found.columns["cifar10_params_m"].tolist() == [cost.params / 1e6, 3e-6]
    assert found.archs[0].choices["ops"] == OPS.split(",")
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".tmp") == []


def test_the_head_of_a_record_as_tensorflow_writes_it() -> None:
    assert tfrecord.length_in(bytes.fromhex("1800000000000000a37f4b22")) == 24  # how TensorBoard's event files begin
    assert tfrecord.length_in(bytes.fromhex("1900000000000000a37f4b22")) is None
    assert all(tfrecord.crc32c(data) == crc32c(data) for data in (b"", b"a", b"123456789", bytes(range(256))))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda raw: raw[:-1], "cut short at record 6"),
        (lambda raw: raw + b"\1", "cut short at record 7"),
        (lambda raw: raw[: len(record(108, 0.9, 0.8))] + bytes(40), "damaged or cut short at record 2"),
        (lambda raw: raw + framed(b"[1, 2]"), "record 7 is none of NAS-Bench-101"),
        (lambda raw: raw + framed(b"\xff"), "record 7 is none"),
        (lambda raw: raw + framed(b"[" * 9000), "record 7 is none"),
        (lambda raw: raw + framed(json.dumps([KEY, 108, CELL, OPS, "!"]).encode()), "record 7 is none"),
        (lambda raw: raw + framed(json.dumps([KEY, 108, CELL, OPS, "CgE="]).encode()), "cut short"),
        (lambda raw: raw + record(108, float("nan"), 0.5), "record 7 is none.*nan"),
        (lambda raw: raw + record(108, 0.5, 0.5, key="zz"), "record 7 is none"),
        (lambda raw: raw + record(108, 0.5, 0.5, params=1 << 64, key="cd"), "record 7 is none"),
        (lambda raw: raw + record(108, 0.5, 0.5, key="cd", cell="01x0"), "cell cd cannot be read"),
        (lambda raw: raw + record(108, 0.5, 0.5, key="cd", cell="01100"), "cell cd cannot be read.*matrix"),
        (lambda raw: raw + record(108, 0.5, 0.5, key="cd", ops="input,conv9x9,output"), "cell cd cannot be read.*conv9x9"),
    ],
)
def test_a_damaged_tfrecord_is_one_line_and_no_table(tmp_path: Path, damage: Any, says: str) -> None:
    source = write(tmp_path / "n.tfrecord", damage(nasbench101()))
    with pytest.raises(DataError, match=says) as caught:
        convert(source, tmp_path / "out.csv")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["n.tfrecord"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, len(nasbench101()) - 1), byte=st.integers(0, 255))
def test_one_wrong_byte_of_a_tfrecord_is_never_a_traceback(tmp_path: Path, at: int, byte: int) -> None:
    raw = bytearray(nasbench101())
    raw[at] = byte
    try:
        convert(write(tmp_path / "n.tfrecord", bytes(raw)), tmp_path / "out.csv")
    except DiswotError as error:
        assert "\n" not in str(error)


# --- NATS-Bench and NAS-Bench-201

TRAINED = {"cifar10-valid": ["x-valid", "ori-test"], "cifar10": ["ori-test"]}
TRAINED |= {name: ["x-valid", "x-test", "ori-test"] for name in ("cifar100", "ImageNet16-120")}
SETS = [("cifar10-valid", "x-valid"), ("cifar10", "ori-test")]
SETS += [(trained, evaluated) for trained in ("cifar100", "ImageNet16-120") for evaluated in ("x-valid", "x-test")]
COLUMNS = [f"{name}_{split}_acc" for name in ("cifar10", "cifar100", "imagenet16_120") for split in ("valid", "test")]


def accuracy(index: int, epochs: int, trained: str, evaluated: str, seed: int) -> float:
    """A number of its own for each run."""
    return 10 * index + epochs / 10 + len(trained) + len(evaluated) / 8 + seed / 1000


def expected(index: int, epochs: int) -> list[float]:
    return [float(np.mean([accuracy(index, epochs, *pair, seed) for seed in (777, 888)])) for pair in SETS]


class FakeResults:
    """What the loop asks of the results of one training."""

    def __init__(self, index: int, epochs: int) -> None:
        self.index, self.epochs = index, epochs

    @classmethod
    def create_from_state_dict(cls, state: dict[str, int]) -> FakeResults:
        return cls(state["index"], state["epochs"])

    def get_compute_costs(self, dataset: str) -> dict[str, float]:
        return {"flops": len(dataset) + 0.5, "params": 0.25}

    def get_metrics(self, dataset: str, setname: str, iepoch: None = None, is_random: bool = True) -> dict[str, float]:
        assert not is_random
        runs = [accuracy(self.index, self.epochs, dataset, setname, seed) for seed in (777, 888)]
        return {"accuracy": float(np.mean(runs)), "loss": 1.0}


class FakeApi:
    """A folder of which one architecture at most may be in memory."""

    def __init__(self, archs: list[str], trainings: list[str]) -> None:
        self.archs, self.trainings = archs, trainings
        self.arch2infos_dict: dict[int, dict[str, FakeResults]] = {}

    def __len__(self) -> int:
        return len(self.archs)

    def arch(self, index: int) -> str:
        return self.archs[index]

    def reload(self, archive_root: str, index: int) -> None:
        assert not self.arch2infos_dict, "the one before must have been dropped"
        self.arch2infos_dict[index] = {training: FakeResults(index, int(training)) for training in self.trainings}


@pytest.mark.parametrize(
    ("archs", "trainings", "ends"),
    [
        ([FIRST, SECOND], ["12", "200"], {"": 200, "_12ep": 12}),
        (["8:16:24:32:64", "8:8:8:8:8", "64:64:64:64:64"], ["01", "12", "90"], {"": 90, "_12ep": 12, "_1ep": 1}),
        ([FIRST], ["200"], {"": 200, "_12ep": None}),
    ],
)
def test_nats_bench_is_read_architecture_by_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archs: list[str], trainings: list[str], ends: dict[str, int | None]
) -> None:
    monkeypatch.setitem(sys.modules, "nats_bench", SimpleNamespace(create=lambda *_, **__: FakeApi(archs, trainings)))
    (tmp_path / "NATS").mkdir()
    write(tmp_path / "NATS" / "meta.pickle.pbz2", b"")
    assert convert(tmp_path / "NATS", tmp_path / "out.csv.gz", trust=True) == len(archs)
    check_nats_table(tmp_path / "out.csv.gz", archs, ends)


def check_nats_table(path: Path, archs: list[str], ends: dict[str, int | None]) -> None:
    found = read_benchmark(path)
    assert [arch.choices for arch in found.archs] == archs
    for end, epochs in ends.items():
        for place, name in enumerate(COLUMNS):
            values = [np.nan if epochs is None else expected(i, epochs)[place] for i in range(len(archs))]
            np.testing.assert_allclose(found.columns[name + end], values, atol=1e-4)
    assert found.splits("cifar10") == [split + end.replace("_acc", "") for end in ends for split in ("valid", "test")]


def test_pickles_are_not_opened_without_trust(tmp_path: Path) -> None:
    """Neither by the package nor by torch: the code in the file has not run."""
    trap = tmp_path / "ran"
    (tmp_path / "NATS").mkdir()
    write(tmp_path / "NATS" / "meta.pickle.pbz2", bz2.compress(pickle.dumps(Trap(trap))))
    torch.save({"meta_archs": Trap(trap)}, tmp_path / "n.pth")
    for name in ("NATS", "n.pth"):
        with pytest.raises(ConfigError, match=r"--trust|not installed"):
            convert(tmp_path / name, tmp_path / "out.csv")
    assert not trap.exists() and not (tmp_path / "out.csv").exists()


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nats_bench", None)
    (tmp_path / "NATS").mkdir()
    write(tmp_path / "NATS" / "meta.pickle.pbz2", b"")
    torch.save({}, tmp_path / "n.pth")
    for name in ("NATS", "n.pth"):
        with pytest.raises(ConfigError, match=r'pip install "diswot\[benchmarks\]"'):
            convert(tmp_path / name, tmp_path / "out.csv", trust=True)


@pytest.mark.parametrize("zipped", [True, False])
def test_the_pth_of_nasbench201_is_read_as_plain_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    """In torch's format of today and in that of 2020, without trust."""
    monkeypatch.setitem(sys.modules, "nats_bench", SimpleNamespace(ArchResults=FakeResults))
    infos = {i: {"full": {"index": i, "epochs": 200}, "less": {"index": i, "epochs": 12}} for i in range(2)}
    document = {"meta_archs": [FIRST, SECOND], "arch2infos": infos, "evaluated_indexes": {0, 1}}
    torch.save(document, tmp_path / "n.pth", _use_new_zipfile_serialization=zipped)
    assert convert(tmp_path / "n.pth", tmp_path / "out.csv") == 2
    check_nats_table(tmp_path / "out.csv", [FIRST, SECOND], {"": 200, "_12ep": 12})


def test_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nats_bench", SimpleNamespace(ArchResults=FakeResults))
    torch.save({"state_dict": {}}, tmp_path / "weights.pth")
    write(tmp_path / "NATS.tar", b"x" * 600)
    write(tmp_path / "empty.tfrecord", b"")
    write(tmp_path / "cut.pth", b"PK\x03\x04")
    for name, says in (
        ("weights.pth", "not NAS-Bench-201"),
        ("cut.pth", "torch cannot read it"),
        ("NATS.tar", "tar xf"),
        ("empty.tfrecord", "not an official file"),
        ("nowhere", "no such file"),
        (".", "a folder without meta.pickle.pbz2"),
    ):
        with pytest.raises(DataError, match=says) as caught:
            convert(tmp_path / name, tmp_path / "out.csv")
        assert "\n" not in str(caught.value)
    write(tmp_path / "n.tfrecord", nasbench101())
    with pytest.raises(DataError, match="folder does not exist"):
        convert(tmp_path / "n.tfrecord", tmp_path / "no" / "out.csv")
    with pytest.raises(DataError, match="cannot be written"):
        convert(tmp_path / "n.tfrecord", tmp_path)


# --- with the package itself, on files written by it


def official(nats_bench: Any, index: int, text: str, epochs: int) -> dict[str, Any]:
    """The state of one architecture's results, as the authors' scripts save it: two runs on each data set."""
    results = nats_bench.ArchResults(index, text)
    for trained, sets in TRAINED.items():
        for seed in (777, 888):
            keys = [f"{name}@{epochs - 1}" for name in sets]
            values = {key: accuracy(index, epochs, trained, key.split("@")[0], seed) for key in keys}
            last = {epochs - 1: 1.0}
            run = nats_bench.ResultsCount(trained, None, last, last, 0.25, 1.5, {"arch_str": text}, seed, epochs, None)
            run.eval_names, run.eval_acc1es = list(sets), values
            run.eval_losses = dict.fromkeys(keys, 1.0)
            results.update(trained, seed, run)
    return results.state_dict()


@pytest.mark.parametrize(
    ("folder", "archs", "ends"),
    [
        ("NATS-tss-v1_0-3ffb9-simple", [FIRST, SECOND], {"": 200, "_12ep": 12}),
        ("NATS-sss-v1_0-50262-simple", ["8:16:24:32:64", "8:8:8:8:8"], {"": 90, "_12ep": 12, "_1ep": 1}),
    ],
)
def test_nats_bench_by_its_package(tmp_path: Path, folder: str, archs: list[str], ends: dict[str, int | None]) -> None:
    nats_bench = pytest.importorskip("nats_bench")
    (tmp_path / folder).mkdir()
    nats_bench.pickle_save({"meta_archs": archs}, str(tmp_path / folder / "meta.pickle"))
    for index, text in enumerate(archs):
        states = {f"{epochs:02d}": official(nats_bench, index, text, epochs) for epochs in ends.values() if epochs}
        nats_bench.pickle_save(states, str(tmp_path / folder / f"{index:06d}.pickle"))
    assert convert(tmp_path / folder, tmp_path / "out.csv", trust=True) == 2
    check_nats_table(tmp_path / "out.csv", archs, ends)
    assert read_benchmark(tmp_path / "out.csv").columns["cifar100_params_m"].tolist() == [0.25, 0.25]
    (tmp_path / folder / "000001.pickle.pbz2").unlink()
    with pytest.raises(DataError, match="architecture 1 cannot be read"):
        convert(tmp_path / folder, tmp_path / "out.csv", trust=True)


def test_nasbench201_by_the_package(tmp_path: Path) -> None:
    nats_bench = pytest.importorskip("nats_bench")
    states = {"full": official(nats_bench, 0, FIRST, 200), "less": official(nats_bench, 0, FIRST, 12)}
    torch.save({"meta_archs": [FIRST], "arch2infos": {0: states}, "evaluated_indexes": [0]}, tmp_path / "n.pth")
    assert convert(tmp_path / "n.pth", tmp_path / "out.csv") == 1
    check_nats_table(tmp_path / "out.csv", [FIRST], {"": 200, "_12ep": 12})
