"""The budget of a search: which networks of the space are within it, and what they cost."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from diswot.architecture import Architecture
from diswot.budget import UNLIMITED, Budget, CostCounter, Range
from diswot.config.scoring import SearchConfig
from diswot.errors import BudgetError, ConfigError
from diswot.latency.measure import Patience, describe_load, measure_latency, system_load
from diswot.latency.table import LatencyTable
from diswot.models.teachers import build_teacher, teacher_cost
from diswot.searching.trial import Trial
from diswot.space import ImageSpec, SearchSpace, load_space

logger = logging.getLogger(__name__)
_PATIENCE = Patience(seconds=0.1, longest=1.0)  # a candidate is timed so long
_MOST_REJECTED, _MOST_SECONDS = 20, 60.0  # networks that are too slow, and seconds spent on them, before none is looked for any more
_SAMPLES = 500  # random networks among which the nearest to an unreachable budget is named


@dataclass(frozen=True)
class CountedFeasibility:
    """The test of architectures against what can be counted: parameters, FLOPs, depth."""

    budget: Budget
    cost: CostCounter

    def admits(self, arch: Architecture) -> bool:
        """Whether a network is within the budget."""
        return self.budget.admits(self.cost(arch))

    def excess(self, arch: Architecture) -> float:
        """Return the distance of a network from the budget; 0 within."""
        return self.budget.excess(self.cost(arch))


class BudgetFeasibility:
    """The budget of a search, and the costs that it is held against. Every cost is counted, and every latency measured, once.

    Args:
        config: the limits. Parameters and FLOPs that it leaves open are limited to the teacher's.
        space: the search space.
        spec: classes, channels and size of the images.
        device: where latency is measured.

    Raises:
        BudgetError: no network of the space can meet the budget; the nearest is named.

    Attributes:
        rejected: how many networks were found outside the budget so far.
        latencies: what was measured, or read from the table, in milliseconds.
        on_measured: called with each network that is measured, and its latency; does nothing by default.
    """

    def __init__(self, config: SearchConfig, space: SearchSpace, spec: ImageSpec, device: str) -> None:
        self.config, self.space, self.spec, self.device = config, space, spec, torch.device(device)
        self.cost = CostCounter(space, spec)
        self.teacher = teacher_cost(config.teacher, spec)
        self.of_teacher = tuple(what for what in ("params", "flops") if config.limits()[what] is None)
        limits = {what: Range(0.0, float(getattr(self.teacher, what))) for what in self.of_teacher}
        self.budget = Budget.parse(config.limits()).intersect(limits)
        self.latencies: dict[Architecture, float] = {}
        self.on_measured: Callable[[Architecture, float], None] = lambda arch, latency: None
        self._too_slow_ones: list[float] = []  # milliseconds, until one network was admitted
        self._measuring = self._doubts = 0.0  # seconds; times that a figure was doubtful
        self.rejected = 0
        self.table = self._read_table() if config.latency_table is not None else None
        self._check_reachable()

    def admits(self, arch: Architecture) -> bool:
        """Whether a network is within the budget; latency is measured only where the rest is."""
        if not self.budget.admits(self.cost(arch)) or not self._is_fast_enough(arch):
            self.rejected += 1
            return False
        return True

    def _is_fast_enough(self, arch: Architecture) -> bool:
        """Whether a network is within the limit on latency.

        Raises:
            BudgetError: none was, for long.
        """
        if self.budget.latency is None:
            return True
        found = self.latency(arch)
        if found in self.budget.latency:
            self._measuring = -math.inf  # there are such networks
            return True
        self._too_slow_ones.append(found)
        if len(self._too_slow_ones) >= _MOST_REJECTED and self._measuring >= _MOST_SECONDS:
            raise self._too_slow()
        return False

    def excess(self, arch: Architecture) -> float:
        """Return the distance of a network from the counted limits; 0 within."""
        return self.budget.excess(self.cost(arch))

    def known_cost(self, arch: Architecture, what: str) -> float:
        """Return the params, flops or latency of a network; 0 for a latency that has not been measured."""
        if what == "latency":
            return self.latency(arch) if self.table is not None else self.latencies.get(arch, 0.0)
        return float(getattr(self.cost(arch), what))

    def latency(self, arch: Architecture) -> float:
        """The time of a forward pass in milliseconds: from the table, or measured once for each network, while nothing else runs."""
        if arch not in self.latencies and self.table is not None:
            self.latencies[arch] = self.table.latency(self.space, arch, self.spec)
        elif arch not in self.latencies:
            self.latencies[arch] = self._measure(self.space.build(arch, self.spec.num_classes, self.spec.in_chans))
            self.on_measured(arch, self.latencies[arch])
        return self.latencies[arch]

    def latency_to_show(self, arch: Architecture) -> float | None:
        """The latency of a network of any space; None where latencies are not asked for, or the table has none of its space."""
        if not self._is_timed:
            return None
        if arch.space == self.space.name:
            return self.latency(arch)
        if self.table is not None:
            return None
        return self._measure(load_space(arch.space).build(arch, self.spec.num_classes, self.spec.in_chans))

    def latency_of_teacher(self) -> float | None:
        """The teacher's latency; None where latencies are not asked for, or read from a table, which has none of teachers."""
        if not self._is_timed or self.table is not None:
            return None
        return self._measure(build_teacher(self.config.teacher, self.spec, needs=("logits",)))

    @property
    def _is_timed(self) -> bool:
        return self.budget.latency is not None or "latency" in self.config.pareto_costs

    def _measure(self, model: nn.Module) -> float:
        begun = time.monotonic()
        found = measure_latency(model, self.spec.shape, self.device, self.config.latency_batch_size, _PATIENCE, self._doubt)
        self._measuring += time.monotonic() - begun
        return found

    def _doubt(self, warning: str) -> None:
        """Tell once that measured times cannot be trusted."""
        if not self._doubts:
            logger.warning("latency: %s", warning)
        self._doubts += 1

    def _too_slow(self) -> BudgetError:
        """The error of a search that has measured for a while and found no network within the budget."""
        count, fastest = len(self._too_slow_ones), min(self._too_slow_ones)
        return BudgetError(
            f"--latency {self.config.latency}: none of the {count:,} networks of {self.space.name} that were measured is within it; the "
            f"fastest took {fastest:.3g} ms{self._where()}: raise the limit, limit --flops too, or use a --latency-table measured at rest"
        )

    def _where(self) -> str:
        """What a measured time depends on besides the network, in brackets; "" where times are read from a table."""
        if self.table is not None:
            return ""
        threads = "one thread" if self.device.type == "cpu" else self.device.type
        return f" ({', '.join(filter(None, (threads, describe_load(system_load()))))})"

    def _read_table(self) -> LatencyTable:
        table = LatencyTable.read(str(self.config.latency_table))
        table.check(self.space, self.spec)
        measured, asked = table.setup.batch_size, self.config.latency_batch_size
        if measured != asked:
            flag = "--latency-batch-size"
            raise ConfigError(f"{flag} {asked}: {table.path} was measured with {measured}: add {flag} {measured}")
        logger.info("latency by %s: %s", table.path, table.setup)
        return table

    def digests(self) -> dict[str, str]:
        """Digests of what decides the budget and lies outside the configuration: the latency table."""
        return {"latency table": self.table.digest} if self.table is not None else {}

    def remember(self, trials: Sequence[Trial]) -> None:
        """Take over the latencies that earlier trials were admitted by."""
        if trials:
            self._measuring = -math.inf
        self.latencies |= {trial.arch: trial.latency for trial in trials if trial.latency is not None}

    def nothing_found(self) -> BudgetError:
        """The error of a search that found no network within the budget."""
        rng = np.random.default_rng(self.config.seed)
        nearest = self.cost(min((self.space.sample(rng) for _ in range(_SAMPLES)), key=self.excess))
        limits = ", ".join(f"--{what} {self._limit_text(what)}" for what in self.budget.counted())
        return BudgetError(
            f"{limits}: no network of {self.space.name} was found within it; the nearest seen has {nearest.params:,} params, "
            f"{nearest.flops:,} flops, depth {nearest.depth}: widen the budget"
        )

    def _limit_text(self, what: str) -> str:
        """The limit as it was asked for, or the teacher's."""
        return f"{getattr(self.teacher, what):,} (the teacher's)" if what in self.of_teacher else str(getattr(self.config, what))

    def describe_teachers_limits(self) -> str:
        """Return a line that says what is limited by the teacher; "" where nothing is."""
        names = {"params": "parameters", "flops": "FLOPs"}
        limits = " and ".join(f"{getattr(self.teacher, what):,} {names[what]}" for what in self.of_teacher)
        lifted = " ".join(f"--{what} {UNLIMITED}" for what in self.of_teacher)
        return f"students have at most the {limits} of the teacher ({lifted}: no such limit)" if limits else ""

    def _check_reachable(self) -> None:
        name = self.space.name
        if not self.budget.counted() and self.budget.latency is None and self.space.enumerate() is None:
            raise BudgetError(f"a search in {name} needs a budget: --params 1M, --flops 100M, --depth 20 or --latency 5ms")
        extremes = self.space.extremes()
        for what, limit in self.budget.counted().items():
            least, most = (extreme(getattr(self.cost(arch), what) for arch in extremes) for extreme in (min, max))
            if limit.high < least:
                remedy = f": --{what} {UNLIMITED} lifts the limit" if what in self.of_teacher else ""
                raise BudgetError(f"--{what} {self._limit_text(what)}: the smallest network of {name} has {least:,} {what}{remedy}")
            if limit.low > most:
                raise BudgetError(f"--{what} {getattr(self.config, what)}: the largest network of {name} has {most:,} {what}")

    def check_fast_enough(self) -> None:
        """Measure the smallest network.

        Raises:
            BudgetError: it takes twice as long as the limit on latency allows.
        """
        if self.budget.latency is None:
            return
        fastest = self.latency(min(self.space.extremes(), key=lambda arch: self.cost(arch).flops))
        if fastest > 2 * self.budget.latency.high:
            raise BudgetError(
                f"--latency {self.config.latency}: the smallest network of {self.space.name} takes {fastest:.2g} ms here{self._where()}"
            )
