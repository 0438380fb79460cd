"""A frozen teacher: what it is asked for, for how long it teaches, and what of it can be cached."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from diswot.config.training import Recipe
from diswot.devices import to_device
from diswot.losses import Loss
from diswot.observe import Observation, Observer
from diswot.observe import batch_statistics as use_batch_statistics
from diswot.progress import NullReporter, Reporter
from diswot.training.batches import Batch, BatchLoader, MemoryLoader
from diswot.training.distributed import DistributedContext, sync_batch_norms
from diswot.training.evaluation import Network
from diswot.training.fuse import fuse_conv_bn

_MAX_CACHE = 2**31  # bytes
_BATCH = 256


def full_precision(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 at least: losses are computed in it, whatever the networks ran in."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


class FrozenTeacher:
    """A teacher in evaluation mode that sees the students' own augmented images, normalised its own way.

    Args:
        network: the teacher; it is frozen here.
        losses: what the students learn by: they say what the teacher must show, and, all the same, whether it normalises by the batch, as
            in training; running statistics are left alone all the same.
        recipe: of the training.
        device: where the teacher runs.
        distill_fraction: fraction of the training after which it teaches no more.
        example: normalised images (B, C, H, W), where batch norms may be fused into convolutions.
        distributed: the processes whose batches together are the batch to normalise by.
    """

    def __init__(
        self,
        network: Network,
        losses: Sequence[Loss],
        recipe: Recipe,
        device: str,
        *,
        distill_fraction: float = 1.0,
        example: Tensor | None = None,
        distributed: DistributedContext | None = None,
    ) -> None:
        self.needs, self.distill_fraction = frozenset[str]().union(*(loss.needs for loss in losses)), distill_fraction
        self.batch_statistics = losses[0].teacher_batch_statistics
        model = network.model.eval().requires_grad_(False)
        if example is not None and not self.batch_statistics and "preacts" not in self.needs:  # which come with their batch norms
            model = fuse_conv_bn(model, example)
        if self.batch_statistics and distributed is not None and distributed.world_size > 1 and recipe.sync_bn:
            model = sync_batch_norms(model, device)
        self.network = Network(to_device(model, device, recipe.channels_last), network.normalise)
        observer = Observer(model, self.needs)
        self._observer = torch.compile(observer, options={"freezing": device == "cpu"}) if recipe.torchcompile else observer
        self._cache: Observation | None = None

    @property
    def is_cached(self) -> bool:
        """Whether the network need not be run any more."""
        return self._cache is not None

    @torch.no_grad()
    def observe(self, pixels: Tensor, batch: Batch | None = None) -> Observation:
        """The teacher's observation of pixels (B, C, H, W): from the cache where the batch says which images they are."""
        if self._cache is not None and batch is not None:
            return self._from_cache(batch)
        statistics = use_batch_statistics(self.network.model) if self.batch_statistics else contextlib.nullcontext()
        with statistics:
            seen: Observation = self._observer(self.network.normalise(pixels))
        return seen.map(full_precision)

    def cache(self, loader: BatchLoader, recipe: Recipe, reporter: Reporter | None = None) -> bool:
        """Keep the logits and pooled features of every image in every view that it is shown in, where these are few and are all that is
        asked for.

        Returns whether it did. What is kept is computed in a fixed order, so that a resumed training finds the same."""
        views = loader.views if isinstance(loader, MemoryLoader) else None
        if views is None or recipe.mixes or self.batch_statistics or not self.needs <= {"logits", "pooled"}:
            return False
        assert isinstance(loader, MemoryLoader)
        first = self.observe(loader.shown(np.arange(min(2, len(loader.labels))), 0))
        width = sum(part.shape[1] for part in (first.logits, first.pooled) if part.numel())
        if 4 * width * views.top.size > _MAX_CACHE:
            return False
        self._cache = self._observe_all(loader, views.top.shape, reporter or NullReporter())
        return True

    def _observe_all(self, loader: MemoryLoader, shape: tuple[int, ...], reporter: Reporter) -> Observation:
        """The observation of all images in all views, `shape` of them: logits and pooled features are (views, count, ...)."""
        views, count = shape

        def observed(view: int, begin: int) -> Observation:
            reporter.within(f"the teacher looks at the images, {view * count + begin:,} of {views * count:,}")
            return self.observe(loader.shown(np.arange(begin, min(begin + _BATCH, count)), view))

        parts = [[observed(view, begin) for begin in range(0, count, _BATCH)] for view in range(views)]
        logits, pooled = (torch.stack([torch.cat([getattr(part, name) for part in row]) for row in parts]) for name in ("logits", "pooled"))
        return Observation(logits.new_empty(0), pooled, logits, parts[0][0].weight)

    def _from_cache(self, batch: Batch) -> Observation:
        assert self._cache is not None
        kept = self._cache
        where = batch.views.to(kept.logits.device), batch.indices.to(kept.logits.device)
        pooled, logits = (tensor[where] if tensor.numel() else tensor.flatten() for tensor in (kept.pooled, kept.logits))
        return Observation(kept.features, pooled, logits, kept.weight)
