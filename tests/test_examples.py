"""The examples, each a complete file, through the command line."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from diswot import testing
from diswot.losses import LOSSES
from diswot.proxies import PROXIES
from diswot.searching.strategies import STRATEGIES

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
SEARCH = (
    "search --iterations 6 --population-size 4 --generation-size 2 --seeds 1 --batch-size 2 --num-classes 4 --input-size 16 "
    "--params 300K --workers 1 --quiet --json"
)
TRAIN = "--data example_data_source:Stripes --input-size 16 --epochs 1 --batch-size 32 --quiet --json"
COMMANDS = {
    "space": f"{SEARCH} --space example_space:PlainSpace --depth 8 --proxy params,flops",
    "proxy": f"{SEARCH} --proxy example_proxy:LogitContrast --space s0 --teacher resnet8",
    "strategy": f"{SEARCH} --strategy example_strategy:LocalSearch --proxy params,flops --space s0 --teacher resnet8",
    "teacher": f"{SEARCH} --teacher example_teacher:wide_teacher --proxy relation --space s0",
    "loss": f"distill resnet8 --teacher resnet8 --loss example_loss:HuberLogits(delta=2)+0.5*kd {TRAIN}",
    "scheme": f"distill resnet8 resnet14 --loss example_scheme:Consensus {TRAIN}",
    "data_source": f"train resnet8 {TRAIN}",
}


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The examples in a folder of their own, under names that no installed module has."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for path in EXAMPLES.glob("*.py"):
        shutil.copy(path, folder / f"example_{path.name}")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr("diswot.searching.finalists._SAMPLES", 20)  # each is traced, in some 50 ms
    yield folder
    for name in [name for name in sys.modules if name.startswith("example_")]:
        del sys.modules[name]
    for registry in (LOSSES, PROXIES, STRATEGIES):
        registry.forget_loaded()


def test_there_is_an_example_of_every_kind() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(COMMANDS)


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.slow if kind == "space" else ()) for kind in COMMANDS])
def test_every_example_runs_from_the_command_line_and_resumes(examples: Path, diswot, kind: str) -> None:  # type: ignore[no-untyped-def]
    words = COMMANDS[kind].split()
    code, out, err = diswot(*words, "--name", "run")
    assert (code, err) == (0, ""), err
    alone = ["--workers", "1"] if words[0] == "search" else []
    again = diswot(words[0], "--resume", "runs/run", "--quiet", "--json", *alone)
    assert (again[0], again[2]) == (0, "")
    assert json.loads(again[1]) == json.loads(out)


@pytest.mark.slow
def test_every_example_conforms(examples: Path) -> None:
    testing.check_space("example_space:PlainSpace", samples=3)
    testing.check_proxy("example_proxy:LogitContrast")
    testing.check_loss("example_loss:HuberLogits")
    testing.check_teacher("example_teacher:wide_teacher")
    testing.check_strategy("example_strategy:LocalSearch")
    testing.check_data_source("example_data_source:Stripes")
    testing.check_loss("example_scheme:Consensus")
    from example_scheme import TogetherWithTheMean  # type: ignore[import-not-found]

    testing.check_scheme(TogetherWithTheMean)


def test_changed_code_of_a_part_is_noticed_on_resume(examples: Path, diswot) -> None:  # type: ignore[no-untyped-def]
    assert diswot(*COMMANDS["strategy"].split(), "--name", "run")[0] == 0
    path = examples / "example_strategy.py"
    path.write_text(path.read_text() + "# another line\n")
    code, _, err = diswot("search", "--resume", "runs/run", "--quiet")
    assert code == 2 and "code of example_strategy:LocalSearch" in err
