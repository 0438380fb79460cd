"""The conformance check of data sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diswot.data import Dataset, DataSource, load_data, proxy_batches
from diswot.data.sources import DataRequest
from diswot.plugins import load_part
from diswot.testing.promises import told_as_assertions


@told_as_assertions
def check_data_source(source: DataSource | type[DataSource] | str, data_dir: str | Path = ".") -> None:
    """Check that a data source keeps the promises of `diswot.data.DataSource`.

    Args:
        source: the source, its class, or its name: `synthetic`, `module:Class`.
        data_dir: folder of its files.

    Raises:
        AssertionError: says which promise it breaks.

    >>> check_data_source("synthetic")
    """
    first, again = (_load(source, Path(data_dir)) for _ in range(2))
    assert isinstance(first, Dataset), f"load() gave {type(first).__name__}, not a diswot.data.Dataset"
    for name in ("train", "test"):
        images, same = getattr(first, name), getattr(again, name)
        if images is None:
            assert name == "test", "there are no training images"
            continue
        some = np.arange(min(8, len(images.labels)))
        pixels = images.images(some)
        assert pixels.dtype == np.uint8 and pixels.shape == (len(some), *images.shape), (
            f"{name}: images() gave {pixels.dtype} of shape {pixels.shape}, not uint8 of {(len(some), *images.shape)}"
        )
        assert images.shape[0] == images.shape[1], f"{name}: images must be square, they are {images.shape}"
        assert isinstance(images.labels, np.ndarray) and images.labels.dtype == np.int64, f"{name}: labels must be an int64 array"
        assert images.labels.min() >= 0 and images.labels.max() < first.num_classes, f"{name}: labels must be 0 to {first.num_classes - 1}"
        assert np.array_equal(pixels, same.images(some)) and np.array_equal(images.labels, same.labels), (
            f"{name}: other images the second time"
        )
        assert images.open(0).size == images.shape[:2][::-1], f"{name}: open(0) must give the image as PIL has it"
    assert first.test is None or first.test.shape == first.train.shape, "test images must have the shape of training images"
    proxy_batches(first, 2, [0])


def _load(source: DataSource | type[DataSource] | str, data_dir: Path) -> Dataset:
    if isinstance(source, str) and ":" not in source:
        return load_data(source, data_dir=data_dir)
    made = source() if isinstance(source, type) else source
    found = load_part(made, "data", DataSource) if isinstance(made, str) else made  # type: ignore[type-abstract]
    return found.load(DataRequest(str(source), data_dir))
