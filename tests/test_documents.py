"""What the pages tell a reader to type is typed, command by command, on small networks and images."""

from __future__ import annotations

import csv
import itertools
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diswot.architecture import Architecture, arch_json, canonical_json
from diswot.losses import LOSSES
from diswot.models.zoo import ZOO
from diswot.proxies import PROXIES
from diswot.searching.strategies import STRATEGIES
from diswot.space import load_space
from tests.losses.observations import STUDENT, TARGET, TEACHER
from tests.studies.samples import write_cells
from tests.tabulation.inline import train_inline

ROOT = Path(__file__).resolve().parents[1]
# Pages whose commands are typed one after the other in one folder; one that is on several of them is typed once.
DESKS = {
    "searching": ("README.md", "docs/index.md", "docs/guide/searching.md", "docs/guide/imagenet.md", "docs/results/trust.md"),
    "clusters": ("docs/guide/cluster.md",),
    "training": tuple(f"docs/guide/{page}.md" for page in ("distillation", "teachers", "losses", "data", "using", "reports")),
    "tables": ("docs/guide/tables.md", "docs/results/studies.md"),
    "latency": ("docs/guide/latency.md",),
    "parts of one's own": tuple(
        f"docs/extending/{page}.md" for page in ("README", "space", "proxy", "loss", "teacher", "strategy", "scheme", "data_source")
    ),
    "tutorial": ("docs/tutorial.md",),
}
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# What a reader has, and what stands for it here; "" leaves a word out.
STAND_INS = {
    **dict.fromkeys(("cifar100", "cifar100.npz", "cifar10.npz"), "images.npz"),
    "--download": "",
    "nasbench201.csv.gz": "cells.csv",
    "docs/found_1m.json": str(ROOT / "docs" / "found_1m.json"),
    "resnet56-4bfd9763.th": "resnet56_pad.th",
}
# What makes a command small: a later option of the same name wins.
SCORING = "--seeds 1 --batch-size 2 --workers 1 --input-size 16"
TRAINING = "--epochs 1 --batch-size 16 --limit 32 --teacher-epochs 1"
SMALLER = {
    "search": f"{SCORING} --iterations 4 --population-size 2 --generation-size 1",
    "score": SCORING,
    "study": f"{SCORING} --sample-rows 12 --bootstrap-resamples 20",
    "distill": TRAINING,
    "compare": f"{TRAINING} --seeds 1",
    "train": TRAINING.replace(" --teacher-epochs 1", ""),
    "tabulate": f"{TRAINING} --networks 10 --repeat-fraction 0 --baseline-fraction 0 --group-size 10 --workers 1",
}
SMALL_TABLE = "--units 10 --networks 1 --num-classes 4 --input-size 16"
EXAMPLES = tuple(path.stem for path in (ROOT / "examples").glob("*.py"))
LEFT_BY = {"compare": "search", "study": "tabulate"}  # the verb whose run a page means by NAME

NUMBERS = itertools.count()

Run = Callable[..., tuple[int, str, str]]


def blocks(page: str, language: str) -> list[str]:
    return [text for tag, text in FENCE.findall((ROOT / page).read_text()) if tag == language]


def commands(page: str) -> list[list[str]]:
    lines = [line.split("&& ")[-1] for block in blocks(page, "") for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("diswot ")]


@pytest.fixture
def desk(tmp_path: Path, small_npz: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with what the pages take for granted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    small_npz.rename("images.npz")
    for name, blocks_deep in (("arch", 1), ("a", 1), ("b", 3)):
        Path(f"{name}.json").write_text(arch_json(Architecture("resnet_depth", {"depths": [blocks_deep, 1, 1]})))
    write_cells(tmp_path / "cells.csv")
    for name in EXAMPLES:
        shutil.copy(ROOT / "examples" / f"{name}.py", tmp_path)
    Path("mylab.py").write_text("from space import PlainSpace\nclass MobileSpace(PlainSpace):\n    name = 'mobile'\n")
    space = load_space("space:PlainSpace", trusted=True)
    rng = np.random.default_rng(0)
    with open("mine.csv", "w", newline="") as file:
        csv.writer(file).writerows([("arch", "top1"), *((canonical_json(space.sample(rng).choices), number) for number in range(12))])
    Image.new("RGB", (16, 16), (200, 30, 30)).save("cat.png")
    for name in ("resnet56", "resnet56_pad", "resnet110"):
        torch.save(ZOO[name](num_classes=4).state_dict(), f"{name}.th")
    monkeypatch.setattr("diswot.searching.finalists._SAMPLES", 20)  # each of the reader's own space is traced, in some 50 ms
    monkeypatch.setattr("diswot.tabulation.networks._TRACED_SAMPLES", 20)
    train_inline(monkeypatch)
    monkeypatch.setattr("diswot.latency.recipe._export", lambda plan, row, target: target.touch())  # 5 s each; tests/latency has some
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for networks as small as these more cost time
    yield tmp_path
    torch.set_num_threads(threads)
    for name in (*EXAMPLES, "mylab"):
        sys.modules.pop(name, None)
    for registry in (LOSSES, PROXIES, STRATEGIES):
        registry.forget_loaded()


def test_every_page_with_commands_has_a_desk() -> None:
    at_desks = [page for pages in DESKS.values() for page in pages]
    assert sorted(at_desks) == [page for page in PAGES if commands(page)]


@pytest.mark.slow
@pytest.mark.parametrize("pages", DESKS.values(), ids=DESKS)
def test_the_commands_of_the_pages_run(pages: tuple[str, ...], desk: Path, diswot: Run) -> None:
    typed: set[str] = set()
    newest: dict[str, str] = {}
    for page in pages:
        if page == "docs/tutorial.md":  # its first block draws the photos that all its commands take
            exec(compile(blocks(page, "python")[0], page, "exec"), {})
        for _, verb, *words in commands(page):
            if (line := shlex.join([verb, *words])) in typed:
                continue
            typed.add(line)
            code, _, err = diswot(verb, *small(verb, words, newest))
            assert code == 0, f"{page}: diswot {line}: {err}"


def small(verb: str, words: list[str], newest: dict[str, str]) -> list[str]:
    """The words of a command with stand-ins for the reader's files, at a small size; its run is noted in `newest`."""
    words = [STAND_INS.get(word, word) for word in words if STAND_INS.get(word, word)]
    if verb in ("train", "latency"):  # networks whose export to ONNX takes ten seconds, and one of them where there are several
        words = ["resnet8" if word in ("resnet20", "resnet56") else word for word in words]
        words = [word for word in words if word != "resnet8" or not {"latency", "onnx"} <= {verb, *words}]
    if "--resume" in words:
        words = [word.replace("NAME", newest[verb]) for word in words] + (["--workers", "1"] if verb in ("search", "study") else [])
    elif verb == "latency":
        words += [
            "--device",
            "cpu",
            *(SMALL_TABLE.split() if "--table" in words else []),
            *(["--networks", "0"] if "--export" in words else []),
        ]
    elif verb in SMALLER:
        words += SMALLER[verb].split()
        if verb in ("search", "score", "study"):
            words += ["--num-classes", "4"] if "--data" not in words else []
        elif "--data" not in words:
            words += ["--data", "images.npz"]
        if "--name" in words:
            newest[verb] = words[words.index("--name") + 1]
        elif verb != "score":
            newest[verb] = f"run{next(NUMBERS)}"
            words += ["--name", newest[verb]]
    else:
        words = [word.replace("NAME", newest.get("train") or newest.get("distill", "")) for word in words]
    return [path for word in words for path in expanded(word.replace("NAME", newest.get(LEFT_BY.get(verb, ""), "NAME")))]


def expanded(word: str) -> list[str]:
    """The paths that a pattern stands for, as a shell has it."""
    return (sorted(map(str, Path().glob(word))) if "*" in word else []) or [word]


def namespace() -> dict[str, object]:
    """What the code of the guide takes for granted, besides what it imports."""
    return {
        "__name__": "__main__",
        "student_observation": STUDENT,
        "teacher_observation": TEACHER,
        "student_logits": STUDENT.logits,
        "teacher_logits": TEACHER.logits,
        "target": TARGET,
    }


SMALLER_PYTHON = {
    "iterations=200": "iterations=4, population_size=2, generation_size=1, seeds=1, batch_size=2, input_size=16, num_classes=4, workers=1",
    '"diswot,params,flops")': '"diswot,params,flops", seeds=1, batch_size=2, input_size=16, num_classes=4)',
    'nasbench201.csv.gz", proxy="diswot+,nwot", sample_rows=500': (
        'cells.csv", proxy="diswot+,nwot", sample_rows=12, seeds=1, batch_size=2, input_size=16, bootstrap_resamples=20, workers=1'
    ),
    'loss="dkd(beta=2)", epochs=60': 'loss="dkd(beta=2)", epochs=1, batch_size=16, limit=32, teacher_epochs=1',
    'data="images.npz", epochs=60': 'data="images.npz", epochs=1, batch_size=16, limit=32',
    "runs/NAME/student": "runs/mine/student",
}


@pytest.mark.slow
def test_the_python_of_the_pages_runs(desk: Path) -> None:
    code = [block for page in PAGES if page not in DESKS["tutorial"] for block in blocks(page, "python")]
    assert len(code) == 5
    for block in sorted(code, key=lambda block: "runs/NAME" in block):  # after those that leave a run
        for written, smaller in SMALLER_PYTHON.items():
            block = block.replace(written, smaller)
        names = namespace()
        exec(compile(block, "page", "exec"), names)
        for name, test in names.items():
            if name.startswith("test_"):
                test()  # type: ignore[operator]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "docs" / "tour.ipynb").read_text())
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "tour.ipynb", "exec"), names)
    assert names["logits"].shape == (1, 3)


def test_what_is_made_smaller_is_still_written_there() -> None:
    text = "".join((ROOT / page).read_text() for page in PAGES)
    assert [written for written in [*SMALLER_PYTHON, *STAND_INS] if written not in text] == []
