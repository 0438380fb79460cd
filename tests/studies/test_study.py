"""Studies: one score for each function, intervals, budgets, simulated searches; and runs that survive being killed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

import diswot
from diswot.architecture import Architecture
from diswot.config.fields import to_dict
from diswot.config.scoring import StudyConfig
from diswot.errors import ConfigError, DiswotError, RunError
from diswot.proxies import RANKINGS, Ranking
from diswot.runs import RunDir
from diswot.scoring.candidates import ScoreResult
from diswot.scoring.recipe import JOURNAL
from diswot.searching.strategies import Evolution
from diswot.space import Cost, load_space
from diswot.statistics.bootstrap import _resamples
from diswot.studies.dataset_report import find
from diswot.studies.ranking_result import _contender, _worst_for_failed
from diswot.studies.recipe import TIMES, choose_rows, run_study
from diswot.studies.simulated_search import SearchTable
from search_spaces.nasbench201 import KERNELS, parse
from tests.processes import finish, kill_and_resume

SPACE = load_space("nasbench201")
NO_COST = Cost(0, 0, 0)
QUICK: dict[str, Any] = {
    "proxy": "relation,az_nas", "teacher": "resnet8", "num_classes": 5, "seeds": 2, "batch_size": 2, "input_size": 8, "resamples": 30,
    "budgets": 3, "bands": 2,
}  # fmt: skip


def quality(arch: Architecture) -> float:
    """An accuracy that an architecture might have: the more convolutions, the better, up to a little noise of its own."""
    noise = int(arch.digest[:4], 16) / 65536
    return 40 + 5 * sum(KERNELS.get(name, 0) for name in parse(arch.choices)) / 3 + 2 * noise


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 rows: 30 random cells, and 10 of them again in another writing."""
    rng = np.random.default_rng(0)
    archs = [SPACE.sample(rng) for _ in range(30)]
    archs += [SPACE.canonical(arch) for arch in archs[:10]]
    path = tmp_path_factory.mktemp("table") / "cells.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arch_str", "toy_test_acc", "toy_valid_acc"])
        writer.writerows([arch.choices, f"{quality(arch):.3f}", f"{100 - quality(arch):.3f}"] for arch in archs)
    return path


def _without_accuracy(line: str) -> str:
    return line.split(",")[0] + ",,"


def config(**options: Any) -> StudyConfig:
    return StudyConfig(**{**QUICK, **options})


@pytest.fixture(scope="module")
def study(table: Path) -> Any:
    return run_study(config(), str(table), workers=1)


def test_the_contenders_and_the_baselines_are_there(study: Any) -> None:
    assert [c.name for c in study.rankings] == ["relation", "az_nas", "params", "flops"]
    assert all(c.fitness.shape == (40,) and c.by_seed.shape == (40, 2) for c in study.rankings)
    assert list(study.accuracies) == ["toy"]


def test_as_a_function_with_a_folder_it_leaves_the_report(table: Path, tmp_path: Path) -> None:
    options = {**QUICK, "proxy": "params"}
    measured, (found,) = diswot.study(table, folder=tmp_path / "kept", **options)
    assert (tmp_path / "kept" / "report.html").exists() and len(measured.rows) == found.rows == 40
    _, (again,) = diswot.study(table, scores_of=tmp_path / "kept", **options)
    assert again.statistics["params"]["Spearman"] == found.statistics["params"]["Spearman"]
    with pytest.raises(RunError, match="exists"):
        diswot.study(table, folder=tmp_path / "kept", **options)


def test_equal_networks_are_scored_once_and_counted_each(table: Path, tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "run", "study", {}, {}) as run:
        found = run_study(config(proxy="relation"), str(table), run, workers=1)
    lines = (tmp_path / "run" / JOURNAL).read_text().splitlines()
    forms = {SPACE.canonical(arch) for arch in found.archs}
    assert len(lines) == len(forms) < 40
    relation, flops = found.rankings[0], found.rankings[2]
    for row in range(10):
        assert relation.fitness[row] == relation.fitness[30 + row]
        assert found.groups[row] == found.groups[30 + row]
    assert spearmanr(flops.fitness, [SPACE.count(arch, 5, 3, 8).flops for arch in found.archs]).statistic == pytest.approx(1)
    assert [cost.flops for cost in found.costs] == [SPACE.count(arch, 5, 3, 8).flops for arch in found.archs]


def test_statistics_are_scipys(study: Any) -> None:
    (found,) = find(study)
    truth = study.accuracies["toy"]
    for ranking_result in study.rankings:
        figures = found.statistics[ranking_result.name]
        assert figures["Spearman"].value == pytest.approx(spearmanr(ranking_result.fitness, truth).statistic, abs=1e-12)
        assert figures["Kendall"].value == pytest.approx(kendalltau(ranking_result.fitness, truth).statistic, abs=1e-12)
        assert figures["Spearman"].low <= figures["Spearman"].value <= figures["Spearman"].high
        alone = [spearmanr(ranking_result.by_seed[:, seed], truth).statistic for seed in range(2)]
        assert figures["Spearman"].spread == pytest.approx(np.std(alone, ddof=1), abs=1e-12)
    assert np.isnan(found.statistics["flops"]["given FLOPs"].value)


def test_regret_is_what_the_best_within_a_budget_has_more(study: Any) -> None:
    (found,) = find(study)
    truth, flops = study.accuracies["toy"], study.size("flops")
    for ranking_result in study.rankings:
        for place, budget in enumerate(found.budgets):
            within = np.flatnonzero(flops <= budget)
            top = within[ranking_result.fitness[within] == ranking_result.fitness[within].max()]
            assert found.regrets[ranking_result.name][place] == pytest.approx(truth[within].max() - truth[top].mean(), abs=1e-9)
        assert found.statistics[ranking_result.name]["regret"].value == pytest.approx(found.regrets[ranking_result.name].mean())
    assert found.regrets["random"][-1] == pytest.approx(truth.max() - truth.mean())


def test_regret_and_bands_have_intervals_over_resampled_networks(study: Any) -> None:
    """From the definitions, on the rows that the bootstrap draws, with the budgets and bands of the whole table."""
    (found,) = find(study)
    ranking_result, truth, flops = study.rankings[0], study.accuracies["toy"], study.size("flops")
    band, lost, inside = found.bands[1], [], []
    for rows in _resamples(40, study.groups, QUICK["resamples"], np.random.default_rng(study.config.seed)):
        drawn = [(ranking_result.fitness[row], truth[row], flops[row]) for row in rows]
        each = []
        for budget in found.budgets:
            within = [(score, accuracy) for score, accuracy, size in drawn if size <= budget]
            picks = [accuracy for score, accuracy in within if score == max(within)[0]]
            each.append(max(accuracy for _, accuracy in within) - np.mean(picks))
        lost.append(np.mean(each))
        inside.append(spearmanr([(score, accuracy) for score, accuracy, size in drawn if band.low <= size <= band.high]).statistic)
    for estimate, values in ((found.statistics["relation"]["regret"], lost), (found.banded["relation"][1], inside)):
        assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-9)
        assert estimate.spread > 0


def test_validation_and_test_accuracies_are_not_mixed(table: Path) -> None:
    tested, validated = (run_study(config(proxy="params", split=split), str(table)) for split in ("test", "valid"))
    assert np.allclose(tested.accuracies["toy"], 100 - validated.accuracies["toy"], atol=2e-3)
    with pytest.raises(ConfigError, match="it has test, valid"):
        run_study(config(proxy="params", split="test_12ep"), str(table))


def test_rows_unseen_leave_out_networks_of_even_rows() -> None:
    twice = [Architecture("zoo", name) for name in ("resnet8", "resnet8", "resnet14", "resnet20")] * 10
    assert choose_rows(config(), twice).tolist() == list(range(40))
    assert choose_rows(config(rows="even"), twice).tolist() == list(range(0, 40, 2))
    unseen = choose_rows(config(rows="unseen"), twice)
    assert [twice[row].choices for row in unseen] == ["resnet20"] * 10
    named = [Architecture("zoo", name) for name in ("a", "b", "a", "c", "d", "e", "f", "g", "h", "i", "j", "b", "k")]
    assert choose_rows(config(rows="distinct"), named).tolist() == [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 12]
    sampled = choose_rows(config(rows="odd", sample=12), twice)
    assert len(set(sampled)) == 12 and all(row % 2 for row in sampled)


def test_failed_networks_rank_below_all_others() -> None:
    scores = np.array([[1.0, -5.0], [np.nan, 3.0], [2.0, np.nan]])
    filled = _worst_for_failed(scores)
    assert filled[1, 0] < 1.0 and filled[2, 1] < -5.0
    assert np.array_equal(filled[~np.isnan(scores)], scores[~np.isnan(scores)])


def test_rows_that_lack_a_part_rank_below_all_others_whatever_the_other_parts_say() -> None:
    """The largest of ten networks has no jacov: by FLOPs alone it would be in the middle."""
    results = [ScoreResult(NO_COST, {"jacov": [float(row), float(row)]}) for row in range(9)] + [
        ScoreResult(NO_COST, {}, {"jacov": "dead"})
    ]
    costs = [Cost(1, 1 + row, 1) for row in range(10)]
    for combine in ("rank", "log", "sum"):
        found = _contender("mine", Ranking(("jacov", "flops"), combine), results, costs, {})
        assert found.fitness.argmin() == 9 and (found.by_seed.argmin(0) == 9).all()
        assert found.failed == 1 and found.reason == "dead" and not found.complete[9]
        searched = SearchTable(SPACE, list(SPACE.enumerate())[:10], found.parts, found.complete, found.ranking)
        assert searched.search(np.ones(10, bool), 10, seed=0) == 8
        assert searched.search(~found.complete, 10, seed=0) == -1


def test_a_ranking_is_its_parts_combined_over_the_table(study: Any) -> None:
    from scipy.stats import rankdata

    ranking_result = study.rankings[1]
    expected = sum(np.log(rankdata(ranking_result.parts[:, part]) / 40) for part in range(4))
    assert RANKINGS["az_nas"].combine == "log"
    assert np.allclose(ranking_result.fitness, expected)


# --- simulated searches ------------------------------------------------------------


def test_a_search_that_may_try_everything_finds_the_best() -> None:
    archs = list(SPACE.enumerate())[::40]
    truth = np.array([quality(arch) for arch in archs])
    searched = SearchTable(SPACE, archs, truth[:, None], np.ones(len(archs), bool), Ranking(("params",)))
    allowed = np.zeros(len(archs), bool)
    allowed[::3] = True
    assert searched.search(allowed, 1000, seed=0) == np.flatnonzero(allowed)[np.argmax(truth[allowed])]


def test_a_search_is_better_than_as_many_random_draws() -> None:
    archs = list(SPACE.enumerate())
    truth = np.array([quality(arch) for arch in archs])
    searched = SearchTable(SPACE, archs, truth[:, None], np.ones(len(archs), bool), Ranking(("params",)))
    everything = np.ones(len(archs), bool)
    found = [truth[searched.search(everything, 150, seed)] for seed in range(4)]
    rng = np.random.default_rng(0)
    drawn = [truth[rng.choice(len(archs), 150, replace=False)].max() for _ in range(200)]
    assert np.mean(found) > np.mean(drawn)
    assert Evolution().population < 150  # part of the search is evolution


def test_searches_stay_within_the_budget_and_are_kept(table: Path, tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "run", "study", {}, {}) as run:
        study = run_study(config(proxy="params", searches=2, evaluations=12), str(table), run)
        first = find(study, run)[0]
        again = find(study, run)[0]
    assert first.searched["params"].shape == (2, 3)
    assert (first.searched["params"] >= 0).all()
    assert np.array_equal(first.searched["params"], again.searched["params"])
    assert len((tmp_path / "run" / "searches.jsonl").read_text().splitlines()) == 2 * 2 * 3  # params and flops


def test_searches_pick_among_the_rows_that_have_an_accuracy(table: Path, tmp_path: Path) -> None:
    """A second data set knows only the smaller half: budgets and picks are its own, and no regret is negative or missing."""
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    flops = [SPACE.count(Architecture("nasbench201", row["arch_str"]), 5, 3, 8).flops for row in rows]
    path = tmp_path / "half.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arch_str", "toy_test_acc", "half_test_acc"])
        for row, size in zip(rows, flops, strict=True):
            writer.writerow([row["arch_str"], row["toy_test_acc"], row["toy_test_acc"] if size < np.median(flops) else ""])
    found = find(run_study(config(proxy="params", searches=2, evaluations=12), str(path)))
    assert [f.dataset for f in found] == ["toy", "half"]
    assert found[1].budgets.max() < np.median(flops) < found[0].budgets.max()
    assert all((regrets >= 0).all() for f in found for regrets in f.searched.values())


def test_names_of_data_sets_stay_inside_the_report(table: Path, tmp_path: Path, diswot: Any) -> None:
    path = tmp_path / "odd.csv"
    path.write_text(table.read_text().replace("toy_test_acc", "../../../away_test_acc").replace("toy_valid_acc", "x/y_test_acc"))
    code, _, err = diswot("study", str(path), *words(proxy="params"), "--name", "one", "--quiet")
    assert code == 0, err
    assert {p.parent.name for p in tmp_path.rglob("*away*")} == {"report"}


def test_a_ranking_in_a_study_keeps_its_weights_and_its_size(table: Path) -> None:
    found = run_study(
        StudyConfig(proxy="diswot+", sample=10, teacher="resnet8", num_classes=5, input_size=8, resamples=20), str(table), workers=1
    )
    assert (found.seeds, found.batch) == (1, 8)
    assert found.rankings[0].ranking == RANKINGS["diswot+"]


# --- the command line ------------------------------------------------------------


def words(**options: Any) -> list[str]:
    return [word for key, value in {**QUICK, **options}.items() for word in (f"--{key.replace('_', '-')}", str(value))]


def test_the_report_holds_every_table_and_figure(diswot: Any, table: Path, tmp_path: Path) -> None:
    code, out, err = diswot(
        "study", str(table), *words(proxy="relation", searches=1, evaluations=8), "--name", "one", "--workers", "1", "--json"
    )
    assert code == 0, err
    result = json.loads(out)
    assert {row["ranking"] for row in result["tables"][0]["rows"]} == {"relation", "params", "flops"}
    folder = tmp_path / result["folder"]
    page = (folder / "report.html").read_text()
    assert all(text in page for text in ("relation", "Spearman", "given FLOPs", "<svg", "resamples: 30"))
    names = {path.name for path in (folder / "report").iterdir()}
    assert {
        "scores.csv",
        "toy_correlations.tex",
        "toy_regret.md",
        "toy_searches.json",
        "toy_scatter_relation.svg",
        "toy_matrix.png",
    } <= names
    with open(folder / "report" / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40 and rows[0]["choices"].startswith("|")
    entries = map(json.loads, (folder / JOURNAL).read_text().splitlines())
    means = {entry["choices"]: np.mean(entry["scores"]["relation"]) for entry in entries}
    for row in rows:
        form = SPACE.canonical(Architecture("nasbench201", row["choices"])).choices
        assert float(row["score_relation"]) == pytest.approx(means[form], rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing.csv"], "nothing.csv"),
        (["{table}", "--dataset", "tay"], "did you mean toy"),
        (["{table}", "--split", "validation"], "it has test, valid"),
        (["{table}", "--proxy", "relatoin"], "did you mean relation"),
        (["{table}", "--sample", "3"], "sample 3"),
        (["{table}", "--proxy", ""], "proxy ''"),
        (["{table}", "--dataset", ","], "dataset ','"),
        (["{table}", "--accuracy-column", "top1"], "top1"),
        (["{table}", "--resamples", "1"], "resamples 1"),
        ([], "diswot study TABLE.csv"),
    ],
)
def test_what_cannot_be_is_one_line(diswot: Any, table: Path, tmp_path: Path, arguments: list[str], says: str) -> None:
    code, out, err = diswot("study", *(word.format(table=table) for word in arguments), "--quiet")
    assert code == 2 and out == "" and says in err and len(err.strip().splitlines()) == 1, err
    assert not (tmp_path / "runs").exists()


def test_a_candidate_that_cannot_be_compared_is_a_failure_of_that_proxy_alone(tmp_path: Path) -> None:
    """The last map of these networks has channels of many numbers, the teacher's 64."""
    names = ["resnet8", "resnet14", "resnet20", "resnet8x4", "resnet32x4", "wrn_16_1", "wrn_16_2", "wrn_40_1", "vgg8", "shufflenetv1"]
    path = tmp_path / "zoo.csv"
    path.write_text("arch,toy_test_acc\n" + "".join(f"{name},{50 + row}\n" for row, name in enumerate(names)))
    found = run_study(config(proxy="semantic_outer,params", space="zoo", input_size=32, seeds=1), str(path), workers=1)
    outer = found.rankings[0]
    assert outer.complete.tolist() == [name in ("resnet8", "resnet14", "resnet20", "wrn_16_1", "wrn_40_1") for name in names]
    assert "the teacher has 64" in outer.reason


def test_copies_of_a_row_without_an_accuracy_are_not_picked(table: Path, tmp_path: Path) -> None:
    lines = table.read_text().splitlines()
    path = tmp_path / "copies.csv"
    path.write_text("\n".join([*lines, *(_without_accuracy(line) for line in lines[1:])]) + "\n")
    study = run_study(config(proxy="params", searches=1, evaluations=10), str(path))
    (found,) = find(study)
    assert len(study.rows) == 80 and found.rows == 40 and np.isfinite(found.searched["params"]).all()


def test_a_handful_of_accuracies_is_refused(table: Path, tmp_path: Path) -> None:
    lines = table.read_text().splitlines()
    path = tmp_path / "few.csv"
    path.write_text("\n".join([*lines[:5], *(_without_accuracy(line) for line in lines[5:])]) + "\n")
    with pytest.raises(ConfigError, match="4 known"):
        run_study(config(proxy="params"), str(path))


def test_scores_of_another_space_are_not_taken_over(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same strings, another network; and the module's own code is part of the setting."""
    module = tmp_path / "narrow_space.py"
    code = "from search_spaces.nasbench201 import NasBench201\nclass Narrow(NasBench201):\n    name = 'narrow_space:own'\nown = Narrow()\n"
    module.write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with RunDir.create(tmp_path / "first", "study", {**to_dict(config(proxy="params")), "table": str(table)}, {}) as run:
        run_study(config(proxy="params"), str(table), run)
    with pytest.raises(RunError, match=r"another setting .*space"):
        run_study(config(proxy="params", space="narrow_space:own"), str(table), earlier=tmp_path / "first")
    own = config(proxy="params", space="narrow_space:own")
    with RunDir.create(tmp_path / "own", "study", {}, {}) as run:
        run_study(own, str(table), run)
        module.write_text(code + "# changed\n")
        with pytest.raises(RunError, match="begun with other space"):
            run_study(own, str(table), run)


def test_accuracies_that_are_all_alike_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "flat.csv"
    rng = np.random.default_rng(0)
    path.write_text("arch_str,toy_test_acc\n" + "".join(f"{SPACE.sample(rng).choices},50\n" for _ in range(12)))
    with pytest.raises(ConfigError, match="all alike or missing"):
        run_study(config(proxy="params"), str(path))


def test_scores_are_taken_over_from_a_study_of_the_same_setting(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(proxy="relation,nwot")
    document = {**to_dict(settings), "table": str(table)}
    with RunDir.create(tmp_path / "first", "study", document, {}) as run:
        first = run_study(settings, str(table), run, workers=1)
    with pytest.raises(RunError, match="another setting \\(init\\)"):
        run_study(config(proxy="relation", init="gaussian"), str(table), earlier=tmp_path / "first")
    monkeypatch.setattr("diswot.engine.score_one", None)  # nothing is left to score
    monkeypatch.setattr("diswot.recipes.study._milliseconds", lambda *_: 1.0)
    again = run_study(config(proxy="relation", rows="odd"), str(table), earlier=tmp_path / "first")
    assert np.array_equal(again.rankings[0].parts[:, 0], first.rankings[0].parts[1::2, 0])


def test_a_changed_table_is_not_resumed(table: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.csv"
    copy.write_text(table.read_text())
    with RunDir.create(tmp_path / "run", "study", {}, {}) as run:
        run_study(config(proxy="params"), str(copy), run)
        copy.write_text(table.read_text().replace(",4", ",5", 1))
        with pytest.raises(RunError, match="table"):
            run_study(config(proxy="params"), str(copy), run)


@pytest.mark.parametrize("line", ['{"choices": "x", "scores": {}, "failed": {}}', '{"choices": null}'])
def test_a_journal_of_another_study_is_refused(table: Path, tmp_path: Path, line: str) -> None:
    with RunDir.create(tmp_path / "run", "study", {}, {}) as run:
        (tmp_path / "run" / JOURNAL).write_text(line + "\n")
        with pytest.raises(DiswotError, match="line 1"):
            run_study(config(proxy="params"), str(table), run)


def test_kills_at_random_moments_change_nothing(spawn: Any, table: Path, tmp_path: Path) -> None:
    """kill -9 of real processes; the journal and the tables are those of the undisturbed study, byte for byte."""
    options = [*words(proxy="relation", searches=1, evaluations=10), "--workers", "1", "--quiet"]
    begin, resume = ["study", str(table), *options, "--name"], ["study", "--resume", "runs/cut", "--workers", "1", "--quiet"]
    finish(spawn(*begin, "whole"))
    folder = tmp_path / "runs" / "cut"
    assert kill_and_resume(spawn, [*begin, "cut"], resume, lambda: _written(folder), kills=3, most=2500) >= 2
    whole = tmp_path / "runs" / "whole"
    compared = [JOURNAL, "searches.jsonl", *(f"report/toy_{name}.csv" for name in ("correlations", "regret", "bands", "searches"))]
    for name in compared:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    assert (whole / TIMES).exists()


def _written(folder: Path) -> int:
    return sum(path.stat().st_size for name in (JOURNAL, "searches.jsonl") if (path := folder / name).exists())


@pytest.mark.usefixtures("real_data")
def test_nasbench201_whole_table_is_read_and_counted(real_data: Path) -> None:
    """The baseline over all rows, as published with this data: .753, .728, .692 for parameters and test accuracy."""
    study = run_study(StudyConfig(proxy="params", resamples=20, seeds=1), str(real_data / "nasbench201" / "nasbench201.csv.gz"))
    found = {f.dataset: f.statistics["params"]["Spearman"].value for f in find(study)}
    assert found == pytest.approx({"cifar10": 0.753, "cifar100": 0.728, "imagenet16_120": 0.692}, abs=6e-4)
    assert len(np.unique(study.groups)) == 4930
