"""`show` and `diff`: the drawing of a network, and what two networks differ in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diswot.architecture import Architecture, arch_json
from diswot.cli.drawing import draw_network, encodable
from diswot.describe import Part
from tests.spaces.own import write_own_space

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"


def test_a_drawing_has_a_bar_for_each_block_as_long_as_it_is_wide() -> None:
    parts = [
        Part("stem", "Conv2d 3x3", (16, 32, 32), 1, 1),
        Part("norm", "BatchNorm2d", (16, 32, 32), 1, 0),
        Part("a", "2 x Block", (32, 16, 16), 1, 1, blocks=2),
        Part("b", "9 x Block", (64, 8, 8), 1, 1, blocks=9),
        Part("tokens", "Block", (64, 32), 1, 1),
        Part("fc", "Linear", (10,), 1, 1),
    ]
    lines = draw_network(parts, (3, 32, 32), 10, ["a cell"])
    assert "image, 3 channels" in lines[0] and "10 classes" in "\n".join(lines) and lines[-1] == "a cell"
    bars = [line.count("█") for line in lines if "█" in line]
    assert bars == [6, 12, 12, *[24] * 6, 12], "one of each block, six at most; a normalisation is none"
    assert [line.split("│")[0].strip() for line in lines if line.split("│")[0].strip() and "│" in line] == [
        *("32 x 32", "16 x 16", "8 x 8", "64 tokens")
    ]
    assert any("9 blocks in all" in line for line in lines) and all(len(line) <= 80 for line in lines)
    plain = "\n".join(encodable(lines, "ascii"))
    assert plain.isascii() and plain.count("#") == sum(bars) and encodable(lines, "utf-8") == lines


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["resnet20"], ["layer3: 3 x BasicBlock", "16 x 16", "100 classes"]),
        ([CELL], ["5 x Cell", "output  ◀── avg_pool_3x3 ── 2"]),
        (['{"depths": [1, 3, 5]}', "--space", "s0"], ["layer3: 5 x BasicBlock"]),
        (["vit_tiny_patch16_224(img_size=32,patch_size=8,embed_dim=24,depth=2,num_heads=2)"], ["17 tokens", "2 x Block"]),
        (
            ['{"matrix": [[0, 1, 1], [0, 0, 1], [0, 0, 0]], "ops": ["input", "maxpool3x3", "output"]}', "--space", "nasbench101"],
            ["3 x GraphCell", "output             ◀── input, 1"],
        ),
    ],
)
def test_networks_of_any_space_are_drawn(diswot: Any, words: list[str], seen: list[str]) -> None:
    code, out, err = diswot("show", *words)
    assert code == 0 and all(text in out for text in seen), err
    assert "\x1b" not in out, "plain where it is piped"
    drawing = out.split("\n\n")[0].splitlines()
    assert len(drawing) > 5 and all(len(line) <= 80 for line in drawing)


def test_choices_of_a_space_of_ones_own_are_shown_scored_and_compared(diswot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_own_space(tmp_path, "shown_space", monkeypatch)
    own = ["--space", "shown_space:Own"]
    assert "24 x" in diswot("show", "24", *own)[1]
    code, out, err = diswot("score", "16", "32", "resnet8", *own, "--proxy", "params", "--quiet")
    assert code == 0 and "16 " in out and "resnet8" in out, err
    assert json.loads(diswot("diff", "16", "32", *own, "--json")[1])["changed"] == [{"place": "", "first": 16, "second": 32}]
    code, _, err = diswot("show", "25", *own)
    assert code == 2 and "8, 16, 24 or 32" in err
    code, _, err = diswot("show", '{"depths": [1, 3, 5]}')
    assert code == 2 and "--space" in err and err.count("\n") == 1


def test_a_difference_names_choices_and_costs(diswot: Any, tmp_path: Path) -> None:
    for name, depths in (("a", [1, 3, 5]), ("b", [1, 5, 5])):
        (tmp_path / f"{name}.json").write_text(arch_json(Architecture("resnet_depth", {"depths": depths})))
    code, out, _ = diswot("diff", "a.json", "b.json")
    assert code == 0 and "1 of 3 choices differ" in out and "depths[1]" in out and "a.json" in out
    shown = [json.loads(diswot("show", f"{name}.json", "--json")[1]) for name in "ab"]
    assert all(f"{one['params']:,}" in out for one in shown)
    assert f"{(shown[1]['params'] - shown[0]['params']) / shown[0]['params']:+.1%}" in out
    found = json.loads(diswot("diff", "a.json", "b.json", "--json")[1])
    assert [one["activation_bytes"] for one in found["networks"]] == [one["activation_bytes"] for one in shown]
    assert found["same_space"] and not found["same_network"]


def test_a_difference_of_nothing_of_spaces_and_of_names(diswot: Any) -> None:
    assert "it is the same network" in diswot("diff", "resnet8", "resnet8")[1]
    code, out, _ = diswot("diff", "resnet8", CELL)
    assert code == 0 and "different spaces" in out and "choices differ" not in out
    without_effect = CELL.replace("none~0|none~1", "none~0|none~1").replace("|none~0|skip", "|avg_pool_3x3~0|skip")
    assert "same function" not in diswot("diff", CELL, without_effect)[1]
    dead = "|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|"  # the first edge leads nowhere
    assert "both compute the same function" in diswot("diff", dead, dead.replace("nor_conv_3x3", "none"))[1]
    code, out, err = diswot("diff", "resnet8", "nothing.json")
    assert code == 2 and out == "" and "nothing.json" in err and err.count("\n") == 1
