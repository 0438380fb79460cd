"""The TFRecord of NAS-Bench-101 becomes a table: records are written here from the definitions of the formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diswot.benchmarks import convert, read_benchmark, tfrecord
from diswot.errors import DataError, DiswotError
from diswot.space import load_space
from tests.benchmarks.nasbench101_file import CELL, KEY, OPS, crc32c, framed, nasbench101, record
from tests.benchmarks.samples import write


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
