"""Tables of published accuracies: reading them (`table`), and making them from the official files of the benchmarks (`convert`)."""

from diswot.benchmarks.conversion import convert
from diswot.benchmarks.table import Benchmark, read_benchmark

__all__ = ["Benchmark", "convert", "read_benchmark"]
