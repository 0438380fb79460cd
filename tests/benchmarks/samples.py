"""Two cells of NAS-Bench-201, and a file that holds what is given."""

from __future__ import annotations

from pathlib import Path

FIRST = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
SECOND = FIRST.replace("avg_pool_3x3", "none")


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path
