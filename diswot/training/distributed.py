"""Several processes as one training, started by torchrun: each takes its part of every batch."""

from __future__ import annotations

import atexit
import inspect
import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from diswot.observe import Observation
from diswot.processes import launched_by_torchrun

_WEIGHT_LIKE = ("weight", "norms")  # fields of an observation that do not belong to the images
_OPTIONS = inspect.signature(nn.parallel.DistributedDataParallel).parameters
_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _OPTIONS else "broadcast_buffers"  # newer torch's name, and the older one


class _Sum(torch.autograd.Function):
    """The sum of a tensor over the processes, with gradients."""

    @staticmethod
    def forward(_ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        return _Sum.forward(None, gradients[0].contiguous())


class _Gather(torch.autograd.Function):
    """The batch (B, ...) in every process, from its parts (B / world, ...) in each, with gradients."""

    @staticmethod
    def forward(_ctx: Any, part: Tensor) -> Tensor:
        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        return _Sum.forward(None, gradients[0].contiguous()).chunk(dist.get_world_size())[dist.get_rank()]


@dataclass(frozen=True)
class DistributedContext:
    """This process among those of a training; by itself it is one of one."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def shard(self, count: int, halves: bool = False) -> NDArray[np.int64]:
        """The indices of the images of a batch that are this process's. All have the same number, so a few of the last may be nobody's.

        Args:
            count: images in the batch.
            halves: take a part of each half of the batch, for batches whose first half is the second half of the batch before.

        >>> DistributedContext(1, 2).shard(8).tolist(), DistributedContext(1, 2).shard(8, halves=True).tolist()
        ([4, 5, 6, 7], [2, 3, 6, 7])
        """
        if halves:
            own = self.shard(count // 2)
            return np.concatenate([own, own + count // 2])
        each = count // self.world_size
        return np.arange(self.rank * each, (self.rank + 1) * each) if self.world_size > 1 else np.arange(count)

    def sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over the processes, without gradient."""
        if self.world_size == 1:
            return values
        where = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else values.device
        total = values.detach().to(where, copy=True)
        dist.all_reduce(total)
        return total.to(values.device)

    def gather(self, seen: Observation) -> Observation:
        """The observation of the whole batch, with gradients to the parts.

        What is computed of it is the same in every process; averaged over the processes, its gradient is that of one.
        """
        if self.world_size == 1:
            return seen
        whole = seen.map(lambda part: _Gather.apply(part))
        return replace(whole, indices=self.gather_tensor(seen.indices), **{name: getattr(seen, name) for name in _WEIGHT_LIKE})

    def gather_tensor(self, part: Tensor) -> Tensor:
        """Gather the parts (B / world, ...) of a batch to (B, ...), without gradient."""
        if self.world_size == 1:
            return part
        return _Gather.forward(None, part)

    def wrap(self, module: Any) -> Any:
        """Wrap a module so that its gradients are averaged over the processes; it stays as it is where it has no parameters, or there is
        one process.

        Every parameter must have one in each step.
        """
        if self.world_size == 1 or not any(p.requires_grad for p in module.parameters()):
            return module
        options: dict[str, Any] = {_BUFFERS: False}
        return nn.parallel.DistributedDataParallel(module, **options)

    def broadcast(self, text: str) -> str:
        """Give the first process's text to all of them."""
        if self.world_size == 1:
            return text
        box = [text]
        dist.broadcast_object_list(box)
        return box[0]

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.world_size > 1:
            dist.barrier()


def init_distributed(device: str) -> tuple[DistributedContext, str]:
    """Join the processes that torchrun started, if it did, and wait for them; return this process among them, and its device."""
    if not launched_by_torchrun() or int(os.environ["WORLD_SIZE"]) == 1:
        if device.startswith("cuda:"):
            torch.cuda.set_device(device)  # whose generator is seeded
        return DistributedContext(), device
    if device == "cuda":
        local = int(os.environ.get("LOCAL_RANK", 0))
        torch.cuda.set_device(local)
        device = f"cuda:{local}"
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        atexit.register(dist.destroy_process_group)
    return DistributedContext(dist.get_rank(), dist.get_world_size()), device


class GlobalBatchNorm(_BatchNorm):
    """Batch norm over the batch of all processes, on a CPU, where torch's own SyncBatchNorm does not run."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        kind, x = x.dtype, x.float() if x.dtype in (torch.bfloat16, torch.float16) else x  # sums need more digits than these have
        axes = [axis for axis in range(x.ndim) if axis != 1]
        count = x.numel() / x.shape[1] * dist.get_world_size()
        shape = [1, -1] + [1] * (x.ndim - 2)
        mean = _Sum.apply(x.sum(axes)) / count
        variance = _Sum.apply((x - mean.view(shape)).square().sum(axes)) / count
        if self.track_running_stats:
            self._remember(mean.detach(), variance.detach() * count / (count - 1))
        normalised = (x - mean.view(shape)) * torch.rsqrt(variance + self.eps).view(shape)
        return (normalised * self.weight.view(shape) + self.bias.view(shape) if self.affine else normalised).to(kind)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


def sync_batch_norms(model: nn.Module, device: str) -> nn.Module:
    """Make the batch norms of a model normalise over the batch of all processes; names of weights stay."""
    if device.startswith("cuda"):
        from timm.layers import convert_sync_batchnorm

        return convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            module.__class__ = GlobalBatchNorm
    return model
