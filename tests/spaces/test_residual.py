"""The spaces of residual networks: S0, S1 and S2."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diswot.architecture import Architecture
from diswot.budget import count_network
from diswot.errors import ArchitectureError
from diswot.space import load_space
from search_spaces._staged import CIFAR, scale_width


def test_s0_spans_the_published_costs() -> None:
    space = load_space("s0")
    costs = [space.count(arch, 100, 3, 32) for arch in space.enumerate()]
    assert len(costs) == 64
    assert (min(c.params for c in costs), max(c.params for c in costs)) == (83_892, 667_188)
    assert round(min(c.flops for c in costs) / 1e6, 1) == 12.5
    assert round(max(c.flops for c in costs) / 1e6, 1) == 97.4


def test_s0_777_is_resnet44() -> None:
    space = load_space("s0")
    resnet44 = load_space("zoo").build(Architecture("zoo", "resnet44"), 100)
    assert space.count(Architecture("resnet_depth", {"depths": [7, 7, 7]}), 100, 3, 32) == count_network(resnet44, 3, 32)


def test_the_seed_of_s1_is_zen_nas() -> None:
    choices = load_space("s1").start().choices
    assert [(s["width"], s["mid"], s["depth"]) for s in choices["stages"]] == [(16, 8, 1), (32, 16, 1), (64, 32, 1), (64, 32, 1)]
    assert (choices["stem"], choices["head"], [s[1] for s in CIFAR.stages]) == (8, 128, [1, 2, 2, 2])


def test_widths_are_multiples_of_8_within_bounds() -> None:
    widths = [scale_width(w, f) for w in range(8, 2049, 8) for f in (2.5, 1.5, 1.0, 1 / 1.25, 1 / 2.5)]
    assert {w % 8 for w in widths} == {0}
    assert (min(widths), max(widths)) == (8, 2048)
    assert scale_width(100 * 8, 1.0) == 800


@pytest.mark.parametrize("name", ["s1", "s2"])
def test_mutation_replaces_at_most_two_parts(name: str) -> None:
    space, rng = load_space(name), np.random.default_rng(0)
    arch = space.start()
    for _ in range(200):
        child = space.mutate(arch, rng)
        parts = [(arch.choices[k], child.choices[k]) for k in ("stem", "head")]
        parts += list(zip(arch.choices["stages"], child.choices["stages"], strict=True))
        assert 1 <= sum(a != b for a, b in parts) <= 2
        arch = child


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("stem",), 12, "multiple of 8"),
        (("stem",), 4096, "2048"),
        (("head",), 0, "head"),
        (("stages",), [], "list of 4"),
        (("stages", 0, "kernel"), 9, "kernel 9"),
        (("stages", 0, "depth"), 0, "depth 0"),
        (("stages", 0, "depth"), 10**9, "depth"),
        (("stages", 0, "block"), "bottleneck", "block"),
        (("stages", 1, "width"), 8.0, "multiple of 8"),
        (("stages", 1, "mid"), [8], "mid"),
    ],
)
def test_staged_choices_outside_the_space_are_named(path: tuple, value: object, says: str) -> None:
    space = load_space("s1")
    choices = space.start().choices
    inner = choices
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ArchitectureError, match=says):
        space.check(Architecture(space.name, choices))


BLOCKS = ("BasicBlock", "ResidualBlock", "ReductionBlock")


@pytest.mark.parametrize("name", ["s0", "s1", "s2", "nasbench201"])
def test_residual_connections_are_really_there(name: str) -> None:
    """With every convolution of the blocks zeroed, what is left of a block is its shortcut: the input reaches the output."""
    space = load_space(name)
    arch = space.sample(np.random.default_rng(0)) if name != "s0" else space.extremes()[0]
    model = space.build(arch, 10).eval()
    blocks = [module for module in model.modules() if type(module).__name__ in BLOCKS]
    assert blocks and all(hasattr(block, "downsample") for block in blocks)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for block in blocks:
        for key, parameter in block.named_parameters():
            if "downsample" not in key and parameter.ndim == 4:
                torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        assert model.forward_features(images).std() > 0
