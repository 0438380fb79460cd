"""The parts and the cost of one network: the facts behind `diswot show`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from diswot.architecture import Architecture
from diswot.budget import check_buildable, cost_of
from diswot.errors import ArchitectureError, first_line
from diswot.flops import FlopCounter
from diswot.latency.measure import Measurement, measure_networks
from diswot.latency.runtimes import Setup
from diswot.space import Cost, ImageSpec, SearchSpace

_BYTES = 4  # of a float32


@dataclass(frozen=True)
class Part:
    """A part of a network; `output` is (C, H, W), (tokens, channels) or (N,) for one image; `blocks` is how many it has one after the
    other, 1 where it is a single layer or block."""

    name: str
    kind: str
    output: tuple[int, ...]
    params: int
    flops: int
    blocks: int = 1


@dataclass(frozen=True)
class Description:
    """A network's parts and costs. `weight_bytes` and `activation_bytes` (the outputs of all layers for one image) are of float32;
    `measured` is the time of a pass of one image on `device`, with one thread on a CPU; None where it was not asked for."""

    arch: Architecture
    spec: ImageSpec
    cost: Cost
    parts: list[Part]
    weight_bytes: int
    activation_bytes: int
    measured: Measurement | None
    device: str


def describe(space: SearchSpace, arch: Architecture, spec: ImageSpec, device: str, timed: bool = True) -> Description:
    """Describe the network of an architecture.

    Args:
        space: that it is of.
        arch: the architecture.
        spec: the images that it is made for.
        device: where its latency is measured.
        timed: whether it is.

    >>> from diswot.space import load_space
    >>> zoo = load_space("zoo")
    >>> found = describe(zoo, Architecture("zoo", "resnet20"), ImageSpec(10, 3, 32), "cpu")
    >>> [(part.name, part.output) for part in found.parts][2]
    ('layer1', (16, 32, 32))
    """
    space.check(arch)
    cost = cost_of(space, arch, spec)
    check_buildable(arch, cost)
    try:
        with torch.device("meta"):
            model = space.build(arch, spec.num_classes, spec.in_chans)
        parts, activations = _trace(model, spec)
        measured = None
        if timed:
            setup = Setup(torch.device(device).type)
            measured = measure_networks([space.build(arch, spec.num_classes, spec.in_chans)], [spec.shape], setup)
    except RuntimeError as error:
        raise ArchitectureError(
            f"{arch.space} {arch.digest} cannot take {spec.input_size}x{spec.input_size} images: {first_line(error)}"
        ) from None
    return Description(arch, spec, cost, parts, cost.params * _BYTES, activations * _BYTES, measured, device)


def _trace(model: nn.Module, spec: ImageSpec) -> tuple[list[Part], int]:
    """The parts in the order they run, and how many numbers all layers put out for one image; by shapes alone."""
    meta = model.to("meta").eval()
    named = [(name, module) for name, module in _parts(meta) if not isinstance(module, nn.Identity)]
    outputs: dict[str, tuple[int, ...]] = {}
    numbers = 0
    counter, flops = FlopCounter(), dict.fromkeys((name for name, _ in named), 0)

    def begin(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any) -> None:
            flops[name] -= counter.total

        return hook

    def note(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            outputs[name] = tuple(output.shape[1:])
            flops[name] += counter.total

        return hook

    def count(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        nonlocal numbers
        numbers += output.numel()

    for name, module in named:
        module.register_forward_pre_hook(begin(name))
        module.register_forward_hook(note(name))
    for module in meta.modules():
        if not list(module.children()):
            module.register_forward_hook(count)
    with counter:
        meta(torch.empty(1, *spec.shape, device="meta"))
    parts = [
        Part(name, _kind(module), outputs[name], sum(p.numel() for p in module.parameters()), flops[name] // 2, _blocks(module))
        for name, module in named
        if name in outputs
    ]
    return parts, numbers


def _parts(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The children; a list of modules, and what is called stages or layers, opened up."""
    parts = []
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList) or (isinstance(child, nn.Sequential) and name in ("stages", "layers")):
            parts += [(f"{name}.{index}", module) for index, module in enumerate(child)]
        else:
            parts.append((name, child))
    return [(name, module) for name, module in parts if any(True for _ in module.parameters())]


def _blocks(module: nn.Module) -> int:
    """How many blocks a sequence holds: modules that themselves are made of modules with weights."""
    inside = getattr(module, "blocks", module)  # where the stages of timm keep theirs
    children = list(inside) if isinstance(inside, nn.Sequential) else []
    return max(1, sum(any(True for _ in child.children()) and any(True for _ in child.parameters()) for child in children))


def _kind(module: nn.Module) -> str:
    """`5 x BasicBlock` for a sequence of equal modules, else the names of its layers."""
    if isinstance(module, nn.Conv2d):
        return f"Conv2d {module.kernel_size[0]}x{module.kernel_size[1]}"
    if isinstance(module, nn.Sequential):
        kinds = [_kind(child) for child in module]
        groups: list[list[Any]] = []
        for kind in kinds:
            if groups and groups[-1][1] == kind:
                groups[-1][0] += 1
            else:
                groups.append([1, kind])
        return ", ".join(kind if number == 1 else f"{number} x {kind}" for number, kind in groups)
    return type(module).__name__
