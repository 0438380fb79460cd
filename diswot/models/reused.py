"""A network whose features are projected to a teacher's, for the teacher's classifier (SimKD)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from diswot.models.base import ImageClassifier, conv_bn_relu


class ReusedClassifierNet(ImageClassifier):
    """A backbone without its classifier, a projector, and a classifier of the teacher's width.

    The projector: convolutions of 1x1 to half the width, 3x3, and 1x1 to the width, each with batch norm and ReLU, on a map that is
    averaged to the teacher's size where it is larger (Chen et al. 2022, section 3.2).

    Args:
        backbone: a network of timm's protocol.
        width: channels of the teacher's features.
        side: of the teacher's last map, in pixels.
        num_classes: number of classes.
    """

    def __init__(self, backbone: nn.Module, width: int, side: int, num_classes: int) -> None:
        super().__init__()
        protocol: Any = backbone
        channels = protocol.num_features
        protocol.reset_classifier(0)
        self.backbone, self.side = backbone, side
        between = max(1, width // 2)
        self.projector = nn.Sequential(
            conv_bn_relu(channels, between, 1), conv_bn_relu(between, between, 3), conv_bn_relu(between, width, 1)
        )
        self.init_classifier(width, num_classes, [{"num_chs": width, "reduction": 1, "module": "projector"}])

    def forward_features(self, x: Tensor) -> Tensor:
        maps: Tensor = self.backbone.forward_features(x)  # type: ignore[operator]
        if maps.shape[-1] > self.side:
            maps = F.adaptive_avg_pool2d(maps, self.side)
        projected: Tensor = self.projector(maps)
        return projected


def reuse_classifier(student: nn.Module, teacher: nn.Module) -> None:
    """Give a student the classifier of its teacher, which is trained no more."""
    theirs: Any = teacher
    mine: Any = student
    classifier = mine.get_classifier()
    classifier.load_state_dict(theirs.get_classifier().state_dict())
    classifier.requires_grad_(False)
