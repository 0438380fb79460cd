"""Data sources of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from diswot.data import load_data
from diswot.errors import ConfigError, DataError
from diswot.testing import check_data_source
from tests.own_modules import write_module

SOURCE = """
    import numpy as np
    from diswot.data import ArrayImages, Dataset, DataSource
    from diswot.errors import DataError

    def images(side, labels):
        pixels = np.random.default_rng(0).integers(0, 256, (len(labels), side, side, 3)).astype(np.uint8)
        return ArrayImages(pixels, np.asarray(labels))

    class Good(DataSource):
        def load(self, request):
            self.request = request
            side = request.input_size or 8
            return Dataset(request.source, images(side, [0, 1] * 4), images(side, [1, 0] * 2), ["cat", "dog"])

    class Refuses(DataSource):
        def load(self, request):
            raise DataError(f"{request.data_dir}: put the images there")

    class Fails(DataSource):
        def load(self, request):
            return {}[request.source]

    class Nothing(DataSource):
        def load(self, request):
            return [1]

    class Outside(DataSource):
        def load(self, request):
            return Dataset("x", images(8, [0, 1, 2]), None, ["cat", "dog"])

    class Changing(Good):
        calls = 0
        def load(self, request):
            type(self).calls += 1
            return Dataset("x", images(8, np.roll([0, 1, 1, 1], self.calls)), None, ["cat", "dog"])

    class NoSource: ...
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(tmp_path)
    return write_module(tmp_path, SOURCE)


def test_a_source_of_ones_own_gives_its_images(module: str, tmp_path: Path) -> None:
    data = load_data(f"{module}:Good", data_dir=tmp_path, input_size=16, seed=3)
    assert data.class_names == ["cat", "dog"] and data.train.shape == (16, 16, 3) and data.test is not None
    assert load_data(f"{module}:Good").input_size == 8
    check_data_source(f"{module}:Good")


def test_what_it_was_asked_for_must_be_what_it_gives(module: str) -> None:
    with pytest.raises(DataError, match="it has 2 classes, not 5"):
        load_data(f"{module}:Good", num_classes=5)


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("Refuses", DataError, "^there: put the images there$"),
        ("Fails", DataError, r"^the data MODULE:Fails \(line 22 of MODULE\.py\) failed with KeyError: 'MODULE:Fails'$"),
        ("Nothing", DataError, r"^--data MODULE:Nothing: load\(\) gave list, not a diswot.data.Dataset$"),
        ("Outside", DataError, "^--data MODULE:Outside: train: labels run from 0 to 2, but they must be 0 to 1$"),
        ("NoSource", ConfigError, "is NoSource, which is no subclass of diswot.data.sources.DataSource$"),
        ("Godo", ConfigError, "did you mean Good"),
    ],
)
def test_what_is_wrong_with_one_is_one_line(module: str, name: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says.replace("MODULE", module)):
        load_data(f"{module}:{name}", data_dir="there")


def test_other_images_the_second_time_are_found(module: str) -> None:
    with pytest.raises(AssertionError, match="other images the second time"):
        check_data_source(f"{module}:Changing")
