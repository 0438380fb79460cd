"""The network of NAS-Bench-201, built from any cell of that space (Dong & Yang, ICLR 2020, figure 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diswot.models.base import ImageClassifier, conv_bn, repeated, stage_info


def _operation(name: str, width: int) -> nn.Module | None:
    """Return the module of an edge, or None for the operation `none`, which passes nothing on."""
    if name == "none":
        return None
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return nn.Sequential(nn.ReLU(), *conv_bn(width, width, 1 if name == "nor_conv_1x1" else 3))


class Cell(nn.Module):
    """A cell: a small directed graph with an operation on each edge.

    Each node is the sum of its incoming edges, and the last node is the output. A node that no edge reaches is zero.

    Args:
        operations: name of the operation on each edge.
        edges: (from, to) nodes of each edge, in the same order. Node 0 is the input.
        width: number of channels of every node.
    """

    def __init__(self, operations: Sequence[str], edges: Sequence[tuple[int, int]], width: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList()
        self.routes: list[tuple[int, int, int]] = []  # (from, to, index into edges)
        self.num_nodes = max(target for _, target in edges) + 1
        for name, (source, target) in zip(operations, edges, strict=True):
            module = _operation(name, width)
            if module is not None:
                self.routes.append((source, target, len(self.edges)))
                self.edges.append(module)

    def forward(self, x: Tensor) -> Tensor:
        nodes: list[Tensor | None] = [x] + [None] * (self.num_nodes - 1)
        for source, target, index in self.routes:
            start, partial_sum = nodes[source], nodes[target]
            y = self.edges[index](torch.zeros_like(x) if start is None else start)
            nodes[target] = y if partial_sum is None else partial_sum + y
        out = nodes[-1]
        return torch.zeros_like(x) if out is None else out


class ReductionBlock(nn.Module):
    """The residual block between two stages, which halves the resolution and, in NAS-Bench-201, doubles the number of channels.

    It has two 3x3 convolutions, the first with stride 2. The shortcut is 2x2 average pooling and a 1x1 convolution without batch norm.
    """

    def __init__(self, in_chans: int, out_chans: int) -> None:
        super().__init__()
        self.conv_a = nn.Sequential(nn.ReLU(), *conv_bn(in_chans, out_chans, 3, stride=2))
        self.conv_b = nn.Sequential(nn.ReLU(), *conv_bn(out_chans, out_chans, 3))
        self.downsample = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(in_chans, out_chans, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_b(self.conv_a(x)) + self.downsample(x)


class CellNetwork(ImageClassifier):
    """The network of NAS-Bench-201, in which all 15 cells are equal.

    After a 3x3 stem with 16 channels come three stages of five cells with 16, 32 and 64 channels, with a `ReductionBlock` between the
    stages; then batch norm, ReLU, global average pooling and the classifier.

    Args:
        operations, edges: the cell, as `Cell` takes it.
        num_classes: number of classes.
        in_chans: number of channels of the images.
    """

    def __init__(self, operations: Sequence[str], edges: Sequence[tuple[int, int]], num_classes: int = 100, in_chans: int = 3) -> None:
        super().__init__()
        widths = [16, 32, 64]
        self.stem = nn.Sequential(*conv_bn(in_chans, widths[0], 3))
        self.stages = nn.ModuleList()
        for stage, width in enumerate(widths):
            reduction = [ReductionBlock(width // 2, width)] if stage else []
            self.stages.append(nn.Sequential(*reduction, *repeated(Cell(operations, edges, width), 5)))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.relu = nn.ReLU()
        self.init_classifier(widths[-1], num_classes, stage_info(widths, [1, 2, 4], [f"stages.{i}" for i in range(3)]))

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.relu(self.norm(x))
