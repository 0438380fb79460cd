"""Scoring one candidate: each number is what its proxy has by itself, and a failure takes nothing else with it."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch

from diswot.architecture import Architecture
from diswot.config import ScoreConfig
from diswot.data import load_data
from diswot.errors import TeacherError
from diswot.models.init import INITS, Initialiser, initialise
from diswot.observe import batch_statistics, observe
from diswot.proxies import PROXIES, RANKINGS, ForwardPass, FunctionProxy, NetworkSummary
from diswot.scoring.context import make_scoring_context
from diswot.space import load_space
from tests.scoring.samples import SMALL, make_context, score


def test_a_score_is_what_its_parts_say() -> None:
    """The engine's number, recomputed by hand from the network, the batch and the metric."""
    context = make_context(("semantic_outer", "relation", "params"))
    arch = Architecture("resnet_depth", {"depths": [1, 1, 3]})
    result = score(context, arch)
    model = load_space("s0").build(arch, 10).to(memory_format=torch.channels_last)
    for index, batch in enumerate(context.batches):
        initialise(model, "kaiming", batch.seed)
        with torch.inference_mode(), batch_statistics(model):
            summary = NetworkSummary(observe(model, batch.images), batch.target)
        for name in ("semantic_outer", "relation"):
            expected = float(PROXIES[name].score(SimpleNamespace(images=summary), context.teachers[index], result.cost))
            assert result.scores[name][index] == pytest.approx(expected, rel=1e-4)
    assert result.scores["params"] == [float(result.cost.params)] * 2


def test_the_fast_ranking_is_one_forward_and_one_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    inits, inputs, backwards = [], [], []
    init, forward, backward = Initialiser.__call__, ForwardPass.__init__, torch.autograd.grad
    monkeypatch.setattr(Initialiser, "__call__", lambda self, seed: (inits.append(seed), init(self, seed))[1])
    monkeypatch.setattr(ForwardPass, "__init__", lambda self, model, x, *rest: (inputs.append(x.shape), forward(self, model, x, *rest))[1])
    monkeypatch.setattr(torch.autograd, "grad", lambda *args, **options: (backwards.append(1), backward(*args, **options))[1])
    ranking = RANKINGS["diswot_fast"]
    context = make_scoring_context(ScoreConfig(num_classes=10), ranking, load_data("synthetic", num_classes=10))
    assert set(score(context, SMALL).scores) == set(ranking.parts)
    assert inputs == [(8, 3, 32, 32)] and len(inits) == len(backwards) == 1


SHARED = (
    "swap",
    "relation_stem_grad",
    "snip",
    "synflow",
    "zen",
    "nwot",
    "vkdnw",
    "grasp",
    "az_trainability",
    "zico",
    "relation",
    "jacov",
    "flops",
)


@pytest.mark.slow
def test_what_else_is_asked_for_changes_no_score() -> None:
    """Passes are shared between proxies and made anew where weights change: each score is what the proxy has by itself."""
    together = score(make_context(SHARED, batch_size=2, input_size=8), SMALL)
    assert not together.failed and list(together.scores) == list(SHARED)
    for name in SHARED:
        assert score(make_context((name,), batch_size=2, input_size=8), SMALL).scores[name] == together.scores[name], name


@pytest.mark.parametrize("name", ["semantic_cam", "relation_stem_grad", "relation_stage1", "loss:diswot"])
def test_a_seed_scores_alone_as_among_others(name: str) -> None:
    """What is kept of the teacher under one seed does not change with its next initialisation."""
    alone, among = (score(make_context((name,), seeds=seeds), SMALL).scores[name] for seeds in (1, 3))
    assert alone[0] == among[0] and len(set(among)) == 3


def test_a_proxy_that_fails_takes_no_other_with_it() -> None:
    context = make_context(("epe_nas", "relation"), batch_size=2, seeds=1)  # two images of two classes
    result = score(context, SMALL)
    assert set(result.scores) == {"relation"}
    assert "no class has two images" in result.failed["epe_nas"]
    assert result.reason == result.failed["epe_nas"]


def test_a_proxy_that_fails_under_one_seed_has_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([1.0, math.inf])
    monkeypatch.setitem(PROXIES._items, "relation", FunctionProxy(lambda *_: next(values), name="relation"))
    result = score(make_context(("relation", "params")), SMALL)
    assert set(result.scores) == {"params"} and result.failed == {"relation": "relation is not finite: inf"}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_a_state_with_a_reason(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    context = make_context(("relation",), seeds=1)
    bad = FunctionProxy(lambda *_: value, name="relation", needs=PROXIES["relation"].needs)
    monkeypatch.setitem(PROXIES._items, "relation", bad)
    result = score(context, Architecture("zoo", "resnet8"))
    assert result.scores == {}
    assert result.reason == f"relation is not finite: {value}"


def test_a_network_that_breaks_is_a_state_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    context = make_context(("relation",), seeds=1)
    monkeypatch.setattr("diswot.proxies.forward_pass.observe", lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory\nmore")))
    result = score(context, Architecture("zoo", "resnet8"))
    assert result.reason == "out of memory"


def test_a_network_that_cannot_be_built_is_a_state_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    context = make_context(("relation", "params"), seeds=1)
    monkeypatch.setattr(type(load_space("s0")), "build", lambda *_: (_ for _ in ()).throw(ValueError("no such block")))
    result = score(context, SMALL)
    assert result.failed == {"relation": "no such block"} and set(result.scores) == {"params"}


def test_a_teacher_that_does_not_fit_ends_a_search_and_is_a_failure_in_a_study() -> None:
    context = make_context(("semantic_outer",), seeds=1, teacher="resnet8x4")
    with pytest.raises(TeacherError, match="256"):
        score(context, SMALL)
    result = score(dataclasses.replace(context, record_failures=True), SMALL)
    assert result.scores == {} and "256" in result.failed["semantic_outer"]


def test_equal_networks_have_equal_scores_and_their_own_cost() -> None:
    dead = Architecture("nasbench201", "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|none~0|none~1|nor_conv_1x1~2|")
    twin = load_space("nasbench201").canonical(dead)
    context = make_context(seeds=1)
    a, b = score(context, dead), score(context, twin)
    assert a.scores == b.scores
    assert a.cost.params > b.cost.params


def test_the_cost_of_the_network_that_runs_is_that_of_its_canonical_form() -> None:
    """`effective_flops` and `effective_params` count what carries something to the output; `flops` and `params` what the candidate has."""
    dead = Architecture("nasbench201", "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|none~0|none~1|nor_conv_1x1~2|")
    twin = load_space("nasbench201").canonical(dead)
    context = make_context(("effective_flops", "flops", "effective_params", "params"), seeds=1)
    a, b = score(context, dead).scores, score(context, twin).scores
    assert a["effective_flops"] == b["effective_flops"] == b["flops"] < a["flops"]
    assert a["effective_params"] == b["effective_params"] == b["params"] < a["params"]


def test_teacher_and_student_of_one_seed_have_weights_of_their_own() -> None:
    context = make_context(("relation",), teacher="resnet8")
    same = score(context, Architecture("zoo", "resnet8"))
    assert all(value < -1e-6 for value in same.scores["relation"])


@pytest.mark.parametrize("init", INITS)
def test_every_initialisation_scores(init: str) -> None:
    result = score(make_context(init=init, seeds=1), SMALL)
    assert set(result.scores) == {"semantic_profile", "relation"}
    assert all(math.isfinite(value) for values in result.scores.values() for value in values)
