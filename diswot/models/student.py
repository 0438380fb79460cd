"""Searched networks in timm: `import diswot.models.student`, then `timm.create_model("local-dir:runs/NAME/student", pretrained=True)`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from timm.models import register_model
from torch import nn

from diswot.architecture import Architecture
from diswot.space import load_space

ENTRY = "diswot_student"


@register_model  # type: ignore[untyped-decorator]  # timm's
def diswot_student(
    pretrained: bool = False, pretrained_cfg: Any = None, space: str = "zoo", choices: Any = "resnet20", **kwargs: Any
) -> nn.Module:
    """The network of an architecture of a built-in space, by the name that timm knows it by.

    Args:
        pretrained: load the weights that lie beside config.json.
        space, choices: of the architecture.
        kwargs: num_classes, in_chans; timm's others do not apply.
    """
    found = pretrained_cfg if isinstance(pretrained_cfg, dict) else getattr(pretrained_cfg, "__dict__", {})
    known = load_space(space)
    arch = Architecture(space, choices)
    known.check(arch)
    classes = kwargs.get("num_classes") or found.get("num_classes") or 100
    model = known.build(arch, classes, kwargs.get("in_chans") or (found.get("input_size") or (3,))[0])
    if pretrained:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(Path(str(found["file"])) / "model.safetensors"))
    model.pretrained_cfg = model.default_cfg = dict(found)  # type: ignore[assignment]
    return model
