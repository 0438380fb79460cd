"""The settings that a run is carried out with, and that its outcome does not depend on."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from dataclasses import dataclass, field

from diswot.devices import choose_devices, cpu_count
from diswot.errors import ConfigError, brief_repr
from diswot.executors.named import LOCAL, check_name
from diswot.progress import NullReporter, Reporter

_MOST_WORKERS = 100_000
_OF_REPORTERS = ("start", "update", "log", "stop")


@dataclass(frozen=True)
class Execution:
    """The device and the workers that a run is carried out with.

    Attributes:
        device: auto, cpu, cuda, mps, or several: cuda:0,cuda:1.
        workers: processes or jobs side by side; 0 for one a core of a CPU, one an accelerator, and as many as another executor has.
        reporter: shown the progress.
        executor: `local`, `dask:tcp://HOST:8786`, `slurm`, ... (`diswot.executors.named.check_name`), or a `concurrent.futures.Executor`
            that is open.
        patience: seconds that one candidate, or one group of trainings, may take before its worker is taken for hung and ended; None for
            half an hour for a candidate, and any time for trainings.
        cache: whether scores of earlier runs are taken from, and new ones kept in, the user's store.
        tensorboard: write TensorBoard's files into the folder of a training.
        report: write the run's page, report.html, at its end; by default unless the environment says DISWOT_REPORT=off.
    """

    device: str = "auto"
    workers: int = 0
    reporter: Reporter = field(default_factory=NullReporter)
    executor: str | Executor = LOCAL
    patience: float | None = None
    cache: bool = True
    tensorboard: bool = False
    report: bool = field(default_factory=lambda: os.environ.get("DISWOT_REPORT") != "off")

    def __post_init__(self) -> None:
        self._check_types()
        if not 0 <= self.workers <= _MOST_WORKERS:
            raise ConfigError(f"--workers {brief_repr(self.workers)}: 0 (one for each core) to {_MOST_WORKERS:,} is needed")
        if self.patience is not None and not self.patience > 0:
            raise ConfigError(f"--patience {self.patience:g}: a number of seconds above 0 is needed")
        if isinstance(self.executor, str):
            check_name(self.executor)

    def _check_types(self) -> None:
        wrong = {
            "device": "" if isinstance(self.device, str) else "text such as cpu or cuda:1",
            "workers": "" if type(self.workers) is int else "a whole number",
            "executor": "" if isinstance(self.executor, str | Executor) else "a name, or an executor of concurrent.futures",
            "patience": "" if self.patience is None or type(self.patience) in (int, float) else "a number of seconds",
            "cache": "" if isinstance(self.cache, bool) else "true or false",
            "tensorboard": "" if isinstance(self.tensorboard, bool) else "true or false",
            "reporter": "" if all(hasattr(self.reporter, name) for name in _OF_REPORTERS) else f"an object with {', '.join(_OF_REPORTERS)}",
        }
        for name, needed in wrong.items():
            if needed:
                raise ConfigError(f"--{name} {brief_repr(getattr(self, name))}: {needed} is needed")

    def choose_devices(self) -> tuple[str, ...]:
        """The devices that there are: cpu, cuda, cuda:1, mps.

        Raises:
            ConfigError: one that was asked for is not there.
        """
        return choose_devices(self.device)

    def choose_device(self) -> str:
        """The first of the devices: where a teacher is observed, and latency measured."""
        return self.choose_devices()[0]

    def only_device(self) -> str:
        """The device of a training, which has one; several processes with one each are started by torchrun.

        Raises:
            ConfigError: several were asked for.
        """
        if len(devices := self.choose_devices()) > 1:
            raise ConfigError(f"--device {self.device}: a training has one device; for several, start it by torchrun")
        return devices[0]

    def num_workers(self, device: str, candidates: int | None = None, least_each: int = 1) -> int:
        """The number of local processes: as asked for; else one for each core of a CPU, and one for each accelerator.

        Args:
            device: from `choose_device`.
            candidates: how many there are to score, where that is known and bounds the processes that are worth starting.
            least_each: candidates for which a process, which takes seconds to start, is worth starting.

        >>> Execution(device="cpu").num_workers("mps"), Execution(workers=3).num_workers("cpu")
        (1, 3)
        """
        default = cpu_count() if device == "cpu" else self.device.count(",") + 1
        return self.workers or (default if candidates is None else max(1, min(default, candidates // least_each)))
