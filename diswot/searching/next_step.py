"""What a user may do next: commands that work for the space, the images and the teacher that were used."""

from __future__ import annotations

import shlex

from diswot.config import SearchConfig
from diswot.data import GENERATED_SOURCES, REMOTE
from diswot.plugins import is_reference

_REAL = {10: "cifar10", 100: "cifar100"}  # by number of classes
_REAL_SIZE = 32  # pixels


def needed_flags(config: SearchConfig, input_size: int = _REAL_SIZE) -> str:
    """The flags that `distill` and `compare` need for the networks of a search: for whatever is Python code of the user's, or may be
    fetched, which an arch.json may not name by itself, and for images that can be learned from.

    Args:
        config: the options of the search.
        input_size: side in pixels of its images.

    >>> needed_flags(SearchConfig(space="mylab:Space", data="photos"))
    ' --space mylab:Space'
    >>> needed_flags(SearchConfig(data="torch/svhn", data_dir="my data"))
    " --data torch/svhn --data-dir 'my data'"
    >>> needed_flags(SearchConfig(num_classes=10)), needed_flags(SearchConfig(num_classes=7)), needed_flags(SearchConfig(), 224)
    (' --data cifar10 --download', ' --data IMAGES', ' --data IMAGES')
    """
    flags: dict[str, object] = {}
    for name in ("space", "teacher"):
        if is_reference(getattr(config, name)):
            flags[name] = getattr(config, name)
    if config.teacher_weights != "random":
        flags |= {"teacher-weights": config.teacher_weights, "teacher-norm": config.teacher_norm}
    if config.data in GENERATED_SOURCES:
        flags["data"] = _REAL.get(config.num_classes or 100, "IMAGES") if input_size == _REAL_SIZE else "IMAGES"
    elif is_reference(config.data) or config.data.startswith(REMOTE):
        flags |= {"data": config.data, "data-dir": config.data_dir, "input-size": config.input_size}
    words = [f" --{name} {shlex.quote(str(value))}" for name, value in flags.items() if value is not None]
    return "".join(words) + (" --download" if flags.get("data") in _REAL.values() else "")
