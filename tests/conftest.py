"""What the tests share: where real data lies, a home of their own, and the command line as a process."""

from __future__ import annotations

import functools
import gc
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from diswot.errors import speaking_flags
from tests.forks import FEW_PEERS
from tests.processes import diswot_process

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: tests run side by side, one core each
    os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).resolve().parents[1]
REAL_DATA = ROOT.parent / "shared" / "data"


LONGEST = ("test_documents.py", "test_distributed.py", "test_tabulate.py", "test_packaging.py", "test_resuming.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests begin first, so that no core waits for one of them at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_collection_finish() -> None:
    """What was imported for all tests stays; to look through it for garbage again and again takes a twentieth of their time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing a test does touches the user's own cache, and what it computes twice is computed twice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISWOT_HOME", str(tmp_path_factory.mktemp("home")))  # of fixtures that several tests share
        patch.setenv("DISWOT_CACHE", "off")
        patch.setenv("DISWOT_REPORT", "off")  # a page takes seconds; tests/pages asks for its own
        patch.setattr("diswot.searching.finalists.PEERS", FEW_PEERS)
        yield


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a home of its own."""
    monkeypatch.setenv("DISWOT_HOME", str(tmp_path / "home"))


@pytest.fixture
def _pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs leave their page, as they do for users."""
    monkeypatch.delenv("DISWOT_REPORT")


@pytest.fixture(autouse=True)
def _flags_in_messages() -> Iterator[None]:
    """Messages are checked as the command line prints them, with flags; what Python callers read is tested in test_errors.py."""
    with speaking_flags():
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not REAL_DATA.is_dir():
        pytest.skip(f"real data is not at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """A function that gives a program of scripts/ as a module."""

    def load(name: str) -> ModuleType:
        path = ROOT / "scripts" / f"{name}.py"
        if not path.exists():
            pytest.skip("the scripts are not part of an installed package")
        return _load_file(path)

    return load


def _load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up while it is executed
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def cifar10_test(real_data: Path) -> tuple[np.ndarray, np.ndarray]:
    """The 10,000 real test images of CIFAR-10, uint8 (n, 32, 32, 3), and their labels."""
    unpack = _load_file(real_data / "unpack.py")
    labels = np.load(real_data / "cifar10" / "test.labels.npy")
    return unpack.decode((real_data / "cifar10" / "test.images").read_bytes(), len(labels)), labels


@pytest.fixture
def small_npz(tmp_path: Path) -> Path:
    """80 training and 40 test images of 4 classes whose colours give them away."""
    return write_small_npz(tmp_path / "small.npz")


def write_small_npz(path: Path) -> Path:
    """Write the images of `small_npz`."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 4
    images = rng.integers(0, 120, (120, 16, 16, 3)) + 130 * np.eye(4, 3)[labels][:, None, None, :]
    arrays = {"x_train": images[:80], "x_test": images[80:]}
    np.savez(path, **{k: v.astype(np.uint8) for k, v in arrays.items()}, y_train=labels[:80], y_test=labels[80:])
    return path


@pytest.fixture
def teacher_file(tmp_path: Path) -> Path:
    """A ResNet-8 of random weights for the classes of `small_npz`, so that no test has to train one."""
    return write_teacher(tmp_path / "teacher.pth")


def write_teacher(path: Path) -> Path:
    """Write the weights of `teacher_file`."""
    import torch

    from diswot.models.zoo import ZOO

    torch.manual_seed(5)
    torch.save(ZOO["resnet8"](num_classes=4).state_dict(), path)
    return path


@pytest.fixture
def spawn(tmp_path: Path):  # type: ignore[no-untyped-def]
    return functools.partial(diswot_process, cwd=tmp_path)


@pytest.fixture
def diswot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """The command line in this process: `diswot("list", "spaces")` gives (exit code, stdout, stderr)."""
    from diswot.cli import main

    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return call
