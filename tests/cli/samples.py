"""A search of seconds, as words of the command line."""

from __future__ import annotations

QUICK = [
    *("--num-classes", "10", "--seeds", "1", "--batch-size", "2", "--teacher", "resnet8", "--workers", "1"),
    *("--population-size", "4", "--tournament-size", "2", "--top-k", "1", "--generation-size", "4"),
]
SEARCH = ["search", "--proxy", "diswot", *QUICK, "--iterations", "6", "--params", "0.3M"]
