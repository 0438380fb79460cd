"""The options of a table of trained networks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from diswot.config.fields import option
from diswot.config.training import Augment, DistillConfig, Schedule
from diswot.errors import ConfigError

PHASES = ("early", "middle", "last")


def _with_default(name: str, default: Any) -> Any:
    """A field of `DistillConfig` with another default."""
    metadata = next(field.metadata for field in dataclasses.fields(DistillConfig) if field.name == name)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class TabulateConfig(DistillConfig):
    """Everything that decides the networks of a table and their accuracies. The recipe is a short one."""

    space: str = option("resnet_width", "search space: see `diswot list spaces`, or your own module:name", "What to tabulate")
    networks: int = option(48, "number of networks; all that the budget admits, where there are fewer", "What to tabulate", ge=2)
    params: str | None = option(None, "number of parameters: a maximum 0.4M, or a range 0.05M..0.4M", "What to tabulate")
    flops: str | None = option(None, "number of FLOPs (multiply-accumulates) for one image: a maximum or a range", "What to tabulate")
    depth: str | None = option(None, "layers on the longest path: a maximum or a range", "What to tabulate")
    search_fraction: float = option(
        0.5, "fraction of the networks that are taken from the searches of --from; the others are random", "What to tabulate", ge=0, le=1
    )
    search_phases: str = option(
        ",".join(PHASES), "which candidates of a search: of its first, its middle and its last tenth", "What to tabulate"
    )
    seeds: int = option(1, "number of trainings of each network, with random seeds from --seed on", "What to tabulate", ge=1)
    repeat_fraction: float = option(
        1 / 3, "fraction of the networks that are trained with one seed more, to compare seed with seed", "What to tabulate", ge=0, le=1
    )
    baseline_fraction: float = option(
        1 / 3, "fraction of the networks that are also trained by the labels alone", "What to tabulate", ge=0, le=1
    )
    group_size: int = option(4, "networks that are trained side by side under one forward pass of the teacher", "Speed", ge=1)

    epochs: int = _with_default("epochs", 8)
    sched: Schedule = _with_default("sched", "cosine")
    augment: Augment | None = _with_default("augment", "flip")
    val_interval: int = _with_default("val_interval", 1000)

    @property
    def phases(self) -> tuple[str, ...]:
        """The parts of a search that candidates are taken from."""
        return tuple(name.strip() for name in self.search_phases.split(",") if name.strip())

    def limits(self) -> dict[str, str | None]:
        """The budget as it was asked for."""
        return {"params": self.params, "flops": self.flops, "depth": self.depth}

    def training(self, loss: str, seed: int) -> DistillConfig:
        """The configuration of one training of the table."""
        return self.distillation(loss=loss, seed=seed)

    def check(self) -> None:
        super().check()
        self.refuse_sweep("tabulate")
        if not self.phases or set(self.phases) - set(PHASES):
            raise ConfigError(f"--search-phases {self.search_phases!r}: some of {', '.join(PHASES)}")
        self.training(self.loss, self.seed + self.seeds).check()
