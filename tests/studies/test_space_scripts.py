"""The scripts that choose the default ranking across spaces and put studies of several spaces side by side."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml
from scipy.stats import spearmanr

PARTS = ("first", "second", "noise")


def study_folder(folder: Path, rng: np.random.Generator, truth: Callable[[dict[str, float]], float]) -> Path:
    """What a finished study of the 64 members of S0 leaves; odd rows have senseless accuracies."""
    folder.mkdir()
    depths = [[a, b, c] for a in (1, 3, 5, 7) for b in (1, 3, 5, 7) for c in (1, 3, 5, 7)]
    rows, lines = [], []
    for number, depth in enumerate(depths):
        scores = {part: float(rng.normal()) for part in PARTS}
        accuracy = truth(scores) if number % 2 == 0 else 0.0
        rows.append([json.dumps({"depths": depth}), accuracy])
        lines.append({"choices": {"depths": depth}, "scores": {part: [score] for part, score in scores.items()}})
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["choices", "mine_test_acc"], *rows])
    options = {"table": str(folder / "table.csv"), "space": "s0", "split": "test", "rows": "even"}
    options |= dict.fromkeys(("arch_column", "accuracy_column", "dataset"))
    (folder / "config.yaml").write_text(yaml.safe_dump(options))
    (folder / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def log_rank(values: np.ndarray) -> np.ndarray:
    """By definition: the logarithm of the share of values that are no larger."""
    return np.array([math.log(sum(other <= value for other in values) / len(values)) for value in values])


def test_sums_of_log_ranks_are_correlated_over_even_rows_alone(load_script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    script = load_script("choose_ranking")
    folder = study_folder(tmp_path / "run", np.random.default_rng(0), lambda scores: 50 + scores["first"] + scores["second"] ** 3)
    space = script.read_space(f"{folder}=.8")
    lines = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()][::2]
    scores = {part: np.array([line["scores"][part][0] for line in lines]) for part in PARTS}
    accuracies = 50 + scores["first"] + scores["second"] ** 3
    total = 2 * log_rank(scores["first"]) + 0.5 * log_rank(scores["noise"])
    assert space.aim == 0.8 and len(space.truth) == 32
    assert space.correlation({"first": 2.0, "noise": 0.5}) == pytest.approx(spearmanr(total, accuracies).statistic, abs=1e-12)
    assert space.correlation({"second": 1.0}) == pytest.approx(spearmanr(scores["second"], accuracies).statistic, abs=1e-12)


def test_the_parts_that_make_the_accuracy_are_chosen(load_script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    script = load_script("choose_ranking")
    rng = np.random.default_rng(1)
    folders = [study_folder(tmp_path / name, rng, lambda scores: 50 + scores["first"] + scores["second"]) for name in ("a", "b")]
    spaces = [script.read_space(str(folder)) for folder in folders]
    chosen = script.choose(spaces, PARTS, starts=3)
    assert set(chosen) == {"first", "second"}
    assert min(space.correlation(chosen) for space in spaces) > 0.85
    assert script.worth(spaces, chosen) > script.worth(spaces, chosen | {"noise": 1.0})


def test_a_table_over_studies_has_the_worst_and_the_mean(load_script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    script = load_script("summarise_spaces")
    for name, (one, other) in {"a": (0.5, 0.8), "b": (0.7, None)}.items():
        (tmp_path / name / "report").mkdir(parents=True)
        rows = [
            {"ranking": "one", "spearman": {"value": one}, "regret": {"value": 2 * one}},
            {"ranking": "other", "spearman": {"value": other}, "regret": None},
        ]
        (tmp_path / name / "report" / "mine_correlations.json").write_text(json.dumps({"rows": rows}))
    studies = [script.read_study(f"A={tmp_path / 'a'}:mine"), script.read_study(f"B={tmp_path / 'b'}")]
    correlations = script.table("spearman", studies, ["one", "other", "unknown"]).splitlines()
    assert correlations[2] == "| | A | B | worst | mean |"
    assert correlations[4:] == ["| `one` | 0.50 | 0.70 | 0.50 | 0.60 |", "| `other` | 0.80 |  | 0.80 | 0.80 |"]
    assert script.table("regret", studies, ["one"]).splitlines()[-1] == "| `one` | 1.00 | 1.40 | 1.40 | 1.20 |"
