"""Trainings side by side: each a run in a folder of its own, by the workers of any executor."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from diswot.devices import kind_of_device
from diswot.execution import Execution
from diswot.executors.dispatcher import Dispatcher
from diswot.executors.named import LOCAL, open_pool
from diswot.executors.tasks import worker_device
from diswot.training.loop import METRICS

TICK = 2.0  # seconds between two looks at how far the trainings are


@contextlib.contextmanager
def train_side_by_side(execution: Execution, train: Callable[[str, Any], dict[str, Any]], folder: Path) -> Iterator[Dispatcher]:
    """A dispatcher of trainings, one at a time for each worker. One whose worker dies is called again with the same item, and goes on where
    its folder was left.

    Args:
        execution: who trains.
        train: (device, item) -> outcome, a function of a module.
        folder: that all workers see.
    """
    devices = execution.choose_devices()
    workers = execution.num_workers(devices[0]) if execution.executor == LOCAL else execution.workers
    with open_pool(execution.executor, workers, devices, folder) as pool:
        context = train, kind_of_device(devices[0])
        with Dispatcher(pool, _train, context, _blame, execution.patience, most_items=1) as dispatcher:
            yield dispatcher


def epochs_done(folder: Path) -> int:
    """The number of epochs that the training in a folder has behind it."""
    with contextlib.suppress(OSError):
        return (folder / METRICS).read_bytes().count(b"\n")
    return 0


def _train(context: tuple[Callable[[str, Any], dict[str, Any]], str], item: Any) -> dict[str, Any]:
    train, device = context
    return train(worker_device() or device, item)


def _blame(_item: Any, reason: str) -> dict[str, Any]:
    return {"error": reason}
