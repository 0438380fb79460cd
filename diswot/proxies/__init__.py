"""Proxies by name, and the rankings put together from them. Higher is better, always.

`base` is the contract of a proxy, `definitions` lists the built-in ones; `candidate`, `forward_pass` and `summary` are what a proxy is
given, `passes` has the proxies that need passes of their own; `gradient`, `activation` and `spectrum` hold the mathematics as functions of
plain tensors.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from numpy.typing import ArrayLike

from diswot import plugins
from diswot.errors import ConfigError, TeacherError, suggest
from diswot.proxies import definitions  # noqa: F401 - registers the built-in proxies
from diswot.proxies.base import LOSS_PREFIX, PASSES, PROXIES, FunctionProxy, Proxy, get_proxy
from diswot.proxies.candidate import Candidate
from diswot.proxies.combine import COMBINE
from diswot.proxies.combine import combine as combined
from diswot.proxies.forward_pass import ForwardPass
from diswot.proxies.summary import NetworkSummary
from diswot.statistics.ranked_values import Vector

__all__ = [
    "PASSES",
    "PROXIES",
    "RANKINGS",
    "Candidate",
    "ForwardPass",
    "FunctionProxy",
    "NetworkSummary",
    "Proxy",
    "Ranking",
    "adapt_to_teacher",
    "get_proxy",
    "resolve_ranking",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ranking:
    """A ranking: which proxies score, and how their scores are put together.

    Attributes:
        parts: names of proxies.
        weights: of the parts; 1 each without.
        shape: initialisations and images for each, where nothing else is asked for; else the largest that a part wants.
        combine: `rank` adds up ranks, `log` their logarithms (the worst count more than the best), `sum` the raw scores.
    """

    parts: tuple[str, ...]
    combine: str = "rank"
    weights: tuple[float, ...] | None = None
    shape: tuple[int, int] | None = None

    def describe(self) -> str:
        """Return the formula of the ranking in words.

        >>> RANKINGS["diswot"].describe()
        'rank of semantic_profile and relation'
        """
        parts = [part if weight == 1 else f"{weight:g} x {part}" for part, weight in self.weighted.items()]
        return f"{self.combine} of {' and '.join(parts)}"

    @property
    def weighted(self) -> dict[str, float]:
        """The weight of each part."""
        return dict(zip(self.parts, self.weights or [1.0] * len(self.parts), strict=True))

    def fitness(self, scores: ArrayLike, ranks: Vector | None = None) -> Vector:
        """Return the fitness (n,) of candidates ranked among themselves, from their scores (n, parts), and ranks (n, parts) where these are
        known already; higher is better.

        >>> RANKINGS["diswot"].fitness([[-0.2, -3.0], [-0.1, -5.0], [-0.4, -6.0]]).round(3).tolist()
        [0.833, 0.833, 0.333]
        """
        return combined(scores, self.combine, self.weights, ranks)

    @property
    def batch_size(self) -> int:
        """Images for each initialisation where nothing else is asked for."""
        return self.shape[1] if self.shape else max(get_proxy(part).batch_size for part in self.parts)

    @property
    def seeds(self) -> int:
        """Initialisations where nothing else is asked for."""
        return self.shape[0] if self.shape else max(get_proxy(part).seeds for part in self.parts)


def _weighted(weights: dict[str, float], combine: str, shape: tuple[int, int] | None) -> Ranking:
    return Ranking(tuple(weights), combine, tuple(weights.values()) if set(weights.values()) != {1.0} else None, shape)


# chosen across spaces, each left out in turn: docs/results/studies.md, "A ranking for every space"
_PLUS = {
    "entropy_layers": 3.0,
    "diversity_stages": 1.5,
    "direction_entropy": 1.0,
    "effective_params": 1.0,
    "swap": 1.0,
    "zen": 0.5,
    "neg_jacobian_log_norm": 0.5,
}
# nearly the same for less than a third of the time: half the images, in one pass; `nwot` orders networks much as `swap` does, `log_fan_in`
# as `zen` does, and needs no pass at all (docs/results/studies.md, "A cheaper ranking")
_FAST = {
    "entropy_layers": 3.0,
    "diversity_stages": 1.5,
    "direction_entropy": 1.0,
    "effective_params": 1.0,
    "nwot": 1.0,
    "log_fan_in": 1.0,
    "neg_jacobian_log_norm": 0.5,
}
# chosen on NAS-Bench-201 alone, the best there
_NB201 = {
    "effective_flops": 2.0,
    "depth": 1.0,
    "direction_entropy_first": 1.0,
    "direction_entropy": 1.0,
    "trainability": 1.0,
    "neg_jacobian_log_norm": 1.0,
    "jacov": 1.0,
}
_AZ = ("az_expressivity", "az_progressivity", "az_trainability", "flops")

RANKINGS = {
    "diswot": Ranking(("semantic_profile", "relation")),
    "diswot+": _weighted(_PLUS, "log", (1, 16)),
    "diswot_fast": _weighted(_FAST, "log", (1, 8)),
    "diswot_nb201": _weighted({**_NB201, "relation_stem_grad": 1.0}, "log", (1, 8)),
    "diswot_nb201_blind": _weighted(_NB201, "log", (1, 8)),
    "diswot_paper": Ranking(("semantic_cam", "relation_frobenius"), "sum"),
    "diswot_code": Ranking(("semantic_outer", "relation"), "sum"),
    "az_nas": Ranking(_AZ, "log"),
    "swap_reg": Ranking(("swap", "swap_size"), "sum"),
    "te_nas": Ranking(("te_ntk", "te_regions")),
    "vkdnw_agg": Ranking(("vkdnw", "az_expressivity", "az_trainability", "flops", "jacov"), "log"),
}
"""The rankings that `--proxy` knows by name."""


_BLIND = 1e-3  # class means of classifier gradients below this say nothing


def adapt_to_teacher(ranking: Ranking, proxy: str, teachers: list[NetworkSummary], *, warn: bool = True) -> Ranking:
    """The ranking, with the parts replaced that say nothing about this teacher; what replaces them is logged as a warning.

    A teacher whose classifier reads layer-normalised features (ConvNeXt, transformers) has gradients with zero mean over the channels:
    `semantic_profile`, and the published metric it is the mean of, then score every student alike. In the ranking `diswot` the class
    activation maps take its place. So it is with `relation_stem_grad`, and `relation_jacobian` in its place, for teachers without maps on
    the way (transformers).

    Args:
        ranking: the ranking that was asked for.
        proxy: the names that it was asked for by.
        teachers: what the teacher showed of the batch of each seed.
        warn: whether the warning is logged; not where it has been already.

    Raises:
        TeacherError: a part that says nothing was asked for by its own name.
    """
    replacements = {}
    if "semantic_profile" in ranking.parts and all(float(summary.profile[0].abs().max()) < _BLIND for summary in teachers):
        replacements["semantic_profile"] = ("semantic_cam_rows", "its features have zero mean (layer norm)")
    if "relation_stem_grad" in ranking.parts and not all(summary.blocks for summary in teachers):
        replacements["relation_stem_grad"] = ("relation_jacobian", "it has no maps (B, C, H, W) on the way")
    asked_for = {name.strip() for name in proxy.split(",")}
    for part, (instead, reason) in replacements.items():
        if part in asked_for:
            raise TeacherError(f"{part} cannot see this teacher: {reason}; use {instead}")
        if warn:
            logger.warning("%s cannot see this teacher (%s); %s ranks in its place", part, reason, instead)
    if not replacements:
        return ranking
    kept = {part: weight for part, weight in ranking.weighted.items() if part not in replacements}
    adapted = {replacements[part][0] if part in replacements else part: weight for part, weight in ranking.weighted.items()}
    return _weighted({**adapted, **kept}, ranking.combine, ranking.shape)


def resolve_ranking(names: str, combine: str | None = None) -> Ranking:
    """A ranking from `--proxy`: the name of one, or proxies with commas between.

    >>> resolve_ranking("diswot").parts
    ('semantic_profile', 'relation')
    >>> resolve_ranking("params,relation", "sum")
    Ranking(parts=('params', 'relation'), combine='sum', weights=None, shape=(4, 4))
    """
    if combine not in (None, *COMBINE):
        raise ConfigError(f"--combine {combine!r}: known: {', '.join(COMBINE)}")
    weights: dict[str, float] = {}
    named: list[Ranking] = []
    for name in filter(None, (name.strip() for name in names.split(","))):
        if name in RANKINGS:
            one = RANKINGS[name]
        elif name in PROXIES or name.startswith(LOSS_PREFIX) or plugins.is_reference(name):
            one = Ranking((get_proxy(name).name,))
        else:
            raise ConfigError(f"unknown proxy {name!r}: {suggest(name, [*RANKINGS, *PROXIES])}; module:name for one of your own")
        named.append(one)
        for part, weight in one.weighted.items():
            weights.setdefault(part, weight)
    if not named:
        raise ConfigError(f"--proxy {names!r}: name at least one, as diswot")
    if len(named) == 1 and combine in (None, named[0].combine):
        return named[0]
    put_together = [one.combine for one in named if len(one.parts) > 1]
    chosen = combine or (put_together[-1] if put_together else "rank")
    shape = max(one.seeds for one in named), max(one.batch_size for one in named)
    return _weighted(weights, chosen, shape)
