"""The angles of RKD: their memory, their parts, and images that look the same."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from diswot import losses as L
from tests.losses import functions_by_hand as hand
from tests.losses.observations import draw, near


class Peak(TorchDispatchMode):
    """The most bytes that tensors made inside took at once."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage())
        return out

    def _note(self, storage: Any) -> None:
        if storage._cdata not in self.known:
            self.known.add(storage._cdata)
            self.live += storage.nbytes()
            self.most = max(self.most, self.live)
            weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size


def angle_memory(batch: int) -> tuple[int, int]:
    """Bytes kept for the gradient, and bytes at the worst moment of both passes."""
    student, teacher, kept = torch.randn(batch, 8, requires_grad=True), torch.randn(batch, 8), [0]

    def pack(tensor: Tensor) -> Tensor:
        kept[0] += tensor.untyped_storage().nbytes()
        return tensor

    with Peak() as peak:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            value = L.rkd_angle(student, teacher)
        value.backward()
    return kept[0], peak.most


def test_angles_are_not_all_held_at_once() -> None:
    (kept, most), (_, of_more) = angle_memory(192), angle_memory(288)
    assert kept < 192**3 * 4
    assert most < 5 * 192**3 * 4
    assert of_more < 1.1 * most  # where a tensor of all the angles would be 3.4 times as large


def test_angles_in_parts_are_the_whole() -> None:
    student, teacher = draw(192, 3).requires_grad_(), draw(192, 5)

    def cosines(rows: Tensor) -> Tensor:
        lines = F.normalize(rows[None] - rows[:, None], dim=2)
        return lines @ lines.mT

    whole = F.smooth_l1_loss(cosines(student), cosines(teacher))
    parts = L.rkd_angle(student, teacher)
    assert parts.item() == near(whole.item())
    torch.testing.assert_close(*(torch.autograd.grad(value, student)[0] for value in (parts, whole)), rtol=1e-9, atol=1e-15)


def test_images_that_look_the_same_have_no_distance_and_no_direction() -> None:
    """They are a pair like any other, and their gradient is a number."""
    student, teacher = draw(6, 4), draw(6, 5)
    student[3], teacher[2] = student[0], teacher[5]
    student.requires_grad_()
    for loss, by_hand in ((L.rkd_distance, hand.rkd_distance), (L.rkd_angle, hand.rkd_angle)):
        value = loss(student, teacher)
        assert value.item() == near(by_hand(student.tolist(), teacher.tolist()), rel=1e-5)  # a distance of sqrt(eps)
        assert torch.autograd.grad(value, student)[0].isfinite().all()
