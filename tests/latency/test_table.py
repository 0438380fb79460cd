"""Tables: sums by hand, and files that nobody should trust."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from diswot.architecture import Architecture
from diswot.errors import ConfigError
from diswot.latency.measure import Timing
from diswot.latency.runtimes import Setup
from diswot.latency.table import MAX_BYTES, Correction, LatencyTable, Row, best_correction, csv_text, read_rows
from diswot.latency.units import UnitReader
from diswot.space import ImageSpec, load_space
from tests.latency.samples import SPEC, by_flops, table_plan, write_table

S0 = load_space("s0")
ARCH = Architecture("resnet_depth", {"depths": [5, 3, 7]})


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "t.csv", table_plan())


def test_the_latency_is_the_sum_over_the_units(table: Path) -> None:
    """By the layers of a CIFAR ResNet: a stem, 5 + 3 + 7 blocks of two 3x3 convolutions, a 1x1 shortcut where the width changes."""
    stem, wide = 3 * 16 * 9 * 32**2, 2 * 16 * 16 * 9 * 32**2
    second = (16 * 32 * 9 + 32 * 32 * 9 + 16 * 32) * 16**2
    third = (32 * 64 * 9 + 64 * 64 * 9 + 32 * 64) * 8**2
    flops = [stem, *[wide] * 5, second, *[wide] * 2, third, *[wide] * 6, 64 * 10]
    expected = sum(0.1 + one / 1e7 for one in flops)
    found = LatencyTable.read(table)
    assert found.latency(S0, ARCH, SPEC) == pytest.approx(expected, rel=1e-4)
    assert sum(map(by_flops, UnitReader(S0, SPEC).units(ARCH))) == pytest.approx(expected)


@pytest.mark.parametrize("space", ["nats_size", "channel_bench", "nasbench_macro", "s2"])
@pytest.mark.slow
def test_units_that_were_not_measured_are_filled_in(space: str, tmp_path: Path) -> None:
    plan = table_plan(space, units=24, networks=5)
    found = LatencyTable.read(write_table(tmp_path / "t.csv", plan))
    reader, arch = UnitReader(plan.space, SPEC), plan.space.extremes()[0]
    assert found.latency(plan.space, arch, SPEC) == pytest.approx(sum(map(by_flops, reader.units(arch))), rel=0.1)


def test_a_call_costs_a_constant_that_whole_networks_show(tmp_path: Path) -> None:
    sums = write_table(tmp_path / "a.csv", table_plan())
    whole = write_table(tmp_path / "b.csv", table_plan(), whole=lambda ms: 2.0 + 0.9 * ms)
    as_sum, corrected = (LatencyTable.read(path).latency(S0, ARCH, SPEC) for path in (sums, whole))
    assert corrected == pytest.approx(2.0 + 0.9 * as_sum, rel=1e-3)


def test_what_each_unit_pays_alone_is_taken_off(tmp_path: Path) -> None:
    """A unit that runs alone takes 0.05 ms longer than in a network; its networks have 5 to 23 units."""
    reader = UnitReader(S0, SPEC)
    path = write_table(tmp_path / "t.csv", table_plan(), law=lambda unit: 0.05 + by_flops(unit))
    setup, rows = read_rows(path)
    cells, plan = [], table_plan()
    for row in rows:
        if isinstance(row.subject, Architecture):
            ms = sum(map(by_flops, reader.units(row.subject)))
            row = Row(row.subject, Timing(ms, ms, ms, 12), 5.0)
        cells.append(plan.cells(row))
    path.write_text(setup.lines() + csv_text(cells))
    assert LatencyTable.read(path).latency(S0, ARCH, SPEC) == pytest.approx(sum(map(by_flops, reader.units(ARCH))), rel=1e-3)


def test_a_correction_leaves_something_of_small_networks() -> None:
    assert Correction(constant=-1.0)(0.4, 5) == pytest.approx(0.1)
    assert best_correction([1.0, 2.0], [5, 6], [2.0, 4.0])[0] == Correction(), "two networks show nothing"


def test_a_table_without_networks_is_a_sum(tmp_path: Path) -> None:
    found = LatencyTable.read(write_table(tmp_path / "t.csv", table_plan(networks=0)))
    assert found.latency(S0, ARCH, SPEC) == pytest.approx(sum(map(by_flops, UnitReader(S0, SPEC).units(ARCH))), rel=1e-4)


def test_the_pace_of_the_machine_falls_out(tmp_path: Path) -> None:
    """Every third row was measured while the machine was half as fast, which the reference saw too."""
    steady = write_table(tmp_path / "a.csv", table_plan())
    drifting = write_table(tmp_path / "b.csv", table_plan(), pace=lambda row: 1.0 if row % 3 else 2.0)
    a, b = (LatencyTable.read(path).latency(S0, ARCH, SPEC) for path in (steady, drifting))
    assert b == pytest.approx(a, rel=1e-3)


def test_what_is_written_is_read_again(table: Path) -> None:
    setup, rows = read_rows(table)
    plan = table_plan()
    assert setup == plan.head("a processor") and str(setup).startswith("torch on cpu, 1 thread, batch of 1, a processor")
    assert [row.timing is not None for row in rows] == [True] * (7 + 6)
    assert LatencyTable.read(table).digest == hashlib.sha256(table.read_bytes()).hexdigest()[:12]


def test_columns_say_what_a_block_looks_like(table: Path) -> None:
    header, *rows = [line for line in table.read_text().splitlines() if not line.startswith("#")]
    names = header.split(",")
    blocks = {tuple(row.split(",")[:7]) for row in rows}
    assert names[:7] == ["kind", "in_channels", "out_channels", "kernel", "stride", "resolution", "flops"]
    assert ("Conv2d", "3", "16", "3x3", "1", "32", str(3 * 16 * 9 * 1024)) in blocks
    assert ("BasicBlock", "16", "32", "3x3", "2", "32", str((16 * 32 * 9 + 32 * 32 * 9 + 16 * 32) * 256)) in blocks


@pytest.mark.parametrize(
    ("space", "spec", "says"),
    [
        ("s1", SPEC, "a table of resnet_depth, not of resnet_width: measure one with diswot latency --space resnet_width --table FILE.csv"),
        ("s0", ImageSpec(100, 3, 32), "of 10 classes, 3 x 32 x 32, not of 100 classes, .* --num-classes 100 --input-size 32 --table"),
        ("s0", ImageSpec(10, 3, 64), "not of 10 classes, 3 x 64 x 64"),
    ],
)
def test_a_table_of_something_else_is_refused(table: Path, space: str, spec: ImageSpec, says: str) -> None:
    of = load_space(space)
    with pytest.raises(ConfigError, match=says):
        LatencyTable.read(table).latency(of, of.extremes()[0], spec)


def test_a_table_that_is_not_whole_says_how_to_go_on(table: Path) -> None:
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-3]))
    with pytest.raises(ConfigError, match="10 of its 13 rows have been measured: go on with the command that began it"):
        LatencyTable.read(table)


def cells(table: Path, name: str, value: str) -> str:
    """A table with another value in a column of its first row that is a unit."""
    lines = table.read_text().splitlines()
    header = next(line for line in lines if not line.startswith("#"))
    number = next(n for n, line in enumerate(lines) if line.startswith(("Conv2d,", "BasicBlock,")))
    row = lines[number].split(",")
    row[header.split(",").index(name)] = value
    lines[number] = ",".join(row)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0", "1e99", "x", "1e999"])
@pytest.mark.parametrize("name", ["ms", "p90_ms", "repeats", "reference_ms"])
def test_times_that_are_none_are_refused_with_their_line(table: Path, name: str, value: str) -> None:
    table.write_text(cells(table, name, value))
    with pytest.raises(ConfigError, match=rf"t.csv, line \d+: {name} '{value}' is no positive number"):
        LatencyTable.read(table)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("layers", "Conv2d; rm -rf", "is no layer"),
        ("layers", "Conv2d 3x3 g64 3x32x32>16x32x32", "sizes and groups are positive"),
        ("input", "16x0x2", "is no shape"),
        ("input", "", "invalid literal"),
        ("kind", "network", "line"),
    ],
)
def test_units_that_are_none_are_refused(table: Path, name: str, value: str, says: str) -> None:
    table.write_text(cells(table, name, value))
    with pytest.raises(ConfigError, match=says):
        LatencyTable.read(table)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("# diswot latency table, format 1", "# diswot latency table, format 9", "no latency table"),
        ("# threads: 1", "# threads: many", "first lines are damaged"),
        ("# threads: 1", "# thread: 1", "first lines are damaged"),
        ("# input_size: 32", "# input_size: 0", "a number is out of range"),
        ("# units: 7", "# units: 99999999999", "a number is out of range"),
        ("p10_ms", "p5_ms", "its columns are not"),
    ],
)
def test_heads_that_are_none_are_refused(table: Path, old: str, new: str, says: str) -> None:
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(ConfigError, match=says):
        LatencyTable.read(table)


def test_files_that_are_no_table_are_refused(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"\x89PNG\xff")
    (tmp_path / "empty").write_text("")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(MAX_BYTES + 1)
    for name, says in (
        ("image", "not UTF-8"),
        ("empty", "no latency table"),
        ("large", "more than 67,108,864 bytes"),
        ("none", "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=says):
            LatencyTable.read(tmp_path / name)


def test_a_table_of_very_many_rows_is_refused(table: Path) -> None:
    text = table.read_text()
    table.write_text(text + (text.splitlines()[-1] + "\n") * 1300)
    with pytest.raises(ConfigError, match="rows are no latency table"):
        LatencyTable.read(table)


@pytest.mark.slow
def test_quality_is_what_held_out_rows_show(tmp_path: Path) -> None:
    plan = table_plan("nats_size", units=40, networks=8, setup=Setup(threads=2))
    quality = LatencyTable.read(write_table(tmp_path / "t.csv", plan, whole=lambda ms: 1.5 * ms)).quality(plan.space)
    assert quality.units < 0.05 and quality.networks < 0.05
