"""The network of NATS-Bench's size space: a cell of NAS-Bench-201 in a network of five widths (Dong et al., TPAMI 2021)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from diswot.models.base import ImageClassifier, conv_bn, stage_info
from diswot.models.cell import Cell, ReductionBlock


class SizedCell(Cell):
    """A cell whose output may have another number of channels than its input.

    If it has, the edges that leave the input node change the number of channels. A skip connection there becomes a 1x1 convolution with
    batch norm, which, unlike the other convolutions, has no ReLU before it.

    Args:
        operations, edges: the cell, of 3x3 convolutions and skip connections, as `Cell` takes it.
        in_chans, out_chans: number of channels of the input node and of all other nodes.
    """

    def __init__(self, operations: Sequence[str], edges: Sequence[tuple[int, int]], in_chans: int, out_chans: int) -> None:
        super().__init__(operations, edges, out_chans)
        kept_operations = [name for name in operations if name != "none"]
        for source, _, index in self.routes:
            if source == 0 and in_chans != out_chans:
                self.edges[index] = _width_changing_operation(kept_operations[index], in_chans, out_chans)


def _width_changing_operation(name: str, in_chans: int, out_chans: int) -> nn.Module:
    if name == "skip_connect":
        return nn.Sequential(*conv_bn(in_chans, out_chans, 1))
    return nn.Sequential(nn.ReLU(), *conv_bn(in_chans, out_chans, 3))


class SizeNetwork(ImageClassifier):
    """The network of NATS-Bench's size space.

    It is a sequence of 3x3 stem, cell, reduction block, cell, reduction block, cell, batch norm, ReLU, global average pooling and
    classifier.

    Args:
        operations, edges: the cell, of 3x3 convolutions and skip connections, as `Cell` takes it.
        widths: five numbers of channels: of the stem and the first cell, of the first reduction block, of the second cell, of the second
            reduction block, and of the third cell.
        num_classes: number of classes.
        in_chans: number of channels of the images.
    """

    def __init__(
        self,
        operations: Sequence[str],
        edges: Sequence[tuple[int, int]],
        widths: Sequence[int],
        num_classes: int = 100,
        in_chans: int = 3,
    ) -> None:
        super().__init__()
        first, second_in, second, third_in, third = widths
        self.stem = nn.Sequential(*conv_bn(in_chans, first, 3))
        self.stages = nn.ModuleList(
            [
                nn.Sequential(SizedCell(operations, edges, first, first)),
                nn.Sequential(ReductionBlock(first, second_in), SizedCell(operations, edges, second_in, second)),
                nn.Sequential(ReductionBlock(second, third_in), SizedCell(operations, edges, third_in, third)),
            ]
        )
        self.norm = nn.BatchNorm2d(third)
        self.relu = nn.ReLU()
        self.init_classifier(third, num_classes, stage_info([first, second, third], [1, 2, 4], [f"stages.{i}" for i in range(3)]))

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.relu(self.norm(x))
