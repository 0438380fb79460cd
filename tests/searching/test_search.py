from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

from diswot import runs
from diswot.architecture import Architecture, read_arch_json
from diswot.budget import parse_range
from diswot.config.fields import to_dict
from diswot.config.scoring import SearchConfig
from diswot.errors import BudgetError, ConfigError, DataError, RunError
from diswot.progress import NullReporter
from diswot.proxies import RANKINGS
from diswot.searching.recipe import run_search
from diswot.searching.trial import JOURNAL
from diswot.space import load_space
from tests.processes import finish, kill_and_resume

QUICK = {
    "num_classes": 10,
    "seeds": 1,
    "batch_size": 2,
    "population_size": 8,
    "sample": 4,
    "top_k": 2,
    "generation_size": 4,
    "teacher": "resnet8",
    "proxy": "diswot",
}


def config(**options: object) -> SearchConfig:
    return SearchConfig(**{**QUICK, "params": "0.3M", "iterations": 24, **options})  # type: ignore[arg-type]


def in_folder(path: Path, wanted: SearchConfig, **options: object):  # type: ignore[no-untyped-def]
    with runs.RunDir.create(path, "search", to_dict(wanted), {}) as run:
        return run_search(wanted, run, workers=1, **options)  # type: ignore[arg-type]


def test_a_search_keeps_its_budget_and_its_word(tmp_path: Path) -> None:
    result = in_folder(tmp_path / "run", config())
    assert len(result.trials) == 24
    assert all(trial.cost.params <= 300_000 for trial in result.trials)
    space = load_space("s1")
    forms = {space.canonical(trial.arch) for trial in result.trials}
    assert len(forms) == 24
    arch, provenance = read_arch_json(tmp_path / "run" / "arch.json")
    assert arch == result.winner
    assert provenance["search"]["teacher"] == "resnet8" and provenance["evaluations"] == 24
    assert {row.role for row in result.table} == {"winner", "largest", "random", "hand-made"}
    winner = next(row for row in result.table if row.role == "winner")
    assert winner.cost.params == space.count(arch, 10, 3, 32).params
    assert all(set(row.scores) == {"semantic_profile", "relation"} for row in result.table)


def test_the_default_ranking_searches_and_resumes(tmp_path: Path) -> None:
    """`diswot+`: its log-ranks are taken over the search's own history, whatever the number of parts."""
    wanted = config(proxy="diswot+", iterations=12)
    result = in_folder(tmp_path / "run", wanted)
    assert SearchConfig().proxy == "diswot+"
    assert set(result.trials[0].scores) == set(RANKINGS["diswot+"].parts)
    again = in_folder(tmp_path / "again", config(proxy="diswot+", iterations=12))
    assert again.winner == result.winner
    scores = np.array([[np.mean(trial.scores[part]) for part in RANKINGS["diswot+"].parts] for trial in result.trials])
    fitness = (np.log(rankdata(scores, axis=0) / 12) * RANKINGS["diswot+"].weights).sum(1)
    assert result.trials[int(fitness.argmax())].arch == result.winner


def test_the_winner_is_the_best_ever_seen() -> None:
    """With one proxy the winner is its maximum over all trials; the largest network of the space has most parameters."""
    result = run_search(config(proxy="flops", iterations=40), workers=1)
    assert result.provenance["cost"]["flops"] == max(trial.cost.flops for trial in result.trials)


def test_s0_is_walked_whole_without_a_budget() -> None:
    result = run_search(config(space="s0", params=None, proxy="params", iterations=100), workers=1)
    assert len(result.trials) == 64
    assert result.winner.choices == {"depths": [7, 7, 7]}
    largest = next(row for row in result.table if row.role == "largest")
    assert largest.arch == result.winner and largest.rank == 1


def test_the_largest_of_an_enumerable_space_is_exact() -> None:
    result = run_search(config(space="nasbench201", params="0.5M", iterations=8), workers=1)
    space = load_space("nasbench201")
    counts = [space.count(arch, 10, 3, 32) for arch in space.enumerate()]
    exact = max((c.params, c.flops) for c in counts if c.params <= 500_000)
    largest = next(row for row in result.table if row.role == "largest")
    assert (largest.cost.params, largest.cost.flops) == exact


def test_the_outcome_is_the_same_for_any_number_of_processes(tmp_path: Path) -> None:
    alone = in_folder(tmp_path / "one", config())
    with runs.RunDir.create(tmp_path / "two", "search", {}, {}) as run:
        run_search(config(), run, workers=2)
    for name in (JOURNAL, "arch.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert alone.trials


class Stop(Exception):
    pass


class StopAt(NullReporter):
    """Breaks a search off after a number of trials, as Ctrl-C would."""

    def __init__(self, done: int) -> None:
        self.done = done

    def update(self, done: int, detail: object) -> None:
        if done >= self.done:
            raise Stop


@pytest.mark.parametrize("algorithm", ["evolution", "aging", "random"])
def test_a_search_broken_off_anywhere_resumes_to_the_same(tmp_path: Path, algorithm: str) -> None:
    wanted = config(strategy=algorithm, iterations=18, proxy="params,flops")
    whole = in_folder(tmp_path / "whole", wanted)
    for stop in (1, 3, 4, 7, 9, 16, 17):  # within a generation of 4, and at its ends; random and bred
        path = tmp_path / f"stopped{stop}"
        with pytest.raises(Stop):
            in_folder(path, wanted, reporter=StopAt(stop))
        run, _ = runs.RunDir.open(path, "search")
        with run:
            resumed = run_search(wanted, run, workers=1)
        assert resumed.winner == whole.winner
        assert (path / JOURNAL).read_bytes() == (tmp_path / "whole" / JOURNAL).read_bytes()


def test_ten_kills_at_random_moments_change_nothing(spawn, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """kill -9, real processes, the command line; the winner, the journal and the arch.json are those of the undisturbed run."""
    words = ["--params", "0.3M", "--iterations", "100", "--workers", "1", "--quiet", "--out", "best.json"]
    words += [w for key, value in QUICK.items() for w in (f"--{key.replace('_', '-')}", str(value))]
    finish(spawn("search", "--name", "whole", *words))
    journal = tmp_path / "runs" / "cut" / JOURNAL
    resume = ["search", "--resume", "runs/cut", "--workers", "1", "--quiet", "--out", "best.json"]
    begin, written = ["search", "--name", "cut", *words], lambda: journal.stat().st_size if journal.exists() else 0
    assert kill_and_resume(spawn, begin, resume, written, kills=10, most=5000) == 10
    for name in (JOURNAL, "arch.json"):
        assert (tmp_path / "runs" / "cut" / name).read_bytes() == (tmp_path / "runs" / "whole" / name).read_bytes(), name


def test_infeasible_candidates_cost_no_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    from diswot import engine

    built = []
    real = engine.score_one
    monkeypatch.setattr(engine, "score_one", lambda setting, arch: built.append(arch) or real(setting, arch))
    result = run_search(config(params="0.1M..0.2M", iterations=10), workers=1)
    space = load_space("s1")
    scored = [arch for arch in built if arch.space == "resnet_width"]
    assert all(100_000 <= space.count(arch, 10, 3, 32).params <= 200_000 for arch in scored)
    assert len(scored) == 10 + 2  # and the largest and the random one of the table
    assert len(result.trials) == 10


@pytest.mark.parametrize("limit", [{"depth": "12"}, {"flops": "20M"}, {"params": "0.1M..0.2M", "flops": "10M..60M", "depth": "8..30"}])
def test_every_kind_of_budget_holds(limit: dict[str, str]) -> None:
    result = run_search(config(**{"params": None, "iterations": 12, "proxy": "params", **limit}), workers=1)
    for what, text in limit.items():
        allowed = parse_range(what, text)
        assert all(getattr(trial.cost, what) in allowed for trial in result.trials), what


def test_latency_is_measured_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diswot.recipes.search.measure_latency", lambda model, *_: sum(p.numel() for p in model.parameters()) / 1e5)
    result = run_search(config(params=None, latency="1.5ms", iterations=12), workers=1)
    assert all(trial.latency is not None and trial.latency <= 1.5 for trial in result.trials)
    assert all(trial.cost.params <= 150_000 for trial in result.trials)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"params": None}, BudgetError, "needs a budget"),
        ({"params": "5k"}, BudgetError, "smallest network of resnet_width has 5,378 params"),
        ({"space": "s0", "params": "1M..2M"}, BudgetError, "largest network of resnet_depth has 661,338 params"),
        ({"depth": "3"}, BudgetError, "smallest network of resnet_width has 11 depth"),
        ({"params": "300000..300001", "flops": "2M..2.0001M"}, BudgetError, "was found within it"),
        ({"space": "s0", "params": "0.35M..0.3501M", "flops": "10M"}, BudgetError, "12"),
        ({"iterations": 0}, ConfigError, "iterations 0"),
        ({"data": "noise", "num_classes": 1}, DataError, "at least 2"),
        ({"batch_size": 1}, ConfigError, "batch 1"),
    ],
)
def test_what_cannot_be_searched_is_said(options: dict[str, object], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        run_search(config(**options), workers=1)


def test_failing_candidates_are_journaled_and_never_win(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from diswot import engine

    real = engine.score_one

    def fragile(setting, arch):  # type: ignore[no-untyped-def]
        scored = real(setting, arch)
        return engine.ScoreResult(scored.cost, failed={"relation": "relation is not finite: [nan]"}) if scored.cost.params % 3 else scored

    monkeypatch.setattr(engine, "score_one", fragile)
    result = in_folder(tmp_path / "run", config())
    states = [json.loads(line)["state"] for line in (tmp_path / "run" / JOURNAL).read_text().splitlines()]
    assert states.count("failed") > 0 and states.count("complete") > 0
    winner = next(trial for trial in result.trials if trial.arch == result.winner)
    assert winner.complete


def test_where_every_candidate_fails_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from diswot import engine
    from diswot.space import Cost

    monkeypatch.setattr(engine, "score_one", lambda *_: engine.ScoreResult(Cost(1, 1, 1), failed={"relation": "relation is not finite"}))
    with pytest.raises(RunError, match="first failed with: relation is not finite"):
        run_search(config(iterations=4), workers=1)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"index":7}', "lacks"),
        ('{"index":5,"choices":{},"parent":null,"params":1,"flops":1,"depth":1,"scores":{}}', "trial 5 where 0 belongs"),
        ('{"index":0,"choices":{},"parent":null,"params":1,"flops":1,"depth":1,"scores":{}}', "stem, stages, head"),
    ],
)
def test_a_journal_that_is_not_this_searchs_is_refused(tmp_path: Path, line: str, says: str) -> None:
    with runs.RunDir.create(tmp_path / "run", "search", {}, {}) as run:
        (run.path / JOURNAL).write_text(line + "\n")
        with pytest.raises(Exception, match=says):
            run_search(config(), run, workers=1)


def test_a_space_of_ones_own_is_searched_in_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.test_spaces import OWN_SPACE

    (tmp_path / "mylab_search.py").write_text(OWN_SPACE.replace("mylab_space:own", "mylab_search:own"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = run_search(config(space="mylab_search:own", params=None, iterations=4, generation_size=2), workers=2)
    assert len(result.trials) == 4


def test_other_images_or_weights_are_noticed_on_resume(tmp_path: Path, small_npz: Path) -> None:
    import numpy as np

    wanted = config(data=str(small_npz), num_classes=4, iterations=4)
    in_folder(tmp_path / "run", wanted)
    with np.load(small_npz) as arrays:
        changed = {**arrays, "x_train": 255 - arrays["x_train"]}
    np.savez(small_npz, **changed)
    run, stored = runs.RunDir.open(tmp_path / "run", "search")
    with run, pytest.raises(RunError, match="other images"):
        run_search(resume_config(stored), run, workers=1)


@pytest.mark.parametrize(("key", "value"), [("seeds", "two"), ("teacher", None), ("unknown", 1)])
def test_a_stored_configuration_is_checked(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        resume_config({**to_dict(config()), key: value})


def test_a_layer_norm_teacher_is_ranked_by_what_it_shows() -> None:
    """Its classifier gradients have no mean over the channels: the profile would score every student alike."""
    result = run_search(config(teacher="convnext_atto", iterations=6), workers=1)
    assert set(result.trials[0].scores) == {"semantic_cam_rows", "relation"}
    assert len({trial.scores["semantic_cam_rows"][0] for trial in result.trials}) == 6


def test_a_transformer_teacher_is_the_same_in_every_process() -> None:
    """Its position embedding is drawn outside of our initialisation, yet from a seed."""
    import torch

    scores = []
    for other in (1, 2):
        torch.manual_seed(other)
        result = run_search(config(teacher="vit_tiny_patch16_224", proxy="relation", iterations=2), workers=1)
        scores.append([trial.scores for trial in result.trials])
    assert scores[0] == scores[1]


def test_a_search_by_depth_alone_ends() -> None:
    result = run_search(config(params=None, depth="14", iterations=6, proxy="params"), workers=1)
    largest = next(row for row in result.table if row.role == "largest")
    assert largest.cost.params == max(trial.cost.params for trial in result.trials)


def test_the_same_search_from_python() -> None:
    import diswot

    result = diswot.search(space="s0", params="0.2M", iterations=4, workers=1, **{**QUICK, "population_size": 4})
    assert isinstance(result.winner, Architecture)
    rows = diswot.score([result.winner, "resnet8"], teacher="resnet8", num_classes=10, seeds=1, batch_size=2, proxy="diswot")
    assert rows[0].scores == next(t.scores for t in result.trials if t.arch == result.winner)
