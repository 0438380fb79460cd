"""Proxies that cannot use the shared forward passes, as functions of a `Candidate`.

They need other weights, another normalisation, or a pass for each image alone.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from diswot.observe import activation_types, observe, timm_types, watch_modules
from diswot.proxies import activation, gradient, spectrum
from diswot.proxies.candidate import Candidate
from diswot.proxies.forward_pass import WEIGHTED, weights_of

FISHER_IMAGES, FISHER_TENSORS = 8, 128  # of `fisher_matrix`: the fewest images, the most parameter tensors
REGION_INPUTS, REGION_SIZE = 1000, 3  # of `te_regions`: number of inputs, side of each in pixels
_STEP = 0.01  # of `zen`: scale of the change of the input
_OTHER_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d)

After = Callable[[nn.Module, Tensor, Tensor], Tensor]  # (module, input, output) -> output to use instead


@contextlib.contextmanager
def _replace_norms(
    model: nn.Module, make_forward: Callable[[Any], Callable[[Tensor], Tensor]], after: After | None = None
) -> Iterator[None]:
    """Replace the forward functions of all batch norms while this context is active.

    A batch norm runs `make_forward(norm)`, then `after(norm, input, output)`, then the activation if timm has fused one with it.
    """
    norms: list[Any] = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    for norm in norms:
        norm.forward = _norm_forward(norm, make_forward(norm), after)
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _norm_forward(norm: Any, plain: Callable[[Tensor], Tensor], after: After | None) -> Callable[[Tensor], Tensor]:
    act = getattr(norm, "act", None)

    def forward(x: Tensor) -> Tensor:
        y = plain(x) if after is None else after(norm, x, plain(x))
        return y if act is None else act(y)

    return forward


def _identity(_norm: Any) -> Callable[[Tensor], Tensor]:
    return lambda x: x


def _initial_statistics(norm: Any) -> Callable[[Tensor], Tensor]:
    """Return a forward function that normalises by the initial running statistics of a batch norm, mean 0 and variance 1."""

    def forward(x: Tensor) -> Tensor:
        mean = x.new_zeros(x.shape[1])
        return F.batch_norm(x, mean, mean + 1, norm.weight, norm.bias, eps=norm.eps)

    return forward


@contextlib.contextmanager
def _absolute_parameters(model: nn.Module) -> Iterator[None]:
    """Replace all parameters by their absolute values in float64 while this context is active.

    The original tensors are not changed, so that the graphs of earlier passes can still be used.
    """
    originals = [(module, name, parameter) for module in model.modules() for name, parameter in module.named_parameters(recurse=False)]
    for module, name, parameter in originals:
        module._parameters[name] = nn.Parameter(parameter.detach().abs().double())
    try:
        yield
    finally:
        for module, name, parameter in originals:
            module._parameters[name] = parameter


def _refuse(model: nn.Module, limitation: str, kinds: tuple[type[nn.Module], ...]) -> None:
    """Raise a ValueError if the network has a layer of a kind with which the proxy is meaningless."""
    for module in model.modules():
        if isinstance(module, kinds):
            raise ValueError(f"{limitation}, and the network has {type(module).__name__}: use another proxy")


def synflow(candidate: Candidate) -> Tensor:
    """Return `gradient.synflow`, computed in float64 with absolute weights, without batch norm, and for one image of ones."""
    candidate.use(None)
    standardised = timm_types("timm.layers", "StdConv2d", "StdConv2dSame", "ScaledStdConv2d", "ScaledStdConv2dSame")
    _refuse(candidate.model, "synflow can bypass no other normalisation than batch norm", (*_OTHER_NORMS, *standardised))
    image = torch.ones_like(candidate.input("images")[:1], dtype=torch.float64)
    with _absolute_parameters(candidate.model), torch.enable_grad(), _replace_norms(candidate.model, _identity):
        weights = weights_of(candidate.model)
        total = observe(candidate.model, image).logits.sum()
        return gradient.synflow(weights, torch.autograd.grad(total, weights, materialize_grads=True))


def zen(candidate: Candidate) -> Tensor:
    """Return the Zen-score (Zen-NAS, Lin et al., ICCV 2021), for weights and an input that are drawn from N(0, 1).

    It is the logarithm of the mean change of the last feature map when N(0, 1) noise times 0.01 is added to the input, plus, for each
    batch norm, the logarithm of the square root of the mean variance of its input channels.

    >>> import diswot
    >>> deep, shallow = diswot.score(["resnet20", "resnet8"], proxy="zen", seeds=1, batch_size=2, input_size=16)
    >>> deep.scores["zen"] > shallow.scores["zen"]
    True
    """
    candidate.use("gaussian")
    _refuse(candidate.model, "zen can take no other normalisation than batch norm into account", _OTHER_NORMS)
    scales: list[Tensor] = []

    def record_scale(_norm: nn.Module, inputs: Tensor, _output: Tensor) -> None:
        pixels = inputs.movedim(1, -1).flatten(0, -2)  # (n, C), without a copy where channels are stored last
        deviations = (pixels - pixels.mean(0)).flatten()
        scales.append((deviations @ deviations / (pixels.numel() - pixels.shape[1])).sqrt())  # of the mean variance

    x = candidate.input("noise")
    step = torch.randn(x.shape, generator=candidate.generator(2)).to(x)
    with watch_modules(candidate.model, (_BatchNorm,), record_scale):
        before = observe(candidate.model, x).features
    after = observe(candidate.model, x + _STEP * step).features
    change = (before - after).abs().mean()
    return torch.stack([change, *scales]).clamp_min(1e-30).log().sum()


def log_fan_in(model: nn.Module) -> float:
    """Return the sum over the convolutions of log(c k^2), where each output is a sum over c k^2 inputs: its fan-in.

    A convolution with N(0, 1) weights multiplies the variance of its input by this number, so half of the sum is what `zen` comes to, but
    for what activations, additions and pooling do to the variance. It is a factor of the entropy of DeepMAD (Shen et al., CVPR 2023).

    >>> round(log_fan_in(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8))), 4)  # log 27 + log 9
    5.4931
    """
    return sum(math.log(math.prod(module.weight.shape[1:])) for module in model.modules() if isinstance(module, nn.Conv2d))


def zico(candidate: Candidate) -> Tensor:
    """Return `gradient.zico` for the two halves of the batch."""
    half = len(candidate.target) // 2
    return gradient.zico([candidate.loss_gradients(slice(0, half)), candidate.loss_gradients(slice(half, 2 * half))])


def gradsign(candidate: Candidate) -> Tensor:
    """Return `gradient.gradsign`, for which each image is run alone."""
    return gradient.gradsign([candidate.loss_gradients(slice(i, i + 1)) for i in range(len(candidate.target))])


def te_ntk(candidate: Candidate) -> Tensor:
    """Return `gradient.ntk_condition` for the batch, by one forward pass and a backward pass for each image."""
    forward_pass = candidate.images
    with torch.enable_grad():
        sums = forward_pass.observation.logits.sum(1).unbind()
    return gradient.ntk_condition(
        [torch.autograd.grad(total, forward_pass.weights, retain_graph=True, materialize_grads=True) for total in sums]
    )


def te_regions(candidate: Candidate) -> float:
    """Return `activation.linear_regions` for 1,000 inputs of 3x3 pixels, which are drawn from N(0, 1)."""
    candidate.use(None)
    shape = (REGION_INPUTS, candidate.input("images").shape[1], REGION_SIZE, REGION_SIZE)
    inputs = torch.randn(shape, generator=candidate.generator(3)).to(candidate.input("images"))
    patterns: list[Tensor] = []
    with watch_modules(candidate.model, activation_types(), lambda _m, x, _y: patterns.append((x > 0).flatten(1))):
        observe(candidate.model, inputs)
    if not patterns:
        raise ValueError(activation.NO_ACTIVATIONS)
    return activation.linear_regions(torch.cat(patterns, 1))


def vkdnw(candidate: Candidate) -> Tensor:
    """Return VKDNW-single (Tybl & Neumann, CVPR 2025): the number of parameter tensors plus a third of `spectrum.decile_entropy`.

    The entropy is that of the Fisher matrix. Divided by 3 it is less than 1, so it only orders networks with equally many tensors.

    >>> import diswot
    >>> (row,) = diswot.score(["resnet8"], proxy="vkdnw", seeds=1, batch_size=2, input_size=16, num_classes=4)
    >>> int(row.scores["vkdnw"][0]), len(list(diswot.build(row.arch, 4).parameters()))
    (29, 29)
    """
    tensors = len(list(candidate.model.parameters()))
    return tensors + spectrum.decile_entropy(fisher_matrix(candidate)) / 3


def fisher_matrix(candidate: Candidate) -> Tensor:
    """Return the empirical Fisher information of the first entry of each of the first P <= 128 parameter tensors (VKDNW, section 3).

    The parameters are those of convolutions, linear layers and batch norms. The input is noise, of which as many images are used as give
    twice as many terms as the matrix needs for full rank, but at least 8. Batch norms run as in the evaluation of a newly initialised
    network, with mean 0 and variance 1.

    Returns:
        (P, P) matrix.

    Raises:
        ValueError: a layer multiplies its input by something else than its weight (as with weight standardisation), or does not process
            the images one by one.
    """
    candidate.use(None)
    entries = _FirstEntries(candidate.model)
    layers = watch_modules(candidate.model, WEIGHTED, entries.record)
    with torch.enable_grad(), layers, _replace_norms(candidate.model, _initial_statistics, entries.record):
        logits = observe(candidate.model, _fisher_input(candidate)).logits
    roots = spectrum.covariance_root(logits.detach().softmax(1))  # (B, N, N)
    jacobian = torch.cat([entries.gradients(logits, column) for column in roots.unbind(2)])  # (N B, P)
    return jacobian.T @ jacobian / len(logits)


def _fisher_input(candidate: Candidate) -> Tensor:
    classes = candidate.model.get_classifier().out_features  # type: ignore[operator]
    count = max(FISHER_IMAGES, -(-2 * FISHER_TENSORS // max(classes - 1, 1)))  # each image adds at most N - 1 to the rank
    return candidate.input("noise")[:count]


class _FirstEntries:
    """The first entries of the parameter tensors of a network, and their gradients for each image alone.

    Autograd would sum the gradients over the batch. Here they are computed from the gradients of the layers' outputs, and from what the
    entry is multiplied by in each layer, which is recorded during a forward pass.
    """

    def __init__(self, model: nn.Module) -> None:
        kinds = (*WEIGHTED, _BatchNorm)
        parameters: list[tuple[nn.Module, str]] = []
        for module in model.modules():
            if isinstance(module, kinds):
                parameters += [(module, name) for name, _ in module.named_parameters(recurse=False)]
        self._index = {parameter: index for index, parameter in enumerate(parameters[:FISHER_TENSORS])}
        self._outputs: list[tuple[nn.Module, Tensor]] = []
        self._multipliers: list[dict[int, Tensor]] = []
        for module, name in self._index:
            if name not in ("weight", "bias") or not _is_plain(module):
                raise ValueError(f"vkdnw does not know how the output of {type(module).__name__} depends on its {name}: use another proxy")

    def record(self, module: nn.Module, inputs: Tensor, output: Tensor) -> Tensor:
        """Keep a layer's output and, for each of its entries, what this is multiplied by in the first channel of the output.

        The returned output is a copy, so that the next layer may change it in place.
        """
        names = [name for name in ("weight", "bias") if (module, name) in self._index]
        if not names:
            return output
        self._outputs.append((module, output))
        self._multipliers.append({self._index[module, name]: _multiplier(module, inputs.detach(), name) for name in names})
        return output.clone()

    def gradients(self, logits: Tensor, direction: Tensor) -> Tensor:
        """Return the (B, P) gradients of the entries, for each image's logits multiplied by its `direction` (B, N) and summed."""
        gradients = logits.new_zeros(len(logits), len(self._index))
        modules, outputs = zip(*self._outputs, strict=True)
        output_gradients = torch.autograd.grad(logits, outputs, direction, retain_graph=True, materialize_grads=True)
        for module, output_gradient, multipliers in zip(modules, output_gradients, self._multipliers, strict=True):
            if len(output_gradient) != len(logits):
                raise ValueError(
                    f"vkdnw needs layers that process images one by one, but {type(module).__name__} splits {len(logits)} images into "
                    f"{len(output_gradient)} inputs: use another proxy"
                )
            for index, multiplier in multipliers.items():
                gradients[:, index] += (_first_channel(module, output_gradient) * multiplier).flatten(1).sum(1)
        return gradients


def _is_plain(module: Any) -> bool:
    """Return whether the output of a layer is simply the product of its weight and its input."""
    if isinstance(module, _BatchNorm):
        return True
    plain_forward = nn.Linear.forward if isinstance(module, nn.Linear) else nn.Conv2d.forward
    return type(module).forward is plain_forward and getattr(module, "padding_mode", "zeros") == "zeros"


def _first_channel(module: nn.Module, x: Tensor) -> Tensor:
    """Return the first channel; channels are the last axis for linear layers and the second axis for all others."""
    return x[..., :1] if isinstance(module, nn.Linear) else x[:, :1]


def _multiplier(module: Any, inputs: Tensor, name: str) -> Tensor:
    """Return what the first entry of a parameter is multiplied by in the first channel of the layer's output."""
    first = _first_channel(module, inputs)
    if name == "bias":
        return first.new_ones(())
    if isinstance(module, nn.Conv2d):
        kernel = inputs.new_zeros(1, 1, *module.kernel_size)
        kernel[0, 0, 0, 0] = 1
        return F.conv2d(first, kernel, None, module.stride, module.padding, module.dilation)
    return first if isinstance(module, nn.Linear) else first / (1 + module.eps) ** 0.5
