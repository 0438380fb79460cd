"""`diswot score`: given architectures, of one space or of several, in a folder that can be resumed or in none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diswot
from diswot.architecture import Architecture
from diswot.budget import count_network
from diswot.config import ScoreConfig
from diswot.errors import ArchitectureError, ConfigError, RunError
from diswot.execution import Execution
from diswot.runs import RunDir
from diswot.scoring import engine
from diswot.scoring.candidates import ScoreResult
from diswot.scoring.recipe import JOURNAL, ScorePlan, ScoreRow, run_score
from diswot.space import Cost, load_space
from tests.processes import count_lines, kill_in_turn
from tests.searching.samples import Stop, StopAt
from tests.spaces.own import builds, write_own_space

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"
ARCHS = (
    *(Architecture("zoo", name) for name in ("resnet8", "resnet14", "vgg8")),
    Architecture("nasbench201", CELL),
    Architecture("resnet_depth", {"depths": [1, 1, 3]}),
)
QUICK: dict[str, Any] = {"teacher": "resnet8", "num_classes": 10, "seeds": 2, "batch_size": 2, "proxy": "relation,jacov,params"}


def score_plan(archs: tuple[Architecture, ...] = ARCHS, space: str | None = None, **options: Any) -> ScorePlan:
    return ScorePlan(ScoreConfig(**{**QUICK, **options}), archs, space)


def score(plan: ScorePlan, run: RunDir | None = None, **execution: Any) -> list[ScoreRow]:
    return run_score(plan, run, Execution("cpu", **{"workers": 1, **execution}))


def begin(folder: Path, plan: ScorePlan, **execution: Any) -> list[ScoreRow]:
    with RunDir.create(folder, plan.kind, plan.document(), {}) as run:
        return score(plan, run, **execution)


def resume(folder: Path, **execution: Any) -> list[ScoreRow]:
    run, document = RunDir.open(folder, "score")
    with run:
        return score(ScorePlan.restore(document, folder), run, **execution)


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[Architecture]:
    """What has been scored, and not read in a journal."""
    archs: list[Architecture] = []
    real = engine.score_one

    def noted(context: Any, arch: Architecture, cost: Cost) -> ScoreResult:
        archs.append(arch)
        return real(context, arch, cost)

    monkeypatch.setattr(engine, "score_one", noted)
    return archs


def test_rows_come_in_order_with_their_costs_their_scores_and_their_ranks() -> None:
    rows = score(score_plan())
    assert [row.arch for row in rows] == list(ARCHS)
    assert [row.cost for row in rows] == [count_network(load_space(arch.space).build(arch, 10), 3, 32) for arch in ARCHS]
    assert all(list(row.scores) == ["relation", "jacov", "params"] and {len(v) for v in row.scores.values()} == {2} for row in rows)
    means = np.array([[np.mean(values) for values in row.scores.values()] for row in rows])
    fitness = (means[:, None] > means[None]).sum((1, 2))  # the number of rows that a row is better than, over the parts
    assert [row.rank for row in rows] == [1 + sum(fitness > own) for own in fitness]


@pytest.mark.slow
def test_scores_are_those_that_the_network_has_alone() -> None:
    together = score(score_plan())
    for row in together:
        (alone,) = score(score_plan((row.arch,)))
        assert alone.scores == row.scores and alone.rank == 1


def test_equal_scores_share_the_better_rank() -> None:
    same = Architecture("zoo", "resnet8")
    rows = score(score_plan((same, Architecture("zoo", "resnet14"), same), proxy="params"))
    assert [row.rank for row in rows] == [2, 1, 2]


def test_a_folder_keeps_a_line_for_each_network(tmp_path: Path) -> None:
    rows = begin(tmp_path / "run", score_plan())
    lines = [json.loads(line) for line in (tmp_path / "run" / JOURNAL).read_text().splitlines()]
    assert lines == [{"choices": row.arch.choices, "scores": row.scores, "failed": {}} for row in rows]
    assert set(json.loads((tmp_path / "run" / "inputs.json").read_text())) == {"images", "shape", "teacher weights", "device"}


@pytest.mark.slow
def test_what_was_broken_off_is_resumed_where_it_was_left(tmp_path: Path, scored: list[Architecture]) -> None:
    whole = begin(tmp_path / "whole", score_plan())
    for stop in (1, 4):
        folder = tmp_path / f"stopped{stop}"
        with pytest.raises(Stop):
            begin(folder, score_plan(), reporter=StopAt(stop))
        assert count_lines(folder / JOURNAL) == stop
        scored.clear()
        assert resume(folder) == whole
        assert scored == list(ARCHS[stop:])
        assert (folder / JOURNAL).read_bytes() == (tmp_path / "whole" / JOURNAL).read_bytes()
    scored.clear()
    assert resume(tmp_path / "whole") == whole and not scored


def test_a_line_that_was_cut_short_is_scored_again(tmp_path: Path, scored: list[Architecture]) -> None:
    whole = begin(tmp_path / "run", score_plan())
    journal = tmp_path / "run" / JOURNAL
    intact = journal.read_bytes()
    journal.write_bytes(intact[:-7])
    scored.clear()
    assert resume(tmp_path / "run") == whole
    assert scored == [ARCHS[-1]] and journal.read_bytes() == intact


def test_from_python_with_a_folder_and_resumed_from_it(tmp_path: Path, scored: list[Architecture]) -> None:
    rows = diswot.score(ARCHS, folder=tmp_path / "kept", **QUICK)
    assert rows == score(score_plan())
    with pytest.raises(RunError, match="exists: resume it with"):
        diswot.score(ARCHS, folder=tmp_path / "kept", **QUICK)
    scored.clear()
    assert diswot.resume(tmp_path / "kept", workers=1) == rows and not scored


def words(*archs: str, **options: Any) -> list[str]:
    flags = {**QUICK, **options}.items()
    return ["score", *archs, *(word for key, value in flags for word in (f"--{key.replace('_', '-')}", str(value))), "--workers", "1"]


def test_the_command_line_keeps_what_has_a_name_and_resumes_it(
    diswot: Callable[..., tuple[int, str, str]], tmp_path: Path, scored: list[Architecture]
) -> None:
    code, plain, err = diswot(*words("resnet8", CELL), "--json", "--quiet")
    assert code == 0, err
    assert not (tmp_path / "runs").exists(), "without a name nothing is kept"
    code, kept, err = diswot(*words("resnet8", CELL), "--json", "--quiet", "--name", "one")
    assert code == 0 and json.loads(kept) == json.loads(plain), err
    assert (tmp_path / "runs" / "one" / "config.yaml").read_text().count("kind: score") == 1
    journal = tmp_path / "runs" / "one" / JOURNAL
    intact = journal.read_bytes()
    journal.write_bytes(intact.splitlines(keepends=True)[0])
    scored.clear()
    code, again, err = diswot("score", "--resume", "runs/one", "--json", "--quiet", "--workers", "1")
    assert code == 0 and json.loads(again) == json.loads(plain), err
    assert [arch.choices for arch in scored] == [CELL] and journal.read_bytes() == intact
    for more in (["resnet14"], ["--proxy", "params"], ["--name", "two"]):
        code, out, err = diswot("score", "--resume", "runs/one", *more, "--quiet")
        assert code == 2 and not out and "--resume goes on with the run's own options" in err


@pytest.mark.slow
def test_kills_change_nothing(diswot: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """kill -9 of real processes of the command line, one of them while it writes a line."""
    archs = ("resnet8", "resnet14", "resnet20", CELL)
    assert diswot(*words(*archs), "--quiet", "--name", "whole")[0] == 0
    resume = ["score", "--resume", "runs/cut", "--quiet", "--workers", "1"]
    kill_in_turn(tmp_path, [(1, "whole"), (2, "torn")], [*words(*archs), "--quiet", "--name", "cut"], resume)
    assert count_lines(tmp_path / "runs" / "cut" / JOURNAL) == 2
    assert diswot(*resume)[0] == 0
    assert (tmp_path / "runs" / "cut" / JOURNAL).read_bytes() == (tmp_path / "runs" / "whole" / JOURNAL).read_bytes()


LINE = {"choices": "resnet8", "scores": {"params": [1.0, 1.0]}, "failed": {}}


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([{**LINE, "choices": "resnet14"}], "line 1: another network than this run's"),
        ([LINE, LINE], "line 2: another network than this run's"),
        ([{"choices": "resnet8"}], "line 1: no scores in it"),
        ([{**LINE, "scores": {}}], "line 1: its params is not that of this run"),
        ([{**LINE, "scores": {"params": [1.0]}}], "line 1: its params is not that of this run"),
        ([{**LINE, "scores": {"params": [1.0, "2"]}}], "line 1: its params is not that of this run"),
    ],
)
def test_a_journal_that_is_not_this_runs_is_refused(tmp_path: Path, lines: list[dict[str, Any]], says: str) -> None:
    plan = score_plan((Architecture("zoo", "resnet8"),), proxy="params")
    with RunDir.create(tmp_path / "run", plan.kind, plan.document(), {}) as run:
        for line in lines:
            run.append(JOURNAL, line)
        with pytest.raises(RunError, match=f"{says}: the journal is damaged, start a new run"):
            score(plan, run)


def test_other_images_are_noticed_on_resume(tmp_path: Path, small_npz: Path) -> None:
    begin(tmp_path / "run", score_plan(ARCHS[:1], data=str(small_npz), num_classes=4))
    with np.load(small_npz) as arrays:
        changed = {**arrays, "x_train": 255 - arrays["x_train"]}
    np.savez(small_npz, **changed)
    with pytest.raises(RunError, match="begun with other images"):
        resume(tmp_path / "run")


def test_a_network_that_cannot_be_scored_is_named_and_those_before_it_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = begin(tmp_path / "whole", score_plan())
    real = engine.score_one

    def fragile(context: Any, arch: Architecture, cost: Cost) -> ScoreResult:
        return ScoreResult(cost, failed={"jacov": "out of memory"}) if arch == ARCHS[2] else real(context, arch, cost)

    with monkeypatch.context() as patched:
        patched.setattr(engine, "score_one", fragile)
        with pytest.raises(RunError, match=r"^zoo:vgg8 cannot be scored: out of memory$"):
            begin(tmp_path / "run", score_plan())
    assert count_lines(tmp_path / "run" / JOURNAL) == 2
    assert resume(tmp_path / "run") == whole


@pytest.mark.parametrize("document", [{}, {"archs": None}, {"archs": [{"space": "zoo"}]}, {"archs": ["resnet8"]}, {"archs": 3}])
def test_a_folder_that_names_no_architectures_is_refused(tmp_path: Path, document: dict[str, Any]) -> None:
    with pytest.raises((RunError, ArchitectureError), match=r"names no architectures: start a new run|no architecture was given"):
        ScorePlan.restore({**ScorePlan(ScoreConfig(), ARCHS).document(), "archs": None, **document}, tmp_path)


def test_what_cannot_be_scored_is_said_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diswot.scoring.recipe.prepare_scoring", None)
    for options, error, says in (
        ({"archs": ()}, ArchitectureError, "no architecture was given: name an arch.json"),
        ({"archs": (Architecture("zoo", "resnet21"),)}, ArchitectureError, "did you mean resnet20"),
        ({"archs": (Architecture("nowhere", 1),)}, ConfigError, "unknown space 'nowhere'"),
        ({"archs": (Architecture("mylab_never:Own", 8),)}, ConfigError, "allow it with --space mylab_never:Own"),
        ({"proxy": "relatoin"}, ConfigError, "did you mean relation"),
        ({"seeds": 0}, ConfigError, "--seeds 0: at least 1 is needed"),
    ):
        with pytest.raises(error, match=says):
            score(score_plan(**options))


def test_a_network_that_no_machine_can_hold_is_refused() -> None:
    stage = {"block": "basic", "kernel": 7, "width": 2048, "mid": 2048, "depth": 16}
    space = load_space("s1")
    small = space.sample(np.random.default_rng(0))
    stages = [{**stage, "block": old["block"]} for old in small.choices["stages"]]
    with pytest.raises(ArchitectureError, match="parameters are too many to build"):
        score(score_plan((Architecture(space.name, {**small.choices, "stages": stages}),)))


def test_networks_of_a_space_of_ones_own_are_counted_once_and_built_once_for_each_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The space has no `count`: a network without memory is built for the cost."""
    write_own_space(tmp_path, "mylab_scored", monkeypatch)
    archs = tuple(Architecture("mylab_scored:Logged", width) for width in (8, 32))
    with pytest.raises(ConfigError, match="allow it with --space mylab_scored:Logged"):
        score_plan(archs)
    plan = score_plan((*archs, ARCHS[0]), "mylab_scored:Logged", proxy="relation,effective_flops,params")
    rows = begin(tmp_path / "run", plan)
    assert {name: dict(found) for name, found in builds(tmp_path).items()} == {"meta": {8: 1, 32: 1}, "cpu": {8: 1, 32: 1}}
    assert resume(tmp_path / "run") == rows
    assert "code of mylab_scored:Logged" in json.loads((tmp_path / "run" / "inputs.json").read_text())
