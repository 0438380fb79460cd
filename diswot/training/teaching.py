"""`Teaching`: a frozen teacher, what is asked of it, for how long, and what of it can be remembered."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from torch import Tensor

from diswot.devices import place
from diswot.observe import Observation, Observer, batch_statistics
from diswot.training.evaluation import Network
from diswot.training.feed import Batch, Feed, MemoryFeed
from diswot.training.fold import folded
from diswot.training.parallel import Parallel, sync_norms
from diswot.training.recipe import Recipe

_MOST_CACHED = 2**31  # bytes
_BATCH = 256


def full_precision(tensor: Tensor) -> Tensor:
    """Losses are computed in float32 at least, whatever the networks ran in."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


class Teaching:
    """A teacher in evaluation mode that sees the students' own augmented images, normalised its own way.

    Args:
        network: the teacher; it is frozen here.
        needs: fields of `Observation` that the losses read.
        until: share of the training after which it teaches no more.
        by_batch: normalise by the batch, as in training; running statistics are left alone all the same.
        example: normalised images (B, C, H, W), where batch norms may be folded into convolutions.
        parallel: whose batches together are the batch to normalise by.
    """

    def __init__(
        self,
        network: Network,
        needs: frozenset[str],
        recipe: Recipe,
        device: str,
        *,
        until: float = 1.0,
        by_batch: bool = False,
        example: Tensor | None = None,
        parallel: Parallel | None = None,
    ) -> None:
        self.needs, self.until, self.by_batch = needs, until, by_batch
        model = network.model.eval().requires_grad_(False)
        if example is not None and not by_batch and "preacts" not in needs:  # which come with their batch norms
            model = folded(model, example)
        if by_batch and parallel is not None and parallel.world > 1 and recipe.sync_norms:
            model = sync_norms(model, device)
        self.network = Network(place(model, device, recipe.channels_last), network.normalise)
        observer = Observer(model, needs)
        self._observer = torch.compile(observer, options={"freezing": device == "cpu"}) if recipe.compile else observer
        self._memory: list[Observation] | None = None

    @property
    def remembers(self) -> bool:
        """Whether the network need not be run."""
        return self._memory is not None

    @torch.no_grad()
    def observe(self, pixels: Tensor, batch: Batch | None = None) -> Observation:
        """Of pixels (B, C, H, W), remembered where the batch says which images they are."""
        if self._memory is not None and batch is not None:
            return self._recall(batch)
        statistics = batch_statistics(self.network.model) if self.by_batch else contextlib.nullcontext()
        with statistics:
            seen: Observation = self._observer(self.network.normalise(pixels))
        return seen.map(full_precision)

    def remember(self, feed: Feed, recipe: Recipe) -> bool:
        """Keeps the logits and pooled features of every image as it may be shown, where these are few and are all that is asked for;
        whether it did. What is kept is computed in a fixed order, so that a resumed training finds the same."""
        fixed = recipe.augment in ("none", "flip") and not (recipe.cutout or recipe.mixes or self.by_batch)
        if not (fixed and isinstance(feed, MemoryFeed) and self.needs <= {"logits", "pooled"}):
            return False
        sides = (False, True) if recipe.augment == "flip" else (False,)
        count = len(feed.labels)
        first = self.observe(feed.plain(np.arange(min(2, count)), False))
        width = sum(part.shape[1] for part in (first.logits, first.pooled) if part.numel())
        if 4 * width * count * len(sides) > _MOST_CACHED:
            return False
        self._memory = [self._all(feed, mirrored, count) for mirrored in sides]
        return True

    def _all(self, feed: MemoryFeed, mirrored: bool, count: int) -> Observation:
        parts = [self.observe(feed.plain(np.arange(b, min(b + _BATCH, count)), mirrored)) for b in range(0, count, _BATCH)]
        logits, pooled = (torch.cat([getattr(part, name) for part in parts]) for name in ("logits", "pooled"))
        return Observation(logits.new_empty(0), pooled, logits, parts[0].weight)

    def _recall(self, batch: Batch) -> Observation:
        sides, places = self._memory or [], batch.places

        def choose(name: str) -> Tensor:
            plain, turned = (getattr(side, name) for side in (sides[0], sides[-1]))
            mirrored = batch.mirrored.to(plain.device)[:, None]
            return torch.where(mirrored, turned[places], plain[places]) if plain.numel() else plain

        return Observation(sides[0].features, choose("pooled"), choose("logits"), sides[0].weight)
