"""Proxies by name: functions of what one forward pass shows of a randomly initialised network. Higher is better, always."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from diswot.errors import ConfigError, TeacherError
from diswot.observe import Observation
from diswot.proxies import similarity
from diswot.registry import Registry, suggest
from diswot.space import Cost


class View:
    """One network's observation, and the summaries that proxies share, each computed when first asked for."""

    def __init__(self, observation: Observation, target: Tensor) -> None:
        self.observation, self.target = observation, target

    @cached_property
    def gradient(self) -> Tensor:
        """(N, C) of the classifier's weight."""
        return similarity.classifier_gradient(self.observation.pooled, self.observation.logits, self.target)

    @cached_property
    def profile(self) -> Tensor:
        """(2, N)."""
        return similarity.channel_profile(self.gradient)

    @cached_property
    def sample_gram(self) -> Tensor:
        """(B, B)."""
        return similarity.sample_gram(self.observation.features)

    @cached_property
    def cam_gram(self) -> Tensor:
        """(N, N)."""
        return similarity.cam_gram(self.observation.features, self.observation.weight)


@dataclass(frozen=True)
class Proxy:
    """A named score.

    Attributes:
        name: as `--proxy` takes it.
        score: (student, teacher, cost) -> number, higher is better.
        needs: of `forward` (an observation of the student), `labels`, `teacher`; nothing for what counting alone gives.
        summary: one line for `diswot list proxies`.
    """

    name: str
    score: Callable[[Any, Any, Cost], Tensor | float]
    needs: frozenset[str]
    summary: str


PROXIES = Registry[Proxy]("proxy")


def _proxy(name: str, needs: str, summary: str) -> Callable[[Callable[[Any, Any, Cost], Any]], Any]:
    def add(score: Callable[[Any, Any, Cost], Any]) -> Any:
        PROXIES.register(name)(Proxy(name, score, frozenset(needs.split()), summary))
        return score

    return add


_TEACHER = "forward teacher"


@_proxy("semantic_profile", f"{_TEACHER} labels", "classifier gradients, averaged over all matchings of channels: any channel counts")
def _semantic_profile(student: View, teacher: View, cost: Cost) -> Tensor:
    return -similarity.profile_distance(teacher.profile, student.profile)


@_proxy("semantic_outer", f"{_TEACHER} labels", "the published code's M_s: outer products of classifier gradients; equal channel counts")
def _semantic_outer(student: View, teacher: View, cost: Cost) -> Tensor:
    if teacher.gradient.shape != student.gradient.shape:
        channels = teacher.gradient.shape[1], student.gradient.shape[1]
        raise TeacherError(f"semantic_outer compares channels one by one, and the teacher has {channels[0]}, the student {channels[1]}")
    return -similarity.outer_product_distance(teacher.gradient, student.gradient)


@_proxy("semantic_cam", _TEACHER, "the paper's M_s: class activation maps correlated over classes, Frobenius norm")
def _semantic_cam(student: View, teacher: View, cost: Cost) -> Tensor:
    return -similarity.gram_distance(teacher.cam_gram, student.cam_gram, "frobenius")


@_proxy("semantic_cam_rows", _TEACHER, "semantic_cam with each row normalised")
def _semantic_cam_rows(student: View, teacher: View, cost: Cost) -> Tensor:
    return -similarity.gram_distance(teacher.cam_gram, student.cam_gram, "rows")


@_proxy("relation", _TEACHER, "the published code's M_r: similarities of samples, each row normalised")
def _relation(student: View, teacher: View, cost: Cost) -> Tensor:
    return -similarity.gram_distance(teacher.sample_gram, student.sample_gram, "rows")


@_proxy("relation_frobenius", _TEACHER, "the paper's M_r: Frobenius norm")
def _relation_frobenius(student: View, teacher: View, cost: Cost) -> Tensor:
    return -similarity.gram_distance(teacher.sample_gram, student.sample_gram, "frobenius")


@_proxy("params", "", "the number of parameters: the baseline that every ranking must beat")
def _params(student: None, teacher: None, cost: Cost) -> float:
    return float(cost.params)


@_proxy("flops", "", "the number of multiply-accumulates")
def _flops(student: None, teacher: None, cost: Cost) -> float:
    return float(cost.flops)


@dataclass(frozen=True)
class Ranking:
    """Which proxies rank, and how they are put together: `rank` adds up ranks, `sum` the raw scores."""

    parts: tuple[str, ...]
    combine: str = "rank"


RANKINGS = {
    "diswot": Ranking(("semantic_profile", "relation")),
    "diswot_paper": Ranking(("semantic_cam", "relation_frobenius"), "sum"),
    "diswot_code": Ranking(("semantic_outer", "relation"), "sum"),
}


_BLIND = 1e-3


def see_teacher(ranking: Ranking, named: str, teachers: list[View]) -> Ranking:
    """The ranking, fit for the teacher at hand.

    A teacher whose classifier reads layer-normalised features (ConvNeXt, transformers) has gradients with zero mean over the channels:
    `semantic_profile`, and the published metric it is the mean of, then score every student alike. In the ranking `diswot` the class
    activation maps take its place; asked for by name it is a `TeacherError`.
    """
    blind = "semantic_profile" in ranking.parts and all(float(view.profile[0].abs().max()) < _BLIND for view in teachers)
    if not blind:
        return ranking
    if "diswot" not in named.split(","):
        raise TeacherError("semantic_profile cannot see this teacher: its features have zero mean (layer norm); use semantic_cam_rows")
    parts = ["semantic_cam_rows" if part == "semantic_profile" else part for part in ranking.parts]
    return Ranking(tuple(dict.fromkeys(parts)), ranking.combine)


def resolve_ranking(names: str, combine: str | None = None) -> Ranking:
    """A ranking from `--proxy`: the name of one, or proxies with commas between.

    >>> resolve_ranking("diswot")
    Ranking(parts=('semantic_profile', 'relation'), combine='rank')
    >>> resolve_ranking("params,relation", "sum").parts
    ('params', 'relation')
    """
    if combine not in (None, "rank", "sum"):
        raise ConfigError(f"--combine {combine!r}: known: rank, sum")
    parts: list[str] = []
    chosen = combine or "rank"
    for name in names.split(","):
        name = name.strip()
        if name in RANKINGS:
            chosen = combine or RANKINGS[name].combine
            parts += RANKINGS[name].parts
        elif name in PROXIES:
            parts.append(name)
        else:
            raise ConfigError(f"unknown proxy {name!r}: {suggest(name, [*RANKINGS, *PROXIES])}")
    return Ranking(tuple(dict.fromkeys(parts)), chosen)
