"""How the command line refuses: one line on stderr that names the value and the remedy, code 2, and nothing left behind."""

from __future__ import annotations

import json
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BAD = [
    (["serch"], "serch"),
    (["search", "--teacher", "resnet65", "--params", "1M"], "did you mean"),
    (["search", "--params", "1Q"], "1Q"),
    (["search", "--params", "-5"], "-5"),
    (["search", "--params", "0"], "'0'"),
    (["search", "--params", "2M..1M"], "empty range"),
    (["search", "--params", "1k"], "smallest network"),
    (["search", "--params", "none", "--flops", "none"], "needs a budget"),
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
    (["search", "--params", "1M", "--num-classes", "99999999999"], "--num-classes 99999999999: from 1 to 100,000"),
    (["search", "--params", "1M", "--teacher", ":"], "unknown teacher ':'"),
    (["search", "--params", "1M", "--space", ":"], "unknown space ':'"),
    (["search", "--params", "1M", "--teacher", "no_such_module:net"], "'no_such_module:net' cannot be imported"),
    (["search", "--params", "1M", "--space", "no_such_module:Space"], "'no_such_module:Space' cannot be imported"),
    (["search", "--params", "1M", "--proxy", "no_such_module:Proxy"], "'no_such_module:Proxy' cannot be imported"),
    (["search", "--params", "1M", "--data", "no_such_module:Data"], "'no_such_module:Data' cannot be imported"),
    (["search", "--params", "1M", "--strategy", "no_such_module:Walk"], "'no_such_module:Walk' cannot be imported"),
    (["search", "--params", "1M", "--strategy", "genetic"], "unknown strategy 'genetic': known: aging, evolution, random"),
    (["search", "--params", "1M", "--strategy", "evolutoin"], "did you mean evolution"),
    (["search", "--params", "1M", "arch.json"], "'arch.json' is not key=value"),
    (["search", "--params", "1M", "--batch-size", "1"], "--batch-size 1: at least 2 is needed"),
    (["search", "--resume", "runs/taken", "seeds=2"], "leave seeds=2 out"),
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
    (["distill", "resnet8", "--data", "few.npz", "--batch-size", "2", "--loss", "kd(kd_weight=nan)"], "kd_weight nan"),
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
    (["distill", "earlier.json"], "format 1 is not 2, the one this version reads: search again or use its version"),
    (["distill", "extra.json"], "unknown field"),
    (["distill", "outside.json"], "1, 3, 5, 7"),
    (["distill", "nested.json"], "nested too deep"),
    (["distill", "code.json", "--data", "few.npz", "--batch-size", "2"], "allow it with --space os:path"),
    (["distill", "resnet8", "--loss", "kdd", "--data", "few.npz"], "did you mean kd"),
    (["distill", "resnet8", "--data", "few.npz", "--batch-size", "2", "--teacher-weights", "evil.pth"], "refused"),
    (["distill", "resnet8", "--data", "few.npz", "--epochs", "0", "--batch-size", "2"], "epochs 0"),
    (["distill", "resnet8", "--data", "cifar100", "--data-dir", "nowhere"], "--download"),
    (["show", "outside.json"], "1, 3, 5, 7"),
    (["show", "resnet20", "--num-classes", "-3"], "-3"),
    (["score", "|none~0|"], "not of the form"),
    (["score"], "no architecture was given: name an arch.json"),
    (["score", "code.json"], "allow it with --space os:path"),
    (["score", "--resume", "runs/none"], "no run is there"),
    (["study"], "study needs a table of architectures and accuracies"),
    (["study", "none.csv"], "none.csv"),
    (["study", "one.csv", "two.csv"], "'two.csv' is not key=value"),
    (["study", "none.csv", "--sample-rows", "3"], "--sample-rows 3: at least 10"),
    (["train"], "train needs the name of a network such as resnet56"),
    (["train", "resnet8", "--data", "few.npz", "--batch-size", "1"], "--batch-size 1: at least 2"),
    (["compare"], "compare needs a student"),
    (["compare", "resnet8", "resnet8", "--data", "few.npz", "--batch-size", "2"], "resnet8 is named twice"),
    (["evaluate", "nowhere", "--data", "few.npz"], "nowhere: no student is there"),
    (["evaluate", "nowhere"], "--data"),
    (["predict", "nowhere", "cat.png"], "nowhere: no student is there"),
    (["export", "nowhere", "student.onnx"], "nowhere: no student is there"),
    (["convert", "nowhere", "table.csv"], "nowhere"),
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
    arch = {"format": 2, "space": "resnet_depth", "choices": {"depths": [1, 1, 1]}}
    (tmp_path / "empty.json").write_text("")
    (tmp_path / "cut.json").write_text(json.dumps(arch)[:-10])
    for name, change in {
        "other": {"format": 7},
        "earlier": {"format": 1},
        "extra": {"colour": "red"},
        "outside": {"choices": {"depths": [2, 2, 2]}},
        "code": {"space": "os:path"},
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
    (tmp_path / "nested.json").write_text('{"format": 2, "space": "s0", "choices": ' + "[" * 300_000)
    return tmp_path


@pytest.mark.parametrize(("words", "says"), BAD, ids=[" ".join(words)[:60] for words, _ in BAD])
def test_bad_input_is_one_line_that_names_it(
    diswot: Any, bad_files: Path, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(p for p in bad_files.rglob("*") if not {"home", "__pycache__"} & set(p.parts))
    monkeypatch.syspath_prepend(bad_files)
    monkeypatch.setattr("diswot.latency.measure.Measurement.warning", lambda *_: "")  # of a busy machine, a line of its own
    more = ["--quiet"] if words[0] in ("search", "distill") and len(words) > 1 else []
    if words[0] in ("search", "score", "study") and "--workers" not in words:
        more += ["--workers", "1"]  # processes take seconds to start
    code, out, err = diswot(*words, *more)
    assert code == 2, (code, out, err)
    assert err.startswith("diswot: ") and err.count("\n") == 1, err
    assert says in err, err
    assert "Traceback" not in err and out == ""
    assert sorted(p for p in bad_files.rglob("*") if not {"home", "__pycache__"} & set(p.parts)) == before, "nothing is left behind"


def test_a_fault_of_ours_is_one_line_too(diswot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diswot.cli.request.resolve", lambda *_: 1 / 0)
    code, _, err = diswot("search", "--params", "1M")
    assert code == 1 and err.count("\n") == 1 and "please report" in err


def test_a_refused_command_leaves_no_folder_behind(diswot: Any, tmp_path: Path) -> None:
    """Not even the folder of all runs, where there was none before; a run that stands in it is left alone."""
    refused = ["search", "--teacher", "resnet65", "--params", "1M", "--runs", "new/runs"]
    assert diswot(*refused)[0] == 2
    assert not (tmp_path / "new").exists()
    (tmp_path / "new" / "runs" / "other").mkdir(parents=True)
    assert diswot(*refused)[0] == 2
    assert [p.name for p in (tmp_path / "new" / "runs").iterdir()] == ["other"]
