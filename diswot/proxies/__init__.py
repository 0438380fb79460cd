"""Proxies by name, and the rankings put together from them. Higher is better, always.

`base` says what a proxy is, `catalogue` lists them, `views` makes the passes they share, `passes` those that need their own;
`similarity`, `gradient`, `activation` and `spectrum` hold the mathematics as functions of plain tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike

from diswot.errors import ConfigError, TeacherError
from diswot.proxies import catalogue  # noqa: F401 - registers every proxy
from diswot.proxies.base import PROXIES, Proxy, get_proxy
from diswot.proxies.views import PASSES, Student, Trace, View
from diswot.ranking import COMBINE, Vector
from diswot.ranking import combine as combined
from diswot.registry import suggest

__all__ = [
    "PASSES", "PROXIES", "RANKINGS", "Proxy", "Ranking", "Student", "Trace", "View", "get_proxy", "resolve_ranking", "see_teacher",
]  # fmt: skip


@dataclass(frozen=True)
class Ranking:
    """Which proxies rank, and how they are put together.

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

    def line(self) -> str:
        """
        >>> RANKINGS["diswot"].line()
        'rank of semantic_profile and relation'
        """
        parts = [part if weight == 1 else f"{weight:g} x {part}" for part, weight in self.weighted.items()]
        return f"{self.combine} of {' and '.join(parts)}"

    @property
    def weighted(self) -> dict[str, float]:
        """Each part's weight."""
        return dict(zip(self.parts, self.weights or [1.0] * len(self.parts), strict=True))

    def fitness(self, scores: ArrayLike) -> Vector:
        """(n,) of candidates ranked among themselves, from the (n, parts) scores of each; higher is better.

        >>> RANKINGS["diswot"].fitness([[-0.2, -3.0], [-0.1, -5.0], [-0.4, -6.0]]).round(3).tolist()
        [0.833, 0.833, 0.333]
        """
        return combined(scores, self.combine, self.weights)

    @property
    def batch(self) -> int:
        """Images for each initialisation where nothing else is asked for."""
        return self.shape[1] if self.shape else max(get_proxy(part).batch for part in self.parts)

    @property
    def seeds(self) -> int:
        """Initialisations where nothing else is asked for."""
        return self.shape[0] if self.shape else max(get_proxy(part).seeds for part in self.parts)


# chosen on even rows of NAS-Bench-201, CIFAR-100 (docs/studies.md)
_PLUS = {"live_flops": 2.0, "depth": 1.0, "spread_first": 1.0, "spread": 1.0, "trainability": 1.0, "calm": 1.0, "jacov": 1.0}
_AZ = ("az_expressivity", "az_progressivity", "az_trainability", "flops")

RANKINGS = {
    "diswot": Ranking(("semantic_profile", "relation")),
    "diswot+": Ranking((*_PLUS, "relation_stem"), "log", (*_PLUS.values(), 1.0), (1, 8)),
    "diswot+blind": Ranking(tuple(_PLUS), "log", tuple(_PLUS.values()), (1, 8)),
    "diswot_paper": Ranking(("semantic_cam", "relation_frobenius"), "sum"),
    "diswot_code": Ranking(("semantic_outer", "relation"), "sum"),
    "az_nas": Ranking(_AZ, "log"),
    "swap_reg": Ranking(("swap", "swap_size"), "sum"),
    "te_nas": Ranking(("te_ntk", "te_regions")),
    "vkdnw_agg": Ranking(("vkdnw", "az_expressivity", "az_trainability", "flops", "jacov"), "log"),
}


_BLIND = 1e-3


def see_teacher(ranking: Ranking, named: str, teachers: list[View]) -> Ranking:
    """The ranking, fit for the teacher at hand.

    A teacher whose classifier reads layer-normalised features (ConvNeXt, transformers) has gradients with zero mean over the channels:
    `semantic_profile`, and the published metric it is the mean of, then score every student alike. In the ranking `diswot` the class
    activation maps take its place; asked for by name it is a `TeacherError`. So it is with `relation_stem`, and `relation_jacobian` in its
    place, for teachers without maps on the way (transformers).
    """
    swaps = {}
    if "semantic_profile" in ranking.parts and all(float(view.profile[0].abs().max()) < _BLIND for view in teachers):
        swaps["semantic_profile"] = ("semantic_cam_rows", "its features have zero mean (layer norm)")
    if "relation_stem" in ranking.parts and not all(view.blocks for view in teachers):
        swaps["relation_stem"] = ("relation_jacobian", "it has no maps (B, C, H, W) on the way")
    asked_for = {name.strip() for name in named.split(",")}
    for part, (instead, reason) in swaps.items():
        if part in asked_for:
            raise TeacherError(f"{part} cannot see this teacher: {reason}; use {instead}")
    if not swaps:
        return ranking
    kept = {part: weight for part, weight in ranking.weighted.items() if part not in swaps}
    seen = {swaps[part][0] if part in swaps else part: weight for part, weight in ranking.weighted.items()}
    return _weighted({**seen, **kept}, ranking.combine, ranking.shape)


def _weighted(weights: dict[str, float], combine: str, shape: tuple[int, int] | None) -> Ranking:
    return Ranking(tuple(weights), combine, tuple(weights.values()) if set(weights.values()) != {1.0} else None, shape)


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
        elif name in PROXIES or name.startswith("loss:"):
            one = Ranking((get_proxy(name).name,))
        else:
            raise ConfigError(f"unknown proxy {name!r}: {suggest(name, [*RANKINGS, *PROXIES])}")
        named.append(one)
        for part, weight in one.weighted.items():
            weights.setdefault(part, weight)
    if not named:
        raise ConfigError(f"--proxy {names!r}: name at least one, as diswot")
    if len(named) == 1 and combine in (None, named[0].combine):
        return named[0]
    put_together = [one.combine for one in named if len(one.parts) > 1]
    chosen = combine or (put_together[-1] if put_together else "rank")
    shape = max(one.seeds for one in named), max(one.batch for one in named)
    return _weighted(weights, chosen, shape)
