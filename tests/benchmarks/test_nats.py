"""The folders of NATS-Bench and the .pth of NAS-Bench-201 become tables; where the package is there, on files that it wrote."""

from __future__ import annotations

import bz2
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from diswot.benchmarks import convert, read_benchmark
from diswot.errors import ConfigError, DataError
from tests.benchmarks.nasbench101_file import nasbench101
from tests.benchmarks.samples import FIRST, SECOND, write

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
