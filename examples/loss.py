"""A distillation loss of one's own: the Huber distance of the logits, each network's centred for every image.

    diswot distill resnet20 --loss "loss:HuberLogits(delta=2)" --data images.npz

In a proxy, where `loss:` means something else, it would be `--proxy loss:loss:HuberLogits`.
"""

from torch import Tensor
from torch.nn import functional as F

from diswot.config import option
from diswot.losses import SingleTermLoss
from diswot.observe import Observation


class HuberLogits(SingleTermLoss):
    summary = "Huber distance of centred logits"
    needs = frozenset({"logits"})

    delta: float = option(1.0, "where the distance turns from a square to a line", gt=0)

    def value(self, student: Observation, reference: Observation, target: Tensor) -> Tensor:
        ours, theirs = (seen.logits - seen.logits.mean(1, keepdim=True) for seen in (student, reference))
        return F.huber_loss(ours, theirs, delta=self.delta)
