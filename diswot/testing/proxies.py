"""The conformance check of proxies."""

from __future__ import annotations

import contextlib

from diswot.architecture import Architecture
from diswot.config import ScoreConfig
from diswot.errors import RunError
from diswot.execution import Execution
from diswot.proxies import PROXIES, Proxy
from diswot.scoring.recipe import ScorePlan, run_score
from diswot.testing.promises import told_as_assertions

_NETWORKS = ("resnet8", "resnet14")


@told_as_assertions
def check_proxy(proxy: Proxy | type[Proxy] | str, *, teacher: str = "resnet8") -> None:
    """Check that a proxy keeps the promises of `diswot.proxies.Proxy`, on two networks of the CIFAR zoo.

    Args:
        proxy: the proxy, its class, or its name: `nwot`, `module:Class`.
        teacher: the teacher that it is compared with, where it needs one.

    Raises:
        AssertionError: says which promise it breaks.

    >>> check_proxy("nwot")
    """
    with contextlib.ExitStack() as stack:
        if isinstance(proxy, str):
            name = proxy
        else:
            name = "proxy-under-test"
            stack.enter_context(PROXIES.registered(name, proxy() if isinstance(proxy, type) else proxy))
        assert PROXIES[name].summary, f"{name}: no summary for `diswot list proxies`"
        alone = _scores(name, name, teacher)
        if _scores(name, f"snip,{name},jacov", teacher) != alone:
            assert _scores(name, name, teacher) == alone, f"{name}: another score the second time: draw from candidate.generator(...)"
            raise AssertionError(f"{name}: another score when other proxies are scored beside it")
        after = _scores("jacov", f"{name},jacov", teacher)
        assert after == _scores("jacov", "jacov", teacher), f"{name}: other proxies score otherwise after it: does it change the network?"


def _scores(name: str, proxies: str, teacher: str) -> dict[str, list[float]]:
    """The scores by a proxy, scored beside others, by network."""
    config = ScoreConfig(proxy=proxies, teacher=teacher, seeds=2, batch_size=8, num_classes=4, input_size=16)
    archs = tuple(Architecture("zoo", network) for network in _NETWORKS)
    try:
        rows = run_score(ScorePlan(config, archs), None, Execution("cpu", 1))
    except RunError as error:  # it raised an exception, or its number is not finite
        raise AssertionError(f"{name}: {error}") from None
    return {row.arch.choices: row.scores[name] for row in rows}
