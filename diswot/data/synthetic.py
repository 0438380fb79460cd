"""Synthetic images of dead leaves, a classic model of the statistics of natural images.

They are generated in code, so that a first search needs no download.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

_LEAVES = 160  # discs per image
_CLASS_SEED = 2303_15678  # fixed, so that a class looks the same in every split and for every seed of the images

_COLOUR_AXES = np.array([[1, 1, 1], [1, 0, -1], [0.5, -1, 0.5]]) / np.array([[3**0.5], [2**0.5], [1.5**0.5]])


def dead_leaves(labels: NDArray[np.int64], side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return one image of dead leaves for each label.

    An image consists of opaque discs on top of each other, whose radii have the density r^-3 (Lee, Mumford & Huang 2001). This gives it
    the edges, the occlusions and the 1/f amplitude spectrum of photographs. Each class has its own colours, scale of the discs and
    grating, so that there is something to learn.

    Args:
        labels: (n,) labels, 0 or more.
        side: height and width of the images in pixels.
        rng: generator of everything but the looks of the classes.

    Returns:
        (n, side, side, 3) uint8 images.

    >>> images = dead_leaves(np.arange(4), 32, np.random.default_rng(0))
    >>> images.shape, images.dtype.name
    ((4, 32, 32, 3), 'uint8')
    """
    n = len(labels)
    looks = [_class_look(int(label)) for label in labels]
    colour = np.stack([look[0] for look in looks])
    scale = np.array([look[1] for look in looks])
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    ticks = x[0]
    shades = np.empty((1 + _LEAVES, n, 3))  # of the background, then of the discs
    shades[0] = rng.standard_normal((n, 3))
    centres = np.empty((_LEAVES, 2, n, 1, 1), np.float32)
    quantiles = np.empty((_LEAVES, n))
    for leaf in range(_LEAVES):
        rng.random(out=centres[leaf], dtype=np.float32)
        rng.random(out=quantiles[leaf])
        rng.standard_normal(out=shades[1 + leaf])
    centres = centres * 1.2 - 0.1
    squares = ((_radii(quantiles) * scale).astype(np.float32) ** 2)[..., None, None]
    top = np.zeros((n, side, side), np.intp)  # which of them a pixel shows
    for leaf, (centre, square) in enumerate(zip(centres, squares, strict=True), 1):  # back to front: each disc hides those before it
        np.putmask(top, (ticks[:, None] - centre[0]) ** 2 + (ticks - centre[1]) ** 2 < square, leaf)
    images = _colours(colour, shades)[top, np.arange(n)[:, None, None]]
    images += _gratings([look[2] for look in looks], y, x, rng)[..., None]
    light = rng.normal(0, 0.15, (2, n, 1, 1)).astype(np.float32)
    images += (light[0] * (y - 0.5) + light[1] * (x - 0.5))[..., None]
    images += rng.normal(0, 0.02, images.shape).astype(np.float32)
    return (images.clip(0, 1) * 255).round().astype(np.uint8)


@functools.lru_cache(maxsize=1000)
def _class_look(label: int) -> tuple[NDArray[np.float32], float, tuple[float, float]]:
    """Return the mean colour, the scale of the discs, and the grating (orientation, cycles per image) of a class."""
    rng = np.random.default_rng([_CLASS_SEED, label])
    colour = rng.normal(0.45, 0.13, 3).astype(np.float32)
    return colour, float(np.exp(rng.normal(0, 0.3))), (float(rng.uniform(0, np.pi)), float(rng.uniform(2, 9)))


def _radii(quantiles: NDArray[np.float64], smallest: float = 0.03, largest: float = 0.6) -> NDArray[np.float64]:
    """Return radii of the density r^-3 between two bounds, by inverting its distribution function."""
    a, b = smallest**-2, largest**-2
    return (a + quantiles * (b - a)) ** -0.5


def _colours(mean: NDArray[np.float32], shades: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return colours, (..., n, 3), about the (n, 3) means; like natural ones, they vary most in brightness, less in blue-yellow and least
    in red-green. `shades` are standard normal."""
    return (mean + (shades * (0.35, 0.09, 0.04)) @ _COLOUR_AXES).astype(np.float32)


def _gratings(
    waves: list[tuple[float, float]], y: NDArray[np.float32], x: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return a faint sine wave of random phase and strength for each image, as an (n, H, W) array."""
    angle, cycles = np.array(waves).T[:, :, None, None]
    phase, strength = rng.uniform(0, 2 * np.pi, len(waves)), rng.uniform(0, 0.12, len(waves))
    wave = np.sin(2 * np.pi * cycles * (np.cos(angle) * x + np.sin(angle) * y) + phase[:, None, None])
    return (wave * strength[:, None, None]).astype(np.float32)
