from __future__ import annotations

import math
import random
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diswot.architecture import Architecture
from diswot.data import load_data, proxy_batches
from diswot.devices import single_thread
from diswot.errors import ConfigError, TeacherError
from diswot.models.init import INITS, NormalStream, initialise
from diswot.models.teachers import build_teacher
from diswot.models.zoo import ZOO
from diswot.observe import batch_statistics, observe
from diswot.proxies import PROXIES, NetworkSummary
from diswot.scoring.candidates import score_one
from diswot.scoring.context import ScoringContext, make_scoring_context
from diswot.scoring.engine import Engine
from diswot.space import load_space


def setting(
    proxies: tuple[str, ...] = ("semantic_profile", "relation"), seeds: int = 2, batch: int = 4, **options: object
) -> ScoringContext:
    data = load_data("synthetic", num_classes=10, input_size=options.pop("input_size", None))
    batches = proxy_batches(data, batch, range(seeds))
    defaults = {"teacher": "resnet20", "teacher_weights": "random", "init": "kaiming", "statistics": data.statistics}
    return make_scoring_context(proxies, batches=batches, num_classes=10, **{**defaults, **options})  # type: ignore[arg-type]


def test_scores_of_200_cells_do_not_depend_on_order_or_processes() -> None:
    space, rng = load_space("nasbench201"), np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(200)]
    shuffled = archs.copy()
    random.Random(1).shuffle(shuffled)
    fixed = setting(seeds=1, batch_size=2)
    with Engine(fixed, workers=1) as engine:
        alone = dict(zip(shuffled, engine.score(shuffled), strict=True))
    with Engine(fixed, workers=2) as engine:
        together = dict(zip(archs, engine.score(archs), strict=True))
    for arch in archs:
        assert alone[arch].scores == together[arch].scores, arch


def test_a_score_is_what_its_parts_say() -> None:
    """The engine's number, recomputed by hand from the network, the batch and the metric."""
    fixed = setting(("semantic_outer", "relation", "params"))
    arch = Architecture("resnet_depth", {"depths": [1, 1, 3]})
    scored = score_one(fixed, arch)
    model = load_space("s0").build(arch, 10).to(memory_format=torch.channels_last)
    for index, batch in enumerate(fixed.batches):
        initialise(model, "kaiming", batch.seed)
        with torch.inference_mode(), batch_statistics(model):
            student = NetworkSummary(observe(model, batch.images), batch.target)
        for name in ("semantic_outer", "relation"):
            expected = float(PROXIES[name].score(SimpleNamespace(images=student), fixed.teachers[index], scored.cost))
            assert scored.scores[name][index] == pytest.approx(expected, rel=1e-4)
    assert scored.scores["params"] == [float(scored.cost.params)] * 2


def test_what_else_is_asked_for_changes_no_score() -> None:
    """Passes are shared between proxies and made anew where weights change: each score is what the proxy has by itself."""
    names = (
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
    arch = Architecture("resnet_depth", {"depths": [1, 1, 1]})
    together = score_one(setting(names, batch_size=2, input_size=8), arch)
    assert not together.failed and list(together.scores) == list(names)
    for name in names:
        assert score_one(setting((name,), batch_size=2, input_size=8), arch).scores[name] == together.scores[name], name


def test_a_proxy_that_fails_takes_no_other_with_it() -> None:
    fixed = setting(("epe_nas", "relation"), batch_size=2, seeds=1)  # two images of two classes
    scored = score_one(fixed, Architecture("resnet_depth", {"depths": [1, 1, 1]}))
    assert set(scored.scores) == {"relation"}
    assert "no class has two images" in scored.failed["epe_nas"]
    assert scored.reason == scored.failed["epe_nas"]


def test_equal_networks_have_equal_scores_and_their_own_cost() -> None:
    dead = Architecture("nasbench201", "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|none~0|none~1|nor_conv_1x1~2|")
    twin = load_space("nasbench201").canonical(dead)
    fixed = setting(seeds=1)
    a, b = score_one(fixed, dead), score_one(fixed, twin)
    assert a.scores == b.scores
    assert a.cost.params > b.cost.params


def test_teacher_and_student_of_one_seed_have_weights_of_their_own() -> None:
    fixed = setting(("relation",), teacher="resnet8")
    same = score_one(fixed, Architecture("zoo", "resnet8"))
    assert all(value < -1e-6 for value in same.scores["relation"])


@pytest.mark.parametrize("init", INITS)
def test_every_initialisation_scores(init: str) -> None:
    scored = score_one(setting(init=init, seeds=1), Architecture("resnet_depth", {"depths": [1, 1, 1]}))
    assert all(map(math.isfinite, scored.scores["relation"]))


@pytest.mark.parametrize("init", INITS)
def test_initialisation_is_the_same_for_the_same_seed_in_any_layout(init: str) -> None:
    a, b = ZOO["resnet8"](), ZOO["resnet8"]().to(memory_format=torch.channels_last)
    for model in (a, b):
        initialise(model, init, 3)  # type: ignore[arg-type]
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    initialise(b, init, 4)  # type: ignore[arg-type]
    assert not torch.equal(a.conv1.weight, b.conv1.weight)


def test_kaiming_and_gaussian_have_their_deviations() -> None:
    model = ZOO["resnet20"]()
    weight = model.layer3[1].conv1.weight
    initialise(model, "kaiming", 0)
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)
    initialise(model, "gaussian", 0)
    assert weight.std().item() == pytest.approx(1, rel=0.02)
    initialise(model, "orthogonal", 0)
    rows = weight.flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(64), atol=1e-5, rtol=0)


def test_the_stream_of_normals_is_normal_and_does_not_repeat() -> None:
    from scipy.stats import kstest

    numbers = NormalStream(7).take(0, (1 << 20) + 1000)
    assert kstest(numbers[:20_000].numpy(), "norm").pvalue > 0.01
    assert not torch.equal(numbers[:1000], numbers[1 << 20 :])


def test_layers_do_not_share_their_numbers() -> None:
    model = ZOO["resnet8"]()
    initialise(model, "gaussian", 0)
    block = model.layer1[0]
    assert not torch.equal(block.conv1.weight, block.conv2.weight)


def test_scores_that_are_not_finite_are_a_state_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = setting(("relation",), seeds=1)
    bad = type(PROXIES["relation"])("relation", lambda *_: float("nan"), "", PROXIES["relation"].needs)
    monkeypatch.setitem(PROXIES._items, "relation", bad)
    scored = score_one(fixed, Architecture("zoo", "resnet8"))
    assert scored.scores == {}
    assert scored.reason is not None and "not finite" in scored.reason


def test_a_network_that_breaks_is_a_state_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = setting(("relation",), seeds=1)
    monkeypatch.setattr("diswot.proxies.views.observe", lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory\nmore")))
    scored = score_one(fixed, Architecture("zoo", "resnet8"))
    assert scored.reason == "out of memory"


def test_errors_of_the_user_come_back_from_other_processes() -> None:
    fixed = setting(("semantic_outer",), seeds=1, teacher="resnet8x4")
    with Engine(fixed, workers=2) as engine, pytest.raises(TeacherError, match="256"):
        list(engine.score([Architecture("zoo", "resnet8")]))


def test_counting_alone_builds_no_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diswot.engine.build_teacher", None)
    assert score_one(setting(("params", "flops")), Architecture("zoo", "resnet8")).scores["flops"][0] > 1e6


def test_any_executor_scores() -> None:
    fixed = setting(("relation",), seeds=1)
    archs = [Architecture("zoo", "resnet8"), Architecture("zoo", "resnet14")]
    with single_thread(), ThreadPoolExecutor(1) as pool, Engine(fixed, executor=pool) as engine:
        foreign = list(engine.score(archs))
    with single_thread():
        assert [s.scores for s in foreign] == [score_one(fixed, arch).scores for arch in archs]


def test_workers_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="--workers -1"):
        Engine(setting(("params",)), workers=-1)


def test_the_teachers_own_normalisation_is_used() -> None:
    """A random teacher sees other images under another normalisation, so the score moves; batch norm after the first layer absorbs scale,
    so a pure rescaling of all channels does not."""
    arch = Architecture("zoo", "resnet8")
    plain = score_one(setting(("relation",), seeds=1), arch).scores["relation"][0]
    moved = score_one(setting(("relation",), seeds=1, teacher_norm="0.5,0.5,0.5/0.1,0.9,0.3"), arch).scores["relation"][0]
    assert moved != plain


def test_a_teacher_is_built_with_weights_once_for_all_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("diswot.engine.build_teacher", lambda *a: calls.append(a) or build_teacher(*a))
    assert len(setting(seeds=5).teachers) == 5
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["semantic_cam", "relation_stem_grad", "relation_stage1", "loss:diswot"])
def test_a_seed_scores_alone_as_among_others(name: str) -> None:
    """What is kept of the teacher under one seed does not change with its next initialisation."""
    arch = Architecture("resnet_depth", {"depths": [1, 1, 1]})
    alone, among = (score_one(setting((name,), seeds=seeds), arch).scores[name][0] for seeds in (1, 3))
    assert alone == among
