"""The size space of NATS-Bench."""

from __future__ import annotations

import numpy as np
import torch

from diswot.architecture import Architecture
from diswot.budget import count_network
from diswot.models.nats_size import SizedCell
from search_spaces import nasbench101, nasbench201, nats_size


def test_nats_size_costs_are_the_published_ones() -> None:
    """As the benchmark's files and its authors' notebook have them; their FLOPs count the additions of the classifier's bias."""
    space = nats_size.space
    params = {"8:8:8:8:8": 11_714, "8:8:8:16:40": 67_378, "8:8:16:40:40": 107_826, "64:64:64:64:64": 713_674}
    for text, published in params.items():
        cost = space.count(Architecture("nats_size", text), 10, 3, 32)
        assert cost.params == published
        if text == "8:8:8:16:40":
            assert cost.flops + 10 == 7_991_706
    order = [arch.choices for arch in space.enumerate()]
    assert (order[0], order[12], order[-1]) == ("8:8:8:8:8", "8:8:8:16:40", "64:64:64:64:64")


def test_nats_size_cell_by_hand() -> None:
    """A cell that changes its width, against the sum of its paths written out; the changed skip connection has no ReLU."""
    cell = SizedCell(nats_size.CELL, nasbench201.EDGES, 8, 16).eval()
    x = torch.randn(2, 8, 6, 6)
    conv01, conv02, conv12, skip03, conv13, conv23 = cell.edges
    node1 = conv01(x)
    node2 = conv02(x) + conv12(node1)
    torch.testing.assert_close(cell(x), skip03(x) + conv13(node1) + conv23(node2))
    assert [type(layer).__name__ for layer in skip03] == ["Conv2d", "BatchNorm2d"]
    same = SizedCell(nats_size.CELL, nasbench201.EDGES, 8, 8)
    assert isinstance(same.edges[3], torch.nn.Identity)


def test_new_benchmark_spaces_count_odd_image_sizes() -> None:
    rng = np.random.default_rng(0)
    for space in (nasbench101.space, nats_size.space):
        arch = space.extremes()[0] if space is nasbench101.space else space.sample(rng)
        for side in (28, 33, 50):
            assert space.count(arch, 10, 3, side) == count_network(space.build(arch, 10), 3, side), (space.name, side)
