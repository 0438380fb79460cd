"""What two networks differ in: choices and costs, the facts behind `diswot diff`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diswot.architecture import Architecture
from diswot.describe import Description, describe
from diswot.searching.choices import Scalar, flatten
from diswot.space import ImageSpec, SearchSpace


@dataclass(frozen=True)
class ChangedChoice:
    """A choice that differs: its place, and what it is in either network; None where a network has no such choice."""

    place: str
    first: Scalar
    second: Scalar


@dataclass(frozen=True)
class Difference:
    """What two networks differ in.

    Attributes:
        networks: both, described.
        same_space: whether they are of one space, so that their choices can be compared.
        same_network: whether they compute the same, whatever their choices say.
        choices: how many single choices there are in either.
        changed: those that differ; of networks of different spaces none.
    """

    networks: tuple[Description, Description]
    same_space: bool
    same_network: bool
    choices: int
    changed: list[ChangedChoice]


def compare_networks(spaces: Sequence[SearchSpace], archs: tuple[Architecture, Architecture], spec: ImageSpec) -> Difference:
    """Compare two networks, for the same images.

    >>> from diswot.space import load_space
    >>> a, b = (Architecture("resnet_depth", {"depths": [1, 3, last]}) for last in (5, 7))
    >>> found = compare_networks([load_space("s0")] * 2, (a, b), ImageSpec(10, 3, 32))
    >>> found.changed, [network.cost.depth for network in found.networks]
    ([ChangedChoice(place='depths[2]', first=5, second=7)], [20, 24])
    """
    first, second = (describe(space, arch, spec, "cpu", timed=False) for space, arch in zip(spaces, archs, strict=True))
    same_space = archs[0].space == archs[1].space
    ours, theirs = (dict(flatten(arch.choices)) for arch in archs)
    places = list(dict.fromkeys([*ours, *theirs]))
    changed = [ChangedChoice(place, ours.get(place), theirs.get(place)) for place in places if ours.get(place) != theirs.get(place)]
    same_network = same_space and spaces[0].canonical(archs[0]) == spaces[0].canonical(archs[1])
    return Difference((first, second), same_space, same_network, len(places), changed if same_space else [])
