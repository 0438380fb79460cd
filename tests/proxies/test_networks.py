"""All proxies on networks of all kinds, and the passes that they share."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from torch import nn

from diswot.architecture import Architecture
from diswot.models.teachers import build_teacher
from diswot.observe import batch_statistics, disable_inplace, observe, trunk_modules, watch_blocks
from diswot.proxies import (
    PROXIES,
    Candidate,
    ForwardPass,
)
from diswot.space import ImageSpec, load_space
from tests.proxies.networks import CLASSES, Small, Unusual, candidate_of, score

FOREIGN = [pytest.param("resnet10t", marks=pytest.mark.slow), "mobilenetv2_035", pytest.param("shufflenetv1", marks=pytest.mark.slow)]


@pytest.mark.parametrize("name", FOREIGN)
def test_every_proxy_works_on_foreign_networks(name: str) -> None:
    torch.manual_seed(0)
    model = disable_inplace(build_teacher(name, ImageSpec(CLASSES, 3, 64))).to(memory_format=torch.channels_last)
    images = torch.randn(4, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    target = torch.tensor([0, 0, 1, 1])
    teacher = Small()
    with batch_statistics(teacher):
        summary = ForwardPass(teacher, images, target, frozenset({"blocks", "graph"})).summarise()
    with batch_statistics(model):
        candidate = candidate_of(model, images, target)
        for proxy in (name for name in PROXIES if name != "semantic_outer"):
            if name.startswith("mobilenet") and proxy.startswith("semantic_cam"):
                continue  # its head has a layer between the map and the classifier
            assert math.isfinite(score(proxy, candidate, summary)), proxy


@pytest.mark.parametrize(("proxy", "name"), [("synflow", "convnext_atto"), ("synflow", "nf_resnet26"), ("zen", "convnext_atto")])
def test_proxies_that_mean_nothing_without_batch_norm_say_so(proxy: str, name: str) -> None:
    network = disable_inplace(timm.create_model(name, num_classes=CLASSES))
    with batch_statistics(network), pytest.raises(ValueError, match="and the network has"):
        score(proxy, candidate_of(network, torch.randn(2, 3, 64, 64), torch.tensor([0, 1])))


def test_in_place_activations_change_nothing() -> None:
    """An activation in place overwrites the output of the convolution before it, which `fisher` looks at."""
    images, target = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])

    def scored(model: nn.Module) -> list[float]:
        with batch_statistics(model):
            candidate = candidate_of(model, images, target)
            return [score(name, candidate) for name in ("fisher", "nwot", "grad_norm", "jacov")]

    plain = scored(Unusual())
    assert scored(disable_inplace(Unusual(inplace=True))) == plain
    assert scored(Unusual(inplace=True)) != plain


def test_blocks_are_found_in_networks_of_all_kinds() -> None:
    counts = {}
    for name in ("resnet18", "mobilenetv3_small_050", "vgg11_bn", "convnext_atto", "efficientnet_b0"):
        model = timm.create_model(name, num_classes=3).eval()
        with watch_blocks(model) as blocks, torch.no_grad():
            features = model.forward_features(torch.zeros(1, 3, 64, 64))
        counts[name] = len(blocks)
        assert blocks[-1].shape == features.shape
        assert trunk_modules(model)
    assert counts["resnet18"] == 9  # the stem with its pooling, eight residual blocks
    assert counts["vgg11_bn"] == 8  # convolutions, each with what follows it


def test_a_cell_without_convolutions_is_a_block_too() -> None:
    space = load_space("nasbench201")
    pools = Architecture("nasbench201", "|avg_pool_3x3~0|+|none~0|none~1|+|skip_connect~0|avg_pool_3x3~1|none~2|")
    for arch in (pools, *space.extremes()):
        model = space.build(arch, 10)
        with watch_blocks(model) as blocks, torch.no_grad():
            model(torch.zeros(1, 3, 32, 32))
        assert [block.shape[-1] for block in blocks] == [32] * 6 + [16] * 6 + [8] * 6  # the stem, and five cells a stage after a reduction


@pytest.mark.parametrize("name", ["jacov", "diversity", "neg_jacobian_log_norm", "epe_nas", "trainability", "te_ntk"])
def test_networks_that_ignore_their_input_have_no_score(name: str) -> None:
    """They would be the calmest and the least correlated of all."""
    space = load_space("nasbench201")
    dead = disable_inplace(space.build(space.extremes()[0], CLASSES))
    with batch_statistics(dead), pytest.raises(ValueError, match=r"no gradient|no block"):
        score(name, candidate_of(dead, torch.randn(4, 3, 32, 32), torch.tensor([0, 0, 1, 1])))


def test_passes_are_made_once(candidate: Candidate, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("diswot.proxies.forward_pass.observe", lambda *a: calls.append(1) or observe(*a))
    for name in ("grad_norm", "snip", "plain", "fisher", "jacov", "epe_nas", "nwot", "grasp"):
        score(name, candidate)
    assert len(calls) == 1
