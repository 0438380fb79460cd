"""The network of NAS-Bench-101 around any cell (Ying et al., ICML 2019, figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from diswot.models.base import ImageClassifier, conv_bn_relu, stage_info


class GraphCell(nn.Module):
    """A vertex applies its operation to the sum of what arrives; the output concatenates the vertices that feed it, and adds the input
    where that does. The input is projected by a 1x1 convolution wherever it goes; a vertex that is wider than the one it feeds gives its
    first channels.

    Args:
        matrix: row u, column v is 1 where vertex u feeds vertex v > u; every vertex is on a path from the first to the last.
        kernels: the size of each vertex's convolution, None for the 3x3 max-pooling; the first and the last are not read.
        widths: channels of each vertex; those that feed the last add up to its own. The first is not read.
        in_chans: channels of the input.
    """

    def __init__(self, matrix: Sequence[Sequence[int]], kernels: Sequence[int | None], widths: Sequence[int], in_chans: int) -> None:
        super().__init__()
        self.widths = list(widths)
        self.last = len(widths) - 1
        self.sources = [[u for u in range(1, v) if matrix[u][v]] for v in range(len(widths))]
        self.projections = nn.ModuleDict(
            {str(v): conv_bn_relu(in_chans, width, 1) for v, width in enumerate(widths) if v and matrix[0][v]},
        )
        self.operations = nn.ModuleDict({str(v): _operation(kernels[v], widths[v]) for v in range(1, self.last)})

    def forward(self, x: Tensor) -> Tensor:
        vertices = [x]
        for v in range(1, self.last):
            arriving = [vertices[u][:, : self.widths[v]] for u in self.sources[v]]
            vertices.append(self.operations[str(v)](reduce(torch.add, arriving + self._projected(x, v))))
        parts = [vertices[u] for u in self.sources[self.last]]
        joined = [torch.cat(parts, 1)] if parts else []
        return reduce(torch.add, joined + self._projected(x, self.last))

    def _projected(self, x: Tensor, vertex: int) -> list[Tensor]:
        return [self.projections[str(vertex)](x)] if str(vertex) in self.projections else []


def _operation(kernel: int | None, width: int) -> nn.Module:
    return nn.MaxPool2d(3, stride=1, padding=1) if kernel is None else conv_bn_relu(width, width, kernel)


class GraphNetwork(ImageClassifier):
    """3x3 stem, stacks of equal cells with 2x2 max-pooling between them, pooling, classifier.

    Args:
        matrix, kernels: the cell, as `GraphCell` takes it.
        widths: for each stack the widths of the cell's vertices; the last of them are the channels of the stack.
        stem, modules: channels of the stem; cells a stack.
    """

    def __init__(
        self,
        matrix: Sequence[Sequence[int]],
        kernels: Sequence[int | None],
        widths: Sequence[Sequence[int]],
        stem: int,
        modules: int,
        num_classes: int = 10,
        in_chans: int = 3,
    ) -> None:
        super().__init__()
        chans = [stack[-1] for stack in widths]
        self.stem = conv_bn_relu(in_chans, stem, 3)
        self.stages = nn.ModuleList()
        for place, stack in enumerate(widths):
            pool = [nn.MaxPool2d(2, 2, ceil_mode=True)] if place else []
            entries = [chans[place - 1] if place else stem, *[chans[place]] * (modules - 1)]
            self.stages.append(nn.Sequential(*pool, *(GraphCell(matrix, kernels, stack, entry) for entry in entries)))
        reductions = [2**place for place in range(len(widths))]
        self.finish(chans[-1], num_classes, stage_info(chans, reductions, [f"stages.{i}" for i in range(len(widths))]))

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return x
