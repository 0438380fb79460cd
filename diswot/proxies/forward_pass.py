"""One forward pass of a network, and the backward passes taken of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diswot.observe import activation_types, observe, stages, watch_blocks, watch_modules
from diswot.proxies import activation, spectrum
from diswot.proxies.gradient import Tensors
from diswot.proxies.summary import NetworkSummary

WEIGHTED = (nn.Conv2d, nn.Linear)


def weights_of(model: nn.Module) -> list[Tensor]:
    """The weights of the convolutions and linear layers."""
    return [m.weight for m in model.modules() if isinstance(m, WEIGHTED)]


class ForwardPass(NetworkSummary):
    """One forward pass of a network, and the backward passes taken of it, each when it is first asked for.

    Attributes:
        images: (B, C, H, W) the input.
        blocks: maps after the stem and each block, where they were asked for.
        codes: `activation.activation_codes` of the first images, for each resolution those of its layers, where asked for.
    """

    def __init__(self, model: nn.Module, images: Tensor, target: Tensor, wanted: frozenset[str]) -> None:
        self.model, self.wanted = model, wanted
        self._active_pairs: Tensor | None = None
        self._num_units = 0
        self.codes: dict[torch.Size, list[Tensor]] = {}
        self._conv_covariances: list[tuple[torch.Size, Tensor]] = []
        self._outputs: list[tuple[nn.Module, Tensor]] = []
        self._spectra: dict[tuple[Callable[[Tensor], Tensor], int], Tensor] = {}
        graph = bool(wanted & {"graph", "outputs"})
        self.images = images.detach().requires_grad_(graph)
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(graph))
            blocks = stack.enter_context(watch_blocks(model)) if "blocks" in wanted else []
            if wanted & {"agreements", "codes"}:
                stack.enter_context(watch_modules(model, activation_types(), self._note_activation))
            if "outputs" in wanted:
                stack.enter_context(watch_modules(model, WEIGHTED, self._note_output))
            if "conv_entropies" in wanted:
                stack.enter_context(watch_modules(model, (nn.Conv2d,), self._note_covariance))
            observation = observe(model, self.images)
        super().__init__(observation, target, [block.output for block in blocks])

    def _note_activation(self, _module: nn.Module, inputs: Tensor, _output: Tensor) -> None:
        self._num_units += inputs.numel() // len(inputs)
        with torch.no_grad():
            if "agreements" in self.wanted:
                pairs = activation.active_pairs(inputs)
                self._active_pairs = pairs if self._active_pairs is None else self._active_pairs.add_(pairs)
            if "codes" in self.wanted:
                coded = inputs[: activation.MAX_CODED_IMAGES]
                found = activation.different_codes(activation.activation_codes(coded), len(coded))
                self.codes.setdefault(inputs.shape[2:], []).append(found)

    def _note_output(self, module: nn.Module, _inputs: Tensor, output: Tensor) -> None:
        self._outputs.append((module, output))

    def _note_covariance(self, _module: nn.Module, _inputs: Tensor, output: Tensor) -> None:
        self._conv_covariances.append((output.shape[2:], spectrum.covariance(output.detach())))

    @cached_property
    def conv_entropies(self) -> dict[torch.Size, Tensor]:
        """For each resolution the entropies (layers,) of the channels' spectrum at the output of its convolutions, where asked for."""
        entropies: dict[torch.Size, list[Tensor]] = {}
        alike: dict[tuple[torch.Size, int], list[Tensor]] = {}
        for resolution, covariance in self._conv_covariances:
            alike.setdefault((resolution, len(covariance)), []).append(covariance)
        self._conv_covariances.clear()
        for (resolution, _), covariances in alike.items():
            entropies.setdefault(resolution, []).append(spectrum.spectral_entropy(torch.stack(covariances)))
        return {resolution: torch.cat(several) for resolution, several in entropies.items()}

    @cached_property
    def signs(self) -> Tensor:
        """`activation.agreement` (B, B) of all activation layers, or a ValueError for a network without any."""
        if self._active_pairs is None:
            raise ValueError(activation.NO_ACTIVATIONS)
        return activation.agreement(self._active_pairs, self._num_units)

    @cached_property
    def weights(self) -> list[Tensor]:
        """The weights of the convolutions and linear layers."""
        return weights_of(self.model)

    @cached_property
    def loss(self) -> Tensor:
        """Mean cross-entropy: what gradients are taken of."""
        self._require_graph()
        with torch.enable_grad():
            return F.cross_entropy(self.observation.logits, self.target)

    def _require_graph(self) -> None:
        if not self.images.requires_grad:
            raise ValueError("this pass has no gradients; add images:graph (noise:graph, gaussian_images:graph) to needs")

    @cached_property
    def _backward(self) -> Tensors:
        """One backward pass for everything that is wanted of the loss; zeros for what takes no part in it."""
        places = [*self.weights, *(output for _, output in self._outputs)]
        return torch.autograd.grad(self.loss, places, retain_graph=True, materialize_grads=True)

    @property
    def gradients(self) -> Tensors:
        """The gradients of the loss for `weights`."""
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
    def _summed_gradients(self) -> Tensors:
        """The gradients of the summed logits, (B, C, H, W) each, in one backward pass: at the images, and, where blocks were asked for, at
        the stem's output and at the end of each stage. They are zeros where the images have no influence."""
        self._require_graph()
        places = [self.images, *self.blocks[:1], *stages(self.blocks)]
        reached = [place for place in places if place.requires_grad]
        ones = torch.ones_like(self.observation.logits)
        found = iter(torch.autograd.grad(self.observation.logits, reached, ones, retain_graph=True, materialize_grads=True))
        return tuple(next(found) if place.requires_grad else torch.zeros_like(place) for place in places)

    @property
    def gradients_seen(self) -> tuple[Tensor, Tensor]:
        """The gradient of the summed logits, (B, C, H, W) each, at the images and at the stem's output, where blocks were asked for."""
        at_images = self._summed_gradients[0]
        return at_images, self._summed_gradients[1] if self.blocks else torch.zeros_like(at_images)

    @property
    def stage_gradients(self) -> Tensors:
        """The gradient of the summed logits, (B, C, H, W) each, at the end of each stage, the finest first."""
        return self._summed_gradients[2:]

    @property
    def jacobian(self) -> Tensor:
        """The gradient (B, C, H, W) of the summed logits at the images."""
        return self.gradients_seen[0]

    def summarise(self) -> NetworkSummary:
        """The summary alone, its Gram matrices of gradients worked out, without the graph and the network."""
        seen = self.observation.detach()
        seen = replace(seen, weight=seen.weight.clone())  # the network's own changes with its next initialisation
        summary = NetworkSummary(seen, self.target, [stage.detach() for stage in stages(self.blocks)])
        if self.images.requires_grad:
            summary.jacobian_gram, summary.stem_grad_gram = self.jacobian_gram, self.stem_grad_gram
        return summary

    def entropies(self, blocks: Iterable[int]) -> Tensor:
        """Return the entropy of the channels' spectrum after each of these blocks, (blocks,)."""
        return torch.stack([self._spectrum(spectrum.entropy, block) for block in blocks])

    def direction_entropy(self, block: int) -> Tensor:
        """The entropy of the directions of the features after a block."""
        return self._spectrum(spectrum.direction_entropy, block)

    def _spectrum(self, entropy: Callable[[Tensor], Tensor], block: int) -> Tensor:
        """Return an entropy of the maps after a block, computed once: an eigendecomposition costs as much as a small network's pass."""
        key = (entropy, block)
        if key not in self._spectra:
            self._spectra[key] = entropy(self.blocks[block])
        return self._spectra[key]

    @cached_property
    def first_stage(self) -> range:
        """The numbers of the blocks that work at the resolution of the first one after the stem."""
        shapes = [block.shape[-2:] for block in self.blocks[1:]]
        return range(1, 1 + sum(shape == shapes[0] for shape in shapes))

    @cached_property
    def stage_ends(self) -> list[int]:
        """The numbers of the blocks that are the last of their resolution, the finest first."""
        return list({block.shape[-2:]: number for number, block in enumerate(self.blocks)}.values())

    @property
    def every_block(self) -> range:
        """The stem and all blocks."""
        return range(len(self.blocks))

    def trainabilities(self, generator: torch.Generator, identity: bool = True) -> list[Tensor]:
        """Return the trainability of each block after the stem; blocks that their input does not reach are left out.

        Args:
            generator: draws the signs.
            identity: whether a block may be the identity.

        Raises:
            ValueError: a block is the identity, and may not be.
        """
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
