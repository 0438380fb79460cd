"""The entry point by which timm creates the networks that a search found.

Import `diswot.models.student`, then call `timm.create_model("local-dir:runs/NAME/student", pretrained=True)`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from timm.models import register_model
from torch import nn

from diswot.architecture import Architecture
from diswot.space import load_space


@register_model  # type: ignore[untyped-decorator]  # timm's
def diswot_student(
    pretrained: bool = False, pretrained_cfg: Any = None, space: str = "zoo", choices: Any = "resnet20", **kwargs: Any
) -> nn.Module:
    """Return the network of an architecture in a built-in search space; `timm.create_model` calls this function.

    Args:
        pretrained: whether to load the weights that lie beside config.json.
        pretrained_cfg: timm's description of the network, from config.json. It gives the number of classes and of channels where
            `kwargs` does not.
        space: name of the search space.
        choices: choices of the architecture in this space.
        kwargs: `num_classes` and `in_chans`; timm's other arguments are ignored.
    """
    cfg = pretrained_cfg if isinstance(pretrained_cfg, dict) else getattr(pretrained_cfg, "__dict__", {})
    search_space = load_space(space)
    arch = Architecture(space, choices)
    search_space.check(arch)
    num_classes = kwargs.get("num_classes") or cfg.get("num_classes") or 100
    model = search_space.build(arch, num_classes, kwargs.get("in_chans") or (cfg.get("input_size") or (3,))[0])
    if pretrained:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(Path(str(cfg["file"])) / "model.safetensors"))
    model.pretrained_cfg = model.default_cfg = dict(cfg)  # type: ignore[assignment]
    return model
