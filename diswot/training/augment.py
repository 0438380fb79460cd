"""Augmentation of whole batches of small images, where they lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diswot.config.training import Recipe

PADDING = 4
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Augmentations:
    """The random choices that augment n images: the corner of the crop in the padded image, whether mirrored, the centre of the cut-out."""

    top: Ints
    left: Ints
    mirrored: NDArray[np.bool_]
    hole: Ints | None

    @classmethod
    def draw(cls, count: int, side: tuple[int, int], recipe: Recipe, rng: np.random.Generator) -> Augmentations:
        """Draw the augmentations of a batch; the same draws are made whatever is then used of them."""
        shifts = rng.integers(2 * PADDING + 1, size=(2, count)) if recipe.augment == "crop" else np.zeros((2, count), np.int64)
        mirrored = rng.random(count) < 0.5 if recipe.augment in ("crop", "flip") else np.zeros(count, bool)
        hole = np.stack([rng.integers(length, size=count) for length in side]) if recipe.cutout else None
        return cls(shifts[0], shifts[1], mirrored, hole)

    def take(self, part: Ints | tuple[Ints, Ints]) -> Augmentations:
        """The augmentations of some of the images; of `fixed_views`, those of (views, images)."""
        return Augmentations(self.top[part], self.left[part], self.mirrored[part], None if self.hole is None else self.hole[:, part])


def fixed_views(count: int, recipe: Recipe) -> Augmentations | None:
    """The views that `count` images are shown in, each field (views, count), where these are few: an image itself, and mirrored, or, with
    `crop_views`, as many crops as that, drawn once. None where every epoch draws new ones.

    >>> fixed_views(3, Recipe(augment="flip")).mirrored.tolist()
    [[False, False, False], [True, True, True]]
    >>> fixed_views(3, Recipe(augment="crop", crop_views=8)).top.shape, fixed_views(3, Recipe(augment="crop"))
    ((8, 3), None)
    """
    if recipe.cutout or (recipe.augment == "crop" and not recipe.crop_views) or recipe.augment == "resized":
        return None
    if recipe.augment == "crop":
        rng = np.random.default_rng([recipe.seed, 0xC509])
        drawn = [Augmentations.draw(count, (1, 1), recipe, rng) for _ in range(recipe.crop_views)]
        top, left, mirrored = (np.stack([getattr(view, name) for view in drawn]) for name in ("top", "left", "mirrored"))
        return Augmentations(top, left, mirrored, None)
    views = 2 if recipe.augment == "flip" else 1
    still = np.zeros((views, count), np.int64)
    return Augmentations(still, still, np.arange(views)[:, None].repeat(count, 1) > 0, None)


def pad_images(images: Tensor, recipe: Recipe) -> Tensor:
    """Return images (n, H, W, C) with a black margin, where crops are taken from them."""
    return torch.nn.functional.pad(images, (0, 0, PADDING, PADDING, PADDING, PADDING)) if recipe.augment == "crop" else images


def apply_augmentation(source: Tensor, indices: Tensor, augmentations: Augmentations, side: tuple[int, int], cutout: int = 0) -> Tensor:
    """Show some images as they are augmented.

    Args:
        source: (n, H', W', C) uint8, from `pad_images`.
        indices: (B,) which of them.
        augmentations: those of B images.
        side: height and width of the result.
        cutout: side of the square that is blacked out; it may reach over the edge.

    Returns:
        (B, C, H, W) uint8, in the channels-last layout.

    >>> still = Augmentations(np.zeros(2, int), np.zeros(2, int), np.array([False, True]), None)
    >>> apply_augmentation(torch.arange(12).reshape(2, 2, 3, 1), torch.tensor([0, 1]), still, (2, 3))[:, 0, 0].tolist()
    [[0, 1, 2], [8, 7, 6]]
    """
    height, width = side
    device = source.device
    columns = augmentations.left[:, None] + np.arange(width)
    columns = np.where(augmentations.mirrored[:, None], columns[:, ::-1], columns)
    rows = torch.from_numpy(augmentations.top[:, None] + np.arange(height)).to(device)
    images = source[indices[:, None, None], rows[:, :, None], torch.from_numpy(np.ascontiguousarray(columns)).to(device)[:, None, :]]
    shown = images.permute(0, 3, 1, 2)
    return cut_out(shown, augmentations.hole, cutout) if augmentations.hole is not None else shown


def cut_out(images: Tensor, centre: Ints, length: int) -> Tensor:
    """Images (B, C, H, W) with a black square of this side, which may reach over the edge, at each one's centre (2, B): row and column
    (DeVries & Taylor 2017, Cutout).

    >>> cut_out(torch.ones(1, 1, 3, 3), np.array([[0], [2]]), 2)[0, 0].tolist()
    [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    inside = []
    for middle, size in zip(torch.from_numpy(centre).to(images.device), images.shape[2:], strict=True):
        begin = middle[:, None] - length // 2
        pixels = torch.arange(size, device=images.device)
        inside.append((pixels >= begin) & (pixels < begin + length))
    return images.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0)


def mix_batch(pixels: Tensor, target: Tensor, num_classes: int, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Mix each image with its neighbour, by mixup (Zhang et al. 2018) or CutMix (Yun et al. 2019), with
    torch's global random numbers.

    Args:
        pixels: (B, C, H, W) uint8, or float in [0, 1].
        target: (B,) classes.

    Returns:
        Float pixels in [0, 1], and shares of classes (B, N).
    """
    from torchvision.transforms import v2

    ways = [way(alpha=alpha, num_classes=num_classes) for way, alpha in ((v2.MixUp, recipe.mixup), (v2.CutMix, recipe.cutmix)) if alpha]
    way = ways[int(torch.randint(len(ways), ()))]
    images, shares = way(to_float(pixels), target.clamp_min(0))  # who looks at labels is shown no image without one
    return images, shares


def to_float(pixels: Tensor) -> Tensor:
    """uint8 pixels as floats in [0, 1]; others as they are."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
