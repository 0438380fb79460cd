"""Architectures of students that end in their teacher's classifier, as `search_spaces/simkd.py` builds them."""

from __future__ import annotations

from typing import Any

from diswot.architecture import Architecture

SIMKD = "simkd"  # the name of their space


def _choices(arch: Architecture) -> dict[str, Any]:
    return dict(arch.choices)


def student_of(arch: Architecture) -> Architecture:
    """The student inside."""
    return Architecture(_choices(arch)["space"], _choices(arch)["choices"])


def wrapped(student: Architecture, width: int, side: int) -> Architecture:
    """The architecture of a student that ends in a teacher's classifier.

    Args:
        student: of a built-in space.
        width: of the teacher's pooled features.
        side: of the teacher's last map, in pixels.
    """
    return Architecture(SIMKD, {"space": student.space, "choices": student.choices, "width": width, "side": side})
