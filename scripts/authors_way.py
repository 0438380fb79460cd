"""One DisWOT score the way the published code computes it, written from its description, as the baseline of the benchmarks.

For every candidate a new random teacher is made; teacher and student each run forward and backward on the batch, in training mode; the
class semantics are the gradient of the classifier's weight, its outer products made in full; nothing is shared or reused.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from diswot.models.zoo import ZOO


def kaiming(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)


def features_and_gradient(model: nn.Module, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    model.zero_grad()
    features = model.forward_features(images)
    cross_entropy(model.forward_head(features), target).backward()
    return features.detach(), model.get_classifier().weight.grad


def score(student: nn.Module, images: Tensor, target: Tensor, num_classes: int) -> float:
    """-(M_s + M_r), higher is better; `student` is freshly built."""
    teacher = ZOO["resnet56"](num_classes=num_classes)
    maps, gradients = [], []
    for model in (teacher, student):
        kaiming(model)
        model.train()
        features, gradient = features_and_gradient(model, images, target)
        maps.append(features.flatten(1))
        gradients.append(gradient)
    classes, channels = gradients[0].shape
    outer = [normalize(g[:, :, None] * g[:, None, :], dim=2) for g in gradients]
    semantic = (outer[0] - outer[1]).square().sum() / (channels * classes)
    gram = [normalize(a @ a.T, dim=1) for a in maps]
    relation = (gram[0] - gram[1]).square().sum() / len(images) ** 2
    return -float(semantic + relation)
