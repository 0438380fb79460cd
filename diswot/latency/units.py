"""Networks cut into their units, each described by what decides its time: the shapes of its layers."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from diswot.architecture import Architecture
from diswot.errors import ConfigError
from diswot.models.init import building
from diswot.observe import is_block, trunk_modules
from diswot.space import ImageSpec, SearchSpace

HEAD = "head"
_SHAPE = r"\d{1,7}(?:x\d{1,7})*"
_LAYER = re.compile(rf"(?P<kind>\w{{1,60}})(?: (?P<kernel>{_SHAPE}) g(?P<groups>\d{{1,7}}))? (?P<inputs>{_SHAPE})>(?P<outputs>{_SHAPE})")
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """A layer by its shapes, for one image.

    Attributes:
        kind: name of its class.
        inputs, outputs: shapes, (C, H, W) or (N,).
        kernel: (height, width) of a convolution; empty for other layers.
        groups: of a convolution.

    >>> Layer("Conv2d", (8, 32, 32), (16, 16, 16), (3, 3)).flops
    294912
    """

    kind: str
    inputs: Shape
    outputs: Shape
    kernel: Shape = ()
    groups: int = 1

    @cached_property
    def weights(self) -> int:
        """Numbers in the weight of a convolution or a linear layer; 0 for others."""
        if self.kernel:
            return math.prod(self.kernel) * self.inputs[0] // self.groups * self.outputs[0]
        return self.inputs[-1] * self.outputs[-1] if self.kind == "Linear" else 0

    @cached_property
    def flops(self) -> int:
        """Multiply-accumulates."""
        return self.weights * math.prod(self.outputs[1:])

    def __str__(self) -> str:
        conv = f" {_text(self.kernel)} g{self.groups}" if self.kernel else ""
        return f"{self.kind}{conv} {_text(self.inputs)}>{_text(self.outputs)}"

    @classmethod
    def parse(cls, text: str) -> Layer:
        """The layer that a text describes.

        Raises:
            ValueError: it describes none.

        >>> str(Layer.parse("Conv2d 3x3 g1 8x32x32>16x16x16"))
        'Conv2d 3x3 g1 8x32x32>16x16x16'
        """
        match = _LAYER.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r:.80} is no layer such as Conv2d 3x3 g1 8x32x32>16x16x16")
        kernel = _shape(match["kernel"]) if match["kernel"] else ()
        layer = cls(match["kind"], _shape(match["inputs"]), _shape(match["outputs"]), kernel, int(match["groups"] or 1))
        if not all((*layer.inputs, *layer.outputs, *kernel, layer.groups)) or layer.inputs[0] < layer.groups:
            raise ValueError(f"{text!r:.80}: sizes and groups are positive")
        return layer


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _shape(text: str) -> Shape:
    return tuple(map(int, text.split("x")))


@dataclass(frozen=True)
class Unit:
    """A unit of a network: the stem, a block, or the head (pooling and classifier). Equal units take equal time.

    Attributes:
        kind: name of the class of its first module; `head`.
        inputs: shape of its input for one image.
        layers: its layers in the order that they run.
    """

    kind: str
    inputs: Shape
    layers: tuple[Layer, ...]

    @cached_property
    def key(self) -> tuple[str, Shape, str]:
        """What decides its time."""
        return self.kind, self.inputs, self.layers_text

    @cached_property
    def layers_text(self) -> str:
        return "; ".join(map(str, self.layers))

    @cached_property
    def flops(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(layer.flops for layer in self.layers)

    @cached_property
    def convs(self) -> tuple[Layer, ...]:
        """The layers that have a weight."""
        return tuple(layer for layer in self.layers if layer.weights)

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True)
class CutUnit:
    """A unit with the modules that it is made of, in the network that it was cut from."""

    unit: Unit
    modules: tuple[nn.Module, ...]

    def module(self, model: nn.Module) -> nn.Module:
        """The unit as a network of its own, which takes what the unit takes in `model`."""
        return _Head(model) if self.unit.kind == HEAD else nn.Sequential(*self.modules)


class _Head(nn.Module):
    """Pooling and classifier of a network."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.classifier, self._of = model.get_classifier(), [model]  # in a list, so that the trunk's weights are not the head's

    def forward(self, features: Tensor) -> Tensor:
        return self._of[0].forward_head(features)


class _NotASequence(Exception):
    pass


class UnitReader:
    """Reads the units of a space's networks, without memory, data or arithmetic.

    A network is built as a skeleton (see `Skeletons`), and its trunk is walked by shapes alone. What is known of a module is kept, so that
    a network of known blocks takes about half a millisecond, and each new block about as much.

    >>> from diswot.space import load_space
    >>> space = load_space("s0")
    >>> units = UnitReader(space, ImageSpec(10, 3, 32)).units(Architecture("resnet_depth", {"depths": [1, 1, 1]}))
    >>> [(unit.kind, *unit.inputs) for unit in units]
    [('Conv2d', 3, 32, 32), ('BasicBlock', 16, 32, 32), ('BasicBlock', 16, 32, 32), ('BasicBlock', 32, 16, 16), ('head', 64, 8, 8)]
    """

    def __init__(self, space: SearchSpace, spec: ImageSpec) -> None:
        self.space, self.spec = space, spec
        self._skeletons = Skeletons()
        self._walk = _Walk(self._skeletons)
        self._as_skeleton: bool | None = None  # None until the first network has shown whether it can be built so

    def units(self, arch: Architecture) -> tuple[Unit, ...]:
        """The units of a network, from input to output.

        Raises:
            ConfigError: the network is no sequence of units.
        """
        if self._as_skeleton is None:
            self._as_skeleton = self._is_faithful(arch)
        if self._as_skeleton:
            with contextlib.suppress(AttributeError):  # a constructor that looks at weights, which the first network did not have
                return self._read(arch, True)
            self._as_skeleton = False
        return self._read(arch, False)

    def _read(self, arch: Architecture, as_skeleton: bool) -> tuple[Unit, ...]:
        with self._skeletons.made() if as_skeleton else contextlib.nullcontext():
            with torch.device("meta"):
                model = self.space.build(arch, self.spec.num_classes, self.spec.in_chans)
            return tuple(cut.unit for cut in self._walk.cut(model, self.spec))

    def _is_faithful(self, arch: Architecture) -> bool:
        """Whether a network can be built as a skeleton, and is the same then: with stand-ins for layers, and then for blocks too."""
        truth = self._read(arch, False)
        self._walk = _Walk(self._skeletons)
        try:
            return all(self._read(arch, True) == truth for _ in range(2))  # the first shows which classes its blocks are of
        except Exception:  # of whatever kind
            return False


def cut_network(model: nn.Module, spec: ImageSpec) -> list[CutUnit]:
    """Cut a network into its units: the stem, every block with the single layers that follow it, and the head.

    Raises:
        ConfigError: the network is no sequence of units, or lacks timm's protocol.
    """
    import copy

    shapes = copy.deepcopy(model).to("meta").eval()
    originals = dict(zip(shapes.modules(), model.modules(), strict=True))
    for module in shapes.modules():
        _know_shapes(module)
    cuts = _Walk(Skeletons()).cut(shapes, spec)
    return [CutUnit(cut.unit, tuple(originals[module] for module in cut.modules)) for cut in cuts]


@dataclass(frozen=True)
class _Traced:
    """What a module of the trunk does with an input: its layers, the shape of its output, and whether a new unit begins with it."""

    layers: tuple[Layer, ...]
    outputs: Shape
    begins: bool


@dataclass(frozen=True)
class _Step:
    """A module of the trunk in a forward pass."""

    module: nn.Module
    inputs: Shape
    traced: _Traced


class _Walk:
    """A walk through trunks by shapes alone, which remembers what it has seen of modules."""

    def __init__(self, skeletons: Skeletons) -> None:
        self._skeletons = skeletons
        self._known: dict[Any, _Traced] = {}
        self._units: dict[Any, Unit] = {}

    def cut(self, model: nn.Module, spec: ImageSpec) -> list[CutUnit]:
        """Cut a network that was built without memory."""
        protocol: Any = model
        if not hasattr(model, "forward_features"):
            raise ConfigError(f"{type(model).__name__} does not follow timm's protocol (forward_features), so there is no table of it")
        trunk = trunk_modules(model)
        self._steps: list[_Step] = []
        self._last: Tensor | None = torch.empty(1, *spec.shape, device="meta")
        for module in trunk:
            module.forward = partial(self._step, module, module.forward)
        try:
            with torch.no_grad():
                features = protocol.forward_features(self._last)
                if features is not self._last:
                    raise _NotASequence(f"something after {self._before()} is no module")
                self._last, steps = None, self._steps
                self._steps = []
                protocol.forward_head(features)
        except _NotASequence as fault:
            raise ConfigError(
                f"{type(model).__name__} is no sequence of units ({fault}), so there is no table of its latency: measure networks whole"
            ) from None
        finally:
            for module in trunk:
                del module.forward
        head = self._unit(HEAD, tuple(features.shape[1:]), self._steps)
        return [*map(self._block, _grouped(steps)), head]

    def _block(self, steps: Sequence[_Step]) -> CutUnit:
        return self._unit(type(steps[0].module).__name__, steps[0].inputs, steps)

    def _unit(self, kind: str, inputs: Shape, steps: Sequence[_Step]) -> CutUnit:
        key = (kind, inputs, *(id(step.traced) for step in steps))  # what was traced is kept, so the number stays its own
        if key not in self._units:
            self._units[key] = Unit(kind, inputs, tuple(layer for step in steps for layer in step.traced.layers))
        return CutUnit(self._units[key], tuple(step.module for step in steps))

    def _step(self, module: nn.Module, forward: Callable[..., Any], *inputs: Any) -> Tensor:
        """Stand for a module of the trunk in a forward pass."""
        if len(inputs) != 1 or (self._last is not None and inputs[0] is not self._last):
            raise _NotASequence(f"{type(module).__name__} takes more, or other, than {self._before()} gives")
        shape = tuple(inputs[0].shape[1:])
        key = (_signature(module), shape)
        traced = self._known.get(key)
        if traced is None:
            whole = self._skeletons.whole(module)
            traced = self._known[key] = _trace(whole, forward if whole is module else whole.forward, inputs[0])
        self._steps.append(_Step(module, shape, traced))
        result = torch.empty((1, *traced.outputs), device="meta")
        if self._last is not None:
            self._last = result
        return result

    def _before(self) -> str:
        return type(self._steps[-1].module).__name__ if self._steps else "the image"


def _grouped(steps: Sequence[_Step]) -> list[list[_Step]]:
    """Single layers without weights, and normalisation, go with the block before them; what does nothing belongs nowhere."""
    groups: list[list[_Step]] = []
    for step in steps:
        if step.traced.layers and groups and not step.traced.begins:
            groups[-1].append(step)
        elif step.traced.layers:
            groups.append([step])
    return groups


_PLAIN = (int, float, str, bool, tuple, list, type(None))


def _signature(module: nn.Module) -> Any:
    """What a module computes, but for its weights: equal ones have equal layers for equal inputs."""
    stands_for = vars(module).get("skeleton")
    if stands_for is not None:
        return type(module), stands_for
    return tuple((type(part), tuple(part._modules), vars(part).get("skeleton") or _plain_attributes(part)) for part in module.modules())


def _plain_attributes(module: nn.Module) -> str:
    return repr({name: value for name, value in vars(module).items() if isinstance(value, _PLAIN) and name != "training"})


def _trace(module: nn.Module, forward: Callable[..., Any], inputs: Tensor) -> _Traced:
    layers: list[Layer] = []

    def note(leaf: nn.Module, inputs: Any, output: Any) -> None:
        if not isinstance(leaf, nn.Identity):
            kernel = tuple(leaf.kernel_size) if isinstance(leaf, nn.Conv2d) else ()
            shapes = tuple(inputs[0].shape[1:]), tuple(output.shape[1:])
            layers.append(Layer(type(leaf).__name__, *shapes, kernel, leaf.groups if isinstance(leaf, nn.Conv2d) else 1))

    leaves = [part for part in module.modules() if not any(True for _ in part.children())]
    if leaves == [module]:  # its own forward is what stands in for it, so no hook sees it
        output = forward(inputs)
        note(module, (inputs,), output)
        return _Traced(tuple(layers), tuple(output.shape[1:]), is_block(module))
    handles = [leaf.register_forward_hook(note) for leaf in leaves]
    try:
        output = forward(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return _Traced(tuple(layers), tuple(output.shape[1:]), is_block(module))


class Skeletons:
    """Networks that know shapes and nothing else.

    Inside of `made`, the commonest layers are made without weights, and blocks whose class has been met before are made without layers:
    they keep the arguments that they would have been made of. Such a network is built in a fiftieth of the time, and is good for nothing
    else. Threads that score networks wait with building theirs meanwhile.
    """

    def __init__(self) -> None:
        self._blocks: dict[type[nn.Module], Callable[..., None]] = {}  # the constructor of each class of blocks
        self._in_full = False

    def whole(self, module: nn.Module) -> nn.Module:
        """The block that a module stands for, with all its layers; other modules as they are."""
        kind = type(module)
        if kind not in self._blocks:
            if any(True for _ in module.children()) and not kind.__module__.startswith("torch."):
                self._blocks[kind] = kind.__init__
            return module
        if (made_of := vars(module).get("made_of")) is None:
            return module
        self._in_full = True
        try:
            arguments, options = made_of
            with torch.device("meta"):
                return kind(*arguments, **options)
        finally:
            self._in_full = False

    @contextlib.contextmanager
    def made(self) -> Iterator[None]:
        """Inside, networks are skeletons."""
        constructors: dict[type[nn.Module], Callable[..., None]] = {
            nn.Conv2d: _conv_skeleton,
            nn.BatchNorm2d: _norm_skeleton,
            nn.Linear: _linear_skeleton,
        }
        with contextlib.ExitStack() as stack:
            stack.enter_context(building)
            for layer, build in constructors.items():
                stack.enter_context(_replaced(layer, "__init__", build))
            for kind, constructor in self._blocks.items():
                stack.enter_context(_replaced(kind, "__init__", self._stand_in(constructor)))
            yield

    def _stand_in(self, constructor: Callable[..., None]) -> Callable[..., None]:
        def build(module: Any, *arguments: Any, **options: Any) -> None:
            if self._in_full or not (_is_plain(arguments) and _is_plain(options)):
                constructor(module, *arguments, **options)
                return
            nn.Module.__init__(module)
            module.made_of, module.skeleton = (arguments, options), repr((arguments, options))

        return build


def _is_plain(value: Any) -> bool:
    """Whether a value is text, numbers, or lists of them, whose repr tells all."""
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return all(map(_is_plain, value)) if isinstance(value, tuple | list) else isinstance(value, _PLAIN)


@contextlib.contextmanager
def _replaced(kind: type, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Inside, a class has another method of this name."""
    own = kind.__dict__.get(name)
    setattr(kind, name, function)
    try:
        yield
    finally:
        if own is None:
            delattr(kind, name)  # it was inherited
        else:
            setattr(kind, name, own)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _conv_skeleton(
    self: Any,
    in_channels: int,
    out_channels: int,
    kernel_size: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    bias: bool = True,
    padding_mode: str = "zeros",
    device: Any = None,
    dtype: Any = None,
) -> None:
    nn.Module.__init__(self)
    self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
    self.kernel_size, self.stride, self.dilation = _pair(kernel_size), _pair(stride), _pair(dilation)
    self.padding = padding if isinstance(padding, str) else _pair(padding)
    self.skeleton = (in_channels, out_channels, self.kernel_size, self.stride, self.padding, self.dilation, groups)
    _know_shapes(self)


def _conv_shape(self: Any, x: Tensor) -> Tensor:
    """As torch's page on Conv2d has it."""
    sides = list(x.shape[2:])
    for axis, (side, kernel, stride, dilation) in enumerate(zip(sides, self.kernel_size, self.stride, self.dilation, strict=True)):
        if self.padding == "same":
            continue
        padding = 0 if self.padding == "valid" else self.padding[axis]
        sides[axis] = (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    if x.shape[1] != self.in_channels or min(sides) < 1:
        raise RuntimeError(f"a convolution of {self.in_channels} channels cannot take {tuple(x.shape)}")
    return torch.empty((len(x), self.out_channels, *sides), device="meta")


def _norm_skeleton(self: Any, num_features: int, *_arguments: Any, **_options: Any) -> None:
    nn.Module.__init__(self)
    self.num_features = num_features
    self.skeleton = (num_features,)
    _know_shapes(self)


def _same_shape(self: Any, x: Tensor) -> Tensor:
    return torch.empty(x.shape, device="meta")


def _linear_skeleton(self: Any, in_features: int, out_features: int, *_arguments: Any, **_options: Any) -> None:
    nn.Module.__init__(self)
    self.in_features, self.out_features = in_features, out_features
    self.skeleton = (in_features, out_features)
    _know_shapes(self)


def _linear_shape(self: Any, x: Tensor) -> Tensor:
    return torch.empty((*x.shape[:-1], self.out_features), device="meta")


_SHAPE_RULES: dict[type[nn.Module], Callable[[Any, Tensor], Tensor]] = {
    nn.Conv2d: _conv_shape,
    nn.BatchNorm2d: _same_shape,
    nn.Linear: _linear_shape,
}


def _know_shapes(module: nn.Module) -> None:
    """Let a layer tell its output's shape by arithmetic in place of running: torch takes a hundred times as long."""
    if (rule := _SHAPE_RULES.get(type(module))) is not None:
        module.forward = partial(rule, module)
