"""The scoring context: all that a score depends on besides the candidate."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diswot.config.scoring import Init, ScoreConfig
from diswot.data import Dataset, ProxyBatch, proxy_batches
from diswot.devices import single_thread, to_device
from diswot.models.init import initialise
from diswot.models.teachers import build_teacher, normalisation
from diswot.observe import FINAL, batch_statistics, disable_inplace
from diswot.proxies import ForwardPass, NetworkSummary, Ranking, get_proxy
from diswot.space import ImageSpec

_MAPS = frozenset({"features", "pooled"})
TEACHER_SEED = 1_000_003  # keeps the teacher's weights apart from those of a candidate with the same seed


@dataclass(frozen=True, eq=False)
class ScoringContext:
    """All that a score depends on besides the candidate. Plain data, so that it can travel to other processes.

    Attributes:
        proxies: names of what is measured.
        init: how candidates are initialised.
        batches: the images, a batch for each seed.
        teachers: what the teacher showed of each batch; empty where no proxy needs one.
        spec: classes, channels and size of the images.
        device: where networks run.
        own_spaces: names of the user's own spaces that may be imported.
        record_failures: whether a candidate that cannot be compared with the teacher has no score, as with any other failure (a study);
            otherwise it ends the run (a search, in which it is the teacher or the space that does not fit).
    """

    proxies: tuple[str, ...]
    init: Init
    batches: list[ProxyBatch]
    teachers: list[NetworkSummary]
    spec: ImageSpec
    device: str = "cpu"
    own_spaces: frozenset[str] = frozenset()
    record_failures: bool = False

    def to(self, device: str) -> ScoringContext:
        """The same for another device; what the teacher showed is moved there, images are as they are needed."""
        return replace(self, device=device, teachers=[teacher.to(device) for teacher in self.teachers])


def make_scoring_context(
    config: ScoreConfig, ranking: Ranking, data: Dataset, device: str = "cpu", own_spaces: frozenset[str] = frozenset()
) -> ScoringContext:
    """Draw the batches, and observe the teacher once for each seed, where a proxy of the ranking needs it."""
    seeds = [config.seed * 1000 + number for number in range(config.seeds or ranking.seeds)]
    batches = proxy_batches(data, config.batch_size or ranking.batch_size, seeds)
    needs = frozenset().union(*(get_proxy(name).needs for name in ranking.parts))
    if "teacher" in needs:
        teachers = _observe_teacher(config, data, batches, device, needs)
    else:
        teachers = []
        _check_teacher(config, data, batches[0])
    return ScoringContext(ranking.parts, config.init, batches, teachers, data.spec, device, own_spaces)


def _check_teacher(config: ScoreConfig, data: Dataset, batch: ProxyBatch) -> None:
    """Refuse weights and a normalisation that cannot be used, though no proxy needs them: the distillation after the search will."""
    renormalised(batch.images, config.teacher_norm, data)
    if config.teacher_weights != "random":
        build_teacher(config.teacher, data.spec, config.teacher_weights, needs=_MAPS)


def _observe_teacher(
    config: ScoreConfig, data: Dataset, batches: list[ProxyBatch], device: str, needs: frozenset[str]
) -> list[NetworkSummary]:
    """Observe the teacher on each batch, on batch statistics. A random teacher is initialised anew for each."""
    shown = FINAL if "teacher:classifier" in needs or config.teacher_weights == "random" else _MAPS
    model = disable_inplace(to_device(build_teacher(config.teacher, data.spec, config.teacher_weights, needs=shown), device))
    kept = frozenset({"blocks", "graph"} if "teacher:graph" in needs else {"blocks"})
    summaries = []
    with single_thread(device):
        for batch in batches:
            images = renormalised(batch.images, config.teacher_norm, data).to(device)
            if config.teacher_weights == "random":
                initialise(model, config.init, batch.seed + TEACHER_SEED)
            with batch_statistics(model):
                summaries.append(ForwardPass(model, images, batch.target.to(device), kept).summarise())
    return summaries


def renormalised(images: Tensor, norm: str, data: Dataset) -> Tensor:
    """Images that are normalised by the statistics of the data set, as the teacher wants them."""
    if norm == "data":
        return images
    mean, std = (torch.as_tensor(values).view(-1, 1, 1) for values in data.statistics)
    new_mean, new_std = (values.view(-1, 1, 1) for values in normalisation(norm, mean.flatten(), std.flatten()))
    return (images * std + mean - new_mean) / new_std
