"""Proxies that need passes of their own: other weights, other normalisation, each image by itself. Functions of a `Student`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from timm.layers import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from diswot.observe import ACTIVATIONS, observe, watch
from diswot.proxies import activation, gradient, spectrum
from diswot.proxies.views import WEIGHTED, Student, weights_of

FISHER_IMAGES, FISHER_TENSORS = 8, 128
REGION_INPUTS, REGION_SIZE = 1000, 3
_STEP = 0.01
_OTHER_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d)
_STANDARDISED = (StdConv2d, StdConv2dSame, ScaledStdConv2d, ScaledStdConv2dSame)


After = Callable[[nn.Module, Tensor, Tensor], Tensor]


@contextlib.contextmanager
def _norms_as(model: nn.Module, forward_of: Callable[[Any], Callable[[Tensor], Tensor]], after: After | None = None) -> Iterator[None]:
    """Inside, batch norms run as `forward_of(norm)`, then `after(norm, input, output)`; an activation that timm fuses with them runs on."""
    norms: list[Any] = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    for norm in norms:
        norm.forward = _replaced(norm, forward_of(norm), after)
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _replaced(norm: Any, plain: Callable[[Tensor], Tensor], after: After | None) -> Callable[[Tensor], Tensor]:
    act = getattr(norm, "act", None)

    def forward(x: Tensor) -> Tensor:
        y = plain(x) if after is None else after(norm, x, plain(x))
        return y if act is None else act(y)

    return forward


def _bypassed(_norm: Any) -> Callable[[Tensor], Tensor]:
    return lambda x: x


def _fresh(norm: Any) -> Callable[[Tensor], Tensor]:
    """Normalises by the running statistics that a norm begins with, mean 0 and variance 1."""

    def forward(x: Tensor) -> Tensor:
        mean = x.new_zeros(x.shape[1])
        return F.batch_norm(x, mean, mean + 1, norm.weight, norm.bias, eps=norm.eps)

    return forward


@contextlib.contextmanager
def _absolute(model: nn.Module) -> Iterator[None]:
    """Inside, other tensors stand in for the parameters: their absolute values in float64. The graphs of earlier passes stay usable."""
    owned = [(module, name, parameter) for module in model.modules() for name, parameter in module.named_parameters(recurse=False)]
    for module, name, parameter in owned:
        module._parameters[name] = nn.Parameter(parameter.detach().abs().double())
    try:
        yield
    finally:
        for module, name, parameter in owned:
            module._parameters[name] = parameter


def _refuse(model: nn.Module, because: str, kinds: tuple[type[nn.Module], ...]) -> None:
    """A ValueError where the network has a layer that takes away what the proxy means."""
    for module in model.modules():
        if isinstance(module, kinds):
            raise ValueError(f"{because}, and the network has {type(module).__name__}")


def synflow(student: Student) -> Tensor:
    """`gradient.synflow` in float64: absolute weights, batch norm bypassed, one image of ones."""
    student.use(None)
    _refuse(student.model, "synflow bypasses batch norm alone", (*_OTHER_NORMS, *_STANDARDISED))
    image = torch.ones_like(student.input("images")[:1], dtype=torch.float64)
    with _absolute(student.model), torch.enable_grad(), _norms_as(student.model, _bypassed):
        weights = weights_of(student.model)
        total = observe(student.model, image).logits.sum()
        return gradient.synflow(weights, torch.autograd.grad(total, weights, materialize_grads=True))


def zen(student: Student) -> Tensor:
    """log of the mean change of the last map for a step of 0.01 in the input, plus log of each batch norm's root mean variance.

    Weights and input are drawn from N(0, 1) (Zen-NAS, Lin et al., ICCV 2021).

    >>> import diswot
    >>> deep, shallow = diswot.score(["resnet20", "resnet8"], proxy="zen", seeds=1, batch=2, input_size=16)
    >>> deep.scores["zen"] > shallow.scores["zen"]
    True
    """
    student.use("gaussian")
    _refuse(student.model, "zen rescales by batch norms alone", _OTHER_NORMS)
    scales: list[Tensor] = []

    def note(_norm: nn.Module, inputs: Tensor, _output: Tensor) -> None:
        scales.append(inputs.transpose(0, 1).flatten(1).var(1).mean().sqrt())

    x = student.input("noise")
    step = torch.randn(x.shape, generator=student.generator(2)).to(x)
    with watch(student.model, (_BatchNorm,), note):
        before = observe(student.model, x).features
    after = observe(student.model, x + _STEP * step).features
    change = (before - after).abs().mean()
    return torch.stack([change, *scales]).clamp_min(1e-30).log().sum()


def zico(student: Student) -> Tensor:
    """`gradient.zico` of the two halves of the batch."""
    half = len(student.target) // 2
    return gradient.zico([student.loss_gradients(slice(0, half)), student.loss_gradients(slice(half, 2 * half))])


def gradsign(student: Student) -> Tensor:
    """`gradient.gradsign`, each image run alone."""
    return gradient.gradsign([student.loss_gradients(slice(i, i + 1)) for i in range(len(student.target))])


def te_ntk(student: Student) -> Tensor:
    """`gradient.ntk_condition` on the batch: a backward pass for each image through the one forward pass."""
    trace = student.images
    with torch.enable_grad():
        rows = trace.observation.logits.sum(1).unbind()
    return gradient.ntk_condition([torch.autograd.grad(row, trace.weights, retain_graph=True, materialize_grads=True) for row in rows])


def te_regions(student: Student) -> float:
    """`activation.linear_regions` over 1,000 inputs of 3x3 standard normal pixels."""
    student.use(None)
    shape = (REGION_INPUTS, student.input("images").shape[1], REGION_SIZE, REGION_SIZE)
    inputs = torch.randn(shape, generator=student.generator(3)).to(student.input("images"))
    patterns: list[Tensor] = []
    with watch(student.model, ACTIVATIONS, lambda _m, x, _y: patterns.append((x > 0).flatten(1))):
        observe(student.model, inputs)
    if not patterns:
        raise ValueError(activation.NONE)
    return activation.linear_regions(torch.cat(patterns, 1))


def vkdnw(student: Student) -> Tensor:
    """Number of parameter tensors, and below it `spectrum.decile_entropy` of the Fisher matrix (single VKDNW: first by the one, then by
    the other).

    >>> import diswot
    >>> (row,) = diswot.score(["resnet8"], proxy="vkdnw", seeds=1, batch=2, input_size=16, num_classes=4)
    >>> int(row.scores["vkdnw"][0]), len(list(diswot.build(row.arch, 4).parameters()))
    (29, 29)
    """
    tensors = len(list(student.model.parameters()))
    return tensors + spectrum.decile_entropy(fisher_matrix(student)) / 3


def fisher_matrix(student: Student) -> Tensor:
    """(P, P) empirical Fisher information of the first entry of each of the first P <= 128 parameter tensors (VKDNW, section 3).

    Parameters are those of convolutions, linear layers and batch norms. The input is noise: as many images of the batch as the matrix
    needs for twice its rank, at least 8. Batch norms run as a network fresh from its initialisation runs when it is evaluated: mean 0,
    variance 1.

    Raises:
        ValueError: a layer that multiplies its input by anything else than its weight (weight standardisation), or mixes up images.
    """
    student.use(None)
    entries = _Entries(student.model)
    layers = watch(student.model, WEIGHTED, entries.note)
    with torch.enable_grad(), layers, _norms_as(student.model, _fresh, entries.note):
        logits = observe(student.model, _for_fisher(student)).logits
    roots = spectrum.covariance_root(logits.detach().softmax(1))  # (B, N, N)
    jacobian = torch.cat([entries.gradients(logits, column) for column in roots.unbind(2)])  # (N B, P)
    return jacobian.T @ jacobian / len(logits)


def _for_fisher(student: Student) -> Tensor:
    classes = student.model.get_classifier().out_features  # type: ignore[operator]
    count = max(FISHER_IMAGES, -(-2 * FISHER_TENSORS // max(classes - 1, 1)))  # each image adds a rank of N - 1
    return student.input("noise")[:count]


class _Entries:
    """The first entry of each parameter tensor, and where it took part in a forward pass: from the gradient at a layer's output follows
    that of the entry for each image, which autograd would sum over the batch."""

    def __init__(self, model: nn.Module) -> None:
        kinds = (*WEIGHTED, _BatchNorm)
        owned: list[tuple[nn.Module, str]] = []
        for module in model.modules():
            if isinstance(module, kinds):
                owned += [(module, name) for name, _ in module.named_parameters(recurse=False)]
        self._place = {entry: index for index, entry in enumerate(owned[:FISHER_TENSORS])}
        self._outputs: list[tuple[nn.Module, Tensor]] = []
        self._slopes: list[dict[int, Tensor]] = []
        for module, name in self._place:
            if name not in ("weight", "bias") or not _is_plain(module):
                raise ValueError(f"vkdnw does not know what the {name} of {type(module).__name__} does to its output")

    def note(self, module: nn.Module, inputs: Tensor, output: Tensor) -> Tensor:
        """Keeps the output, and for each entry what it multiplies in the first channel of it. What follows works on a copy, so that it may
        work in place."""
        names = [name for name in ("weight", "bias") if (module, name) in self._place]
        if not names:
            return output
        self._outputs.append((module, output))
        self._slopes.append({self._place[module, name]: _multiplier(module, inputs.detach(), name) for name in names})
        return output.clone()

    def gradients(self, logits: Tensor, direction: Tensor) -> Tensor:
        """(B, P) of each image's logits in the `direction` (B, N)."""
        found = logits.new_zeros(len(logits), len(self._place))
        modules, outputs = zip(*self._outputs, strict=True)
        backs = torch.autograd.grad(logits, outputs, direction, retain_graph=True, materialize_grads=True)
        for module, back, slopes in zip(modules, backs, self._slopes, strict=True):
            if len(back) != len(found):
                raise ValueError(f"vkdnw: a {type(module).__name__} sees {len(back)} pieces of {len(found)} images")
            for place, slope in slopes.items():
                found[:, place] += (_first(module, back) * slope).flatten(1).sum(1)
        return found


def _is_plain(module: Any) -> bool:
    """Whether a layer's output is its weight's plain product with its input."""
    if isinstance(module, _BatchNorm):
        return True
    usual = nn.Linear.forward if isinstance(module, nn.Linear) else nn.Conv2d.forward
    return type(module).forward is usual and getattr(module, "padding_mode", "zeros") == "zeros"


def _first(module: nn.Module, x: Tensor) -> Tensor:
    """The first channel: the second axis of maps, the last one of what linear layers see."""
    return x[..., :1] if isinstance(module, nn.Linear) else x[:, :1]


def _multiplier(module: Any, inputs: Tensor, name: str) -> Tensor:
    """What the first entry of this parameter multiplies in the first channel of the output."""
    first = _first(module, inputs)
    if name == "bias":
        return first.new_ones(())
    if isinstance(module, nn.Conv2d):
        kernel = inputs.new_zeros(1, 1, *module.kernel_size)
        kernel[0, 0, 0, 0] = 1
        return F.conv2d(first, kernel, None, module.stride, module.padding, module.dilation)
    return first if isinstance(module, nn.Linear) else first / (1 + module.eps) ** 0.5
