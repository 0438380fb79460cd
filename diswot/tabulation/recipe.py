"""The recipe of `diswot tabulate`: from a space and a budget to a table of trained networks."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from diswot import runs
from diswot.budget import Budget
from diswot.config import TabulateConfig, to_dict
from diswot.data import load_data
from diswot.devices import single_thread, to_device
from diswot.distillation.context import TrainingContext
from diswot.distillation.plan import DEFAULT_DATA, DistillPlan, plan_distillation, restore_config, weights_digests
from diswot.distillation.students import StudentEntry, build_student
from diswot.distillation.teachers import make_teacher
from diswot.errors import ConfigError, RunError, brief_repr
from diswot.execution import Execution
from diswot.progress import duration
from diswot.runs import RunDir, finite, is_number
from diswot.space import ImageSpec, SearchSpace, load_space
from diswot.tabulation.networks import NETWORKS, TableNetwork, choose_networks, networks_json, read_networks
from diswot.tabulation.table import TABLE, Agreement, agreements, table_csv
from diswot.tabulation.trainings import Group, GroupRunner, Training, make_groups, plan_trainings

logger = logging.getLogger(__name__)
JOURNAL = "trainings.jsonl"
_TIMED = 3  # networks, from the smallest to the largest, that a step is timed on beforehand
_FORWARD = 1 / 3  # of a training step's time is its forward pass


@dataclass(frozen=True, repr=False)
class TabulateResult:
    """The result of a tabulation.

    Attributes:
        networks: the networks of the table.
        accuracies: by training, the top-1 accuracy in percent after its last epoch.
        failed: by training, the reason why it has none.
        agreements: how far one training of a network can be trusted to rank it as another would.
        seconds: median of the time of a training, in seconds; None where all were resumed.
        table: path of the CSV.
        folder: the run's folder.
    """

    networks: list[TableNetwork]
    accuracies: dict[Training, float]
    failed: dict[Training, str]
    agreements: list[Agreement]
    seconds: float | None
    table: Path
    folder: Path

    def __repr__(self) -> str:
        """What was trained, in a line."""
        return f"TabulateResult({len(self.accuracies)} trainings of {len(self.networks)} networks; table={str(self.table)!r})"

    def summary(self) -> dict[str, Any]:
        """The result as plain values, which JSON can hold."""
        trainings = [{**asdict(training), "top1": top1} for training, top1 in self.accuracies.items()]
        trainings += [{**asdict(training), "failed": reason} for training, reason in self.failed.items()]
        agreements = [finite(asdict(agreement)) for agreement in self.agreements]
        return {"trainings": trainings, "agreements": agreements, "seconds": self.seconds, "table": str(self.table)}


@dataclass(frozen=True)
class TabulatePlan:
    """The checked plan of `diswot tabulate`; `plan_tabulation` makes one.

    Attributes:
        config: the options.
        searches: folders of the searches that networks are taken from.
    """

    config: TabulateConfig
    searches: tuple[Path, ...] = ()

    kind: ClassVar[str] = "tabulate"

    def space(self) -> SearchSpace:
        """The search space."""
        return load_space(self.config.space, trusted=True)

    def distillation(self, loss: str, seed: int, networks: Sequence[TableNetwork]) -> DistillPlan:
        """The plan of the trainings of some networks with this loss and seed.

        Raises:
            DiswotError: what cannot be trained so.
        """
        plan = plan_distillation(self.config.training(loss, seed), [StudentEntry(network.arch) for network in networks])
        if len(plan.losses) > 1:
            raise ConfigError(f"--loss {loss}: a table is of one loss; make one table for each")
        if not plan.scheme.independent_students:
            raise ConfigError(f"loss {loss}: students that learn from each other are not ranked one by one; use another loss")
        return plan

    def document(self) -> dict[str, Any]:
        """Return the part of the plan that is kept with the run."""
        return {**to_dict(self.config), "searches": [str(folder) for folder in self.searches], **weights_digests(self.config)}

    def files(self) -> dict[str, str]:
        """Texts that are kept with the run, by file name: none."""
        return {}

    @classmethod
    def restore(cls, document: Mapping[str, Any], folder: Path) -> TabulatePlan:
        """The plan of a run that is resumed."""
        searches = tuple(Path(str(path)) for path in document.get("searches") or ())
        return cls(restore_config({key: value for key, value in document.items() if key != "searches"}, TabulateConfig), searches)


def plan_tabulation(config: TabulateConfig, searches: Sequence[str | Path] = ()) -> TabulatePlan:
    """Plan a table, with every check that needs no images.

    Raises:
        DiswotError: options that cannot be, an unknown space, a folder without a search.
    """
    config.check()
    Budget.parse(config.limits())
    plan = TabulatePlan(replace(config, data=config.data or DEFAULT_DATA), tuple(map(Path, searches)))
    plan.space()
    for folder in plan.searches:
        if (kind := runs.kind_of(folder)) != "search":
            raise RunError(f"--from {folder}: a run of `diswot {kind}`, not of `diswot search`")
    return plan


def run_tabulate(plan: TabulatePlan, run: RunDir | None, execution: Execution) -> TabulateResult:
    """Train the networks and write the table after every group of them, or go on where the run was left.

    Raises:
        DiswotError: whatever a user can mend, in one line.
    """
    assert run is not None
    return _Tabulation(plan, run, execution).finish()


class _Tabulation:
    """The state of a run: its networks, its trainings, and what has come of them."""

    def __init__(self, plan: TabulatePlan, run: RunDir, execution: Execution) -> None:
        self.plan, self.config, self.run, self.execution = plan, plan.config, run, execution
        self.device = execution.choose_device()
        self.workers = execution.num_workers(self.device)
        self.networks = self._choose()
        self.trainings = plan_trainings(self.config, len(self.networks))
        self.accuracies: dict[Training, float] = {}
        self.failed: dict[Training, str] = {}
        self.measured_on = "test"
        for record in run.read(JOURNAL, repair=True):
            self._note(record)

    def _choose(self) -> list[TableNetwork]:
        path, space = self.run.path / NETWORKS, self.plan.space()
        if path.exists():
            return read_networks(path, space)
        spec = load_data(str(self.config.data), **self.config.image_options()).spec
        networks = choose_networks(self.config, self.plan.searches, space, spec)
        self._try(networks)
        runs.write_atomic(path, networks_json(networks))
        return networks

    def _try(self, networks: Sequence[TableNetwork]) -> None:
        """Take one step with every network, so that what cannot be fails here, and train the teacher where it has no weights."""
        plan = self.plan.distillation(self.config.loss, self.config.seed, networks)
        context = TrainingContext.load(plan, replace(self.execution, device=self.execution.choose_device()))
        if plan.scheme.uses_teacher:
            make_teacher(context, self.run)
        self._tell_cost(networks, context)

    def _tell_cost(self, networks: Sequence[TableNetwork], context: TrainingContext) -> None:
        """Log how long the trainings will take."""
        seconds_each = self._seconds_of_image(networks, context.splits.data.spec)
        trainings = plan_trainings(self.config, len(networks))
        images = self.config.epochs * len(context.splits.chosen)
        tested = sum(len(images.labels) for images in context.splits.tests.values()) * _FORWARD
        each = [(images + tested) * seconds_each[training.network] for training in trainings]
        logger.info(
            "%s networks, %s trainings of %s epochs on %s images: %s to %s each and the teacher's passes, about %s in all, %s at a time",
            *(len(networks), len(trainings), self.config.epochs, f"{len(context.splits.chosen):,}"),
            *(duration(min(each)), duration(max(each)), duration(sum(each) / self.workers), self.workers),
        )

    def _seconds_of_image(self, networks: Sequence[TableNetwork], spec: ImageSpec) -> list[float]:
        """The time that a training step takes for one image, by the FLOPs of the network, from a few that are timed."""
        flops = np.array([network.cost.flops for network in networks], np.float64)
        order = np.argsort(flops)
        timed = [int(order[place]) for place in np.linspace(0, len(order) - 1, _TIMED).round().astype(int)]
        with single_thread(self.device):
            seconds = [self._time_step(networks[index], spec) for index in timed]
        return [float(value) for value in np.interp(flops, flops[timed], seconds)]

    def _time_step(self, network: TableNetwork, spec: ImageSpec) -> float:
        model = to_device(build_student(network.arch, spec, 0, trusted=True), self.device).train()
        batch = self.config.batch_size
        images = torch.randn(batch, *spec.shape, device=self.device).to(memory_format=torch.channels_last)
        target = torch.zeros(batch, dtype=torch.int64, device=self.device)
        for _ in range(2):  # the first warms up
            start = time.perf_counter()
            F.cross_entropy(model(images), target).backward()  # type: ignore[no-untyped-call]
            if self.device != "cpu":
                torch.accelerator.synchronize()
        return (time.perf_counter() - start) / batch

    def finish(self) -> TabulateResult:
        """Carry out the trainings that are left."""
        left = [group for group in make_groups(self.trainings, self.config.group_size) if not self._is_done(group)]
        reporter = self.execution.reporter

        def show() -> None:
            under_way = sum(runner.epochs_done(group) * len(group.trainings) for group in left if not self._is_done(group))
            reporter.update(self._ended * self.config.epochs + under_way, self._line)

        runner = GroupRunner(self.run.path / "trainings", self._plan_of, self.execution, show)
        reporter.start(len(self.trainings) * self.config.epochs, self._ended * self.config.epochs, "epoch")
        for group, outcome in runner.run(left):
            self._record(group, outcome)
            self._write_table()
        show()
        reporter.stop()
        if not self.accuracies:
            raise RunError(f"no network could be trained; the first failed with: {next(iter(self.failed.values()))}")
        path = self._write_table()
        config = self.config
        agreeing = agreements(self.accuracies, config.loss, config.seed, config.seed + config.seeds)
        result = TabulateResult(self.networks, self.accuracies, self.failed, agreeing, runner.median_seconds(), path, self.run.path)
        self.run.write_result(result.summary())
        return result

    @property
    def _ended(self) -> int:
        """The number of trainings that have ended, well or not."""
        return len(self.accuracies) + len(self.failed)

    def _is_done(self, group: Group) -> bool:
        return all(training in self.accuracies or training in self.failed for training in group.trainings)

    def _plan_of(self, group: Group) -> DistillPlan:
        first = group.trainings[0]
        return self.plan.distillation(first.loss, first.seed, [self.networks[training.network] for training in group.trainings])

    def _record(self, group: Group, outcome: Mapping[str, Any]) -> None:
        """Write what came of a group into the journal."""
        facts = {key: outcome[key] for key in ("teacher", "measured_on", "images", "error") if key in outcome}
        top1 = outcome.get("top1") or [None] * len(group.trainings)
        for training, value in zip(group.trainings, top1, strict=True):
            if training in self.accuracies or training in self.failed:
                continue  # written before the run was cut off
            record = {"network": training.network, "loss": training.loss, "seed": training.seed, "top1": value, **facts}
            self.run.append(JOURNAL, record)
            self._note(record)

    def _note(self, record: Mapping[str, Any]) -> None:
        try:
            training = Training(int(record["network"]), str(record["loss"]), int(record["seed"]))
            if record["top1"] is None:
                self.failed[training] = str(record["error"])
                return
            if not is_number(record["top1"]):
                raise ValueError(f"a number for top1, it has {brief_repr(record['top1'])}")
            self.accuracies[training] = float(record["top1"])
            self.measured_on = str(record["measured_on"])
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{self.run.path / JOURNAL}: a line lacks {error}: the journal is damaged, start a new run") from None

    def _write_table(self) -> Path:
        """Write the CSV whole, with what there is so far."""
        config, path = self.config, self.run.path / TABLE
        dataset = re.sub(r"\W+", "_", Path(str(config.data)).name.partition(".")[0])
        split = "test" if self.measured_on == "test" else "valid"
        seeds = range(config.seed, config.seed + config.seeds)
        runs.write_atomic(path, table_csv(self.networks, self.accuracies, config.loss, seeds, dataset, split))
        return path

    def _line(self) -> str:
        best = f", best {max(self.accuracies.values()):.2f}" if self.accuracies else ""
        return f"{self._ended} of {len(self.trainings)} trainings{best}"
