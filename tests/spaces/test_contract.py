"""What every space promises, held by the conformance check that users have; and spaces of their own."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diswot.architecture import Architecture
from diswot.errors import ArchitectureError, ConfigError
from diswot.space import BUILT_IN, Cost, SearchSpace, is_built_in, load_space
from diswot.testing import check_space
from tests.spaces.own import write_own_space

LONG = {"zoo", "nasbench201", "nasbench101", "resnet_mixed_imagenet"}  # seconds each


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in BUILT_IN])
def test_every_space_keeps_its_promises(name: str) -> None:
    check_space(load_space(name), samples=3, input_size=64 if name.endswith("imagenet") else None)


S0 = type(load_space("s0"))


class WrongCount(S0):  # type: ignore[misc, valid-type]
    def count(self, *arguments: Any) -> Cost:
        honest = super().count(*arguments)
        return Cost(honest.params + 1, honest.flops, honest.depth)


class Restless(S0):  # type: ignore[misc, valid-type]
    """Its mutants may be their parents."""

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        return arch


class Careless(S0):  # type: ignore[misc, valid-type]
    def check(self, arch: Architecture) -> None:
        """Anything goes."""


class Narrow(S0):  # type: ignore[misc, valid-type]
    """Its extremes are none."""

    def extremes(self) -> Any:
        return (self.arch((3, 3, 3)),)


class Forgetful(S0):  # type: ignore[misc, valid-type]
    """It leaves one out."""

    def enumerate(self) -> Any:
        return itertools.islice(super().enumerate(), 63)


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (WrongCount, "count says"),
        (Restless, "mutate must give another architecture"),
        (Careless, "check accepts None"),
        (Narrow, "outside what extremes"),
        (Forgetful, "enumerate gives 63, size says 64"),
    ],
)
def test_a_space_that_breaks_its_promises_is_noticed(space: type[SearchSpace], says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_space(space(), samples=3)


def test_a_space_of_ones_own_loads_by_its_dotted_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_own_space(tmp_path, "mylab_space", monkeypatch)
    with pytest.raises(ConfigError, match="allow it with --space mylab_space:Own"):
        load_space("mylab_space:Own")  # a name out of a file may not import code
    assert "mylab_space" not in sys.modules
    space = load_space("mylab_space:Own", trusted=True)
    assert isinstance(space, SearchSpace) and load_space("mylab_space:Own", trusted=True) is space
    check_space(space, samples=2)
    check_space("mylab_space:own", samples=2)
    with pytest.raises(ConfigError, match="has no 'other'"):
        load_space("mylab_space:other", trusted=True)
    with pytest.raises(ConfigError, match="cannot be imported"):
        load_space("mylab_nowhere:Own", trusted=True)
    with pytest.raises(ConfigError, match=r"which is no subclass of diswot\.space\.SearchSpace"):
        load_space("mylab_space:CifarResNet", trusted=True)


def test_a_space_of_ones_own_has_the_name_that_it_is_found_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so itself nowhere, and a subclass is another space."""
    write_own_space(tmp_path, "mylab_named", monkeypatch)
    for name in ("mylab_named:Own", "mylab_named:Logged", "mylab_named:own"):
        space = load_space(name, trusted=True)
        assert space.name == name and not is_built_in(space)
        assert {arch.space for arch in space.enumerate()} == {name}
    assert WrongCount.name == WrongCount().name == f"{__name__}:WrongCount" and not is_built_in(WrongCount())
    assert is_built_in(load_space("s1")) and load_space("s1").name == "resnet_width"


@pytest.mark.parametrize(
    ("name", "choices", "says"),
    [
        ("s0", {"depths": [1, 2, 3]}, "1, 3, 5, 7"),
        ("s0", {"depths": [1, 3]}, "1, 3, 5, 7"),
        ("s0", {"depths": [True, 1, 1]}, "1, 3, 5, 7"),
        ("nasbench201", "|nor_conv_9x9~0|+|none~0|none~1|+|none~0|none~1|none~2|", "nor_conv_9x9"),
        ("nasbench201", "|none~0|", "not of the form"),
        ("zoo", "resnet21", "did you mean"),
        ("nats_size", "8:16:24:32", "8:16:24:32:64"),
        ("nats_size", "8:16:24:32:72", "'8:16:24:32:72' is not five widths"),
        ("nats_size", "8:16:24:32:064", "five widths"),
        ("nats_size", [8, 8, 8, 8, 8], "five widths"),
        ("nasbench101", {"matrix": [[0, 1], [0, 0]]}, "ops"),
        ("nasbench101", {"matrix": [[0, 1], [0]], "ops": ["input", "output"]}, "2 to 7 rows"),
        ("nasbench101", {"matrix": [[0] * 8] * 8, "ops": ["input", "output"]}, "2 to 7 rows"),
        ("nasbench101", {"matrix": [[0, True], [0, 0]], "ops": ["input", "output"]}, "holds True in row 0, column 1"),
        ("nasbench101", {"matrix": [[0, 1], [1, 0]], "ops": ["input", "output"]}, "holds 1 in row 1, column 0"),
        ("nasbench101", {"matrix": [[0, 1], [0, 0]], "ops": ["input", "maxpool3x3", "output"]}, "3 ops for a matrix of 2 vertices"),
        ("nasbench101", {"matrix": [[0, 1], [0, 0]], "ops": ["output", "input"]}, 'from "input" to "output"'),
        ("nasbench101", {"matrix": [[0] * 3] * 3, "ops": ["input", "maxpool3x3", "output"]}, "no path"),
        ("nasbench101", {"matrix": [[0] * 3] * 3, "ops": ["input", "conv5x5", "output"]}, "unknown operation 'conv5x5'"),
        ("nasbench101", {"matrix": [[0] * 3] * 3, "ops": ["input", [1], "output"]}, "unknown operation a list"),
        (
            "nasbench101",
            {"matrix": [[int(u < v) for v in range(5)] for u in range(5)], "ops": ["input", *["maxpool3x3"] * 3, "output"]},
            "10 edges",
        ),
    ],
)
def test_choices_outside_the_space_are_named(name: str, choices: object, says: str) -> None:
    space = load_space(name)
    with pytest.raises(ArchitectureError, match=says):
        space.check(Architecture(space.name, choices))
