"""FLOPs by torch's own formulas, counted while a network runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class FlopCounter(TorchDispatchMode):
    """Counts what runs inside `with`; two for a multiply-accumulate, as torch counts. `total` grows as it goes.

    `torch.utils.flop_counter.FlopCounterMode` gives the same number. It also tells it for every module, by hooks that take
    several times as long as the count.

    >>> import torch
    >>> with FlopCounter() as counter:
    ...     _ = torch.ones(2, 3) @ torch.ones(3, 4)
    >>> counter.total
    48
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether torch's compiler must be told at each operation to look away. It need not: nothing compiled runs here."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        formula: Callable[..., int] | None = flop_registry.get(func.overloadpacket)
        shapes = _SHAPES.get(func) if args and isinstance(args[0], Tensor) and args[0].is_meta and not kwargs else None
        if formula is None and shapes is None:
            with self:  # what it is made of may be counted
                made = func.decompose(*args, **(kwargs or {}))
            if made is not NotImplemented:
                return made
        out = shapes(*args) if shapes is not None else func(*args, **(kwargs or {}))
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def _batch_norm(image: Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, *_: float) -> tuple[Tensor, ...]:
    saved = image.new_empty(image.shape[1] if training else 0)
    return image.new_empty(image.shape), saved, saved


def _convolution(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    sides = [
        (side + 2 * pad - step * (length - 1) - 1) // jump + 1
        for side, pad, step, length, jump in zip(image.shape[2:], padding, dilation, weight.shape[2:], stride, strict=False)
    ]
    fits = image.dim() == weight.dim() and image.shape[1] == weight.shape[1] * groups and min(sides, default=0) > 0
    if transposed or not fits:  # torch has other shapes, or says what is wrong
        return torch.ops.aten.convolution.default(image, weight, bias, stride, padding, dilation, transposed, output_padding, groups)
    return image.new_empty((len(image), len(weight), *sides))


def _mean(image: Tensor, dim: Sequence[int] | None, keepdim: bool = False) -> Tensor:
    over = {axis % image.dim() for axis in (dim or range(image.dim()))}
    return image.new_empty([1 if axis in over else side for axis, side in enumerate(image.shape) if keepdim or axis not in over])


def _addmm(bias: Tensor, one: Tensor, other: Tensor) -> Tensor:
    if bias.shape != other.shape[1:] or one.shape[1] != other.shape[0]:  # torch says what is wrong
        return torch.ops.aten.addmm.default(bias, one, other)
    return one.new_empty((len(one), other.shape[1]))


def _add(one: Tensor, other: Any) -> Tensor:
    return one.new_empty(one.shape) if _alike(one, other) else torch.ops.aten.add.Tensor(one, other)


def _add_(one: Tensor, other: Any) -> Tensor:
    return one if _alike(one, other) else torch.ops.aten.add_.Tensor(one, other)


def _alike(one: Tensor, other: Any) -> bool:
    return isinstance(other, Tensor) and (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)


_SHAPES: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.native_batch_norm.default: _batch_norm,
    torch.ops.aten.convolution.default: _convolution,
    torch.ops.aten.mean.dim: _mean,
    torch.ops.aten.addmm.default: _addmm,
    torch.ops.aten.add.Tensor: _add,
    torch.ops.aten.add_.Tensor: _add_,
}
"""What the commonest operations give on the meta device. Torch derives it in Python, which takes nine tenths of the time of counting a
ResNet, and for the first one imports its compiler, which takes more than a second."""
