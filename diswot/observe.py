"""`Observation`: what one forward pass shows of a network, read off timm's protocol; and what hooks can watch besides."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.utils.hooks import RemovableHandle

from diswot.errors import TeacherError

_PROTOCOL = ("forward_features", "forward_head", "get_classifier")
_SHORTCUTS = ("downsample", "shortcut")


@dataclass(frozen=True)
class Observation:
    """One forward pass of B images through a network with C features and N classes. What was not asked for is empty.

    Attributes:
        features: (B, C, H, W) the map before global pooling; a transformer's patch tokens on their grid.
        pooled: (B, C') the classifier's input. C' is C but where a network has a layer between the map and the classifier.
        logits: (B, N).
        weight: (N, C') the classifier's weight.
        blocks: the map (B, C_i, H_i, W_i) after the stem and after every block.
        stages: the last of these of each resolution, from the finest to the coarsest.
        preacts: of each stage, what goes into the activation that ends it (the map itself where none does).
        norms: of each stage, (2, C_i): mean and deviation of its preacts by the affine part of the batch norm before them; empty where
            there is none.
        indices: (B,) which images they are, of all that train; a training fills it in.
        token_logits: (B, 2, N) of a transformer with a distillation token, by the class token and by that; `logits` is their mean.
    """

    features: Tensor
    pooled: Tensor
    logits: Tensor
    weight: Tensor
    blocks: tuple[Tensor, ...] = ()
    stages: tuple[Tensor, ...] = ()
    preacts: tuple[Tensor, ...] = ()
    norms: tuple[Tensor, ...] = ()
    indices: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    token_logits: Tensor = field(default_factory=lambda: torch.empty(0))

    def map(self, change: Callable[[Tensor], Tensor]) -> Observation:
        """Return an observation with every tensor changed; empty ones stay."""

        def one(tensor: Tensor) -> Tensor:
            return change(tensor) if tensor.numel() else tensor

        features, pooled, logits, weight = map(one, (self.features, self.pooled, self.logits, self.weight))
        blocks, stages, preacts, norms = (tuple(map(one, several)) for several in (self.blocks, self.stages, self.preacts, self.norms))
        token_logits = one(self.token_logits)
        return Observation(features, pooled, logits, weight, blocks, stages, preacts, norms, self.indices, token_logits)

    def detach(self) -> Observation:
        return self.map(Tensor.detach)


FINAL = frozenset({"features", "pooled", "logits", "weight"})


def observe(model: nn.Module, images: Tensor, needs: Collection[str] = FINAL) -> Observation:
    """Run `model` once on (B, in_chans, H, W) images; gradients flow unless the caller turns them off.

    Args:
        needs: which of features, pooled, logits and weight are read off. For logits alone any network will do.

    Raises:
        TeacherError: the network lacks what is asked for: a classifier that is one linear layer, a feature map, logits (B, N). They are
            read off timm's protocol (`forward_features`, `forward_head`, `get_classifier`), else off its modules as they run.

    >>> from diswot.models.resnet import CifarResNet
    >>> observe(CifarResNet([1, 1, 1], num_classes=10), torch.zeros(2, 3, 32, 32)).features.shape
    torch.Size([2, 64, 8, 8])
    """
    return _observe_logits(model, images) if _logits_alone(needs) else _observe_final(model, images, "features" in needs)


def _logits_alone(needs: Collection[str]) -> bool:
    return (FINAL | {"token_logits"}).intersection(needs) <= {"logits"}


def _observe_final(model: nn.Module, images: Tensor, features_too: bool) -> Observation:
    """All but the map, which not every network has, in any case; a network without a classifier shows no logits."""
    if not all(hasattr(model, name) for name in _PROTOCOL):
        return _observe_by_hooks(model, images)
    protocol: Any = model
    classifier = protocol.get_classifier()
    features = protocol.forward_features(images)
    pooled = protocol.forward_head(features, pre_logits=True)
    shown, nothing = _as_map(model, features) if features_too else pooled.new_empty(0), pooled.new_empty(0)
    if isinstance(classifier, nn.Identity):
        return Observation(shown, pooled, nothing, nothing)
    if isinstance(classifier, tuple) and len(classifier) == 2 and features.ndim == 3:
        by_token = torch.stack([head(protocol.head_drop(features[:, place])) for place, head in enumerate(classifier)], 1)
        return Observation(shown, pooled, by_token.mean(1), nothing, token_logits=by_token)
    if isinstance(classifier, nn.Sequential) and isinstance(classifier[0], nn.Linear):  # as `with_classes` makes it
        return Observation(shown, pooled, classifier(pooled), nothing)
    if not isinstance(classifier, nn.Linear):
        raise TeacherError(f"{type(model).__name__}: its classifier is {type(classifier).__name__}, not one linear layer")
    return Observation(shown, pooled, classifier(pooled), classifier.weight)


def _observe_by_hooks(model: nn.Module, images: Tensor) -> Observation:
    """Of a network that does not follow timm's protocol: its classifier is the linear layer whose output it returns; its map is the last
    one of more than one pixel, by whichever module."""
    maps: list[Tensor] = []
    layers: list[tuple[nn.Linear, Tensor, Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, nn.Linear):
            layers.append((module, inputs[0], output))
        elif isinstance(output, Tensor) and output.ndim == 4 and output[0, 0].numel() > 1:
            maps.append(output)

    handles = [module.register_forward_hook(note) for module in model.modules() if module is not model]
    try:
        logits = model(images)
    finally:
        for handle in handles:
            handle.remove()
    last = next(((layer, pooled) for layer, pooled, output in layers if output is logits), None)
    if last is None or last[1].ndim != 2 or not maps:
        what = "does not end in a linear layer on pooled features" if last is None or last[1].ndim != 2 else "has no feature map"
        remedy = f"give it timm's protocol ({', '.join(_PROTOCOL)}), or use proxies and losses of logits"
        raise TeacherError(f"{type(model).__name__} {what}: {remedy}")
    return Observation(maps[-1], last[1], logits, last[0].weight)


def has_classifier(model: nn.Module) -> bool:
    """Whether a network answers with logits; timm's without classes (`num_classes=0`) do not.

    >>> from diswot.models.resnet import CifarResNet
    >>> has_classifier(CifarResNet([1, 1, 1]))
    True
    """
    get_classifier = getattr(model, "get_classifier", None)
    return get_classifier is None or not isinstance(get_classifier(), nn.Identity)


def _observe_logits(model: nn.Module, images: Tensor) -> Observation:
    logits = model(images)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        found = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise TeacherError(f"{type(model).__name__} gives {found}, not logits (images, classes)")
    nothing = logits.new_empty(0)
    return Observation(nothing, nothing, logits if has_classifier(model) else nothing, nothing)


def _as_map(model: nn.Module, features: Tensor) -> Tensor:
    """Return a map (B, C, H, W) from what `forward_features` of timm's families give: maps, channels-last maps, or tokens."""
    if features.ndim == 4:
        channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        return features.permute(0, 3, 1, 2) if channels_last else features
    if features.ndim == 3:
        tokens = features[:, getattr(model, "num_prefix_tokens", 0) :]
        side = math.isqrt(tokens.shape[1])
        if side * side == tokens.shape[1]:
            return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], side, side)
    shape = tuple(features.shape)
    raise TeacherError(
        f"{type(model).__name__} has no feature map: forward_features gives {shape}, neither (B, C, H, W) nor square patches"
    )


@contextlib.contextmanager
def batch_statistics(model: nn.Module) -> Iterator[nn.Module]:
    """Inside, evaluation mode (no dropout) but batch norm on the statistics of the batch, as every score here is computed.

    Running statistics are neither read nor written, and the model is left as it was found.

    >>> norm = nn.BatchNorm2d(3)
    >>> with batch_statistics(norm):
    ...     _ = norm(torch.full((2, 3, 4, 4), 5.0))
    >>> norm.running_mean.tolist(), norm.training
    ([0.0, 0.0, 0.0], True)
    """
    modules = list(model.modules())
    modes = [module.training for module in modules]
    tracking = [m for m in modules if isinstance(m, _BatchNorm) and m.track_running_stats]
    if all(type(module).train is nn.Module.train for module in modules):
        for module in modules:
            vars(module)["training"] = False  # as `eval` does, which takes several times as long
    else:
        model.eval()
    for norm in tracking:
        norm.training, norm.track_running_stats = True, False
    try:
        yield model
    finally:
        for norm in tracking:
            norm.track_running_stats = True
        for module, training in zip(modules, modes, strict=True):
            vars(module)["training"] = training


_TORCH_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish)


def activation_types() -> tuple[type[nn.Module], ...]:
    """The classes of activation modules, of torch and timm."""
    of_timm = timm_types("timm.layers.activations", "GELU", "GELUTanh", "QuickGELU", "Swish", "Mish", "HardSwish")
    return *_TORCH_ACTIVATIONS, *of_timm, *timm_types("timm.models.nfnet", "GammaAct")


def timm_types(module: str, *names: str) -> tuple[type[nn.Module], ...]:
    """Classes of timm by name; none where timm was not imported, for then no network has any. To import it takes seconds."""
    return tuple(getattr(sys.modules[module], name) for name in names) if module in sys.modules else ()


def trunk_modules(model: nn.Module) -> list[nn.Module]:
    """The modules of a network's trunk, from input to output: its children, containers (Sequential, ModuleList) opened up.

    >>> from diswot.models.resnet import CifarResNet
    >>> [type(unit).__name__ for unit in trunk_modules(CifarResNet([1, 1, 1]))]
    ['Conv2d', 'BatchNorm2d', 'ReLU', 'BasicBlock', 'BasicBlock', 'BasicBlock', 'Linear']
    """
    found: list[nn.Module] = []
    for child in model.children():
        opened = isinstance(child, nn.Sequential | nn.ModuleList) or type(child).forward is nn.Module.forward
        found += trunk_modules(child) if opened else [child]
    return found


def is_block(unit: nn.Module) -> bool:
    """Whether a new block begins here: single layers without weights, and normalisation, belong to the block before them."""
    if isinstance(unit, nn.Conv2d | nn.Linear):
        return True
    return not isinstance(unit, _NormBase | nn.LayerNorm | nn.GroupNorm) and any(True for _ in unit.children())


@dataclass
class Block:
    """One block of the trunk in a forward pass: its output, what went into the activation that ends it, and the batch norm before that."""

    output: Tensor
    preact: Tensor
    norm: nn.Module | None

    @property
    def shape(self) -> torch.Size:
        return self.output.shape


class BlockHooks:
    """Hooks that note a `Block` for the stem and for every block of each forward pass, in order, until they are removed.

    A block is a convolution, or a unit of the trunk that is made of several layers, with the single layers that follow it.

    Args:
        preacts: also what goes into activations, which then no longer write over it.
    """

    def __init__(self, model: nn.Module, preacts: bool = False) -> None:
        self.blocks: list[Block] = []
        self.active = True
        self._channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        self._activated: tuple[Tensor, Tensor] | None = None
        self._norm: nn.Module | None = None
        self._handles: list[RemovableHandle] = []
        if preacts:
            self._handles += [self._watch_norm(name, m) for name, m in model.named_modules() if isinstance(m, _BatchNorm)]
            for module in model.modules():
                if isinstance(module, activation_types()):
                    disable_inplace(module)
                    self._handles.append(module.register_forward_hook(self._note_activation))
        self._handles += [unit.register_forward_hook(self._note(unit)) for unit in trunk_modules(model)]

    @contextlib.contextmanager
    def one_pass(self) -> Iterator[None]:
        """Note the blocks of the forward pass that is made inside this context, and of no other."""
        self.blocks, self.active = [], True
        try:
            yield
        finally:
            self.active, self._activated, self._norm = False, None, None

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _note(self, unit: nn.Module) -> Callable[..., None]:
        new = is_block(unit)

        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not self.active or not isinstance(output, Tensor) or output.ndim != 4:
                return
            if self.blocks and output.shape[-2:] == (1, 1) and not any(isinstance(m, nn.Conv2d | nn.Linear) for m in unit.modules()):
                return  # global pooling is the head's
            if new or not self.blocks:
                self.blocks.append(self._block(output))
            else:
                self.blocks[-1] = self._block(output)

        return hook

    def _block(self, output: Tensor) -> Block:
        preact = self._activated[1] if self._activated is not None and self._activated[0] is output else output
        if self._channels_last:
            output, preact = output.permute(0, 3, 1, 2), preact.permute(0, 3, 1, 2)
        return Block(output, preact, self._norm)

    def _note_activation(self, _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._activated = output, inputs[0]

    def _watch_norm(self, name: str, norm: nn.Module) -> RemovableHandle:
        shortcut = any(part in name for part in _SHORTCUTS)

        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if self.blocks and inputs[0] is self.blocks[-1].output:  # a network that normalises, then activates, what a block leaves
                self.blocks[-1] = Block(inputs[0], output, norm)
            if not shortcut:
                self._norm = norm

        return norm.register_forward_hook(hook)


@contextlib.contextmanager
def watch_blocks(model: nn.Module) -> Iterator[list[Block]]:
    """Inside, each forward pass notes its blocks in the list; see `BlockHooks`."""
    hooks = BlockHooks(model)
    try:
        yield hooks.blocks
    finally:
        hooks.remove()


class Observer(nn.Module):
    """A network that shows what is asked of it, whenever it is run. Its hooks are set once, here, so that a compiled network has them.

    Args:
        model: any that `observe` takes.
        needs: fields of `Observation`.

    >>> from diswot.models.resnet import CifarResNet
    >>> seen = Observer(CifarResNet([1, 1, 1]), {"logits", "stages"})(torch.zeros(2, 3, 32, 32))
    >>> [tuple(stage.shape[1:]) for stage in seen.stages]
    [(16, 32, 32), (32, 16, 16), (64, 8, 8)]
    """

    def __init__(self, model: nn.Module, needs: Collection[str]) -> None:
        super().__init__()
        self.model = model
        # plain truth values: a compiler does not look into sets
        self._blocks, self._stages, self._preacts = ("blocks" in needs, "stages" in needs, "preacts" in needs)
        self._logits_alone, self._features = _logits_alone(needs), "features" in needs
        self._hooks = BlockHooks(model, self._preacts) if self._blocks or self._stages or self._preacts else None

    def forward(self, images: Tensor) -> Observation:
        if self._hooks is None:
            return _observe_logits(self.model, images) if self._logits_alone else _observe_final(self.model, images, self._features)
        with self._hooks.one_pass():
            seen = _observe_final(self.model, images, True)  # the map is all there is where no block leaves one
        blocks = self._hooks.blocks or [Block(seen.features, seen.features, None)]
        ends = stages(blocks)
        self._hooks.blocks = []
        return replace(
            seen,
            blocks=tuple(block.output for block in blocks) if self._blocks else (),
            stages=tuple(block.output for block in ends) if self._stages else (),
            preacts=tuple(block.preact for block in ends) if self._preacts else (),
            norms=tuple(_affine(block) for block in ends) if self._preacts else (),
        )

    def close(self) -> None:
        """Take the hooks off the network."""
        if self._hooks is not None:
            self._hooks.remove()


def observe_without_gradients(model: nn.Module, images: Tensor, needs: Collection[str]) -> Observation:
    """An observation without gradients, by the statistics of the batch; the network is left as it was found."""
    observer = Observer(model, needs)
    try:
        with torch.no_grad(), batch_statistics(model):
            return observer(images)
    finally:
        observer.close()


def _affine(block: Block) -> Tensor:
    """Return the mean and deviation (2, C) that the batch norm gives its channels; empty where there is none for these channels."""
    weight, bias = (getattr(block.norm, name, None) for name in ("weight", "bias"))
    if weight is None or bias is None or len(weight) != block.preact.shape[1]:
        return block.preact.new_empty(0)
    return torch.stack([bias, weight.abs()])


@contextlib.contextmanager
def watch_modules(model: nn.Module, kinds: tuple[type[nn.Module], ...], see: Callable[[nn.Module, Tensor, Tensor], Any]) -> Iterator[None]:
    """Inside, `see(module, input, output)` is called for every module of these kinds as it runs; a tensor it returns is the output then."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Any:
        return see(module, inputs[0], output)

    handles = [m.register_forward_hook(hook) for m in model.modules() if isinstance(m, kinds)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def disable_inplace(model: nn.Module) -> nn.Module:
    """The model with every in-place activation writing to a tensor of its own, so that what hooks see is not overwritten."""
    for module in model.modules():
        if vars(module).get("inplace", getattr(type(module), "inplace", False)):  # a module's own look-up is slow to fail
            module.inplace = False  # type: ignore[assignment]
    return model


class _Shaped(Protocol):
    @property
    def shape(self) -> torch.Size: ...


M = TypeVar("M", bound=_Shaped)


def stages(maps: Sequence[M]) -> list[M]:
    """The last map (B, C, H, W) of each resolution, from the finest to the coarsest.

    >>> [s.shape[-1] for s in stages([torch.zeros(1, 2, n, n) for n in (8, 8, 4, 2, 2)])]
    [8, 4, 2]
    """
    return list({one.shape[-2:]: one for one in maps}.values())
