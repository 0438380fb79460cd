"""The contract of a proxy, and the registry of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from diswot import losses, plugins
from diswot.config.scoring import Init
from diswot.errors import ConfigError
from diswot.registry import Registry
from diswot.space import Cost

if TYPE_CHECKING:
    from diswot.proxies.candidate import Candidate
    from diswot.proxies.summary import NetworkSummary

LOSS_PREFIX = "loss:"
PASSES: dict[str, tuple[Init | None, str]] = {
    "images": (None, "images"),
    "noise": (None, "noise"),
    "gaussian_images": ("gaussian", "images"),
}
"""The passes that proxies share, by name: initialisation (None: the candidate's own) and input."""
KEPT = ("graph", "blocks", "agreements", "codes", "conv_entropies", "outputs")  # what a shared pass can keep
OF_TEACHER = ("teacher", "teacher:graph", "teacher:classifier")
NEEDS = frozenset({"network", "labels", *OF_TEACHER, *(f"{name}:{kept}" for name in PASSES for kept in KEPT)})
_CHOICES: dict[str, tuple[str, ...]] = {
    "norm": ("batch", "image", "fresh", "bypassed", "-"),
    "input": ("images", "noise", "ones", "-"),
    "init": ("candidate", "gaussian", "-"),
}


class Proxy(ABC):
    """Base class of the proxies: a score of an untrained network, higher is better.

    To write one, subclass it, declare what it needs, and define `score`; `--proxy module:Class` finds it. `score` is called once for each
    candidate and random initialisation, under `torch.no_grad`, in any of several processes; it may raise any exception, which makes the
    score of this candidate missing and takes nothing else with it.

    Class attributes:
        summary: one line for `diswot list proxies`.
        needs: what must be there: `network` (a network is built, as for every need but the teacher's; without any only its cost is known),
            `labels`, `teacher`, and what the shared passes must keep: `images:graph` for gradients, `images:blocks` for the maps after
            every block, likewise `agreements`, `codes`, `conv_entropies` and `outputs`, and the same of `noise:` and
            `gaussian_images:`; `teacher:graph` for gradients of the teacher, `teacher:classifier` for its logits or classifier.
        norm: what batch norm does: `batch` (statistics of the batch), `image` (of each image alone), `fresh` (mean 0, variance 1),
            `bypassed`, or `-`.
        input: `images`, `noise` (standard normal), `ones`, or `-`.
        init: `candidate` (the initialisation that was asked for), `gaussian` (N(0, 1)), or `-`.
        passes: in words, the forward and backward passes over the whole batch, those it shares with other proxies included.
        batch_size, seeds: images for each initialisation, and initialisations, where nothing else is asked for; proxies that are scored
            together get the largest.

    Attributes:
        name: the name that it was asked for by; set for you.
    """

    name: str = ""
    summary: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset({"network"})
    norm: ClassVar[str] = "batch"
    input: ClassVar[str] = "images"
    init: ClassVar[str] = "candidate"
    passes: ClassVar[str] = "forward"
    batch_size: ClassVar[int] = 32
    seeds: ClassVar[int] = 2

    @abstractmethod
    def score(self, candidate: Candidate, teacher: NetworkSummary, cost: Cost) -> Tensor | float:
        """Compute the score.

        Args:
            candidate: the network under one seed, and its passes (`candidate.images.observation.logits`); None where no network is needed.
            teacher: what the teacher showed of the same images; None without the need `teacher`.
            cost: parameters, FLOPs and depth of the candidate.

        Returns:
            A number, higher is better; one that is not finite counts as a failure.
        """

    @property
    def runs_network(self) -> bool:
        """Whether a network is built and run, as every need but the teacher's asks for; otherwise the cost says all."""
        return any(not need.startswith("teacher") for need in self.needs)

    def describe(self) -> str:
        """The summary, and in brackets what the score is computed on and what it costs."""
        if not self.runs_network:
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


Score = Callable[[Any, Any, Cost], "Tensor | float"]


class FunctionProxy(Proxy):
    """A proxy made of a function.

    Args:
        score: (candidate, teacher, cost) -> number, as `Proxy.score`.
        facts: the class attributes of `Proxy`.
    """

    def __init__(self, score: Score, **facts: Any) -> None:
        self._score = score
        for name, value in facts.items():
            setattr(self, name, value)

    def score(self, candidate: Any, teacher: Any, cost: Cost) -> Tensor | float:
        return self._score(candidate, teacher, cost)


def check_proxy(name: str, proxy: Proxy) -> None:
    """Refuse what a proxy declares wrongly, and tell it its name.

    Raises:
        ConfigError: names the attribute and the nearest known value.
    """
    plugins.check_names(f"proxy {name}", "needs", proxy.needs, NEEDS)
    for attribute, known in _CHOICES.items():
        plugins.check_names(f"proxy {name}", attribute, [getattr(proxy, attribute)], known)
    for attribute, least in (("batch_size", 2), ("seeds", 1)):
        value = getattr(proxy, attribute)
        if not isinstance(value, int) or value < least:
            raise ConfigError(f"proxy {name}: {attribute} {value!r}: a whole number, at least {least}, is needed")
    proxy.name = name


def _load(reference: str) -> Proxy:
    return plugins.load_part(reference, "proxy", Proxy)  # type: ignore[type-abstract]


PROXIES = Registry[Proxy]("proxy", load=_load, check=check_proxy)
"""The built-in proxies by name; `get_proxy` also finds those of losses, and your own."""


def part_name(proxy: str) -> str:
    """The name of the part behind a proxy, which may be one of the user's own: the loss of a `loss:` proxy, else the proxy itself.

    >>> part_name("loss:kd"), part_name("loss:mylab:Loss"), part_name("mylab:Proxy")
    ('kd', 'mylab:Loss', 'mylab:Proxy')
    """
    return proxy.removeprefix(LOSS_PREFIX)


def get_proxy(name: str) -> Proxy:
    """The proxy called `name`; for `loss:NAME`, that distillation loss between candidate and teacher, its sign turned.

    Raises:
        ConfigError: an unknown name; a loss with parameters of its own, which untrained say nothing; one that takes no teacher.

    >>> get_proxy("loss:kd").needs >= {"teacher"}
    True
    """
    return _loss_proxy(name) if name.startswith(LOSS_PREFIX) else PROXIES[name]


def _loss_proxy(name: str) -> Proxy:
    loss = losses.create(part_name(name))
    if not loss.scheme.uses_teacher:
        raise ConfigError(f"proxy {name}: this loss looks at no teacher")
    if loss.has_adapters:
        raise ConfigError(f"proxy {name}: this loss has parameters of its own, which say nothing before they are trained")

    def score(candidate: Candidate, teacher: NetworkSummary, cost: Cost) -> Tensor:
        terms = loss.distil(candidate.images.with_stages, teacher.with_stages.detach(), teacher.target)
        return -sum(terms.values(), candidate.images.observation.logits.new_zeros(()))

    blocks = {"images:blocks"} if "stages" in loss.needs else set()
    classifier = {"teacher:classifier"} if {"logits", "weight"} & loss.needs else set()
    needs = frozenset({"network", "teacher", "labels", *blocks, *classifier})
    return FunctionProxy(score, name=name, summary=f"the distillation loss {loss.summary}, its sign turned", needs=needs)
