"""A search is its journal: broken off anywhere, and in any number of processes, it ends as the undisturbed one."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diswot.errors import ConfigError, RunError
from diswot.runs import RunDir
from diswot.searching.recipe import SearchPlan
from diswot.searching.trial import JOURNAL, read_trials
from tests.processes import count_lines, finish, kill_at_lines, workers_of
from tests.searching.samples import QUICK, Stop, StopAt, begin_search, resume_search, search, search_config
from tests.spaces.own import write_own_space

FILES = (JOURNAL, "arch.json")


def assert_same_files(one: Path, two: Path) -> None:
    for name in FILES:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


@pytest.mark.slow
def test_the_outcome_is_the_same_for_any_number_of_processes(tmp_path: Path) -> None:
    wanted = search_config(iterations=16)  # two generations after the first population
    alone = begin_search(tmp_path / "one", wanted)
    begin_search(tmp_path / "two", wanted, workers=2)
    assert_same_files(tmp_path / "one", tmp_path / "two")
    assert len(alone.trials) == 16


WITHIN = (1, 7, 16)  # a random candidate of a generation of 4, one within a bred generation, and the end of one
MORE = (4, 17)


@pytest.mark.parametrize(
    ("strategy", "stops"),
    [("evolution", WITHIN + MORE), ("aging", WITHIN[1:]), ("random", WITHIN[1:2])],
)
@pytest.mark.slow
def test_a_search_broken_off_anywhere_resumes_to_the_same(
    tmp_path: Path, strategy: str, stops: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diswot.searching.finalists._SAMPLES", 20)  # of random networks to hold the winner against
    wanted = search_config(strategy=strategy, iterations=18, proxy="params,flops")
    whole = begin_search(tmp_path / "whole", wanted)
    for stop in stops:
        folder = tmp_path / f"stopped{stop}"
        with pytest.raises(Stop):
            begin_search(folder, wanted, reporter=StopAt(stop))
        assert count_lines(folder / JOURNAL) == stop
        assert resume_search(folder).winner == whole.winner
        assert_same_files(folder, tmp_path / "whole")


def words(**options: Any) -> list[str]:
    return [word for key, value in {**QUICK, **options}.items() for word in (f"--{key.replace('_', '-')}", str(value))]


def kept(name: str, iterations: int) -> list[str]:
    return ["search", "--name", name, *words(params="0.3M", iterations=iterations), *QUIET]


QUIET = ["--workers", "1", "--quiet", "--out", "best.json"]
RESUME = ["search", "--resume", "runs/cut", *QUIET]


@pytest.mark.slow
def test_kills_change_nothing(diswot: Any, tmp_path: Path) -> None:
    """kill -9 of real processes of the command line, between lines and in the middle of one: the journal and the arch.json are those of the
    undisturbed run."""
    assert diswot(*kept("whole", 20))[0] == 0
    kill_at_lines(tmp_path, kept("cut", 20), RESUME, kills=4, most=5)
    assert 0 < count_lines(tmp_path / "runs" / "cut" / JOURNAL) < 20 and not (tmp_path / "runs/cut/arch.json").exists()
    assert diswot(*RESUME)[0] == 0
    assert count_lines(tmp_path / "runs" / "cut" / JOURNAL) == 20
    assert_same_files(tmp_path / "runs" / "cut", tmp_path / "runs" / "whole")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"index":7}', r"line 1: damaged \(no choices\)"),
        (
            '{"index":5,"choices":{},"parent":null,"params":1,"flops":1,"depth":1,"scores":{}}',
            "line 1: trial 5 where 0 belongs: start a new run",
        ),
        ('{"index":0,"choices":{},"parent":null,"params":1,"flops":1,"depth":1,"scores":{}}', "line 1: .*stem, stages and head"),
    ],
)
def test_a_journal_that_is_not_this_searchs_is_refused(tmp_path: Path, line: str, says: str) -> None:
    with RunDir.create(tmp_path / "run", "search", {}, {}) as run:
        (run.path / JOURNAL).write_text(line + "\n")
        with pytest.raises(RunError, match=says):
            search(search_config(), run)


@pytest.mark.parametrize("wrong", [None, "x", -1, 1e300, [], {}, True, 0.5])
@pytest.mark.parametrize("field", ["index", "params", "flops", "depth", "parent", "scores", "reason", "latency_ms", "state"])
def test_a_field_of_another_kind_in_a_journal_is_named(tmp_path: Path, field: str, wrong: object) -> None:
    """A number where a text was, a text where a number was: one line that says which line and which field, and not a fault from inside."""
    line = {"index": 0, "choices": {}, "parent": None, "params": 1, "flops": 1, "depth": 1, "scores": {}, field: wrong}
    fits = {"parent": (None, "x"), "scores": (None, {}), "reason": (None, "x"), "latency_ms": (None, 1e300, 0.5), "state": (None,)}
    with RunDir.create(tmp_path / "run", "search", {}, {}) as run:
        (run.path / JOURNAL).write_text(json.dumps(line) + "\n")
        if any(wrong is fit or (wrong == fit and type(wrong) is type(fit)) for fit in fits.get(field, ())):
            assert read_trials(run, "s")[0].index == 0
            return
        with pytest.raises(RunError, match=rf"trials\.jsonl, line 1: damaged \({field} "):
            read_trials(run, "s")


def test_scores_of_another_number_of_seeds_are_refused(tmp_path: Path) -> None:
    wanted = search_config(iterations=4, proxy="params")
    begin_search(tmp_path / "run", wanted)
    journal = tmp_path / "run" / JOURNAL
    lines = journal.read_text().splitlines()
    assert '"params":[' in lines[2]
    journal.write_text("\n".join([*lines[:2], lines[2].replace('"params":[', '"params":[1.0,'), *lines[3:]]) + "\n")
    with pytest.raises(RunError, match="line 3: its scores are not those of this search"):
        resume_search(tmp_path / "run")


@pytest.mark.slow
def test_other_images_are_noticed_on_resume(tmp_path: Path, small_npz: Path) -> None:
    begin_search(tmp_path / "run", search_config(data=str(small_npz), num_classes=4, iterations=4))
    with np.load(small_npz) as arrays:
        changed = {**arrays, "x_train": 255 - arrays["x_train"]}
    np.savez(small_npz, **changed)
    with pytest.raises(RunError, match=r"begun with other images .*bring them back"):
        resume_search(tmp_path / "run")


@pytest.mark.slow
def test_other_weights_are_noticed_on_resume(tmp_path: Path, teacher_file: Path) -> None:
    import torch

    begin_search(tmp_path / "run", search_config(num_classes=4, iterations=4, teacher_weights=str(teacher_file)))
    resume_search(tmp_path / "run")
    weights = torch.load(teacher_file, weights_only=True)
    torch.save({name: tensor + 1 if name == "conv1.weight" else tensor for name, tensor in weights.items()}, teacher_file)
    with pytest.raises(RunError, match="begun with other teacher weights"):
        resume_search(tmp_path / "run")


def test_other_code_of_a_space_of_ones_own_is_noticed_on_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = write_own_space(tmp_path, "mylab_changing", monkeypatch)
    begin_search(tmp_path / "run", search_config(space="mylab_changing:Own", params="none", iterations=2, proxy="params"))
    resume_search(tmp_path / "run")
    module.write_text(module.read_text() + "\n# changed\n")
    with pytest.raises(RunError, match="begun with other code of mylab_changing:Own"):
        resume_search(tmp_path / "run")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("seeds", "two", "--seeds 'two' is not a whole number"),
        ("teacher", None, "--teacher None is not text"),
        ("unknown", 1, "unknown key 'unknown'"),
        ("batch_size", 1, "--batch-size 1: at least 2 is needed"),
    ],
)
def test_a_stored_configuration_is_checked(tmp_path: Path, key: str, value: object, says: str) -> None:
    document = {**SearchPlan(search_config()).document(), key: value}
    with pytest.raises(ConfigError, match=says):
        SearchPlan.restore(document, tmp_path)
    assert SearchPlan.restore(SearchPlan(search_config()).document(), tmp_path).config == search_config()


@pytest.mark.slow
def test_scoring_processes_killed_again_and_again_change_nothing(diswot: Any, spawn: Any, tmp_path: Path) -> None:
    """kill -9 of one of two workers of the command line, twice: the journal, and the arch.json, are those of one process."""
    assert diswot(*kept("whole", 24))[0] == 0
    process = spawn(*kept("disturbed", 24), "--workers", "2")
    journal, killed, lines = tmp_path / "runs" / "disturbed" / JOURNAL, 0, 0
    while killed < 2 and process.poll() is None:
        time.sleep(0.02)
        if count_lines(journal) > lines and (workers := workers_of(process.pid)):
            os.kill(workers[killed % len(workers)], signal.SIGKILL)
            killed, lines = killed + 1, count_lines(journal) + 3
    finish(process)
    assert killed == 2
    assert_same_files(tmp_path / "runs" / "disturbed", tmp_path / "runs" / "whole")
