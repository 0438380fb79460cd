"""The network of NAS-Bench-101, built from any cell of that space (Ying et al., ICML 2019, figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from diswot.models.base import ImageClassifier, conv_bn_relu, stage_info


class GraphCell(nn.Module):
    """A cell of NAS-Bench-101: a directed graph with an operation on each interior vertex.

    The first vertex is the input and the last one the output. An interior vertex applies its operation to the sum of the vertices that
    feed it. The output concatenates the interior vertices that feed it, and adds the input if that feeds it too. Wherever the input goes,
    it first passes a 1x1 convolution, its projection. A vertex that is wider than the vertex it feeds passes on its first channels only.

    Args:
        matrix: adjacency matrix: row u, column v is 1 if vertex u feeds vertex v > u. Every vertex must be on a path from the first to
            the last one.
        kernels: kernel size of each vertex's convolution, or None for 3x3 max pooling. The first and the last entry are not used.
        widths: number of channels of each vertex. Those of the interior vertices that feed the last one must add up to its own. The
            first entry is not used.
        in_chans: number of channels of the input.
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
            inputs = [vertices[u][:, : self.widths[v]] for u in self.sources[v]]
            vertices.append(self.operations[str(v)](reduce(torch.add, inputs + self._projected_input(x, v))))
        outputs = [vertices[u] for u in self.sources[self.last]]
        concatenated = [torch.cat(outputs, 1)] if outputs else []
        return reduce(torch.add, concatenated + self._projected_input(x, self.last))

    def _projected_input(self, x: Tensor, vertex: int) -> list[Tensor]:
        """Return the cell's input as this vertex receives it, in a list that is empty if it does not."""
        return [self.projections[str(vertex)](x)] if str(vertex) in self.projections else []


def _operation(kernel: int | None, width: int) -> nn.Module:
    return nn.MaxPool2d(3, stride=1, padding=1) if kernel is None else conv_bn_relu(width, width, kernel)


class GraphNetwork(ImageClassifier):
    """The network of NAS-Bench-101: a 3x3 stem, stacks of equal cells, global average pooling and the classifier.

    There is 2x2 max pooling between two stacks.

    Args:
        matrix, kernels: the cell, as `GraphCell` takes it.
        widths: for each stack, the widths of the cell's vertices. The width of the last vertex is that of the stack.
        stem: number of channels of the stem.
        modules: number of cells in each stack.
        num_classes: number of classes.
        in_chans: number of channels of the images.
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
        for index, stack in enumerate(widths):
            pool = [nn.MaxPool2d(2, 2, ceil_mode=True)] if index else []
            cell_in_chans = [chans[index - 1] if index else stem, *[chans[index]] * (modules - 1)]
            self.stages.append(nn.Sequential(*pool, *(GraphCell(matrix, kernels, stack, cell_chans) for cell_chans in cell_in_chans)))
        reductions = [2**index for index in range(len(widths))]
        self.init_classifier(chans[-1], num_classes, stage_info(chans, reductions, [f"stages.{i}" for i in range(len(widths))]))

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return x
