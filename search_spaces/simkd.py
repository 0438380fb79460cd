"""Networks that end in their teacher's classifier, as SimKD leaves them (Chen et al., CVPR 2022): not a space to search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from diswot.architecture import Architecture
from diswot.errors import ArchitectureError
from diswot.models.wrapped import SIMKD, student_of
from diswot.space import BUILT_IN, SearchSpace, load_space

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

_MAX_WIDTH = 65_536
_NOT_SEARCHED = "simkd: its networks come of a distillation by the loss simkd, and are not searched"


class ReusedClassifier(SearchSpace):
    """Networks of built-in spaces, each with a projector to a teacher's width and the teacher's classifier in place of its own.

    The choices: `space` and `choices` of the student, `width` of the teacher's features, and the `side` in pixels of its last map.

    >>> from diswot.models.wrapped import wrapped
    >>> arch = wrapped(Architecture("zoo", "resnet8"), width=48, side=4)
    >>> space.build(arch, num_classes=10).num_features
    48
    """

    name = SIMKD

    def size(self) -> int:
        return 0

    def sample(self, rng: np.random.Generator) -> Architecture:
        raise ArchitectureError(_NOT_SEARCHED)

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        raise ArchitectureError(_NOT_SEARCHED)

    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        raise ArchitectureError(_NOT_SEARCHED)

    def extremes(self) -> Sequence[Architecture]:
        raise ArchitectureError(_NOT_SEARCHED)

    def check(self, arch: Architecture) -> None:
        choices = arch.choices
        if not isinstance(choices, dict) or set(choices) != {"space", "choices", "width", "side"} or choices["space"] not in BUILT_IN:
            raise ArchitectureError(f"simkd: {choices!r:.80}: space (a built-in one), choices, width and side are needed")
        for name in ("width", "side"):
            if type(choices[name]) is not int or not 1 <= choices[name] <= _MAX_WIDTH:
                raise ArchitectureError(f"simkd: {name} {choices[name]!r:.80}: a number from 1 to {_MAX_WIDTH:,}")
        student = student_of(arch)
        load_space(student.space).check(student)

    def build(self, arch: Architecture, num_classes: int, in_chans: int = 3) -> nn.Module:
        from diswot.models.reused import ReusedClassifierNet

        student, choices = student_of(arch), dict(arch.choices)
        backbone = load_space(student.space).build(student, num_classes, in_chans)
        return ReusedClassifierNet(backbone, choices["width"], choices["side"], num_classes)


space = ReusedClassifier()
