"""The metrics of a training in other formats: metrics.csv for spreadsheets, TensorBoard's files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diswot.errors import ConfigError
from diswot.runs import write_atomic

CSV, BOARD = "metrics.csv", "tensorboard"


class Logs:
    """Writes the history of a training after every epoch.

    Args:
        folder: of the run.
        board: whether TensorBoard's files are written too; needs the package tensorboard.
    """

    def __init__(self, folder: Path, board: bool) -> None:
        self.folder = folder
        self._writer: Any = None
        self._make: Any = None
        if board:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise ConfigError("--tensorboard needs the package tensorboard: pip install tensorboard") from None
            self._make = SummaryWriter

    def catch_up(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write the CSV of the epochs that a resumed run has behind it: the run may have been cut off before the last of them was in it."""
        if history:
            write_atomic(self.folder / CSV, as_csv(history))

    def write(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write the whole history as CSV; TensorBoard gets the newest line, and after a resume forgets what it had from there on."""
        write_atomic(self.folder / CSV, as_csv(history))
        if self._make is None:
            return
        epoch = history[-1]["epoch"]
        self._writer = self._writer or self._make(str(self.folder / BOARD), purge_step=epoch)
        for name, value in history[-1].items():
            if name != "epoch":
                self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def as_csv(history: Sequence[Mapping[str, Any]]) -> str:
    """The history as CSV, with a column for everything that any line has: the epoch, the learning rate, the rest by name.

    >>> as_csv([{"ce": 0.5, "epoch": 1}, {"epoch": 2, "ce": 0.25, "lr": 0.1, "kd": 1.0}]).split()
    ['epoch,lr,ce,kd', '1,,0.5,', '2,0.1,0.25,1.0']
    """
    names = sorted({name for line in history for name in line}, key=lambda name: (name != "epoch", name != "lr", name))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()
