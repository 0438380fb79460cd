"""`Candidate`: a network under one seed, which makes the passes that proxies share, each when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diswot.config.scoring import Init
from diswot.observe import observe
from diswot.proxies.base import PASSES
from diswot.proxies.forward_pass import ForwardPass, weights_of
from diswot.proxies.gradient import Tensors
from diswot.space import Cost


class Candidate:
    """A network under one random seed, and the passes through it that proxies share, each made when it is first asked for.

    Args:
        model: on its device, in `batch_statistics`.
        initialise: sets the weights of this seed, by the candidate's own initialisation (None) or another.
        images: (B, C, H, W) normalised.
        target: (B,).
        seed: the random seed of whatever a proxy draws.
        wanted: for each of `PASSES` what it must keep: graph, blocks, agreements, codes, conv_entropies, outputs.
        count_cost: counts the cost of this network, which may be smaller than the candidate: what carries nothing to the output is not
            built.
    """

    def __init__(
        self,
        model: nn.Module,
        initialise: Callable[[Init | None], None],
        images: Tensor,
        target: Tensor,
        seed: int,
        wanted: dict[str, frozenset[str]],
        count_cost: Callable[[], Cost],
    ) -> None:
        self.model, self._initialise, self.target, self.seed, self.wanted = model, initialise, target, seed, wanted
        self._count_cost = count_cost
        self._inputs = {"images": images}
        self._passes: dict[str, ForwardPass] = {}
        self._init: Init | None = None
        initialise(None)

    @property
    def cost(self) -> Cost:
        """The cost of the network as it is built, without what carries nothing to the output."""
        return self._count_cost()

    def input(self, kind: str) -> Tensor:
        """Return the input (B, C, H, W) of a pass: the `images`, or `noise` of the standard normal distribution."""
        if kind not in self._inputs:
            images = self._inputs["images"]
            noise = torch.randn(images.shape, generator=self.generator(1)).to(images)
            self._inputs[kind] = noise.contiguous(memory_format=torch.channels_last)
        return self._inputs[kind]

    def generator(self, stream: int) -> torch.Generator:
        """A random generator of this seed; streams with different numbers draw different numbers."""
        return torch.Generator().manual_seed(self.seed * 1009 + stream)

    def forward_pass(self, name: str) -> ForwardPass:
        """One of the passes that proxies share (`PASSES`), made once."""
        init, kind = PASSES[name]
        self.use(init)
        if name not in self._passes:
            self._passes[name] = ForwardPass(self.model, self.input(kind), self.target, self.wanted.get(name, frozenset()))
        return self._passes[name]

    def use(self, init: Init | None) -> None:
        """Set the weights by an initialisation (None: the candidate's own). Passes made under another are forgotten: their graphs would
        meet new weights."""
        if init != self._init:
            self._passes.clear()
            self._initialise(init)
            self._init = init

    @property
    def images(self) -> ForwardPass:
        """The pass of the images."""
        return self.forward_pass("images")

    @property
    def noise(self) -> ForwardPass:
        """The pass of the noise."""
        return self.forward_pass("noise")

    def loss_gradients(self, part: slice) -> Tensors:
        """Gradients of the weights for a part of the batch run on its own: batch statistics are the part's."""
        self.use(None)
        with torch.enable_grad():
            logits = observe(self.model, self.input("images")[part]).logits
            loss = F.cross_entropy(logits, self.target[part])
        return torch.autograd.grad(loss, weights_of(self.model), materialize_grads=True)
