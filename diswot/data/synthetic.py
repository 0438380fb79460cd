"""Images made in code, so that a first search needs no download: dead leaves, the classic model of natural image statistics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LEAVES = 160
_CLASS_SEED = 2303_15678  # class looks are the same in every split and for every seed of the images


def dead_leaves(labels: NDArray[np.int64], side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One image for each label: opaque discs over each other, radii with density r^-3 (Lee, Mumford & Huang 2001), which gives the
    edges, the occlusions and the 1/f amplitude spectrum of photographs. Each class has a palette, a scale and a grating of its own,
    so that there is something to learn.

    Args:
        labels: (n,) classes, 0 or more.
        side: height and width in pixels.

    Returns:
        (n, side, side, 3) uint8.

    >>> images = dead_leaves(np.arange(4), 32, np.random.default_rng(0))
    >>> images.shape, images.dtype.name
    ((4, 32, 32, 3), 'uint8')
    """
    n = len(labels)
    looks = [_look(int(label)) for label in labels]
    hue = np.stack([look[0] for look in looks])
    scale = np.array([look[1] for look in looks])
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    images = np.repeat(_colours(hue, rng)[:, None, None, :], side * side, axis=1).reshape(n, side, side, 3)
    for _ in range(_LEAVES):  # back to front: what is painted last hides what lies beneath
        centre = rng.random((2, n, 1, 1), dtype=np.float32) * 1.2 - 0.1
        radius = _radii(n, rng) * scale
        inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius[:, None, None].astype(np.float32) ** 2
        images = np.where(inside[..., None], _colours(hue, rng)[:, None, None, :], images)
    images += _gratings([look[2] for look in looks], y, x, rng)[..., None]
    light = rng.normal(0, 0.15, (2, n, 1, 1)).astype(np.float32)
    images += (light[0] * (y - 0.5) + light[1] * (x - 0.5))[..., None]
    images += rng.normal(0, 0.02, images.shape).astype(np.float32)
    return (images.clip(0, 1) * 255).round().astype(np.uint8)


def _look(label: int) -> tuple[NDArray[np.float32], float, tuple[float, float]]:
    """The mean colour, the scale of the leaves, and the grating (orientation, cycles per image) of a class."""
    rng = np.random.default_rng([_CLASS_SEED, label])
    hue = rng.normal(0.45, 0.13, 3).astype(np.float32)
    return hue, float(np.exp(rng.normal(0, 0.3))), (float(rng.uniform(0, np.pi)), float(rng.uniform(2, 9)))


def _radii(n: int, rng: np.random.Generator, smallest: float = 0.03, largest: float = 0.6) -> NDArray[np.float64]:
    """Draws from the density r^-3 between the two bounds, by inversion."""
    a, b = smallest**-2, largest**-2
    return (a + rng.random(n) * (b - a)) ** -0.5


def _colours(mean: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """(n, 3): mostly brightness, some blue-yellow, little red-green, as the principal axes of natural colours are."""
    axes = np.array([[1, 1, 1], [1, 0, -1], [0.5, -1, 0.5]]) / np.array([[3**0.5], [2**0.5], [1.5**0.5]])
    return (mean + rng.normal(0, (0.35, 0.09, 0.04), (len(mean), 3)) @ axes).astype(np.float32)


def _gratings(
    waves: list[tuple[float, float]], y: NDArray[np.float32], x: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """(n, H, W): a faint sine wave each, of random phase and strength."""
    angle, cycles = np.array(waves).T[:, :, None, None]
    phase, strength = rng.uniform(0, 2 * np.pi, len(waves)), rng.uniform(0, 0.12, len(waves))
    wave = np.sin(2 * np.pi * cycles * (np.cos(angle) * x + np.sin(angle) * y) + phase[:, None, None])
    return (wave * strength[:, None, None]).astype(np.float32)
