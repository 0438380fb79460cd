"""The command line as its users meet it: what it prints where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diswot.cli.app import cli
from tests.cli.samples import QUICK, SEARCH


def test_help_teaches_every_verb(diswot: Any) -> None:
    code, out, _ = diswot("--help")
    assert code == 0 and len(cli.commands) == 19 and all(verb in out for verb in cli.commands)
    for verb in cli.commands:
        code, out, err = diswot(verb, "--help")
        assert code == 0 and "Usage" in out and not err, verb
    assert "diswot search --teacher resnet56 --params 1M" in " ".join(diswot("search", "--help")[1].split())


def test_no_command_is_help(diswot: Any) -> None:
    code, out, err = diswot()
    assert code == 0 and "Usage" in out + err


@pytest.mark.parametrize("what", ["spaces", "proxies", "teachers", "losses", "data", "strategies"])
def test_lists_name_what_can_be_named(diswot: Any, what: str) -> None:
    code, out, _ = diswot("list", what)
    assert code == 0 and len(out.splitlines()) >= 3
    code, out, _ = diswot("list", what, "--json")
    assert "module:name" in {entry["name"] for entry in json.loads(out)}
    assert all(set(entry) == {"name", "summary"} and entry["summary"] for entry in json.loads(out))


def test_search_show_score_and_distill_follow_each_other(diswot: Any, tmp_path: Path, small_npz: Path) -> None:
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


@pytest.mark.slow
def test_json_is_all_that_stdout_holds(diswot: Any, tmp_path: Path, small_npz: Path) -> None:
    _, out, _ = diswot(*SEARCH, "--json", "--name", "a")
    found = json.loads(out)
    assert found["winner"]["space"] == "resnet_width" and found["evaluations"] == 6 and len(found["table"]) == 5
    shown = json.loads(diswot("show", "arch.json", "--json")[1])
    winner = next(row for row in found["table"] if row["role"] == "winner")
    assert (shown["params"], shown["flops"], shown["depth"]) == (winner["params"], winner["flops"], winner["depth"])
    assert sum(part["params"] for part in shown["parts"]) == shown["params"]
    assert sum(part["flops"] for part in shown["parts"]) == shown["flops"]
    same = ["--proxy", "diswot", "--num-classes", "10", "--teacher", "resnet8", "--seeds", "1", "--batch-size", "2"]
    scored = json.loads(diswot("score", "arch.json", "--json", *same)[1])
    assert scored[0]["scores"] == {name: [pytest.approx(value)] for name, value in winner["scores"].items()}
    words = ["--data", str(small_npz), "--epochs", "1", "--batch-size", "16", "--loss", "none", "--json", "--quiet"]
    _, out, err = diswot("distill", "resnet8", *words)
    assert set(json.loads(out)) == {"student", "students", "taught_by", "teacher", "measured_on", "folder", "history"} and err == ""


def test_networks_of_timm_with_options_are_no_options(diswot: Any) -> None:
    """Though there is an `=` in them."""
    vit = "vit_tiny_patch16_224(img_size=32,patch_size=8,embed_dim=24,depth=2,num_heads=2)"
    code, out, err = diswot("score", vit, "seeds=1", "--proxy", "params")
    assert code == 0 and "vit_tiny" in out, err
    code, _, err = diswot("score", "resnett(20)=1", "--proxy", "params")
    assert code == 2 and "resnett(20)=1" in err


def test_nasbench201_strings_are_scored_and_shown(diswot: Any) -> None:
    cell = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"
    code, out, _ = diswot("score", cell, "--seeds", "1", "--teacher", "resnet8")
    assert code == 0 and cell in out
    assert cell in diswot("show", cell)[1]


def test_an_earlier_winner_is_kept(diswot: Any, tmp_path: Path) -> None:
    (tmp_path / "arch.json").write_text("mine")
    code, out, _ = diswot(*SEARCH, "--proxy", "params", "--name", "a")
    assert code == 0 and "arch-1.json" in out and (tmp_path / "arch-1.json").read_text() == "mine"


def test_a_configuration_file_words_and_flags(diswot: Any, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("space: s0\nparams: 0.2M\nflops: none\nproxy: params\niterations: 50\n")
    code, out, err = diswot("search", "--config", "c.yaml", "iterations=3", *QUICK, "--json", "--quiet")
    found = json.loads(out)
    assert code == 0 and found["evaluations"] == 3 and found["winner"]["space"] == "resnet_depth" and err == ""


@pytest.mark.slow
def test_a_repeated_search_writes_the_same_file(diswot: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert diswot(*SEARCH, "--name", name, "--quiet")[0] == 0
    assert (
        (tmp_path / "runs/a/arch.json").read_bytes()
        == (tmp_path / "runs/b/arch.json").read_bytes()
        == (tmp_path / "arch.json").read_bytes()
    )
