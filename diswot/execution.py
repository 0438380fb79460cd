"""The settings that a run is carried out with, and that its outcome does not depend on."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, field

from diswot.devices import choose_device, cpu_count
from diswot.errors import ConfigError
from diswot.progress import NullReporter, Reporter


@dataclass(frozen=True)
class Execution:
    """The device and the number of processes that a run is carried out with.

    Attributes:
        device: auto, cpu, cuda or mps.
        workers: scoring processes on a CPU, 0 for one a core.
        reporter: shown the progress.
        executor: any `concurrent.futures.Executor` (dask's, mpi4py's, ...) that scores in place of local processes.
        tensorboard: write TensorBoard's files into the folder of a training.
    """

    device: str = "auto"
    workers: int = 0
    reporter: Reporter = field(default_factory=NullReporter)
    executor: Executor | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ConfigError(f"--workers {self.workers}: 0 (one for each core) or more is needed")

    def choose_device(self) -> str:
        """The device that there is: cpu, cuda or mps.

        Raises:
            ConfigError: the one that was asked for is not there.
        """
        return choose_device(self.device)

    def num_workers(self, device: str, candidates: int | None = None, least_each: int = 1) -> int:
        """The number of scoring processes: as asked for; else one for each core of a CPU, and one for an accelerator, which is not shared.

        Args:
            device: from `choose_device`.
            candidates: how many there are to score, where that is known and bounds the processes that are worth starting.
            least_each: candidates for which a process, which takes seconds to start, is worth starting.

        >>> Execution().num_workers("cuda"), Execution(workers=3).num_workers("cpu")
        (1, 3)
        """
        default = cpu_count() if device == "cpu" else 1
        return self.workers or (default if candidates is None else max(1, min(default, candidates // least_each)))
