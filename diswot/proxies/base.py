"""What a proxy is, and the registry of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from diswot.errors import ConfigError
from diswot.registry import Registry, suggest
from diswot.space import Cost

Score = Callable[[Any, Any, Cost], Tensor | float]


@dataclass(frozen=True)
class Proxy:
    """A named score of an untrained network.

    Attributes:
        name: as `--proxy` takes it.
        score: (student, teacher, cost) -> number, higher is better; a `Student`, the teacher's `View` or None, a `Cost`.
        summary: one line for `diswot list proxies`.
        needs: `student` (a network is built), `teacher`, `labels`, and what the shared passes must keep, as `images:graph`.
        norm: what batch norm does: `batch` (statistics of the batch), `image` (of each image alone), `fresh` (mean 0, variance 1),
            `bypassed`, or `-`.
        input: `images`, `noise` (standard normal), `ones`, or `-`.
        init: `candidate` (the one asked for), `gaussian` (N(0, 1)), or `-`.
        passes: forward and backward passes over the whole batch, those it shares with other proxies included.
        batch, seeds: images for each initialisation, and initialisations, where nothing else is asked for; proxies that are scored
            together get the largest.
    """

    name: str
    score: Score
    summary: str
    needs: frozenset[str] = frozenset()
    norm: str = "-"
    input: str = "-"
    init: str = "-"
    passes: str = "none"
    batch: int = 2
    seeds: int = 1

    def line(self) -> str:
        """The summary, and in brackets what the score is computed on and what it costs."""
        if "student" not in self.needs:
            return self.summary
        facts = [
            f"on {self.input}" if self.input != "-" else "",
            "labels" if "labels" in self.needs else "",
            "teacher" if "teacher" in self.needs else "",
            f"batch norm {self.norm}" if self.norm not in ("-", "batch") else "",
            "N(0, 1) weights" if self.init == "gaussian" else "",
            self.passes if self.passes != "none" else "",
        ]
        return f"{self.summary} ({'; '.join(filter(None, facts))})" if any(facts) else self.summary


PROXIES = Registry[Proxy]("proxy")


def get_proxy(name: str) -> Proxy:
    """The proxy called `name`, or, for `loss:NAME`, that distillation loss between student and teacher, its sign turned.

    Raises:
        ConfigError: an unknown name; a loss with parameters of its own, which untrained say nothing; one that takes no teacher.

    >>> get_proxy("loss:kd").needs >= {"teacher"}
    True
    """
    if name in PROXIES:
        return PROXIES[name]
    if name.startswith("loss:"):
        return _loss_proxy(name)
    raise ConfigError(f"unknown proxy {name!r}: {suggest(name, PROXIES)}")


def _loss_proxy(name: str) -> Proxy:
    from diswot import losses

    loss = losses.create(name.removeprefix("loss:"))
    if loss.partner != "teacher":
        raise ConfigError(f"proxy {name}: this loss looks at no teacher")
    if loss.adapters:
        raise ConfigError(f"proxy {name}: this loss has parameters of its own, which say nothing before they are trained")

    def score(student: Any, teacher: Any, cost: Cost) -> Tensor:
        terms = loss.distil(student.images.with_stages, teacher.with_stages.detach(), teacher.target)
        return -sum(terms.values(), student.images.observation.logits.new_zeros(()))

    blocks = {"images:blocks"} if "stages" in loss.needs else set()
    return Proxy(
        name,
        score,
        f"the distillation loss {loss.summary}, its sign turned",
        frozenset({"student", "teacher", "labels", *blocks}),
        norm="batch",
        input="images",
        init="candidate",
        passes="forward",
        batch=32,
        seeds=2,
    )
