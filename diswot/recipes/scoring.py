"""What search and `diswot score` share: from options to a setting, and from raw scores to a ranking; and the scoring recipe itself."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from diswot.architecture import Architecture, read_arch_json
from diswot.budget import cost_of
from diswot.data import load_data, proxy_batches
from diswot.devices import choose_device
from diswot.engine import Engine, Setting, default_workers, make_setting
from diswot.errors import ArchitectureError, RunError, shown
from diswot.options import ScoreConfig
from diswot.proxies import Ranking, resolve_ranking, see_teacher
from diswot.ranking import Vector
from diswot.registry import suggest
from diswot.space import BUILT_IN, Cost, SearchSpace, load_space
from diswot.teacher import file_digest

_CIFAR_SIZE = 32
_MOST_PARAMS = 2_000_000_000


def prepare(config: ScoreConfig, device: str, space: SearchSpace) -> tuple[Ranking, Setting]:
    """The ranking and the setting that a configuration asks for, for networks of `space`."""
    config.check()
    ranking = resolve_ranking(config.proxy, config.combine)
    drawn = config.data in ("synthetic", "noise")
    space_size = space.input_size if drawn or space.input_size != _CIFAR_SIZE else None
    images = {**config.image_options(), "input_size": config.input_size or space_size}
    data = load_data(config.data, **images, seed=config.seed)
    setting = make_setting(
        ranking.parts,
        teacher=config.teacher,
        teacher_weights=config.teacher_weights,
        teacher_norm=config.teacher_norm,
        statistics=data.statistics,
        init=config.init,
        batches=proxy_batches(data, config.batch or ranking.batch, [config.seed * 1000 + i for i in range(config.seeds or ranking.seeds)]),
        num_classes=data.num_classes,
        device=device,
        space_modules=frozenset() if space.name in BUILT_IN else frozenset([space.name]),
    )
    if setting.teachers:
        ranking = see_teacher(ranking, config.proxy, setting.teachers)
    return ranking, replace(setting, proxies=ranking.parts)


def setting_digests(config: ScoreConfig, setting: Setting, space: SearchSpace) -> dict[str, str]:
    """Digests of what lies outside the configuration and decides the scores: the space's code where it is the user's own, the images, the
    teacher's weights, the device."""
    pixels = hashlib.sha256()
    for batch in setting.batches:
        pixels.update(batch.images.contiguous().numpy().tobytes() + batch.target.numpy().tobytes())
    path = Path(config.teacher_weights)
    weights = file_digest(path) if path.is_file() else config.teacher_weights
    shape = f"{setting.num_classes} classes, {setting.in_chans} x {setting.input_size} x {setting.input_size}"
    own = "" if space.name in BUILT_IN else f" {file_digest(Path(inspect.getfile(type(space))))}"
    digests = {"images": pixels.hexdigest()[:12], "shape": shape, "teacher weights": weights, "device": setting.device}
    return {"space": space.name + own, **digests}


def refuse_giant(arch: Architecture, cost: Cost) -> None:
    """`ArchitectureError` for a network that no machine here can hold, before it is built."""
    if cost.params > _MOST_PARAMS:
        raise ArchitectureError(f"{arch.space} {arch.digest}: {cost.params:,} parameters are too many to build (at most {_MOST_PARAMS:,})")


def fitness_of(ranking: Ranking, scores: Sequence[Mapping[str, Sequence[float]]]) -> Vector:
    """One number for each candidate, higher is better: its scores averaged over the seeds, then combined over the candidates."""
    table = [[float(np.mean(one[name])) for name in ranking.parts] for one in scores]
    return ranking.fitness(table)


def numbers(values: Any, count: int) -> bool:
    """Whether a journal's entry is `count` numbers."""
    return isinstance(values, list) and len(values) == count and all(isinstance(v, float | int) for v in values)


def read_architecture(text: str) -> tuple[Architecture, dict[str, Any]]:
    """An architecture from what a user types: a file (arch.json), a NAS-Bench-201 string, or the name of a hand-made network; and
    how it was found, where the file says.

    >>> read_architecture("resnet20")
    (Architecture(space='zoo', choices='resnet20'), {})
    """
    import timm

    from diswot.models.zoo import ZOO, zoo_name

    if text.startswith("|"):
        return Architecture("nasbench201", text), {}
    if Path(text).is_file() or text.endswith(".json"):
        return read_arch_json(text)
    if zoo_name(text) in ZOO:
        return Architecture("zoo", zoo_name(text)), {}
    if timm.is_model(text.removeprefix("timm/")):
        return Architecture("zoo", f"timm/{text.removeprefix('timm/')}"), {}
    raise ArchitectureError(f"{shown(text)} is no file, no NAS-Bench-201 string and no hand-made network: {suggest(text, ZOO)}"[:300])


@dataclass(frozen=True)
class ScoreRow:
    """One architecture's outcome: `scores` by proxy, one number for each seed; `place` among those scored together, 1 the best."""

    arch: Architecture
    cost: Cost
    scores: dict[str, list[float]]
    place: int


def run_score(
    config: ScoreConfig, archs: Sequence[Architecture], *, space: str | None = None, device: str = "auto", workers: int = 0
) -> list[ScoreRow]:
    """Scores given architectures.

    Args:
        archs: of one space or of several; all see the same images.
        space: a space of your own that may be imported.
        workers: processes on a CPU; 0 for one a core, as far as there is work for them.

    Raises:
        DiswotError: among others where a candidate cannot be scored.
    """
    if space is not None:
        load_space(space, trusted=True)
    spaces = {arch.space: load_space(arch.space, trusted=arch.space == space) for arch in archs}
    if not spaces:
        raise ArchitectureError("no architecture was given: name an arch.json, a NAS-Bench-201 string or a network such as resnet20")
    for arch in archs:
        spaces[arch.space].check(arch)
    first = max(spaces.values(), key=lambda s: (s.name not in BUILT_IN, s.input_size))
    device = choose_device(device)
    ranking, setting = prepare(config, device, first)
    for arch in archs:
        refuse_giant(arch, cost_of(spaces[arch.space], arch, setting.num_classes, setting.in_chans, setting.input_size))
    processes = workers or max(1, min(default_workers(device), len(archs) // 8))  # a process takes seconds to start
    with Engine(setting, processes) as engine:
        scored = list(engine.score(archs))
    for arch, one in zip(archs, scored, strict=True):
        if one.reason is not None:
            raise RunError(f"{arch!s:.100} cannot be scored: {one.reason}")
    fitness = fitness_of(ranking, [one.scores for one in scored])
    places = [int((fitness > value).sum()) + 1 for value in fitness]
    return [ScoreRow(arch, one.cost, one.scores, place) for arch, one, place in zip(archs, scored, places, strict=True)]
