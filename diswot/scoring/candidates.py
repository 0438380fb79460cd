"""Scoring one candidate: it is built once, initialised once for each seed, and run through the passes that its proxies share."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from diswot import plugins
from diswot.architecture import Architecture
from diswot.budget import cost_of
from diswot.config.scoring import Init
from diswot.devices import to_device, without_garbage_collection
from diswot.errors import DiswotError, first_line
from diswot.models.init import Initialiser, skip_weight_init
from diswot.observe import batch_statistics, disable_inplace
from diswot.proxies import PASSES, Candidate, NetworkSummary, Proxy, get_proxy
from diswot.scoring.context import ScoringContext
from diswot.space import Cost, load_space


@dataclass(frozen=True)
class ScoreResult:
    """The outcome for one candidate.

    Attributes:
        cost: its parameters, FLOPs and depth.
        scores: by proxy, one number for each seed.
        failed: by proxy, the reason why it gave none.
        seconds: by proxy, how long it took for all seeds; a pass that several share is charged to the first that asks for it.
    """

    cost: Cost
    scores: dict[str, list[float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict, compare=False)

    @property
    def reason(self) -> str | None:
        """The reason why the candidate as a whole has no score, or None where every proxy gave one."""
        return next(iter(self.failed.values()), None)


def score_one(context: ScoringContext, arch: Architecture, cost: Cost) -> ScoreResult:
    """Score one candidate by every proxy and for every seed.

    The network that runs is the canonical one, so equal networks have equal scores; the cost is that of the candidate itself.
    """
    result = ScoreResult(cost)
    proxies = sorted(map(get_proxy, context.proxies), key=lambda proxy: proxy.init == "gaussian")  # weights change once
    for _ in context.batches:
        _score_seed([proxy for proxy in proxies if not proxy.runs_network], None, None, result, context.record_failures)
    measured = [proxy for proxy in proxies if proxy.runs_network]
    if measured:
        with without_garbage_collection():  # a twentieth of a small network's time, and a network is freed without
            _run_network(context, arch, measured, result)
    kept = {name: result.scores[name] for name in context.proxies if name not in result.failed}
    return ScoreResult(cost, kept, result.failed, result.seconds)


def _run_network(context: ScoringContext, arch: Architecture, proxies: Sequence[Proxy], result: ScoreResult) -> None:
    """Build the network and score it for every seed; the result is filled in."""
    space, spec = load_space(arch.space, trusted=arch.space in context.own_spaces), context.spec
    try:
        form = space.canonical(arch)
        with skip_weight_init():
            model = space.build(form, spec.num_classes, spec.in_chans)
        model = disable_inplace(to_device(model, context.device))
        count_cost = functools.cache(lambda: result.cost if form == arch else cost_of(space, form, spec))
        with batch_statistics(model):
            for number, candidate in enumerate(_candidates(model, context, proxies, count_cost)):
                teacher = context.teachers[number] if context.teachers else None
                _score_seed(proxies, candidate, teacher, result, context.record_failures)
    except (DiswotError, RuntimeError, ValueError, torch.OutOfMemoryError) as error:
        if isinstance(error, DiswotError) and not context.record_failures:
            raise
        result.failed.update((proxy.name, _reason(error)) for proxy in proxies)


def _score_seed(
    proxies: Sequence[Proxy], candidate: Candidate | None, teacher: NetworkSummary | None, result: ScoreResult, record_failures: bool
) -> None:
    """Add one seed's number for each proxy, or the reason why there is none; one proxy's failure leaves the others alone."""
    for proxy in proxies:
        if proxy.name in result.failed:
            continue
        begun = time.perf_counter()
        try:
            with torch.no_grad():  # what needs a gradient says so itself
                value = _number(proxy, proxy.score(candidate, teacher, result.cost))  # type: ignore[arg-type]  # where it declares the need
        except Exception as error:  # whatever a foreign network makes of an unusual pass
            if isinstance(error, DiswotError) and not record_failures:
                raise
            result.failed[proxy.name] = _reason(error)
            continue
        result.seconds[proxy.name] = result.seconds.get(proxy.name, 0.0) + time.perf_counter() - begun
        if math.isfinite(value):
            result.scores.setdefault(proxy.name, []).append(value)
        else:
            result.failed[proxy.name] = f"{proxy.name} is not finite: {value}"


def _number(proxy: Proxy, score: Any) -> float:
    """Return a score as a number, or raise a ValueError that names the proxy."""
    try:
        return float(score)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"proxy {proxy.name}: score must return one number, not {type(score).__name__}") from None


def _reason(error: Exception) -> str:
    """Return why there is no score, with the line of a user's own part that is to blame."""
    part = plugins.part_at_fault(error)
    return f"{part}: {type(error).__name__}: {first_line(error, 200)}" if part else first_line(error, 200)


def _candidates(model: nn.Module, context: ScoringContext, proxies: Sequence[Proxy], count_cost: Callable[[], Cost]) -> Iterator[Candidate]:
    """The candidate under each seed; one at a time, so that one seed's maps are gone before the next's."""
    initialisers: dict[Init, Initialiser] = {}
    needs = [need.split(":") for proxy in proxies for need in proxy.needs if ":" in need]
    kept = {name: frozenset(what for where, what in needs if where == name) for name in PASSES}
    for batch in context.batches:

        def initialise(init: Init | None, seed: int = batch.seed) -> None:
            chosen = init or context.init
            if chosen not in initialisers:
                initialisers[chosen] = Initialiser(model, chosen)
            initialisers[chosen](seed)

        images, target = batch.images.to(context.device), batch.target.to(context.device)
        yield Candidate(model, initialise, images, target, batch.seed, kept, count_cost)
