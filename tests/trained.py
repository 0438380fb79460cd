"""Trained students and coloured image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import diswot
from diswot.architecture import Architecture

ARCH = Architecture("resnet_depth", {"depths": [1, 1, 1]})
QUICK = {"epochs": 2, "batch_size": 16, "lr": 0.02}
ANIMALS = ["cat", "dog", "elk", "fox"]


def train_student(folder: Path, data: Path) -> Path:
    """A student of `small_npz`, trained until it tells the colours apart."""
    diswot.train(ARCH, folder=folder, data=str(data), **{**QUICK, "epochs": 8})  # type: ignore[arg-type]
    return folder / "student"


def coloured_folders(root: Path, names: list[str]) -> Path:
    """Eight files for each class, each class of a colour of its own wherever it stands."""
    rng = np.random.default_rng(0)
    for name in names:
        for number in range(8):
            (root / name).mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 120, (16, 16, 3)) + 130 * np.eye(4, 3)[ANIMALS.index(name)]
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number}.png")
    return root
