"""A run's folder: what is in it, what is refused, and what a crash or a full disk leaves of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from diswot import runs
from diswot.errors import RunError
from diswot.runs import RunDir, back_up_file, write_atomic


def make(path: Path) -> RunDir:
    return RunDir.create(path, "search", {"teacher": "resnet56"}, {"torch": "x"})


def test_a_run_keeps_its_configuration_and_environment(tmp_path: Path) -> None:
    make(tmp_path / "a" / "run").close()
    run, config = RunDir.open(tmp_path / "a" / "run", "search")
    run.close()
    assert config == {"teacher": "resnet56"}
    assert json.loads((run.path / "env.json").read_text()) == {"torch": "x"}


def test_the_journal_reads_back_and_a_torn_last_line_is_not_there(tmp_path: Path) -> None:
    with make(tmp_path / "run") as run:
        records = [{"index": i, "score": 0.1 * i} for i in range(5)]
        for record in records:
            run.append("trials.jsonl", record)
        assert run.read("trials.jsonl") == records
        whole = (run.path / "trials.jsonl").read_bytes()
        last = len(whole.splitlines(keepends=True)[-1])
        for cut in range(1, last):  # wherever a crash may have cut the last line off
            (run.path / "trials.jsonl").write_bytes(whole[:-cut])
            assert run.read("trials.jsonl") == records[:4]
        assert run.read("trials.jsonl", repair=True) == records[:4]
        assert (run.path / "trials.jsonl").read_bytes() == whole[:-last]


def test_damage_elsewhere_is_an_error(tmp_path: Path) -> None:
    with make(tmp_path / "run") as run:
        (run.path / "trials.jsonl").write_text('{"index":0}\n{"ind\n{"index":2}\n')
        with pytest.raises(RunError, match="line 2"):
            run.read("trials.jsonl")


def test_a_run_that_exists_is_not_touched(tmp_path: Path) -> None:
    make(tmp_path / "run").close()
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    with pytest.raises(RunError, match="--resume"):
        make(tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match="exists"):
        make(tmp_path / "other")
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before


def test_a_folder_left_by_a_crash_before_the_run_began_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "env.json").write_text("{}")
    make(tmp_path / "run").close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with make(tmp_path / "run"), pytest.raises(RunError, match="another process"):
        RunDir.open(tmp_path / "run", "search")
    RunDir.open(tmp_path / "run", "search")[0].close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 99}, "format 99"),
        ({"diswot": "0.0.0"}, "begun by diswot 0.0.0"),
        ({"kind": "distill"}, "diswot distill"),
    ],
)
def test_runs_of_others_are_refused(tmp_path: Path, change: dict[str, object], says: str) -> None:
    make(tmp_path / "run").close()
    path = tmp_path / "run" / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **change}))
    with pytest.raises(RunError, match=says):
        RunDir.open(tmp_path / "run", "search")


@pytest.mark.parametrize("content", ["!!python/object/apply:os.system ['touch diswot-was-here']", "[", "- 1\n", "", "\x00"])
def test_configurations_that_are_none_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "run").close()
    (tmp_path / "run" / "config.yaml").write_text(content)
    with pytest.raises(RunError) as caught:
        RunDir.open(tmp_path / "run", "search")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["run"], "nothing was run"


def test_no_run_to_resume(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run is there"):
        RunDir.open(tmp_path / "nowhere", "search")


def test_writing_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "arch.json"
    write_atomic(path, "old")
    monkeypatch.setattr(runs.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["arch.json"]


def test_a_full_disk_leaves_the_journal_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make(tmp_path / "run") as run:
        run.append("trials.jsonl", {"index": 0})
        real = os.fsync
        monkeypatch.setattr(runs.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device", "trials.jsonl")))
        with pytest.raises(RunError, match=r"No space left on device.*--resume"), runs.disk_errors(run.path):
            run.append("trials.jsonl", {"index": 1})
        monkeypatch.setattr(runs.os, "fsync", real)
        assert (run.path / "trials.jsonl").read_text() == '{"index":0}\n'


def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be made"):
        make(tmp_path / "file" / "run")


def test_an_earlier_file_is_kept_beside(tmp_path: Path) -> None:
    path = tmp_path / "arch.json"
    assert back_up_file(path) is None
    for number in range(3):
        path.write_text(str(number))
        assert back_up_file(path) == tmp_path / f"arch-{number + 1}.json"
    assert [(tmp_path / f"arch-{n}.json").read_text() for n in (1, 2, 3)] == ["0", "1", "2"]


def test_nothing_is_written_after_ctrl_c(tmp_path: Path) -> None:
    """Even where the exception was lost on its way."""
    with RunDir.create(tmp_path / "run", "search", {}, {}) as run:
        run.append("j.jsonl", {"a": 1})
        runs.interrupted.set()
        try:
            with pytest.raises(KeyboardInterrupt):
                run.append("j.jsonl", {"a": 2})
        finally:
            runs.interrupted.clear()
        assert run.read("j.jsonl") == [{"a": 1}]


def test_the_verb_of_a_run_is_read_off_its_folder(tmp_path: Path) -> None:
    make(tmp_path / "run").close()
    assert runs.kind_of(tmp_path / "run") == "search"
    with pytest.raises(RunError, match="no run is there"):
        runs.kind_of(tmp_path)


def test_a_run_is_opened_where_there_is_one_and_created_where_there_is_none(tmp_path: Path) -> None:
    for _ in range(2):
        with RunDir.open_or_create(tmp_path / "run", "teacher", {"epochs": 3}, {}) as run:
            run.append("j.jsonl", {"a": 1})
    assert run.read("j.jsonl") == [{"a": 1}, {"a": 1}]
    with pytest.raises(RunError, match="a run of `diswot teacher`, not of `diswot assistant`"):
        RunDir.open_or_create(tmp_path / "run", "assistant", {}, {})


def test_a_run_is_read_beside_the_process_that_writes_it(tmp_path: Path) -> None:
    with make(tmp_path / "run") as writer:
        writer.append("j.jsonl", {"a": 1})
        reader, _ = RunDir.open(tmp_path / "run", "search", lock=False)
        assert reader.read("j.jsonl") == [{"a": 1}]


def test_inputs_that_changed_are_named(tmp_path: Path) -> None:
    with make(tmp_path / "run") as run:
        run.check_inputs("inputs.json", {"images": "abc", "device": "cpu"})
        run.check_inputs("inputs.json", {"images": "abc", "device": "cpu"})
        with pytest.raises(RunError, match=r"begun with other images \(abc, now def\): bring them back, or start a new run"):
            run.check_inputs("inputs.json", {"images": "def", "device": "cpu"})
        with pytest.raises(RunError, match=r"begun with other code of a:b \(None, now 1\)"):
            run.check_inputs("inputs.json", {"images": "abc", "device": "cpu", "code of a:b": "1"})
        for damaged in ("{", "[]", "\x00"):
            (run.path / "inputs.json").write_text(damaged)
            with pytest.raises(RunError, match=r"inputs\.json: damaged"):
                run.check_inputs("inputs.json", {"images": "abc"})


def test_a_journal_is_cut_down_to_its_first_lines(tmp_path: Path) -> None:
    with make(tmp_path / "run") as run:
        run.truncate_journal("j.jsonl", 3)  # there is none yet
        assert not (run.path / "j.jsonl").exists()
        for number in range(5):
            run.append("j.jsonl", {"n": number})
        for count in (9, 5, 2, 0):
            run.truncate_journal("j.jsonl", count)
            assert run.read("j.jsonl") == [{"n": number} for number in range(min(count, 5))]


@pytest.mark.parametrize(("error", "gone"), [(RunError("x"), True), (KeyboardInterrupt(), False), (RuntimeError(), False)])
def test_a_new_run_is_taken_away_again_after_a_mistake_of_the_users_alone(tmp_path: Path, error: BaseException, gone: bool) -> None:
    with pytest.raises(type(error)), make(tmp_path / "deep" / "run") as run:
        run.check_inputs("inputs.json", {"a": 1})
        raise error
    assert (not (tmp_path / "deep").exists()) == gone


def test_a_run_that_has_computed_something_stays_after_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(RunError), make(tmp_path / "run") as run:
        run.append("j.jsonl", {"a": 1})
        raise RunError("x")
    with pytest.raises(RunError), RunDir.open(tmp_path / "run", "search")[0]:
        raise RunError("x")
    assert run.read("j.jsonl") == [{"a": 1}]


def test_a_run_that_is_resumed_stays_after_a_mistake(tmp_path: Path) -> None:
    make(tmp_path / "run").close()
    with pytest.raises(RunError), RunDir.open(tmp_path / "run", "search")[0]:
        raise RunError("x")
    assert runs.kind_of(tmp_path / "run") == "search"


def test_the_environment_says_what_made_a_run() -> None:
    found = runs.environment("cpu")
    assert {"diswot", "python", "torch", "timm", "numpy", "scipy", "platform", "processor", "device", "threads", "command"} == set(found)
    assert found["device"] == "cpu" and json.dumps(found)
