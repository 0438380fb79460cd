"""Proxies that need passes of their own: other weights, other normalisation, each image by itself. Functions of a `Student`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from diswot.observe import ACTIVATIONS, observe, watch
from diswot.proxies import activation, gradient, spectrum
from diswot.proxies.views import WEIGHTED, Student

FISHER_IMAGES, FISHER_TENSORS = 8, 128
REGION_INPUTS, REGION_SIZE = 1000, 3
_STEP = 0.01


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


def _of_each_image(norm: Any) -> Callable[[Tensor], Tensor]:
    """Normalises each image by its own statistics, so that images do not touch one another; a single pixel is passed on."""

    def forward(x: Tensor) -> Tensor:
        if x.ndim < 3 or x[0, 0].numel() == 1:
            return x
        return F.instance_norm(x, weight=norm.weight, bias=norm.bias, eps=norm.eps)

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


def synflow(student: Student) -> Tensor:
    """`gradient.synflow` in float64: absolute weights, batch norm bypassed, one image of ones."""
    student.use(None)
    image = torch.ones_like(student.input("images")[:1], dtype=torch.float64)
    with _absolute(student.model), torch.enable_grad(), _norms_as(student.model, _bypassed):
        weights = [m.weight for m in student.model.modules() if isinstance(m, WEIGHTED)]
        total = observe(student.model, image).logits.sum()
        return gradient.synflow(weights, torch.autograd.grad(total, weights, materialize_grads=True))


def zen(student: Student) -> Tensor:
    """log of the mean change of the last map for a step of 0.01 in the input, plus log of each batch norm's root mean variance.

    Weights and input are drawn from N(0, 1) (Zen-NAS, Lin et al., ICCV 2021).
    """
    student.use("gaussian")
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
        raise ValueError("the network has no activation modules (ReLU, GELU, ...) to look at")
    return activation.linear_regions(torch.cat(patterns, 1))


def vkdnw(student: Student) -> Tensor:
    """Number of parameter tensors, and below it `spectrum.decile_entropy` of the Fisher matrix (single VKDNW: first by the one, then by
    the other)."""
    tensors = len(list(student.model.parameters()))
    return tensors + spectrum.decile_entropy(fisher_matrix(student)) / 3


def fisher_matrix(student: Student) -> Tensor:
    """(P, P) empirical Fisher information of the first entry of each of the first P <= 128 parameter tensors (VKDNW, section 3).

    Parameters are those of convolutions, linear layers and batch norms; the input is noise, at most 8 images, each normalised by its own
    statistics.
    """
    student.use(None)
    images = student.input("noise")[:FISHER_IMAGES]
    with _norms_as(student.model, _of_each_image):
        roots = spectrum.covariance_root(observe(student.model, images).logits.softmax(1))  # (B, N, N)
    rows = [_fisher_rows(student.model, image, root) for image, root in zip(images, roots, strict=True)]
    jacobian = torch.cat(rows)  # (B N, P)
    return jacobian.T @ jacobian / len(images)


def _fisher_rows(model: nn.Module, image: Tensor, root: Tensor) -> Tensor:
    """(N, P): the Jacobian of an image's logits, multiplied by the root from the left. The image runs as N copies, one for each column of
    the root, so that one backward pass gives every row."""
    copies = image.expand(len(root), *image.shape).contiguous(memory_format=torch.channels_last)
    shifts = _Shifts(model, len(root))
    layers = watch(model, WEIGHTED, shifts.add)
    with torch.enable_grad(), layers, _norms_as(model, _of_each_image, shifts.add):
        logits = observe(model, copies).logits
    return torch.stack(torch.autograd.grad(logits, shifts.all, root.T, materialize_grads=True), 1)


class _Shifts:
    """For the first entry of each parameter tensor an addend of its own for each image, (B,), all zero: their gradients are those of the
    entry, image by image."""

    def __init__(self, model: nn.Module, batch: int) -> None:
        self.all: list[Tensor] = []
        self.of: dict[nn.Module, dict[str, Tensor]] = {}
        for module in model.modules():
            if isinstance(module, (*WEIGHTED, _BatchNorm)):
                names = [name for name in ("weight", "bias") if isinstance(getattr(module, name, None), nn.Parameter)]
                new = next(module.parameters(), torch.empty(0)).new_zeros
                self.of[module] = {name: new(batch, requires_grad=True) for name in names[: FISHER_TENSORS - len(self.all)]}
                self.all += self.of[module].values()

    def add(self, module: nn.Module, inputs: Tensor, output: Tensor) -> Tensor:
        """The output with the shifts in its first channel."""
        own = self.of[module]
        if not own:
            return output
        first = output[:, :1]
        change = torch.zeros_like(first)
        for name, shift in own.items():
            entry = shift.view(-1, *[1] * (output.ndim - 1))
            change = change + entry * (_multiplier(module, inputs, first) if name == "weight" else 1.0)
        return torch.cat([first + change, output[:, 1:]], 1)


def _multiplier(module: Any, inputs: Tensor, first: Tensor) -> Tensor:
    """What the first entry of the weight multiplies in the first channel of the output."""
    if isinstance(module, nn.Conv2d):
        kernel = inputs.new_zeros(1, 1, *module.kernel_size)
        kernel[0, 0, 0, 0] = 1
        return F.conv2d(inputs[:, :1], kernel, None, module.stride, module.padding, module.dilation)
    if isinstance(module, nn.Linear):
        return inputs[:, :1]
    return (first - module.bias[0]) / module.weight[0]
