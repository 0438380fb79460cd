"""FLOPs by torch's own formulas, counted while a network runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
        if formula is None:
            with self:  # what it is made of may be counted
                made = func.decompose(*args, **(kwargs or {}))
            if made is not NotImplemented:
                return made
        out = func(*args, **(kwargs or {}))
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out
