"""A proxy of one's own: how different the logits of different images are, over what they are on average.

diswot search --proxy proxy:LogitContrast --params 0.3M
diswot score resnet20 vgg8 --proxy proxy:LogitContrast,params
"""

from torch import Tensor

from diswot.proxies import Candidate, NetworkSummary, Proxy
from diswot.space import Cost


class LogitContrast(Proxy):
    summary = "standard deviation of the logits over the images, by their mean size"
    needs = frozenset({"network"})
    batch_size = 16
    seeds = 2

    def score(self, candidate: Candidate, teacher: NetworkSummary, cost: Cost) -> Tensor:
        logits = candidate.images.observation.logits  # (B, N) of the batch's images
        return logits.std(0).mean() / logits.abs().mean()
