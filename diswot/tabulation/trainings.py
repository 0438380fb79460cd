"""The trainings of a table: which there are, and groups of them carried out in processes of their own."""

from __future__ import annotations

import json
import logging
import math
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diswot import runs
from diswot.config import TabulateConfig
from diswot.devices import single_thread
from diswot.distillation.plan import DistillPlan
from diswot.distillation.recipe import distill_in
from diswot.distillation.side_by_side import TICK, epochs_done, train_side_by_side
from diswot.errors import DiswotError
from diswot.execution import Execution
from diswot.executors.dispatcher import Dispatcher

logger = logging.getLogger(__name__)
ALONE = "none"  # the loss of a training by the labels alone


@dataclass(frozen=True)
class Training:
    """One training: the number of its network in the table, its loss and its random seed."""

    network: int
    loss: str
    seed: int


def plan_trainings(config: TabulateConfig, networks: int) -> list[Training]:
    """The trainings of a table: every network under its teacher for each seed, then those that are repeated or trained alone."""
    seeds = range(config.seed, config.seed + config.seeds)
    main = [Training(network, config.loss, seed) for seed in seeds for network in range(networks)]
    repeats = [Training(network, config.loss, config.seed + config.seeds) for network in _share(config.repeat_fraction, networks)]
    fraction = config.baseline_fraction if config.loss != ALONE else 0.0
    alone = [Training(network, ALONE, config.seed) for network in _share(fraction, networks)]
    return [*main, *repeats, *alone]


def _share(fraction: float, count: int) -> list[int]:
    """Return a fraction of the numbers below `count`, evenly spread.

    >>> _share(1 / 3, 7), _share(0.0, 7), _share(1.0, 2)
    ([2, 5], [], [0, 1])
    """
    whole = [math.floor((number + 1) * fraction + 1e-9) > math.floor(number * fraction + 1e-9) for number in range(count)]
    return [number for number in range(count) if whole[number]]


def loss_name(loss: str) -> str:
    """Return the name of a loss for a file or a column.

    >>> loss_name("dkd(beta=2) + 0.5*rkd")
    'dkd_beta_2_0_5_rkd'
    """
    return re.sub(r"\W+", "_", loss).strip("_")


@dataclass(frozen=True)
class Group:
    """Trainings with one loss and one seed, which share a process and the forward passes of the teacher."""

    trainings: tuple[Training, ...]

    @property
    def name(self) -> str:
        """The name of its folder."""
        first = self.trainings[0]
        numbers = "-".join(str(training.network) for training in self.trainings)
        return f"{loss_name(first.loss)}-seed{first.seed}-{numbers}"[:120]

    def alone(self) -> list[Group]:
        """The same trainings, each by itself."""
        return [Group((training,)) for training in self.trainings]


def make_groups(trainings: Sequence[Training], size: int) -> list[Group]:
    """Divide trainings, in their order, into groups of one loss and seed.

    >>> [group.name for group in make_groups([Training(n, "kd", 0) for n in range(3)] + [Training(2, "kd", 1)], 2)]
    ['kd-seed0-0-1', 'kd-seed0-2', 'kd-seed1-2']
    """
    groups: list[list[Training]] = []
    for training in trainings:
        last = groups[-1] if groups else []
        if last and len(last) < size and (last[0].loss, last[0].seed) == (training.loss, training.seed):
            last.append(training)
        else:
            groups.append([training])
    return [Group(tuple(group)) for group in groups]


class GroupRunner:
    """Carries groups out, several side by side, each by a worker on one thread.

    A group that was cut off goes on where it was left. One whose training fails is taken apart, so that only the network that is to blame
    has no accuracy; one whose worker dies is gone on with by another.

    Args:
        folder: where the runs of the groups are kept; workers elsewhere must see it too.
        plan_of: makes the plan of a group.
        execution: who carries them out.
        tick: called every few seconds.
    """

    def __init__(self, folder: Path, plan_of: Callable[[Group], DistillPlan], execution: Execution, tick: Callable[[], None]) -> None:
        self.folder, self.plan_of, self.execution, self.tick = folder.resolve(), plan_of, execution, tick
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, groups: Sequence[Group]) -> Iterator[tuple[Group, dict[str, Any]]]:
        """Yield every group with its outcome as it ends: `top1` by student, or `error` for a group of one."""
        with train_side_by_side(self.execution, _train_group, self.folder) as dispatcher:
            handed_out = {self._add(dispatcher, group): group for group in groups}
            while len(dispatcher):
                ended = dispatcher.completed(TICK)
                self.tick()
                for number, outcome in ended:
                    group = handed_out.pop(number)
                    if "error" in outcome and len(group.trainings) > 1:
                        logger.warning("%s: %s; its networks are trained one by one", group.name, outcome["error"])
                        handed_out |= {self._add(dispatcher, one): one for one in group.alone()}
                    else:
                        yield group, outcome

    def _add(self, dispatcher: Dispatcher, group: Group) -> int:
        return dispatcher.add((self.plan_of(group), self.folder / group.name, self._outcome_file(group)))

    def _outcome_file(self, group: Group) -> Path:
        return self.folder / f"{group.name}.json"

    def median_seconds(self) -> float | None:
        """The median over the groups of the time that a training took; None where all were resumed. It is kept out of the journal, which is
        the same however a run was cut off."""
        outcomes = map(runs.read_object, self.folder.glob("*.json"))
        times = [float(outcome["seconds"]) for outcome in outcomes if outcome.get("seconds") is not None]
        return statistics.median(times) if times else None

    def epochs_done(self, group: Group) -> int:
        """The number of epochs that a group has behind it."""
        return epochs_done(self.folder / group.name)


def _train_group(device: str, item: tuple[DistillPlan, Path, Path]) -> dict[str, Any]:
    """Carry a group out, leave its outcome in a file, and return it."""
    plan, folder, outcome_file = item
    if outcome_file.exists():
        return runs.read_object(outcome_file)
    resumed, began = (folder / "config.yaml").exists(), time.monotonic()
    outcome: dict[str, Any]
    try:
        with single_thread(device):
            result = distill_in(folder, plan, Execution(device))
        top1 = [student.accuracy.top1 for student in result.students]
        facts = {"measured_on": result.measured_on, "images": result.student.count}
        outcome = {"top1": top1, "teacher": result.teacher.top1 if result.teacher else None, **facts}
        outcome["seconds"] = None if resumed else (time.monotonic() - began) / len(top1)
    except DiswotError as error:
        outcome = {"error": str(error)}
    runs.write_atomic(outcome_file, json.dumps(outcome) + "\n")
    return outcome
