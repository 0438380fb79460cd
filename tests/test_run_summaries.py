"""The table of runs: states, counts, outcomes and damage, without torch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from diswot.config import CompareConfig, DistillConfig, ScoreConfig, SearchConfig, StudyConfig, TabulateConfig, TrainConfig, to_dict
from diswot.distillation.compare import RESULTS
from diswot.run_summaries import JOURNALS, RunSummary, summarise_run, summarise_runs
from diswot.runs import RunDir
from diswot.scoring.recipe import JOURNAL as SCORES
from diswot.searching.trial import JOURNAL as TRIALS
from diswot.sessions import VERBS
from diswot.tabulation.recipe import JOURNAL as TRAININGS
from diswot.training.loop import METRICS
from tests.cli.samples import SEARCH


def make(path: Path, kind: str, config: dict[str, Any], *records: dict[str, Any]) -> RunSummary:
    """A run with these lines in its journal."""
    with RunDir.create(path, kind, config, {}) as run:
        for record in records:
            run.append(JOURNALS[kind], record)
    return summarise_run(path)


def test_the_journals_are_those_of_the_verbs() -> None:
    assert JOURNALS.keys() == VERBS.keys()
    assert [JOURNALS[verb] for verb in ("search", "score", "study", "tabulate")] == [TRIALS, SCORES, SCORES, TRAININGS]
    assert [JOURNALS[verb] for verb in ("train", "distill", "compare")] == [METRICS, METRICS, RESULTS]


def test_every_verbs_run_is_summarised(tmp_path: Path) -> None:
    found = make(tmp_path / "s", "search", to_dict(SearchConfig(iterations=5)), {"index": 0}, {"index": 1})
    assert (found.verb, found.state, found.done, found.total, found.unit, found.best) == ("search", "interrupted", 2, 5, "candidates", "")
    archs = [{"space": "zoo", "choices": "resnet8"}]
    assert make(tmp_path / "sc", "score", {**to_dict(ScoreConfig()), "archs": archs}, {"scores": {}}).state == "finished"
    study = make(tmp_path / "st", "study", to_dict(StudyConfig()), {"scores": {}})
    assert (study.state, study.total) == ("interrupted", None)
    (tmp_path / "st" / "report").mkdir()
    (tmp_path / "st" / "report" / "scores.csv").touch()
    assert summarise_run(tmp_path / "st").state == "finished"
    epochs = [{"epoch": 1, "kd": 2.0, "test_top1": 50.0}, {"epoch": 2, "kd": 1.0}]
    found = make(tmp_path / "d", "distill", to_dict(DistillConfig(epochs=2)), *epochs)
    assert (found.state, found.best, found.unit) == ("interrupted", "50.00 %", "epochs"), "its student is not written yet"
    (tmp_path / "d" / "student").mkdir()
    assert summarise_run(tmp_path / "d").state == "finished"
    assert make(tmp_path / "t", "train", to_dict(TrainConfig(epochs=3)), *epochs).state == "interrupted"
    for number, (names, losses, best) in enumerate(
        [(["a", "b"], ["kd"] * 2, "b"), (["a", "a"], ["kd", "rkd"], "rkd"), (["a", "b"], ["kd", "rkd"], "b, rkd")]
    ):
        seeds = [{"seed": seed, "names": names, "losses": losses, "top1": [50.0 + seed, 60.0 + seed]} for seed in (0, 1)]
        found = make(tmp_path / f"c{number}", "compare", to_dict(CompareConfig(seeds=2)), *seeds)
        assert (found.state, found.best) == ("finished", f"60.50 % {best}")
    config = TabulateConfig(space="s0", seeds=1, repeat_fraction=0.5, baseline_fraction=0.5)
    found = make(tmp_path / "tab", "tabulate", to_dict(config), *({"top1": value} for value in (50.0, None, 60.0)))
    assert (found.state, found.total, found.best) == ("interrupted", None, "60.00 %")
    (tmp_path / "tab" / "networks.json").write_text(json.dumps({"networks": [{}, {}, {}]}))
    assert summarise_run(tmp_path / "tab").total == 5, "3 trainings, 1 repeated, 1 alone"


def test_damage_is_a_row_and_no_error(tmp_path: Path) -> None:
    config = {"format": 2, "kind": "search", "diswot": "0.1.0", **to_dict(SearchConfig())}
    faults = {
        "no-config": {"lock": ""},
        "yaml": {"config.yaml": "a: [1"},
        "binary": {"config.yaml": "\x00\x01"},
        "format": {"config.yaml": "format: 1\nkind: search\n"},
        "verb": {"config.yaml": "format: 2\nkind: cook\n"},
        "few": {"config.yaml": "format: 2\nkind: search\n"},
        "list": {"config.yaml": "- 1\n"},
        "journal": {"config.yaml": yaml.safe_dump(config), "trials.jsonl": "{}\nnot json\n{}\n"},
        "arch": {"config.yaml": yaml.safe_dump(config), "arch.json": "{"},
        "provenance": {"config.yaml": yaml.safe_dump(config), "arch.json": '{"format": 2, "space": "s", "choices": 1}'},
        "archs": {"config.yaml": "format: 2\nkind: score\narchs: 3\n"},
    }
    for name, files in faults.items():
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
    (tmp_path / "mine").mkdir()  # nobody's run
    (tmp_path / "notes.txt").touch()
    good = make(tmp_path / "good", "search", to_dict(SearchConfig(iterations=5)), {"index": 0})
    found = {run.name: run for run in summarise_runs(tmp_path)}
    assert found.keys() == {*faults, "good"} and found["good"].state == good.state == "interrupted"
    for name in faults:
        assert found[name].state == "damaged" and found[name].fault and "\n" not in found[name].fault, name
    assert "line 2" in found["journal"].fault


def test_a_run_that_another_process_writes_to_is_running(tmp_path: Path) -> None:
    make(tmp_path / "a", "search", to_dict(SearchConfig(iterations=5)), {"index": 0})
    code = "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a" / "lock")], stdin=-1, stdout=-1, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    assert summarise_run(tmp_path / "a").state == "running"
    holder.communicate("")
    assert summarise_run(tmp_path / "a").state == "interrupted"
    RunDir.open(tmp_path / "a", "search")[0].close()


def test_the_latest_is_first_and_sizes_are_those_of_the_disk(tmp_path: Path) -> None:
    for number, name in enumerate(("old", "new")):
        make(tmp_path / name, "search", to_dict(SearchConfig(iterations=5)))
        for file in (tmp_path / name).iterdir():
            os.utime(file, (1000 + number, 1000 + number))
    found = summarise_runs(tmp_path)
    assert [run.name for run in found] == ["new", "old"] and found[0].changed == 1001
    assert found[0].size == sum(file.stat().st_size for file in (tmp_path / "new").iterdir())


def test_the_verb_prints_a_table_and_json(diswot: Any, tmp_path: Path) -> None:
    assert diswot("runs")[0] == 2, "there is no folder yet"
    assert diswot(*SEARCH, "--proxy", "params", "--name", "first", "--quiet")[0] == 0
    (tmp_path / "runs" / "torn").mkdir()
    (tmp_path / "runs" / "torn" / "lock").touch()
    code, out, err = diswot("runs")
    assert code == 0 and err == "" and "2 runs in runs" in out
    assert re.search(r"first +search +finished +0\.\d+M params", out) and re.search(r"torn +damaged", out) and "torn is damaged:" in out
    rows = json.loads(diswot("runs", "--json")[1])
    assert {row["name"]: row["done"] for row in rows} == {"first": 6, "torn": 0}


@pytest.mark.parametrize("words", [["runs"], ["completion", "bash"], ["search", "--params", "1MB"]])
def test_nothing_slow_is_imported(tmp_path: Path, words: list[str]) -> None:
    code = (
        f"import sys; from diswot.cli import main; code = main({words!r}); print(code, 'torch' in sys.modules, 'matplotlib' in sys.modules)"
    )
    (tmp_path / "runs").mkdir()
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert found.stdout.splitlines()[-1].endswith("False False"), found.stdout + found.stderr
    if "1MB" in words:
        assert found.stdout == "2 False False\n" and "write --params 1M" in found.stderr
