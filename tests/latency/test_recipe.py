"""Tables that are measured, killed and gone on with, and exported."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from diswot.errors import ConfigError
from diswot.latency import recipe
from diswot.latency.measure import Patience
from diswot.latency.recipe import SCRIPT, TablePlan, export_table, measure_table
from diswot.latency.runtimes import Setup
from diswot.latency.table import LatencyTable, csv_text, read_rows
from diswot.progress import NullReporter
from tests.latency.samples import SPEC, table_plan


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "PATIENCE", Patience(0.0, least=2, most=2))
    monkeypatch.setattr(recipe, "GROUP", 3)


class Noted(NullReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.done: list[int] = []

    def log(self, line: str) -> None:
        self.lines.append(line)

    def update(self, done: int, detail: object) -> None:
        self.done.append(done)


def test_a_table_is_measured_in_groups_and_told_of_before(tmp_path: Path) -> None:
    reporter, path = Noted(), tmp_path / "t.csv"
    table, _ = measure_table(table_plan(networks=2), path, reporter)
    assert "all units of sampled networks, and 2 whole networks, by torch on cpu, 1 thread" in reporter.lines[0]
    assert reporter.lines[1].startswith("about 1 s; rows are kept in") and reporter.done == [3, 6, 9]
    assert all(row.timing is not None and row.timing.repeats == 2 for row in read_rows(path)[1])
    assert table.latency(table.setup and table_plan().space, table_plan().space.extremes()[0], SPEC) > 0


_DOOMED = """
import os, signal, sys
from pathlib import Path
from diswot.latency import recipe
from diswot.latency.measure import Patience
from diswot.progress import NullReporter
from tests.latency.samples import table_plan

left, append = int(sys.argv[2]), recipe._append

def doomed(target, text):
    global left
    left -= 1
    append(target, text if left else text[:-40])
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

recipe._append, recipe.GROUP, recipe.PATIENCE = doomed, 3, Patience(0.0, least=2, most=2)
recipe.measure_table(table_plan(networks=2), Path(sys.argv[1]), NullReporter())
"""


def kill_after(groups: int, path: Path) -> None:
    """Measure a table in a process of its own, which ends by kill -9 while it writes the last of so many groups."""
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    ended = subprocess.run([sys.executable, "-c", _DOOMED, str(path), str(groups)], env=environment, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


@pytest.mark.slow
def test_a_killed_table_is_gone_on_with(tmp_path: Path) -> None:
    """Killed while it writes a line."""
    path, reporter = tmp_path / "t.csv", Noted()
    kill_after(2, path)
    before = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    with pytest.raises(ConfigError, match="5 of its 9 rows"):
        path_copy = tmp_path / "copy.csv"
        path_copy.write_text("".join(before))
        LatencyTable.read(path_copy)
    measure_table(table_plan(networks=2), path, reporter)
    assert path.read_text().startswith("".join(before)), "what was measured is not measured again"
    plan = table_plan(networks=2)
    assert [row.subject for row in read_rows(path)[1]] == [recipe.subject_of(row) for row in plan.rows]
    assert reporter.done[-1] == 9


def test_a_whole_table_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.csv"
    measure_table(table_plan(networks=2), path, NullReporter())
    monkeypatch.setattr(recipe, "time_interleaved", None)
    assert measure_table(table_plan(networks=2), path, NullReporter())[1] == ""


@pytest.mark.slow
def test_a_table_of_another_setup_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    measure_table(table_plan(networks=2), path, NullReporter())
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="it was begun with threads 1, and this is 2: choose another file, or remove it"):
        measure_table(table_plan(networks=2, setup=Setup(threads=2)), path, NullReporter())
    with pytest.raises(ConfigError, match="it was begun with space resnet_depth, and this is nats_size"):
        measure_table(table_plan("nats_size"), path, NullReporter())
    (tmp_path / "mine.txt").write_text("a letter")
    with pytest.raises(ConfigError, match="the file holds something else"):
        measure_table(table_plan(), tmp_path / "mine.txt", NullReporter())
    assert path.read_bytes() == before and (tmp_path / "mine.txt").read_text() == "a letter"


@pytest.mark.parametrize(("options", "says"), [({"units": 3}, "--units 3: from 10"), ({"networks": -1}, "--networks -1: from 0")])
def test_what_cannot_be_planned_is_refused(options: dict[str, int], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        TablePlan(table_plan().space, SPEC, Setup(), {}, **options)


def test_an_export_has_a_file_for_each_row_and_is_no_table_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "write_onnx", lambda model, images, target: target.write_text(str(tuple(images.shape))))
    path, folder = tmp_path / "pixel.csv", tmp_path / "blocks"
    plan = table_plan(networks=1, setup=Setup(runtime="onnx", batch_size=2))
    export_table(plan, path, folder, NullReporter())
    setup, rows = read_rows(path)
    assert {row.file for row in rows} | {SCRIPT, setup.reference} == {file.name for file in folder.iterdir()}
    for row in rows:
        shape = row.subject.inputs if hasattr(row.subject, "inputs") else (3, 32, 32)
        assert (folder / row.file).read_text() == str((2, *shape))
    with pytest.raises(ConfigError, match=r"0 of its 8 rows have been measured: run measure_blocks.py of the export on the device"):
        LatencyTable.read(path)
    with pytest.raises(ConfigError, match="exists"):
        export_table(plan, path, tmp_path / "other", NullReporter())
    with pytest.raises(ConfigError, match=r"--export .* exists: choose a new folder"):
        export_table(plan, tmp_path / "new.csv", folder, NullReporter())


def without_times(text: str, last: int) -> str:
    """A table whose last rows have not been measured."""
    lines = text.splitlines(keepends=True)
    head = [line for line in lines if line.startswith("#")]
    rows = list(csv.DictReader(lines[len(head) :]))
    for row in rows[-last:]:
        row |= dict.fromkeys(("ms", "p10_ms", "p90_ms", "repeats", "reference_ms"), "")
    return "".join(head) + csv_text(rows)


def write_convolution(shape: tuple[int, ...], target: Path) -> None:
    """An ONNX file of one convolution that takes images of a shape, or of a sum where they are none; torch's exporter takes seconds."""
    onnx = pytest.importorskip("onnx")
    make, real = onnx.helper, onnx.TensorProto.FLOAT
    operands = ["images", "images"]
    weights = []
    if len(shape) == 4:
        operands = ["images", "weights"]
        weights = [onnx.numpy_helper.from_array(np.ones((16, shape[1], 3, 3), np.float32), "weights")]
    node = make.make_node("Conv" if weights else "Add", operands, ["out"])
    values = [[make.make_tensor_value_info(name, real, sides)] for name, sides in (("images", shape), ("out", None))]
    graph = make.make_graph([node], "unit", *values, weights)
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=10), target)


@pytest.mark.slow
def test_an_export_is_measured_by_its_own_program_and_read_as_any_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program runs where neither torch nor diswot can be imported. That torch's exporter writes networks is tested with `latency`."""
    monkeypatch.setattr(recipe, "write_onnx", lambda model, images, target: write_convolution(tuple(images.shape), target))
    path, folder = tmp_path / "pixel.csv", tmp_path / "blocks"
    plan = table_plan(networks=1, setup=Setup(runtime="onnx"))
    export_table(plan, path, folder, NullReporter())
    for name in ("torch", "diswot"):
        (tmp_path / f"{name}.py").write_text("raise ImportError")
    command = [sys.executable, str(folder / SCRIPT), str(path), "--threads", "1"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr.endswith("8/8 rows\n")
    table = LatencyTable.read(path)
    assert (table.setup.device, table.setup.runtime, table.setup.threads) == ("cpu", "onnx", 1) and "onnxruntime" in table.setup.versions
    deep, shallow = (type(arch)("resnet_depth", {"depths": [depth] * 3}) for arch, depth in ((plan.reference, 7), (plan.reference, 1)))
    assert table.latency(plan.space, deep, SPEC) > table.latency(plan.space, shallow, SPEC) > 0
    whole = path.read_text()
    path.write_text(without_times(whole, 3))  # as a killed run leaves it
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert path.read_text().splitlines()[:-3] == whole.splitlines()[:-3]
    LatencyTable.read(path)
    refused = subprocess.run([*command[:-1], "2"], env=environment, capture_output=True, text=True)
    assert refused.returncode == 1 and "begun with 1 threads" in refused.stderr
