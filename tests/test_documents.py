"""What the pages tell a reader to type is typed, command by command, on small networks and images."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diswot.architecture import Architecture, arch_json, canonical_json
from diswot.losses import LOSSES
from diswot.models.zoo import ZOO
from diswot.space import load_space
from tests.losses.observations import STUDENT, TARGET, TEACHER
from tests.studies.samples import write_cells

ROOT = Path(__file__).resolve().parents[1]
GUIDE = ("distillation", "tables", "latency", "searching")
PAGES = {page: ROOT / page for page in ("README.md", *(f"docs/guide/{name}.md" for name in GUIDE), "docs/extending/README.md")}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# What a reader has, and what stands for it here; "" leaves a word out.
STAND_INS = {"cifar100": "images.npz", "--download": "", "nasbench201.csv.gz": "cells.csv", "mylab:MobileSpace": "mylab:MobileSpace"}
# What makes a command small: a later option of the same name wins.
SCORING = "--seeds 1 --batch-size 2 --workers 1 --num-classes 4 --input-size 16"
TRAINING = "--data images.npz --epochs 1 --batch-size 16 --limit 32 --teacher-epochs 1"
SMALLER = {
    "search": f"{SCORING} --iterations 4 --population-size 2 --generation-size 1",
    "score": SCORING,
    "study": f"{SCORING} --sample-rows 12 --bootstrap-resamples 20",
    "distill": TRAINING,
    "compare": f"{TRAINING} --seeds 1",
    "train": TRAINING.replace(" --teacher-epochs 1", ""),
    "tabulate": f"{TRAINING} --networks 10 --repeat-fraction 0 --baseline-fraction 0 --group-size 10 --workers 1",
}
SMALL_TABLE = "--units 10 --networks 2 --num-classes 4 --input-size 16"
MODULES = ("space", "loss", "mylab")
LEFT_BY = {"compare": "search", "study": "tabulate"}  # the verb whose run a page means by NAME

Run = Callable[..., tuple[int, str, str]]


def blocks(page: str, language: str) -> list[str]:
    return [text for tag, text in FENCE.findall(PAGES[page].read_text()) if tag == language]


def commands(page: str) -> list[list[str]]:
    lines = [line.split("&& ")[-1] for block in blocks(page, "") for line in block.splitlines()]
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
    for name in ("space", "loss"):
        shutil.copy(ROOT / "examples" / f"{name}.py", tmp_path)
    Path("mylab.py").write_text("from space import PlainSpace\nclass MobileSpace(PlainSpace):\n    name = 'mobile'\n")
    space = load_space("space:PlainSpace", trusted=True)
    rng = np.random.default_rng(0)
    with open("mine.csv", "w", newline="") as file:
        csv.writer(file).writerows([("arch", "top1"), *((canonical_json(space.sample(rng).choices), number) for number in range(12))])
    Image.new("RGB", (16, 16), (200, 30, 30)).save("cat.png")
    torch.save(ZOO["resnet56"](num_classes=4).state_dict(), "resnet56.th")
    monkeypatch.setattr("diswot.searching.finalists._SAMPLES", 20)  # each of the reader's own space is traced, in some 50 ms
    monkeypatch.setattr("diswot.tabulation.networks._TRACED_SAMPLES", 20)
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)
    LOSSES.forget_loaded()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run(page: str, desk: Path, diswot: Run) -> None:
    newest: dict[str, str] = {}
    assert len(commands(page)) >= 2
    for number, (_, verb, *words) in enumerate(commands(page)):
        words = [STAND_INS.get(word, word) for word in words if STAND_INS.get(word, word)]
        if "--resume" in words:
            words = [word.replace("NAME", newest[verb]) for word in words]
        elif verb == "latency":
            words += ["--device", "cpu", *(SMALL_TABLE.split() if "--table" in words else [])]
        elif verb in SMALLER:
            newest[verb] = f"run{number}"
            words += [*SMALLER[verb].split(), *(["--name", newest[verb]] if verb != "score" else [])]
        else:
            words = [word.replace("NAME", newest.get("train") or newest.get("distill", "")) for word in words]
        words = [path for word in words for path in expanded(word.replace("NAME", newest.get(LEFT_BY.get(verb, ""), "NAME")))]
        code, _, err = diswot(verb, *words)
        assert code == 0, f"diswot {verb} {' '.join(words)}: {err}"


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
    "epochs=60": "epochs=1, batch_size=16, limit=32, teacher_epochs=1",
    "runs/NAME/student": "runs/mine/student",
}


@pytest.mark.slow
def test_the_python_of_the_pages_runs(desk: Path) -> None:
    code = [block for page in ("README.md", "docs/guide/distillation.md", "docs/extending/README.md") for block in blocks(page, "python")]
    assert len(code) == 4
    for block in code:
        for written, smaller in SMALLER_PYTHON.items():
            block = block.replace(written, smaller)
        names = namespace()
        exec(compile(block, "page", "exec"), names)
        for name, test in names.items():
            if name.startswith("test_"):
                test()  # type: ignore[operator]


def test_what_is_made_smaller_is_still_written_there() -> None:
    text = "".join(path.read_text() for path in PAGES.values())
    assert [written for written in SMALLER_PYTHON if written not in text] == []
