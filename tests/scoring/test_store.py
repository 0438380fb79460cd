"""The store of scores: the same numbers as without it, and never a reason to fail."""

from __future__ import annotations

import dataclasses
import logging
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from diswot.architecture import Architecture
from diswot.processes import start_process
from diswot.scoring import engine as engine_module
from diswot.scoring.candidates import score_one
from diswot.scoring.context import ScoringContext
from diswot.scoring.engine import Engine
from diswot.scoring.store import ScoreStore, setting_digests, store_path
from diswot.space import load_space
from tests.processes import finish
from tests.scoring.samples import DISWOT, SMALL, count_cost, make_context
from tests.searching.samples import begin_search, search_config

ARCHS = [SMALL, Architecture("resnet_depth", {"depths": [1, 1, 3]}), Architecture("resnet_depth", {"depths": [3, 1, 1]})]
MIXED = (*DISWOT, "params", "zen")


@pytest.fixture(name="scored")
def _scored(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Architecture]]:
    """The store is used, and what is scored nevertheless is noted."""
    monkeypatch.delenv("DISWOT_CACHE")
    seen: list[Architecture] = []

    def noted(context: ScoringContext, arch: Architecture, cost: Any) -> Any:
        if any(name != "params" for name in context.proxies):
            seen.append(arch)
        return score_one(context, arch, cost)

    monkeypatch.setattr(engine_module, "score_one", noted)
    yield seen


def scores(context: ScoringContext, archs: list[Architecture] = ARCHS) -> list[Any]:
    store = ScoreStore.open(True)
    with Engine(context, store=store) as engine:
        found = list(engine.score(archs, count_cost))
    assert store is not None
    store.close()
    return found


def test_what_was_scored_is_not_scored_again_and_is_the_same_to_the_bit(scored: list[Architecture]) -> None:
    context = make_context(MIXED)
    first = scores(context, ARCHS[:2])
    assert scored == ARCHS[:2]
    again = scores(make_context(MIXED))
    assert scored == ARCHS and again[:2] == first and list(again[0].scores) == list(MIXED)
    assert len(again[0].scores["zen"]) == 2, "a number for each seed"
    assert scores(context) == again and len(scored) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"seeds": 1},
        {"batch_size": 6},
        {"init": "orthogonal"},
        {"teacher": "resnet14"},
        {"num_classes": 11},
        {"proxies": (*DISWOT, "zen", "synflow")},
        {"proxies": (*DISWOT, "zen", "relation_stage1")},  # keeps blocks in the pass that the others share
    ],
    ids=str,
)
def test_whatever_decides_a_score_is_another_setting(change: dict[str, Any]) -> None:
    before = setting_digests(make_context((*DISWOT, "zen")))
    after = setting_digests(make_context(**{"proxies": (*DISWOT, "zen"), **change}))
    alike = {name for name in before if before[name] == after[name]}
    by_itself = {"zen"} if "teacher" in change else set(before) if "synflow" in change.get("proxies", ()) else set()
    assert alike == by_itself, "a proxy that looks at no teacher is the same for any; one that asks nothing of shared passes changes none"


def test_other_code_is_another_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    before = setting_digests(make_context())
    monkeypatch.setattr("diswot.scoring.store.code_digest", lambda: "changed")
    assert not set(before.values()) & set(setting_digests(make_context()).values())


def test_a_loss_as_a_proxy_is_kept_like_any_other(scored: list[Architecture]) -> None:
    """`loss:kd` looks like `module:name`, and is none."""
    context = make_context(("loss:kd",), seeds=1)
    assert scores(context, ARCHS[:1]) == scores(context, ARCHS[:1])
    assert scored == ARCHS[:1]


def test_an_accelerator_without_cuda_has_settings_of_its_own() -> None:
    here, there = (setting_digests(dataclasses.replace(make_context(), device=device)) for device in ("cpu", "mps"))
    assert here.keys() == there.keys() and not set(here.values()) & set(there.values())


@pytest.mark.parametrize("elsewhere", [True, False])
def test_what_another_kind_of_worker_scored_is_not_kept(
    scored: list[Architecture], monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    """It would be found under the versions and the processor of this process."""
    context, in_worker = make_context(("relation",), seeds=1), engine_module._score_in_worker
    if elsewhere:
        monkeypatch.setattr(engine_module, "_score_in_worker", lambda *given: (in_worker(*given)[0], "torch 2.8, another processor"))
    store = ScoreStore.open(True)
    with ThreadPoolExecutor(1) as pool, Engine(context, executor=pool, store=store) as engine:
        list(engine.score([SMALL], count_cost))
    assert store is not None and store.usage().scores == (0 if elsewhere else 1)
    store.close()


def test_failures_are_not_kept(scored: list[Architecture]) -> None:
    nothing = load_space("nasbench201").canonical(Architecture("nasbench201", "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"))
    context = dataclasses.replace(make_context(("jacov",)), record_failures=True)
    assert scores(context, [nothing])[0].reason is not None
    scores(context, [nothing])
    assert len(scored) == 2


@pytest.mark.slow
def test_a_search_repeated_writes_the_same_journal_and_scores_nothing(scored: list[Architecture], tmp_path: Path) -> None:
    config = search_config(space="s0", params="none", iterations=12, proxy="relation,zen")
    begin_search(tmp_path / "one", config)
    count = len(scored)
    begin_search(tmp_path / "two", config)
    assert len(scored) == count >= 12
    begin_search(tmp_path / "three", config, cache=False)
    assert len(scored) == 2 * count
    journals = {(tmp_path / name / "trials.jsonl").read_bytes() for name in ("one", "two", "three")}
    assert len(journals) == 1


def test_a_damaged_store_is_told_once_and_nothing_else(scored: list[Architecture], caplog: pytest.LogCaptureFixture) -> None:
    context = make_context(("relation",))
    expected = scores(context)
    store_path().write_bytes(b"not a database, " * 1000)
    caplog.set_level(logging.WARNING)
    assert scores(context) == expected
    (record,) = caplog.records
    assert "cannot be used (file is not a database): `diswot cache --clear`" in record.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(scored: list[Architecture], caplog: pytest.LogCaptureFixture) -> None:
    store_path().parent.mkdir(parents=True)
    store_path().parent.chmod(0o500)
    assert scores(make_context(("relation",)))
    assert len(caplog.records) == 1


@pytest.mark.slow
def test_room_is_made_by_dropping_what_was_used_longest_ago(tmp_path: Path) -> None:
    contexts = [make_context(("relation",), seed=seed) for seed in range(3)]
    path = tmp_path / "scores.sqlite"
    for number, context in enumerate(contexts):
        store = ScoreStore(path)
        (setting,) = store.settings(context).values()
        for depth in range(2000):
            store.put(setting, Architecture("s", depth), [float(number), 1.0])
        store.close()
    whole = path.stat().st_size
    store = ScoreStore(path, most_bytes=int(whole * 0.9))
    (oldest,) = store.settings(contexts[0]).values()  # used now
    store.close()
    store = ScoreStore(path)
    assert path.stat().st_size < whole and store.usage().settings == 2
    assert store.get([oldest], Architecture("s", 5)) == [[0.0, 1.0]]
    (dropped,) = store.settings(contexts[1]).values()
    assert store.get([dropped], Architecture("s", 5)) is None
    store.close()


def _write(path: Path, worker: int) -> None:
    store = ScoreStore(path)
    for number in range(200):
        store.put(worker, Architecture("s", number), [float(worker)])
        store.get([worker], Architecture("s", number))
    store.close()


@pytest.mark.slow
def test_several_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    for process in [start_process(_write, path, worker) for worker in range(3)]:
        process.join()
        assert process.exitcode == 0
    with sqlite3.connect(path) as connection:
        assert connection.execute("select context, count(*) from scores group by context").fetchall() == [(n, 200) for n in range(3)]


@pytest.mark.slow
def test_the_command_line_shows_and_removes_it(spawn: Any, diswot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISWOT_CACHE")
    assert "nothing is there" in diswot("cache")[1]
    words = ["score", "--proxy", "relation", "--seeds", "1", "--batch-size", "4"]
    finish(spawn(*words, "resnet8"))
    assert diswot(*words, "resnet8")[0] == 0
    assert "1 scores in 1 settings" in diswot("cache")[1]
    assert diswot(*words, "resnet14", "--no-cache")[0] == 0
    assert "1 scores in 1 settings" in diswot("cache", "--clear")[1]
    assert not store_path().exists() and "nothing is there" in diswot("cache")[1]


def test_proxies_score_alike_among_others_that_ask_nothing_more_of_the_shared_passes() -> None:
    """What a setting leaves out: the other proxies, as far as the passes keep the same for them."""
    few = make_context(("entropy", "neg_jacobian_log_norm", "zen"), seeds=1)
    many = make_context(("synflow", "direction_entropy", "zen", "entropy", "diversity_stages", "neg_jacobian_log_norm"), seeds=1)
    alone, among = (score_one(context, SMALL, count_cost(SMALL)).scores for context in (few, many))
    for name, digest in setting_digests(few).items():
        assert digest == setting_digests(many)[name] and alone[name] == among[name], name
