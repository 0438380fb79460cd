"""The command line as its users meet it: what it prints where, and how it refuses."""

from __future__ import annotations

import json
import pickle
import signal
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

QUICK = [
    "--num-classes",
    "10",
    "--seeds",
    "1",
    "--batch-size",
    "2",
    "--population-size",
    "4",
    "--sample",
    "2",
    "--top-k",
    "1",
    "--generation-size",
    "4",
    "--teacher",
    "resnet8",
    "--workers",
    "1",
]
SEARCH = ["search", "--proxy", "diswot", *QUICK, "--iterations", "6", "--params", "0.3M"]


def test_help_teaches_every_verb(diswot) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = diswot("--help")
    assert code == 0 and all(verb in out for verb in ("search", "distill", "score", "show", "list"))
    for verb in ("search", "distill", "score", "show", "list"):
        code, out, err = diswot(verb, "--help")
        assert code == 0 and "Usage" in out and not err, verb
    assert "diswot search --teacher resnet56 --params 1M" in " ".join(diswot("search", "--help")[1].split())


def test_no_command_is_help(diswot) -> None:  # type: ignore[no-untyped-def]
    code, out, err = diswot()
    assert code == 0 and "Usage" in out + err


@pytest.mark.parametrize("what", ["spaces", "proxies", "teachers", "losses", "data"])
def test_lists_name_what_can_be_named(diswot, what: str) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = diswot("list", what)
    assert code == 0 and len(out.splitlines()) >= 3
    code, out, _ = diswot("list", what, "--json")
    assert all(set(entry) == {"name", "summary"} and entry["summary"] for entry in json.loads(out))


def test_search_show_score_and_distill_follow_each_other(diswot, tmp_path: Path, small_npz: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, err = diswot(*SEARCH, "--name", "first")
    assert code == 0, err
    assert "winner" in out and "hand-made" in out and "next: diswot distill arch.json" in out
    assert "6/6 candidates" in err
    code, out, _ = diswot("show", "arch.json")
    assert code == 0 and "latency" in out and "MiB" in out and "stages.0" in out
    code, out, err = diswot("score", "arch.json", "resnet8", "--num-classes", "10", "--seeds", "2", "--proxy", "diswot,params")
    assert code == 0 and "resnet8" in out and "±" in out
    words = ["--data", str(small_npz), "--epochs", "1", "--batch-size", "16", "--name", "d"]
    code, out, err = diswot("distill", "arch.json", *words)
    assert code == 0, err
    assert "test accuracy after the last epoch" in out and (tmp_path / "runs" / "d" / "student" / "model.safetensors").exists()


def test_json_is_all_that_stdout_holds(diswot, tmp_path: Path, small_npz: Path) -> None:  # type: ignore[no-untyped-def]
    _, out, _ = diswot(*SEARCH, "--json", "--name", "a")
    found = json.loads(out)
    assert found["winner"]["space"] == "resnet_width" and found["evaluations"] == 6 and len(found["table"]) == 4
    brief_repr = json.loads(diswot("show", "arch.json", "--json")[1])
    winner = next(row for row in found["table"] if row["role"] == "winner")
    assert (brief_repr["params"], brief_repr["flops"], brief_repr["depth"]) == (winner["params"], winner["flops"], winner["depth"])
    assert sum(part["params"] for part in brief_repr["parts"]) == brief_repr["params"]
    assert sum(part["flops"] for part in brief_repr["parts"]) == brief_repr["flops"]
    same = ["--proxy", "diswot", "--num-classes", "10", "--teacher", "resnet8", "--seeds", "1", "--batch-size", "2"]
    scored = json.loads(diswot("score", "arch.json", "--json", *same)[1])
    assert scored[0]["scores"] == {name: [pytest.approx(value)] for name, value in winner["scores"].items()}
    words = ["--data", str(small_npz), "--epochs", "1", "--batch-size", "16", "--loss", "none", "--json", "--quiet"]
    _, out, err = diswot("distill", "resnet8", *words)
    assert set(json.loads(out)) == {"student", "students", "taught_by", "teacher", "measured_on", "folder", "history"} and err == ""


def test_nasbench201_strings_are_scored_and_shown(diswot) -> None:  # type: ignore[no-untyped-def]
    cell = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"
    code, out, _ = diswot("score", cell, "--seeds", "1", "--teacher", "resnet8")
    assert code == 0 and cell in out
    assert cell in diswot("show", cell)[1]


def test_an_earlier_winner_is_kept(diswot, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "arch.json").write_text("mine")
    code, out, _ = diswot(*SEARCH, "--proxy", "params", "--name", "a")
    assert code == 0 and "arch-1.json" in out and (tmp_path / "arch-1.json").read_text() == "mine"


def test_a_configuration_file_words_and_flags(diswot, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "c.yaml").write_text("space: s0\nparams: 0.2M\nproxy: params\niterations: 50\n")
    code, out, err = diswot("search", "--config", "c.yaml", "iterations=3", *QUICK, "--json", "--quiet")
    found = json.loads(out)
    assert code == 0 and found["evaluations"] == 3 and found["winner"]["space"] == "resnet_depth" and err == ""


def test_a_repeated_search_writes_the_same_file(diswot, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for name in ("a", "b"):
        assert diswot(*SEARCH, "--name", name, "--quiet")[0] == 0
    assert (
        (tmp_path / "runs/a/arch.json").read_bytes()
        == (tmp_path / "runs/b/arch.json").read_bytes()
        == (tmp_path / "arch.json").read_bytes()
    )


BAD = [
    (["serch"], "serch"),
    (["search", "--teacher", "resnet65", "--params", "1M"], "did you mean"),
    (["search", "--params", "1Q"], "1Q"),
    (["search", "--params", "-5"], "-5"),
    (["search", "--params", "0"], "'0'"),
    (["search", "--params", "2M..1M"], "empty range"),
    (["search", "--params", "1k"], "smallest network"),
    (["search"], "needs a budget"),
    (["search", "--params", "1M", "--space", "resnet_wdth"], "did you mean resnet_width"),
    (["search", "--params", "1M", "--proxy", "diswott"], "did you mean diswot"),
    (["search", "--params", "1M", "tecaher=x"], "did you mean teacher"),
    (["search", "--params", "1M", "--init", "xavier"], "xavier"),
    (["search", "--params", "1M", "--seeds", "x"], "'x'"),
    (["search", "--params", "1M", "--seeds", "0"], "seeds 0"),
    (["search", "--params", "1M", "--workers", "-2"], "-2"),
    (["search", "--params", "1M", "--device", "tpu"], "tpu"),
    (["search", "--params", "1M", "--data", "none.npz"], "none.npz"),
    (["search", "--params", "1M", "--data", "broken.npz"], "broken.npz"),
    (["search", "--params", "1M", "--data", "one.npz"], "1 class"),
    (["search", "--params", "1M", "--data", "few.npz", "--batch-size", "64"], "fewer than the batch"),
    (["search", "--params", "1M", "--teacher-weights", "evil.pth"], "refused"),
    (["search", "--params", "1M", "--config", "evil.yaml"], "not plain YAML"),
    (["search", "--params", "1M", "--config", "none.yaml"], "none.yaml"),
    (["search", "--params", "1M", "--name", "taken"], "exists"),
    (["search", "--params", "1M", "--runs", "few.npz"], "cannot be made"),
    (["search", "--resume", "runs/none"], "no run is there"),
    (["search", "--resume", "runs/taken"], "no run is there"),
    (["search", "--resume", "runs/taken", "--params", "2M"], "leave --params out"),
    (["search", "--resume", "runs/taken", "--name", "other"], "leave --name out"),
    (["search", "--params"], "--params"),
    (["search", "--parms", "1M"], "--parms"),
    (["search", "--params", "1M", "--latency", "5 parsecs"], "5 parsecs"),
    (["search", "--params", "1M", "--teacher", "vit_tiny_patch16_224", "--proxy", "semantic_outer", "--iterations", "2"], "channels"),
    (["search", "--params", "1M", "--out", "runs"], "it is a folder"),
    (["search", "--params", "1M", "--out", ""], "name a file"),
    (["search", "--params", "1M", "--out", "nowhere/a.json"], "no folder nowhere"),
    (["search", "--params", "1M", "--latency", "1e-9ms"], "the smallest network of resnet_width takes"),
    (["search", "--params", "1M", "--seed", "99999999999999999999"], "seed 99999999999999999999"),
    (["search", "--params", "1M", "--input-size", "-3"], "--input-size -3"),
    (["search", "--params", "1M", "--num-classes", "99999999999"], "1 to 100,000"),
    (["search", "--params", "1M", "--teacher", ":"], "cannot be made"),
    (["search", "--params", "1M", "--space", ":"], "cannot be imported"),
    (["search", "--params", "1M", "--teacher", "broken:net"], "SyntaxError"),
    (["search", "--params", "1M", "--teacher-norm", "nan,0,0/1,1,1"], "--teacher-norm"),
    (["search", "--params", "1M", "--data", ""], "--data is empty"),
    (["search", "--params", "1M", "--data", "renamed.npz"], "renamed.npz"),
    (["search", "--params", "1M", "--data", "labels.npz"], "100000000000"),
    (["search", "--params", "1M", "--config", "date.yaml"], "date.yaml"),
    (["search", "--params", "1M", "--config", "bomb.yaml"], "a list"),
    (["search", "--params", "1M", "seeds=2001-13-41"], "2001-13-41"),
    (["search", "--params", "1M", "--teacher", "convnext_atto", "--proxy", "semantic_profile"], "layer norm"),
    (["distill"], "arch.json"),
    (["distill", "infinite.json"], "not valid JSON"),
    (["distill", "teacher.json", "--data", "few.npz", "--batch-size", "2"], "--teacher os:system"),
    (["distill", "resnet8", "--data", "few.npz", "--batch-size", "2", "--lr", "inf"], "lr inf"),
    (["distill", "resnet8", "--data", "few.npz", "--batch-size", "2", "--loss", "kd(kd_weight=.nan)"], "kd_weight nan"),
    (["distill", "resnet8", "--data", "few.npz", "--batch-size", "2", "--teacher-epochs", "0"], "epochs 0"),
    (["distill", "resnet8", "--data", "few.npz", "--batch-size", "2", "--seed", "-1"], "seed -1"),
    (
        ["distill", "resnet8", "--data", "32.npz", "--batch-size", "2", "--loss", "diswot", "--teacher", "mobilenetv3_small_050"],
        "kd to distil",
    ),
    (["show", "vgg8", "--input-size", "4"], "4x4"),
    (["show", "resnet20", "--num-classes", "0"], "num-classes 0"),
    (["show", "giant.json"], "too many to build"),
    (["distill", "none.json"], "none.json"),
    (["distill", "resnet21"], "resnet21"),
    (["distill", "empty.json"], "empty"),
    (["distill", "cut.json"], "cut short"),
    (["distill", "other.json"], "format 7"),
    (["distill", "extra.json"], "unknown field"),
    (["distill", "outside.json"], "1, 3, 5, 7"),
    (["distill", "nested.json"], "nested too deep"),
    (["distill", "code.json", "--data", "few.npz", "--batch-size", "2"], "--space os.path"),
    (["distill", "resnet8", "--loss", "kdd", "--data", "few.npz"], "did you mean kd"),
    (["distill", "resnet8", "--data", "few.npz", "--batch-size", "2", "--teacher-weights", "evil.pth"], "refused"),
    (["distill", "resnet8", "--data", "few.npz", "--epochs", "0", "--batch-size", "2"], "epochs 0"),
    (["distill", "resnet8", "--data", "cifar100", "--data-dir", "nowhere"], "--download"),
    (["show", "outside.json"], "1, 3, 5, 7"),
    (["show", "resnet20", "--num-classes", "-3"], "-3"),
    (["score", "|none~0|"], "not of the form"),
    (["score"], "ARCHITECTURE"),
    (["score", "resnet8", "--combine", "mean"], "mean"),
    (["list", "planets"], "planets"),
]


@pytest.fixture
def bad_files(tmp_path: Path) -> Path:
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04")
    images = np.zeros((6, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "one.npz", x_train=images, y_train=np.zeros(6, int))
    np.savez(tmp_path / "few.npz", x_train=images, y_train=np.arange(6) % 2, x_test=images, y_test=np.arange(6) % 2)
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Path))
    (tmp_path / "evil.yaml").write_text("!!python/object/apply:os.system ['true']")
    (tmp_path / "runs" / "taken").mkdir(parents=True)
    (tmp_path / "runs" / "taken" / "trials.jsonl").write_text("")
    arch = {"format": 1, "space": "resnet_depth", "choices": {"depths": [1, 1, 1]}}
    (tmp_path / "empty.json").write_text("")
    (tmp_path / "cut.json").write_text(json.dumps(arch)[:-10])
    for name, change in {
        "other": {"format": 7},
        "extra": {"colour": "red"},
        "outside": {"choices": {"depths": [2, 2, 2]}},
        "code": {"space": "os.path"},
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({**arch, **change}))
    (tmp_path / "infinite.json").write_text(json.dumps({**arch, "provenance": {}})[:-2] + '"a": 1e999}}')
    (tmp_path / "teacher.json").write_text(json.dumps({**arch, "provenance": {"search": {"teacher": "os:system"}}}))
    stage = {"block": "basic", "kernel": 7, "width": 2048, "mid": 2048, "depth": 16}
    giant = {"space": "resnet_width", "choices": {"stem": 2048, "head": 2048, "stages": [stage] * 4}}
    (tmp_path / "giant.json").write_text(json.dumps({**arch, **giant}))
    (tmp_path / "broken.py").write_text("def net(:")
    np.save(tmp_path / "renamed", images)
    (tmp_path / "renamed.npy").rename(tmp_path / "renamed.npz")
    np.savez(tmp_path / "labels.npz", x_train=images, y_train=np.array([0, 1, 2, 3, 4, 10**11]))
    big = np.zeros((6, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "32.npz", x_train=big, y_train=np.arange(6) % 2, x_test=big, y_test=np.arange(6) % 2)
    (tmp_path / "date.yaml").write_text("params: 2001-13-99")
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in pairwise("abcdefghij"))
    (tmp_path / "bomb.yaml").write_text(bomb.replace("j: &j", "seeds: &j"))
    (tmp_path / "nested.json").write_text('{"format": 1, "space": "s0", "choices": ' + "[" * 300_000)
    return tmp_path


@pytest.mark.parametrize(("words", "says"), BAD, ids=[" ".join(words)[:60] for words, _ in BAD])
def test_bad_input_is_one_line_that_names_it(  # type: ignore[no-untyped-def]
    diswot, bad_files: Path, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(p for p in bad_files.rglob("*") if not {"home", "__pycache__"} & set(p.parts))
    monkeypatch.syspath_prepend(bad_files)
    code, out, err = diswot(*words, *(["--quiet"] if words[0] in ("search", "distill") and len(words) > 1 else []))
    assert code == 2, (code, out, err)
    assert err.startswith("diswot: ") and err.count("\n") == 1, err
    assert says in err, err
    assert "Traceback" not in err and out == ""
    assert sorted(p for p in bad_files.rglob("*") if not {"home", "__pycache__"} & set(p.parts)) == before, "nothing is left behind"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_search_says_how_to_go_on(spawn, tmp_path: Path, number: signal.Signals) -> None:  # type: ignore[no-untyped-def]
    process = spawn("search", "--proxy", "diswot", *QUICK[:-1], "1", "--iterations", "5000", "--params", "0.3M", "--name", "long")
    journal = tmp_path / "runs" / "long" / "trials.jsonl"
    while not journal.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err.splitlines()[-1] == "stopped; go on with: diswot search --resume runs/long"
    assert "Traceback" not in err


def test_a_full_disk_is_one_line_and_nothing_is_lost(spawn, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """No file may grow beyond 4 kB: the journal meets the limit in the middle of the search, which then goes on without it."""
    resource = pytest.importorskip("resource")
    words = [*SEARCH[1:], "--quiet", "--iterations", "40"]
    process = spawn("search", *words, "--name", "a", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err.count("\n") == 1 and "File too large" in err and "--resume runs/a" in err
    kept = (tmp_path / "runs" / "a" / "trials.jsonl").read_text()
    assert 0 < len(kept) <= 4096 and kept.endswith("\n")
    for arguments in (["--resume", "runs/a", "--quiet", "--workers", "1"], [*words, "--name", "whole"]):
        process = spawn("search", *arguments)
        assert process.communicate(timeout=120) and process.returncode == 0
    a, whole = ((tmp_path / "runs" / name / "trials.jsonl").read_text() for name in ("a", "whole"))
    assert a == whole and a.startswith(kept)


def test_workers_end_with_a_killed_parent(spawn, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    words = ["--proxy", "diswot", *QUICK[:-1], "2", "--iterations", "5000", "--params", "0.3M", "--name", "long", "--quiet"]
    process = spawn("search", *words)
    journal = tmp_path / "runs" / "long" / "trials.jsonl"
    while not journal.exists() and process.poll() is None:
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        process.communicate()
        pytest.skip("this system does not list child processes")
    workers = [int(pid) for pid in children.read_text().split()]
    assert len(workers) >= 2
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 30
    while any(_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_alive(pid) for pid in workers)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_fault_of_ours_is_one_line_too(diswot, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("diswot.cli.resolve", lambda *_: 1 / 0)
    code, _, err = diswot("search", "--params", "1M")
    assert code == 1 and err.count("\n") == 1 and "please report" in err


def test_a_refused_command_leaves_no_folder_behind(diswot, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Not even the folder of all runs, where there was none before; a run that stands in it is left alone."""
    refused = ["search", "--teacher", "resnet65", "--params", "1M", "--runs", "new/runs"]
    assert diswot(*refused)[0] == 2
    assert not (tmp_path / "new").exists()
    (tmp_path / "new" / "runs" / "other").mkdir(parents=True)
    assert diswot(*refused)[0] == 2
    assert [p.name for p in (tmp_path / "new" / "runs").iterdir()] == ["other"]
