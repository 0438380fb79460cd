"""`diswot tabulate`: its trainings are those of `distill`, its table is what `study` reads, and it survives being killed."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

import diswot
from diswot.architecture import Architecture
from diswot.benchmarks import read_benchmark
from diswot.cli.output import tabulate_table
from diswot.config import TabulateConfig
from diswot.errors import ConfigError
from diswot.execution import Execution
from diswot.runs import RunDir
from diswot.space import Cost
from diswot.tabulation import recipe, trainings
from diswot.tabulation.networks import TableNetwork
from diswot.tabulation.table import agreements, table_csv
from diswot.tabulation.trainings import Group, GroupRunner, Training, plan_trainings
from tests.executors.work import ScriptedExecutor
from tests.tabulation.inline import train_inline

QUICK = {"space": "s0", "flops": "9M", "teacher": "resnet8", "epochs": 2, "batch_size": 16, "workers": 2}


@pytest.fixture(name="diswot_cli")
def _command_line(diswot: Any) -> Any:  # the fixture has the name of the package
    return diswot


def flags(npz: Path, teacher: Path, **others: Any) -> list[str]:
    options = {**QUICK, "data": npz, "teacher_weights": teacher, "runs": npz.parent / "runs", "name": "t", **others}
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def test_the_trainings_of_a_table() -> None:
    config = TabulateConfig(networks=6, seeds=2, repeat_fraction=0.5, baseline_fraction=1 / 3)
    planned = plan_trainings(config, 6)
    assert planned[:12] == [Training(n, "kd", seed) for seed in (0, 1) for n in range(6)]
    assert planned[12:] == [*(Training(n, "kd", 2) for n in (1, 3, 5)), *(Training(n, "none", 0) for n in (2, 5))]
    assert not [t for t in plan_trainings(TabulateConfig(loss="none"), 6) if t.seed == 0 and t.loss == "none"][6:]


def networks(count: int) -> list[TableNetwork]:
    return [TableNetwork(Architecture("resnet_depth", {"depths": [1, 1, n]}), Cost(n, 2 * n, n)) for n in range(count)]


def test_the_table_has_the_mean_over_the_seeds_that_all_have(tmp_path: Path) -> None:
    accuracies = {Training(0, "kd", 0): 60.0, Training(0, "kd", 1): 62.0, Training(0, "kd", 2): 90.0, Training(1, "kd", 0): 50.0}
    accuracies |= {Training(0, "none", 0): 55.0}
    text = table_csv(networks(3), accuracies, "kd", range(2), "cifar10", "test")
    (row,) = csv.DictReader(text.splitlines())
    assert (row["cifar10_kd_test_acc"], row["cifar10_none_test_acc"], row["cifar10_kd_seed2"]) == ("61.0", "55.0", "90.0")
    assert json.loads(row["choices"]) == {"depths": [1, 1, 0]}


def test_seeds_are_compared_as_scipy_does() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(70, 3, 12)
    second = first + rng.normal(1, 1, 12)
    accuracies = {Training(n, "kd", 0): v for n, v in enumerate(first)} | {Training(n, "kd", 1): v for n, v in enumerate(second)}
    (found,) = agreements(accuracies, "kd", 0, 1)
    assert found.networks == 12 and found.spearman.low < found.spearman.value < found.spearman.high
    assert found.spearman.value == pytest.approx(stats.spearmanr(first, second).statistic)
    assert found.difference == pytest.approx((first - second).mean()) and found.spread == pytest.approx((first - second).std(ddof=1))


@pytest.mark.parametrize(("first", "says"), [([50.0] * 9, "undefined"), ([25.0] * 8 + [50.0], "1.000")])
def test_seeds_that_can_hardly_be_compared_are_told_without_an_interval(first: list[float], says: str, tmp_path: Path) -> None:
    """All networks alike, or all in one of the resamples: no warning of scipy's, no NaN on the screen or in a file."""
    accuracies = {Training(n, "kd", seed): v for seed in (0, 1) for n, v in enumerate(first)}
    (found,) = agreements(accuracies, "kd", 0, 1)
    assert math.isnan(found.spearman.low) and math.isnan(found.spearman.high)
    result = recipe.TabulateResult(networks(9), accuracies, {}, [found], 1.0, tmp_path / "table.csv", tmp_path)
    assert json.loads(json.dumps(result.summary(), allow_nan=False))["agreements"][0]["spearman"]["low"] is None
    shown = io.StringIO()
    Console(file=shown, width=100).print(tabulate_table(result))
    assert says in shown.getvalue() and "nan" not in shown.getvalue()


@pytest.mark.slow
def test_a_table_is_what_distill_gives_and_what_study_reads(
    diswot_cli: Any, small_npz: Path, teacher_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_inline(monkeypatch)
    code, out, _ = diswot_cli(
        "tabulate", *flags(small_npz, teacher_file, networks=12, flops="12M", group_size=5, device="cpu,cpu", json=True)[:-1]
    )
    assert code == 0
    found = json.loads(out)
    table = read_benchmark(found["table"], "s0")
    assert len(table) == 12 and table.dataset_names() == ["small_kd", "small_none"]
    network = json.loads((Path(found["folder"]) / "networks.json").read_text())["networks"][3]
    alone = diswot.distill(
        Architecture("resnet_depth", network["choices"]), folder=small_npz.parent / "alone", data=str(small_npz), teacher="resnet8",
        teacher_weights=str(teacher_file), epochs=2, batch_size=16, sched="cosine", augment="flip", val_interval=1000,
    )  # fmt: skip
    assert table.accuracy("small_kd", "test")[3] == pytest.approx(alone.student.top1, abs=1e-4)
    report = diswot.study(found["table"], space="s0", dataset="small_kd", proxy="params", bootstrap_resamples=20).reports[0]
    assert report.statistics["params"]["Spearman"].value == pytest.approx(
        stats.spearmanr(table.columns["params"], table.accuracy("small_kd", "test")).statistic
    )


@pytest.mark.slow
def test_a_killed_table_ends_as_the_undisturbed_one(
    diswot_cli: Any, spawn: Any, small_npz: Path, teacher_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9, then Ctrl-C, of the command and its processes, in the middle of a group; the undisturbed one has other groups."""
    size = {"networks": 3, "epochs": 3, "seeds": 1, "repeat_fraction": 0, "baseline_fraction": 0}
    given = flags(small_npz, teacher_file, group_size=2, workers=1, **size)
    folder = small_npz.parent / "runs" / "t"
    for signal_number in (signal.SIGKILL, signal.SIGINT):
        process = spawn("tabulate", *(["--resume", str(folder)] if folder.exists() else given))
        before = epochs_of(folder)
        while process.poll() is None and epochs_of(folder) <= before:
            time.sleep(0.05)
        assert process.poll() is None, process.communicate()
        os.kill(process.pid, signal_number)
        _, errors = process.communicate()
        assert signal_number != signal.SIGINT or "--resume" in errors
    train_inline(monkeypatch)
    assert diswot_cli("tabulate", "--resume", str(folder), "--workers", "1")[0] == 0
    whole = flags(small_npz, teacher_file, group_size=3, name="whole", **size)
    assert diswot_cli("tabulate", *whole)[0] == 0
    assert (folder / "table.csv").read_bytes() == (folder.parent / "whole" / "table.csv").read_bytes()


def epochs_of(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("trainings/*/metrics.jsonl"))


def run_groups(
    monkeypatch: pytest.MonkeyPatch, folder: Path, top1: Callable[[str], list[float]], lose: Callable[[str], bool] = lambda name: False
) -> list[tuple[str, Any]]:
    """Three trainings in a group; `top1` says by the group's name what comes of it, and `lose` when its worker dies."""

    def distill_in(path: Path, plan: Any, execution: Execution) -> Any:
        students = [SimpleNamespace(accuracy=SimpleNamespace(top1=value), count=10) for value in top1(path.name)]
        return SimpleNamespace(students=students, student=students[0], teacher=None, measured_on="test")

    monkeypatch.setattr(trainings, "distill_in", distill_in)
    executor = ScriptedExecutor(lambda chunk: OSError("the node is gone") if lose(chunk.items[0][1].name) else None)
    runner = GroupRunner(folder / "trainings", lambda group: None, Execution("cpu", 1, executor=executor), lambda: None)  # type: ignore[arg-type, return-value]
    group = Group(tuple(Training(n, "kd", 0) for n in range(3)))
    return [(group.name, outcome.get("top1") or outcome["error"]) for group, outcome in runner.run([group])]


def test_a_network_that_cannot_be_trained_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def top1(name: str) -> list[float]:
        if name in ("kd-seed0-0-1-2", "kd-seed0-1"):
            raise ConfigError("ce is not finite")
        return [50.0]

    found = run_groups(monkeypatch, tmp_path, top1)
    assert found == [("kd-seed0-0", [50.0]), ("kd-seed0-1", "ce is not finite"), ("kd-seed0-2", [50.0])]


def test_a_group_whose_worker_dies_is_begun_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lost = iter([True, True])
    twice = run_groups(monkeypatch, tmp_path, lambda name: [1.0, 2.0, 3.0], lambda name: next(lost, False))
    assert twice == [("kd-seed0-0-1-2", [1.0, 2.0, 3.0])]
    found = run_groups(monkeypatch, tmp_path / "again", lambda name: [4.0], lambda name: "1" in name)
    others = [("kd-seed0-0", [4.0]), ("kd-seed0-2", [4.0])]
    assert sorted(found) == sorted([*others, ("kd-seed0-1", "3 workers died with it: the node is gone")])


BAD = {
    "peers": (["--loss", "dml"], "students that learn from each other"),
    "phases": (["--search-phases", "first"], "some of early, middle, last"),
    "no search": (["--from", "nowhere"], "no run is there"),
    "budget": (["--params", "10"], "have"),
    "teacher": (["--teacher-weights", "nowhere.pth"], "no such weights file"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_one_line(case: str, diswot_cli: Any, small_npz: Path) -> None:
    options, message = BAD[case]
    space = "s1" if case == "budget" else "s0"
    code, _, errors = diswot_cli("tabulate", "--data", str(small_npz), "--space", space, "--teacher", "resnet8", "--name", "t", *options)
    assert code == 2 and message in errors and len(errors.strip().splitlines()) == 1, errors
    assert not Path("runs").exists()


def test_a_damaged_journal_is_told(small_npz: Path, teacher_file: Path) -> None:
    config = TabulateConfig(
        space="s0", flops="9M", data=str(small_npz), teacher="resnet8", teacher_weights=str(teacher_file), batch_size=16
    )
    plan = recipe.TabulatePlan(config)
    with RunDir.create(small_npz.parent / "t", "tabulate", plan.document(), {}) as run:
        run.append("trainings.jsonl", {"network": 0, "loss": "kd"})
        with pytest.raises(diswot.DiswotError, match="the journal is damaged"):
            recipe.run_tabulate(plan, run, Execution("cpu", 1))
