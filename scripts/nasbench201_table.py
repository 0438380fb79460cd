"""The table of NAS-Bench-201 as arrays, read straight from the compressed CSV."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np

from diswot.architecture import Architecture

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data" / "nasbench201" / "nasbench201.csv.gz"


def read(path: Path = DEFAULT) -> tuple[list[Architecture], dict[str, np.ndarray]]:
    """All 15,625 architectures in the benchmark's order, and the columns of numbers."""
    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file))
    columns = {key: np.array([float(row[key] or "nan") for row in rows]) for key in rows[0] if key not in ("index", "arch_str")}
    return [Architecture("nasbench201", row["arch_str"]) for row in rows], columns
