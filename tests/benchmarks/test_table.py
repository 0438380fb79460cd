"""Tables of architectures and accuracies: any CSV of any space, and one line for whatever is wrong with one."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diswot.architecture import Architecture
from diswot.benchmarks import Benchmark, read_benchmark, table
from diswot.errors import ConfigError, DataError, DiswotError
from diswot.space import load_space
from tests.benchmarks.samples import FIRST, SECOND, write
from tests.spaces.own import write_own_space

PUBLISHED = """\
index,arch_str,cifar10_flops_m,cifar10_params_m,cifar10_valid_acc,cifar10_test_acc,cifar10_test_trials_v11,cifar10_test_acc_std_v11,\
cifar100_valid_acc,cifar100_test_acc,cifar10_valid_acc_12ep,cifar10_test_acc_12ep
0,|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|,15.64737,0.129306,81.9,85.8633,3,\
0.2344,53.68,52.9133,63.364,69.55
4998,|none~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|nor_conv_3x3~1|none~2|,47.10465,0.344346,84.11,86.51,2,0.1,57.86,57.76,73.744,
9930,|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|,184.73025,1.288506,90.93,94.3633,3,\
0.0793,73.18,73.5133,84.746,88.66
"""  # rows and columns of the table of NAS-Bench-201, and one cell taken out


def check_by_the_csv_module(path: Path) -> tuple[Benchmark, list[dict[str, str]]]:
    found = read_benchmark(path)
    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file))
    assert (found.name, found.space, len(found)) == ("nasbench201", "nasbench201", len(rows))
    assert found.archs == [Architecture("nasbench201", row["arch_str"]) for row in rows]
    assert set(found.columns) == set(rows[0]) - {"index", "arch_str"}
    for name, values in found.columns.items():
        np.testing.assert_array_equal(values, [float(row[name] or "nan") for row in rows])
    return found, rows


def test_a_table_of_nasbench201_reads_as_the_csv_module_reads_it(tmp_path: Path) -> None:
    found, rows = check_by_the_csv_module(write(tmp_path / "nasbench201.csv.gz", gzip.compress(PUBLISHED.encode())))
    assert len(rows) == 3 and found.dataset_names() == ["cifar10", "cifar100"]
    assert found.splits("cifar10") == ["valid", "test", "valid_12ep", "test_12ep"] and found.splits("cifar100") == ["valid", "test"]
    assert np.isnan(found.accuracy("cifar10", "test_12ep")).tolist() == [False, True, False]
    assert found.accuracy("cifar10", "test").max() == 94.3633


def test_the_whole_table_of_nasbench201_reads_as_the_csv_module_reads_it(real_data: Path) -> None:
    found, rows = check_by_the_csv_module(real_data / "nasbench201" / "nasbench201.csv.gz")
    assert len(rows) == 15_625
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
    write_own_space(tmp_path, "mylab_table", monkeypatch)
    path = write(tmp_path / "t.csv", "arch,accuracy\n8,1\n32,2\n")
    with pytest.raises(ConfigError, match="allow it with --space mylab_table:Own"):
        read_benchmark(path, "mylab_table:Own", accuracy_column="accuracy")
    found = read_benchmark(path, load_space("mylab_table:Own", trusted=True), accuracy_column="accuracy")
    assert found.archs == [Architecture("mylab_table:Own", width) for width in (8, 32)] and found.space == "mylab_table:Own"
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
