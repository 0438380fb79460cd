"""The conformance check of search spaces."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch

from diswot.architecture import Architecture
from diswot.budget import count_network
from diswot.errors import ArchitectureError, first_line
from diswot.observe import batch_statistics, observe
from diswot.space import SearchSpace, load_space
from diswot.testing.promises import told_as_assertions

_LARGEST_BUILT = 20_000_000  # parameters; larger samples are counted but not built


@told_as_assertions
def check_space(space: SearchSpace | str, *, samples: int = 8, input_size: int | None = None, seed: int = 0) -> None:
    """Check that a space keeps the promises of `SearchSpace`.

    Args:
        space: the space, or its `module:name`.
        samples: random architectures that are looked at, built and run.
        input_size: side of the images they are run on; the space's own where None.

    Raises:
        AssertionError: names the architecture at fault.

    >>> check_space("s0", samples=2)
    """
    space = load_space(space, trusted=True) if isinstance(space, str) else space
    side = input_size or space.input_size
    first, again = ([space.sample(rng) for _ in range(samples)] for rng in (np.random.default_rng(seed), np.random.default_rng(seed)))
    assert first == again, "sample must depend on nothing but its generator"
    assert space.size() > 1, "a space has at least two members"
    rng = np.random.default_rng(seed + 1)
    for arch in [*first, *space.extremes()]:
        _check_identity(space, arch)
    for arch in first:
        _check_neighbourhood(space, arch, rng)
        _check_network(space, arch, side)
    _check_enumeration(space)
    _check_extremes(space, first, side)
    _check_refusals(space)


def _check_identity(space: SearchSpace, arch: Architecture) -> None:
    space.check(arch)
    assert arch.space == space.name, f"{arch}: names another space than {space.name}"
    canonical = space.canonical(arch)
    space.check(canonical)
    assert space.canonical(canonical) == canonical, f"{arch}: the canonical form of a canonical form is itself"


def _check_neighbourhood(space: SearchSpace, arch: Architecture, rng: np.random.Generator) -> None:
    key = arch.key
    child = space.mutate(arch, rng)
    assert arch.key == key, f"{arch}: mutate must not change its parent"
    assert child != arch, f"{arch}: mutate must give another architecture"
    space.check(child)
    neighbours = list(itertools.islice(space.neighbours(arch), 500))
    assert len(set(neighbours)) == len(neighbours), f"{arch}: a neighbour comes up twice"
    assert neighbours and arch not in neighbours, f"{arch}: it has neighbours, and is none of them"
    assert neighbours == list(itertools.islice(space.neighbours(arch), 500)), f"{arch}: neighbours come in a fixed order"
    for neighbour in neighbours:
        space.check(neighbour)


def _check_network(space: SearchSpace, arch: Architecture, side: int) -> None:
    """The network follows the protocol, and costs what the space says, at other class and channel counts too."""
    cost = space.count(arch, 7, 3, side)
    if cost is not None and cost.params > _LARGEST_BUILT:
        return
    model = space.build(arch, 7)
    traced = count_network(model, 3, side)
    assert cost is None or cost == traced, f"{arch}: count says {cost}, the network is {traced}"
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), batch_statistics(model):
        seen, logits = observe(model, images), model(images)
    assert seen.logits.shape == (2, 7), f"{arch}: logits of shape {tuple(seen.logits.shape)}"
    assert seen.features.ndim == 4, f"{arch}: forward_features must give (B, C, H, W)"
    torch.testing.assert_close(seen.logits, logits, msg=f"{arch}: forward is not forward_head of forward_features")
    grey = count_network(space.build(arch, 3, in_chans=1), 1, side)
    cost = space.count(arch, 3, 1, side)
    assert cost is None or cost == grey, f"{arch}: with one channel count says {cost}, the network is {grey}"


def _check_enumeration(space: SearchSpace) -> None:
    everything = space.enumerate()
    if everything is None:
        return
    archs = list(everything)
    assert len(archs) == len(set(archs)) == space.size(), f"{space.name}: enumerate gives {len(archs)}, size says {space.size()}"


def _check_extremes(space: SearchSpace, archs: list[Architecture], side: int) -> None:
    def counts(arch: Architecture) -> tuple[int, int, int]:
        cost = space.count(arch, 7, 3, side) or count_network(space.build(arch, 7), 3, side)
        return cost.params, cost.flops, cost.depth

    ends = np.array([counts(arch) for arch in space.extremes()])
    for arch in archs:
        inside = (ends.min(0) <= counts(arch)) & (counts(arch) <= ends.max(0))
        assert inside.all(), f"{arch}: costs {counts(arch)}, outside what extremes() spans"


def _check_refusals(space: SearchSpace) -> None:
    wrong: list[Any] = [None, 5, "nothing of the kind", [], {}, {"unknown": 1}, [[[]]]]
    for choices in wrong:
        try:
            space.check(Architecture(space.name, choices))
        except ArchitectureError:
            continue
        except Exception as error:
            what = f"{type(error).__name__}: {first_line(error)}"
            raise AssertionError(f"{space.name}: check must refuse {choices!r} by an ArchitectureError, it raised {what}") from error
        raise AssertionError(f"{space.name}: check accepts {choices!r}")
