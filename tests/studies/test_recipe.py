"""The study recipe: which rows, each different network scored once, and scores that are kept, resumed and taken over."""

from __future__ import annotations

import functools
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

import diswot
from diswot.architecture import Architecture
from diswot.errors import ArchitectureError, ConfigError, DiswotError, RunError
from diswot.execution import Execution
from diswot.proxies import RANKINGS
from diswot.runs import RunDir
from diswot.scoring import engine
from diswot.scoring.candidates import ScoreResult
from diswot.scoring.recipe import JOURNAL
from diswot.space import Cost
from diswot.studies.recipe import TIMES, StudyPlan, choose_rows, score_table, study_so_far
from tests.processes import count_lines
from tests.searching.samples import Stop, StopAt
from tests.spaces.own import builds, write_own_space
from tests.studies.samples import QUICK, SPACE, begin_scores, resume_scores, score, study, study_config, study_plan


@pytest.mark.slow
@pytest.mark.usefixtures("_pages")
def test_as_a_function_with_a_folder_it_leaves_the_report(table: Path, tmp_path: Path) -> None:
    options = {**QUICK, "proxy": "params"}
    kept = diswot.study(table, folder=tmp_path / "kept", **options)
    (report,) = kept.reports
    assert (tmp_path / "kept" / "report.html").exists() and kept.folder == tmp_path / "kept"
    assert len(kept.study.rows) == report.rows == 40
    (again,) = diswot.study(table, scores_of=tmp_path / "kept", **options).reports
    assert again.statistics["params"]["Spearman"] == report.statistics["params"]["Spearman"]
    with pytest.raises(RunError, match="exists"):
        diswot.study(table, folder=tmp_path / "kept", **options)


@pytest.mark.parametrize(
    ("columns", "asked", "classes"),
    [
        (["cifar10"], {}, 10),
        (["cifar10", "cifar10-valid", "cifar10_kd"], {}, 10),
        (["cifar10", "cifar100", "ImageNet16-120"], {}, 100),
        (["cifar10", "cifar100", "ImageNet16-120"], {"dataset": "ImageNet16-120"}, 120),
        (["cifar10", "mine"], {}, 100),
        (["cifar1000"], {}, 100),
        (["cifar10"], {"num_classes": 7}, 7),
        (["cifar10"], {"data": "small.npz"}, 4),
    ],
)
def test_networks_are_scored_for_the_classes_of_the_tables_data_set(
    tmp_path: Path, small_npz: Path, columns: list[str], asked: dict[str, Any], classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they agree, no option says otherwise, and the images bring none of their own."""
    monkeypatch.chdir(small_npz.parent)
    path, rng = tmp_path / "table.csv", np.random.default_rng(0)
    rows = [",".join([SPACE.sample(rng).choices, *[f"{50 + number}"] * len(columns)]) for number in range(12)]
    path.write_text("\n".join([",".join(["arch_str", *[f"{name}_test_acc" for name in columns]]), *rows]) + "\n")
    found = score(path, **{"proxy": "params", "seeds": 1, "num_classes": None, "input_size": None, **asked})
    assert [cost.params for cost in found.costs] == [SPACE.count(arch, classes, 3, 32).params for arch in found.archs]


def test_equal_networks_are_scored_once_and_counted_each(table: Path, tmp_path: Path) -> None:
    found = begin_scores(tmp_path / "run", table, proxy="relation")
    lines = (tmp_path / "run" / JOURNAL).read_text().splitlines()
    forms = {SPACE.canonical(arch) for arch in found.archs}
    assert len(lines) == len(forms) < 40
    relation, flops = found.rankings[0], found.rankings[2]
    for row in range(10):
        assert relation.fitness[row] == relation.fitness[30 + row]
        assert found.groups[row] == found.groups[30 + row]
    counted = [SPACE.count(arch, 5, 3, 8).flops for arch in found.archs]
    assert spearmanr(flops.fitness, counted).statistic == pytest.approx(1)
    assert [cost.flops for cost in found.costs] == counted


def test_costs_are_counted_once_for_each_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The space has no `count`: a network without memory is built for the cost of each, however many rows it has."""
    write_own_space(tmp_path, "mylab_studied", monkeypatch)
    path = tmp_path / "widths.csv"
    path.write_text("arch,toy_test_acc\n" + "".join(f"{width},{50 + number}\n" for number, width in enumerate((8, 16, 24, 32) * 3)))
    found = score(path, proxy="effective_flops,params", space="mylab_studied:Logged", seeds=1)
    assert [len(set(ranking.fitness)) for ranking in found.rankings] == [4, 4, 4]
    built = builds(tmp_path)
    assert dict(built["meta"]) == dict.fromkeys((8, 16, 24, 32), 1)
    assert set(built["cpu"].values()) == {2}, "once to be scored, and once to be timed, for 4 of at most 5 networks"


def test_validation_and_test_accuracies_are_not_mixed(table: Path) -> None:
    tested, validated = (score(table, proxy="params", split=split) for split in ("test", "valid"))
    assert np.allclose(tested.accuracies["toy"], 100 - validated.accuracies["toy"], atol=2e-3)
    with pytest.raises(ConfigError, match="it has test, valid"):
        score(table, proxy="params", split="test_12ep")


def test_rows_unseen_leave_out_networks_of_even_rows() -> None:
    twice = [Architecture("zoo", name) for name in ("resnet8", "resnet8", "resnet14", "resnet20")] * 10
    assert choose_rows(study_config(), twice).tolist() == list(range(40))
    assert choose_rows(study_config(rows="even"), twice).tolist() == list(range(0, 40, 2))
    unseen = choose_rows(study_config(rows="unseen"), twice)
    assert [twice[row].choices for row in unseen] == ["resnet20"] * 10
    named = [Architecture("zoo", name) for name in ("a", "b", "a", "c", "d", "e", "f", "g", "h", "i", "j", "b", "k")]
    assert choose_rows(study_config(rows="distinct"), named).tolist() == [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 12]
    sampled = choose_rows(study_config(rows="odd", sample_rows=12), twice)
    assert len(set(sampled)) == 12 and all(row % 2 for row in sampled)
    assert sampled.tolist() == sorted(sampled) == choose_rows(study_config(rows="odd", sample_rows=12), twice).tolist()
    assert sampled.tolist() != choose_rows(study_config(rows="odd", sample_rows=12, seed=1), twice).tolist()
    with pytest.raises(ConfigError, match=r"7 of \d+ rows of the table are left, at least 10 are needed: widen --rows or --sample-rows"):
        choose_rows(study_config(rows="even"), named)


def test_a_ranking_in_a_study_keeps_its_weights_and_its_size(table: Path) -> None:
    found = score(table, proxy="diswot_nb201", sample_rows=10, seeds=None, batch_size=None)
    assert (found.seeds, found.batch_size) == (1, 8)
    assert found.rankings[0].ranking == RANKINGS["diswot_nb201"]


def test_what_takes_the_place_of_a_blind_part_is_said_once_and_used(table: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A transformer has no maps on the way. Two of the rankings have that part."""
    with caplog.at_level(logging.WARNING, "diswot"):
        found = score(table, proxy="diswot_nb201,relation", sample_rows=10, teacher="vit_tiny_patch16_224", input_size=16, seeds=1)
    (record,) = caplog.records
    assert "relation_stem_grad cannot see this teacher" in record.getMessage()
    parts = [ranking.ranking.parts for ranking in found.rankings]
    assert set(parts[0]) == {*RANKINGS["diswot_nb201"].parts, "relation_jacobian"} - {"relation_stem_grad"} and parts[1] == ("relation",)
    assert found.rankings[0].complete.any()


def test_a_candidate_that_cannot_be_compared_is_a_failure_of_that_proxy_alone(tmp_path: Path) -> None:
    """The last map of these networks has channels of many numbers, the teacher's 64."""
    names = ["resnet8", "resnet14", "resnet20", "resnet8x4", "resnet32x4", "wrn_16_1", "wrn_16_2", "wrn_40_1", "vgg8", "shufflenetv1"]
    path = tmp_path / "zoo.csv"
    path.write_text("arch,toy_test_acc\n" + "".join(f"{name},{50 + row}\n" for row, name in enumerate(names)))
    found = score(path, proxy="semantic_outer,params", space="zoo", input_size=32, seeds=1)
    outer, params = found.rankings[:2]
    assert outer.complete.tolist() == [name in ("resnet8", "resnet14", "resnet20", "wrn_16_1", "wrn_40_1") for name in names]
    assert "the teacher has 64" in outer.reason
    assert params.complete.all() and params.failed == 0


@pytest.mark.parametrize(
    ("rows", "says"), [(4, "only 4 of them are known, and 10 are needed"), (9, "only 9 of them are known, and 10 are needed")]
)
def test_a_handful_of_accuracies_is_refused(table: Path, tmp_path: Path, rows: int, says: str) -> None:
    lines = table.read_text().splitlines()
    path = tmp_path / "few.csv"
    path.write_text("\n".join([*lines[: rows + 1], *(line.split(",")[0] + ",," for line in lines[rows + 1 :])]) + "\n")
    with pytest.raises(ConfigError, match=says):
        score(path, proxy="params")


def test_a_data_set_with_too_few_accuracies_is_left_out_beside_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As the trainings without a teacher that `tabulate` makes of a third of its networks; asked for by name it is refused."""
    path, rng = tmp_path / "table.csv", np.random.default_rng(0)
    rows = [f"{SPACE.sample(rng).choices},{50 + number},{40 + number if number < 4 else ''}" for number in range(12)]
    path.write_text("\n".join(["arch_str,toy_kd_test_acc,toy_none_test_acc", *rows]) + "\n")
    with caplog.at_level(logging.INFO, "diswot"):
        assert list(score(path, proxy="params").accuracies) == ["toy_kd"]
    assert "toy_none is left out: 4 of its accuracies are known, at least 10 are needed" in caplog.messages
    with pytest.raises(ConfigError, match="toy_none cannot be ranked: only 4 of them are known"):
        score(path, proxy="params", dataset="toy_kd,toy_none")


def test_accuracies_that_are_all_alike_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "flat.csv"
    rng = np.random.default_rng(0)
    path.write_text("arch_str,toy_test_acc\n" + "".join(f"{SPACE.sample(rng).choices},50\n" for _ in range(12)))
    with pytest.raises(ConfigError, match="cannot be ranked: they are all alike"):
        score(path, proxy="params")


# --- kept, resumed and taken over


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[Architecture]:
    """What the engine has scored, and not read in a journal."""
    archs: list[Architecture] = []
    real = engine.score_one

    def noted(context: Any, arch: Architecture, cost: Cost) -> ScoreResult:
        archs.append(arch)
        return real(context, arch, cost)

    monkeypatch.setattr(engine, "score_one", noted)
    return archs


def test_a_study_broken_off_is_gone_on_with_to_the_same(table: Path, tmp_path: Path, scored: list[Architecture]) -> None:
    options = {"proxy": "relation", "sample_rows": 12}
    whole = begin_scores(tmp_path / "whole", table, **options)
    total = count_lines(tmp_path / "whole" / JOURNAL)
    for stop in (1, total - 1):
        plan, folder = study_plan(table, **options), tmp_path / f"stopped{stop}"
        with RunDir.create(folder, "study", plan.document(), {}) as run, pytest.raises(Stop):
            score_table(plan, run, Execution(workers=1, reporter=StopAt(stop)))
        scored.clear()
        resumed = resume_scores(folder)
        assert len(scored) == total - stop
        assert (folder / JOURNAL).read_bytes() == (tmp_path / "whole" / JOURNAL).read_bytes()
        for one, other in zip(resumed.rankings, whole.rankings, strict=True):
            assert np.array_equal(one.fitness, other.fitness)


def test_times_are_measured_once_and_kept(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = begin_scores(tmp_path / "run", table, proxy="relation,params", sample_rows=10)
    times = json.loads((tmp_path / "run" / TIMES).read_text())
    assert times == {ranking.name: ranking.milliseconds for ranking in first.rankings}
    assert times["relation"] > 0 and times["params"] == times["flops"] == 0
    monkeypatch.setattr("diswot.studies.recipe._milliseconds", None)  # nothing is left to measure
    assert resume_scores(tmp_path / "run").rankings[0].milliseconds == times["relation"]
    (tmp_path / "run" / TIMES).write_text('{"relation": "fast"}')
    with pytest.raises(RunError, match=r"milliseconds\.json: damaged .*remove it, then --resume"):
        resume_scores(tmp_path / "run")


def test_scores_are_taken_over_from_a_study_of_the_same_setting(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = begin_scores(tmp_path / "first", table, proxy="relation,nwot")
    take_over = functools.partial(score, table, scores_of=tmp_path / "first")
    with pytest.raises(RunError, match=r"its scores are of another setting \(init\): leave --scores-of out"):
        take_over(proxy="relation", init="gaussian")
    with pytest.raises(RunError, match=r"another setting \(images.*\)"):
        take_over(proxy="relation", seed=1)
    monkeypatch.setattr("diswot.scoring.engine.score_one", None)  # nothing is left to score
    monkeypatch.setattr("diswot.studies.recipe._milliseconds", lambda *_: 1.0)
    again = take_over(proxy="relation", rows="odd")
    assert np.array_equal(again.rankings[0].parts[:, 0], first.rankings[0].parts[1::2, 0])


@pytest.mark.slow
def test_what_an_earlier_study_lacks_is_scored(table: Path, tmp_path: Path, scored: list[Architecture]) -> None:
    begin_scores(tmp_path / "even", table, proxy="relation", rows="even")
    known = set(scored)
    scored.clear()
    together = score(table, scores_of=tmp_path / "even", proxy="relation")
    assert scored and not known & set(scored)
    assert {SPACE.canonical(arch) for arch in together.archs} == known | set(scored)
    assert np.array_equal(together.rankings[0].fitness, score(table, proxy="relation").rankings[0].fitness)


NARROW = """
from search_spaces.nasbench201 import NasBench201

class Narrow(NasBench201):
    '''The same strings, and another name.'''
"""


def test_scores_of_another_space_are_not_taken_over(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same strings, another network; and the module's own code is part of the setting."""
    module = tmp_path / "narrow_space.py"
    module.write_text(NARROW)
    monkeypatch.syspath_prepend(tmp_path)
    begin_scores(tmp_path / "first", table, proxy="params")
    own = {"proxy": "params", "space": "narrow_space:Narrow"}
    with pytest.raises(RunError, match=r"another setting \(space\)"):
        score(table, scores_of=tmp_path / "first", **own)
    begin_scores(tmp_path / "own", table, **own)
    score(table, scores_of=tmp_path / "own", **own)
    module.write_text(NARROW + "# changed\n")
    with pytest.raises(RunError, match=r"another setting \(code of narrow_space:Narrow\)"):
        score(table, scores_of=tmp_path / "own", **own)
    with pytest.raises(RunError, match="begun with other code of narrow_space:Narrow"):
        resume_scores(tmp_path / "own")


def test_a_changed_table_is_not_resumed(table: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.csv"
    copy.write_text(table.read_text())
    begin_scores(tmp_path / "run", copy, proxy="params")
    resume_scores(tmp_path / "run")
    copy.write_text(table.read_text().replace(",4", ",5", 1))
    with pytest.raises(RunError, match="begun with other table"):
        resume_scores(tmp_path / "run")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"choices": "x", "scores": {}, "failed": {}}', "line 1: another network than this study's: start a new run"),
        ('{"choices": null}', "line 1: another network than this study's: start a new run"),
    ],
)
def test_a_journal_of_another_study_is_refused(table: Path, tmp_path: Path, line: str, says: str) -> None:
    with RunDir.create(tmp_path / "run", "study", {}, {}) as run:
        (tmp_path / "run" / JOURNAL).write_text(line + "\n")
        with pytest.raises(DiswotError, match=says):
            score(table, run, proxy="params")


def test_a_journal_without_a_score_is_refused(table: Path, tmp_path: Path) -> None:
    begin_scores(tmp_path / "run", table, proxy="params,jacov", sample_rows=10)
    journal = tmp_path / "run" / JOURNAL
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    del records[1]["scores"]["jacov"]
    journal.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(RunError, match="line 2: its jacov is not that of this run: the journal is damaged"):
        resume_scores(tmp_path / "run")


def test_a_plan_is_checked_before_the_table_is_read(tmp_path: Path) -> None:
    for options, error, says in (
        ({"proxy": "relatoin"}, ConfigError, "did you mean relation"),
        ({"space": "nasbench2001"}, ConfigError, "did you mean nasbench201"),
        ({"proxy": " , "}, ConfigError, "--proxy ' , ': name at least one"),
        ({"sample_rows": 9}, ConfigError, "--sample-rows 9: at least 10 is needed"),
    ):
        with pytest.raises(error, match=says):
            study_plan(tmp_path / "nothing.csv", **options)
    plan = study_plan(tmp_path / "some.csv", proxy="relation,flops")
    assert list(plan.rankings()) == ["relation", "flops", "params"]
    assert StudyPlan.restore(plan.document(), tmp_path) == StudyPlan(plan.config, str(tmp_path / "some.csv"))
    with pytest.raises(RunError, match="names no table: start a new run"):
        StudyPlan.restore({**plan.document(), "table": None}, tmp_path)


def test_a_table_of_a_space_that_is_not_the_tables_is_refused(table: Path) -> None:
    with pytest.raises((ArchitectureError, DiswotError), match=r"line 2: .*resnet_depth"):
        score(table, proxy="params", space="s0")


@pytest.mark.slow
def test_nasbench201_whole_table_is_read_and_counted(real_data: Path) -> None:
    """The baseline over all rows, as published with this data: .753, .728, .692 for parameters and test accuracy. What a study does with
    the rows of a table is tested on small ones."""
    options = {"proxy": "params", "bootstrap_resamples": 20, "seeds": 1, "num_classes": None, "input_size": None}
    result = study(real_data / "nasbench201" / "nasbench201.csv.gz", **options)
    found = {report.dataset: report.statistics["params"]["Spearman"].value for report in result.reports}
    assert found == pytest.approx({"cifar10": 0.753, "cifar100": 0.728, "imagenet16_120": 0.692}, abs=6e-4)
    assert len(np.unique(result.study.groups)) == 4930


@pytest.mark.parametrize("lines", [12, 1])
def test_a_report_of_a_study_under_way_is_of_the_rows_that_are_scored(table: Path, tmp_path: Path, lines: int) -> None:
    whole = begin_scores(tmp_path / "run", table, proxy="relation")
    journal = tmp_path / "run" / JOURNAL
    written = "".join(journal.read_text().splitlines(keepends=True)[:lines]) + '{"choices"'
    journal.write_text(written)
    run, document = RunDir.open(tmp_path / "run", "study", lock=False)
    plan = StudyPlan.restore(document, tmp_path / "run")
    if lines == 1:
        with pytest.raises(RunError, match="rows have been scored, and a report needs 10"):
            study_so_far(plan, run)
        return
    found = study_so_far(plan, run)
    assert journal.read_text() == written and len(set(found.groups)) == lines and set(found.rows) < set(whole.rows)
    places = [whole.rows.tolist().index(row) for row in found.rows]
    for ours, theirs in zip(found.rankings, whole.rankings, strict=True):
        assert np.array_equal(ours.parts, theirs.parts[places], equal_nan=True), ours.name
