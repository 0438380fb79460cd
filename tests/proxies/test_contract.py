"""What every proxy promises, held by the conformance check that users have; and that the check notices what breaks it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from diswot.errors import ConfigError
from diswot.proxies import PROXIES, Proxy
from diswot.proxies.base import FunctionProxy
from diswot.proxies.base import check_proxy as check_facts
from diswot.space import Cost
from diswot.testing import check_proxy

FEW = ("flops", "relation", "synflow")  # counted, compared with the teacher, with weights of its own
MORE = sorted(set(PROXIES) - set(FEW) - {"semantic_outer"})  # which compares networks of equal widths alone


@pytest.mark.parametrize("name", [*FEW, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_every_proxy_keeps_its_promises(name: str) -> None:
    check_proxy(name)


class Mine(Proxy):
    """As a user writes one."""

    summary = "the spread of the logits"

    def score(self, candidate: Any, teacher: Any, cost: Cost) -> Tensor:
        return candidate.images.observation.logits.std()


class Unfinished(Mine):
    def score(self, candidate: Any, teacher: Any, cost: Cost) -> Tensor:
        return super().score(candidate, teacher, cost) * float("nan")


class Moody(Mine):
    """It draws from torch's own generator, which nobody has seeded."""

    def score(self, candidate: Any, teacher: Any, cost: Cost) -> Tensor:
        return super().score(candidate, teacher, cost) + torch.rand(())


class Meddling(Mine):
    """It leaves other weights behind."""

    def score(self, candidate: Any, teacher: Any, cost: Cost) -> Tensor:
        value = candidate.noise.observation.logits.std()
        candidate.model.conv1.weight.data.mul_(2)
        return value


class Leaning(Mine):
    """It tells what others need of the pass."""

    def score(self, candidate: Any, teacher: Any, cost: Cost) -> Tensor:
        return super().score(candidate, teacher, cost) + len(candidate.images.wanted)


class Silent(Mine):
    summary = ""


class Blocks(Mine):
    """It does not say that it needs the network, whose maps it asks for."""

    needs = frozenset({"images:blocks"})

    def score(self, candidate: Any, teacher: Any, cost: Cost) -> Tensor:
        return candidate.images.blocks[-1].std()


@pytest.mark.parametrize("proxy", [Mine, Blocks])
def test_a_proxy_of_ones_own_passes(proxy: type[Proxy]) -> None:
    check_proxy(proxy())


@pytest.mark.parametrize(
    ("proxy", "says"),
    [
        (Unfinished, "not finite: nan"),
        (Moody, "another score the second time"),
        (Meddling, "does it change the network"),
        (Leaning, "when other proxies are scored beside it"),
        (Silent, "no summary"),
    ],
)
def test_a_proxy_that_breaks_its_promises_is_noticed(proxy: type[Proxy], says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_proxy(proxy)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"needs": frozenset({"label"})}, "needs 'label': did you mean labels"),
        ({"needs": "labels"}, "needs 'labels' is one text"),
        ({"norm": "batches"}, "norm 'batches': did you mean batch"),
        ({"input": "image"}, "input 'image': did you mean images"),
        ({"init": "kaiming"}, "init 'kaiming'"),
        ({"batch_size": 1}, "batch_size 1: a whole number, at least 2, is needed"),
        ({"seeds": 0}, "seeds 0: a whole number, at least 1, is needed"),
        ({"seeds": 1.5}, "seeds 1.5: a whole number"),
    ],
)
def test_what_a_proxy_declares_wrongly_is_refused(facts: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=f"proxy mine: {says}"):
        check_facts("mine", FunctionProxy(lambda *_: 0.0, **facts))
