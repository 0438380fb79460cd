"""Find the student network that will distil best for a teacher and a budget, without training any candidate.

>>> import diswot
>>> result = diswot.search(teacher="resnet20", space="s0", params="0.2M", iterations=2, seeds=1, workers=1)
>>> diswot.build(result.winner, num_classes=10).num_features
64
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diswot.architecture import Architecture
from diswot.errors import DiswotError
from diswot.space import SearchSpace, load_space

if TYPE_CHECKING:
    from diswot.api import build, compare, distill, load_arch, load_student, resume, score, search, study, tabulate, train, write_report

__all__ = [
    "Architecture",
    "DiswotError",
    "SearchSpace",
    "build",
    "compare",
    "distill",
    "load_arch",
    "load_space",
    "load_student",
    "resume",
    "score",
    "search",
    "study",
    "tabulate",
    "train",
    "write_report",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Import the verbs when the first of them is asked for: they need torch, whose import takes seconds."""
    if name in __all__:
        from diswot import api

        return getattr(api, name)
    raise AttributeError(f"module 'diswot' has no attribute {name!r}")
