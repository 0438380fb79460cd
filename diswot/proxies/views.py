"""What proxies look at: a `View` of a network on a batch, a `Trace` that gradients can be taken of, and a `Student`, which makes the
passes that proxies share, each when it is first asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diswot import similarity
from diswot.observe import ACTIVATIONS, Observation, observe, stages, watch, watch_blocks
from diswot.options import Init
from diswot.proxies import activation, spectrum
from diswot.proxies.gradient import Tensors
from diswot.space import Cost

WEIGHTED = (nn.Conv2d, nn.Linear)


def weights_of(model: nn.Module) -> list[Tensor]:
    """Of the convolutions and linear layers."""
    return [m.weight for m in model.modules() if isinstance(m, WEIGHTED)]


class View:
    """One network's observation, and the summaries that proxies share, each computed when first asked for."""

    def __init__(self, observation: Observation, target: Tensor, blocks: list[Tensor] | None = None) -> None:
        self.observation, self.target = observation, target
        self.blocks = blocks or []

    @property
    def with_stages(self) -> Observation:
        """The observation, with the maps of its stages where blocks were asked for."""
        return replace(self.observation, stages=tuple(stages(self.blocks)))

    @property
    def gradients_seen(self) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) each: the gradient of the summed logits at the images and at the stem's output."""
        raise NotImplementedError("a view has no graph; `Trace` does")

    @cached_property
    def jacobian_gram(self) -> Tensor:
        """(B, B) of the gradients at the images."""
        return similarity.sample_gram(self.gradients_seen[0])

    @cached_property
    def stem_gram(self) -> Tensor:
        """(B, B) of the gradients at the stem's output; of zeros where there is no stem with maps (B, C, H, W)."""
        return similarity.sample_gram(self.gradients_seen[1])

    @cached_property
    def gradient(self) -> Tensor:
        """(N, C) of the classifier's weight."""
        return similarity.classifier_gradient(self.observation.pooled, self.observation.logits, self.target)

    @cached_property
    def profile(self) -> Tensor:
        """(2, N)."""
        return similarity.channel_profile(self.gradient)

    @cached_property
    def sample_gram(self) -> Tensor:
        """(B, B)."""
        return similarity.sample_gram(self.observation.features)

    @cached_property
    def stage_grams(self) -> list[Tensor]:
        """(B, B) for each resolution, the finest first."""
        return [similarity.sample_gram(stage) for stage in stages(self.blocks)]

    @cached_property
    def cam_gram(self) -> Tensor:
        """(N, N)."""
        return similarity.cam_gram(self.observation.features, self.observation.weight)


class Trace(View):
    """One forward pass of a student, and the backward passes taken of it.

    Attributes:
        images: (B, C, H, W) the input.
        blocks: maps after the stem and each block, where they were asked for.
        agreements: (B, B) sum over activation layers of `activation.agreement`, where asked for.
        codes: each layer's `activation.codes` of the first images, where asked for.
    """

    def __init__(self, model: nn.Module, images: Tensor, target: Tensor, wanted: frozenset[str]) -> None:
        self.model, self.wanted = model, wanted
        self.agreements: Tensor | None = None
        self.codes: list[Tensor] = []
        self._outputs: list[tuple[nn.Module, Tensor]] = []
        self._spectra: dict[tuple[Callable[[Tensor], Tensor], int], Tensor] = {}
        graph = bool(wanted & {"graph", "outputs"})
        self.images = images.detach().requires_grad_(graph)
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(graph))
            blocks = stack.enter_context(watch_blocks(model)) if "blocks" in wanted else []
            if wanted & {"agreements", "codes"}:
                stack.enter_context(watch(model, ACTIVATIONS, self._note_signs))
            if "outputs" in wanted:
                stack.enter_context(watch(model, WEIGHTED, self._note_output))
            observation = observe(model, self.images)
        super().__init__(observation, target, [block.output for block in blocks])

    def _note_signs(self, _module: nn.Module, inputs: Tensor, _output: Tensor) -> None:
        with torch.no_grad():
            if "agreements" in self.wanted:
                own = activation.agreement(inputs)
                self.agreements = own if self.agreements is None else self.agreements + own
            if "codes" in self.wanted:
                self.codes.append(torch.unique(activation.codes(inputs[: activation.MOST_CODED])))

    def _note_output(self, module: nn.Module, _inputs: Tensor, output: Tensor) -> None:
        self._outputs.append((module, output))

    @property
    def signs(self) -> Tensor:
        """`agreements`, or a ValueError for a network without activation layers."""
        if self.agreements is None:
            raise ValueError(activation.NONE)
        return self.agreements

    @cached_property
    def weights(self) -> list[Tensor]:
        """Of the convolutions and linear layers."""
        return weights_of(self.model)

    @cached_property
    def loss(self) -> Tensor:
        """Mean cross-entropy: what gradients are taken of."""
        with torch.enable_grad():
            return F.cross_entropy(self.observation.logits, self.target)

    @cached_property
    def _backward(self) -> Tensors:
        """One backward pass for everything that is wanted of the loss; zeros for what takes no part in it."""
        places = [*self.weights, *(output for _, output in self._outputs)]
        return torch.autograd.grad(self.loss, places, retain_graph=True, materialize_grads=True)

    @property
    def gradients(self) -> Tensors:
        """Of the loss, for `weights`."""
        return self._backward[: len(self.weights)]

    @property
    def outputs(self) -> tuple[Tensors, Tensors]:
        """The outputs (B, C, ...) of the convolutions and linear layers, and the gradient of the loss at each."""
        gradients = self._backward[len(self.weights) :]
        linear = [isinstance(module, nn.Linear) for module, _ in self._outputs]  # tokens have their channels last
        both = ([x for _, x in self._outputs], gradients)
        ours, theirs = ([x.movedim(-1, 1) if last else x for x, last in zip(xs, linear, strict=True)] for xs in both)
        return ours, theirs

    @cached_property
    def gradients_seen(self) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) each: the gradient of the summed logits at the images and at the stem's output, where blocks were asked for."""
        places = [self.images, *self.blocks[:1]]
        ones = torch.ones_like(self.observation.logits)
        found = torch.autograd.grad(self.observation.logits, places, ones, retain_graph=True, materialize_grads=True)
        return found[0], found[-1] if self.blocks else torch.zeros_like(found[0])

    @property
    def jacobian(self) -> Tensor:
        """(B, C, H, W) of the summed logits at the images."""
        return self.gradients_seen[0]

    def forget(self) -> View:
        """The view alone, its Gram matrices of gradients worked out, without the graph and the network."""
        seen = self.observation.detach()
        seen = replace(seen, weight=seen.weight.clone())  # the network's own changes with its next initialisation
        view = View(seen, self.target, [stage.detach() for stage in stages(self.blocks)])
        if self.images.requires_grad:
            view.jacobian_gram, view.stem_gram = self.jacobian_gram, self.stem_gram
        return view

    def entropies(self, blocks: range) -> Tensor:
        """(blocks,) of the channels' spectrum after each of these blocks."""
        return torch.stack([self._spectrum(spectrum.entropy, block) for block in blocks])

    def spread(self, block: int) -> Tensor:
        """Entropy of the directions of the features after a block."""
        return self._spectrum(spectrum.direction_entropy, block)

    def _spectrum(self, entropy: Callable[[Tensor], Tensor], block: int) -> Tensor:
        """Worked out once: an eigendecomposition costs as much as a small network's pass."""
        key = (entropy, block)
        if key not in self._spectra:
            self._spectra[key] = entropy(self.blocks[block])
        return self._spectra[key]

    @cached_property
    def first_stage(self) -> range:
        """Which blocks work at the resolution of the first one after the stem."""
        shapes = [block.shape[-2:] for block in self.blocks[1:]]
        return range(1, 1 + sum(shape == shapes[0] for shape in shapes))

    @property
    def every_block(self) -> range:
        """The stem and all blocks."""
        return range(len(self.blocks))

    def trainabilities(self, generator: torch.Generator, identity: bool = True) -> list[Tensor]:
        """Of each block after the stem; blocks that their input does not reach are left out. A block that is the identity is a
        `ValueError` where it may not be one."""
        found = []
        for inner, outer in zip(self.blocks, self.blocks[1:], strict=False):
            if not (outer.requires_grad and inner.requires_grad):
                continue
            signs = torch.randint(0, 2, outer.shape, generator=generator).to(outer) * 2 - 1
            (back,) = torch.autograd.grad(outer, inner, signs.to(memory_format=torch.channels_last), retain_graph=True, allow_unused=True)
            if not identity and back is not None and torch.equal(back, signs):
                raise ValueError("a block hands its gradient on unchanged")
            if back is not None:
                found.append(spectrum.block_trainability(back, signs))
        return found


PASSES: dict[str, tuple[Init | None, str]] = {  # initialisation (None: the candidate's own) and input
    "images": (None, "images"),
    "noise": (None, "noise"),
    "wild_images": ("gaussian", "images"),
}


class Student:
    """A candidate under one seed.

    Args:
        model: on its device, in `batch_statistics`.
        initialise: sets the weights of this seed, by the candidate's own initialisation (None) or another.
        images: (B, C, H, W) normalised.
        target: (B,).
        seed: of whatever a proxy draws.
        wanted: for each of `PASSES` what it must keep: graph, blocks, agreements, codes, outputs.
        cost: of this network, which may be smaller than the candidate: what carries nothing to the output is not built.
    """

    def __init__(
        self,
        model: nn.Module,
        initialise: Callable[[Init | None], None],
        images: Tensor,
        target: Tensor,
        seed: int,
        wanted: dict[str, frozenset[str]],
        cost: Cost,
    ) -> None:
        self.model, self._initialise, self.target, self.seed, self.wanted = model, initialise, target, seed, wanted
        self.cost = cost
        self._inputs = {"images": images}
        self._traces: dict[str, Trace] = {}
        self._init: Init | None = None
        initialise(None)

    def input(self, kind: str) -> Tensor:
        """(B, C, H, W): the `images`, or `noise` of the standard normal distribution."""
        if kind not in self._inputs:
            images = self._inputs["images"]
            noise = torch.randn(images.shape, generator=self.generator(1)).to(images)
            self._inputs[kind] = noise.contiguous(memory_format=torch.channels_last)
        return self._inputs[kind]

    def generator(self, stream: int) -> torch.Generator:
        """A generator of this seed's own; streams do not share numbers."""
        return torch.Generator().manual_seed(self.seed * 1009 + stream)

    def trace(self, name: str) -> Trace:
        """One of `PASSES`, made once."""
        init, kind = PASSES[name]
        self.use(init)
        if name not in self._traces:
            self._traces[name] = Trace(self.model, self.input(kind), self.target, self.wanted.get(name, frozenset()))
        return self._traces[name]

    def use(self, init: Init | None) -> None:
        """Weights of this initialisation; what was traced under another is forgotten, as its graph would meet new weights."""
        if init != self._init:
            self._traces.clear()
            self._initialise(init)
            self._init = init

    @property
    def images(self) -> Trace:
        return self.trace("images")

    @property
    def noise(self) -> Trace:
        return self.trace("noise")

    def loss_gradients(self, part: slice) -> Tensors:
        """Gradients of the weights for a part of the batch run on its own: batch statistics are the part's."""
        self.use(None)
        with torch.enable_grad():
            logits = observe(self.model, self.input("images")[part]).logits
            loss = F.cross_entropy(logits, self.target[part])
        return torch.autograd.grad(loss, weights_of(self.model), materialize_grads=True)
