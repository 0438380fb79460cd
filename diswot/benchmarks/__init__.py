"""Accuracies that others trained: tables of them (`table`), and how the official files become such tables (`convert`)."""

from diswot.benchmarks.convert import convert
from diswot.benchmarks.table import Benchmark, read_benchmark

__all__ = ["Benchmark", "convert", "read_benchmark"]
