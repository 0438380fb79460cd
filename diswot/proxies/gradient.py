"""Proxies of the gradients of the weights, as functions of plain tensors. Higher is better.

`weights` and `gradients` are those of the convolutions and linear layers, a pair for each layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Tensors = Sequence[Tensor]


def grad_norm(gradients: Tensors) -> Tensor:
    """Sum over layers of the Euclidean norm of the gradient (Abdelfattah et al., ICLR 2021).

    >>> grad_norm([torch.tensor([3.0, 4.0]), torch.tensor([2.0])]).item()
    7.0
    """
    return torch.stack([g.norm() for g in gradients]).sum()


def l2_norm(weights: Tensors) -> Tensor:
    """Sum over layers of the Euclidean norm of the weights; no data (Abdelfattah et al., ICLR 2021).

    >>> l2_norm([torch.tensor([3.0, 4.0])]).item()
    5.0
    """
    return grad_norm(weights)


def plain(weights: Tensors, gradients: Tensors) -> Tensor:
    """Sum of g W, signed (Mozer & Smolensky 1989).

    >>> plain([torch.tensor([1.0, 2.0])], [torch.tensor([3.0, -1.0])]).item()
    1.0
    """
    return torch.stack([(g * w).sum() for w, g in zip(weights, gradients, strict=True)]).sum()


def snip(weights: Tensors, gradients: Tensors) -> Tensor:
    """Sum of |g W|: how much the loss depends on each weight's being there (Lee et al., ICLR 2019).

    >>> snip([torch.tensor([1.0, 2.0])], [torch.tensor([3.0, -1.0])]).item()
    5.0
    """
    return torch.stack([(g * w).abs().sum() for w, g in zip(weights, gradients, strict=True)]).sum()


def grasp(weights: Tensors, loss: Tensor) -> Tensor:
    """- sum of W (H g), with H the Hessian of the loss and g its gradient (Wang et al., ICLR 2020).

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> grasp([w], (w**2).sum()).item()  # g = 2 w, H = 2
    -20.0
    """
    gradients = torch.autograd.grad(loss, weights, create_graph=True)
    with torch.enable_grad():
        along = torch.stack([(g.detach() * g).sum() for g in gradients]).sum()
    curved = torch.autograd.grad(along, weights, retain_graph=True, materialize_grads=True)
    return -plain(weights, curved)


def fisher(outputs: Tensors, gradients: Tensors) -> Tensor:
    """Sum over channels of 0.5 mean_n (sum_hw a dL/da)^2, `a` the layers' outputs (Theis et al. 2018; Turner et al., ICLR 2020).

    Args:
        outputs, gradients: (B, C, ...) each; of layers that take part in the loss.

    >>> a = torch.tensor([[[[1.0, 2.0]]]])
    >>> fisher([a], [torch.ones(1, 1, 1, 2)]).item()
    4.5
    """
    saliency = [(a * g).flatten(2).sum(2) if a.ndim > 2 else a * g for a, g in zip(outputs, gradients, strict=True)]
    return torch.stack([0.5 * s.square().mean(0).sum() for s in saliency]).sum()


def zico(batches: Sequence[Tensors]) -> Tensor:
    """Sum over layers of log sum of mean|g| / std(g) over batches, where the deviation is not 0 (Li et al., ICLR 2023).

    Args:
        batches: the gradients of each of two or more batches. The deviation is the population's. Layers without any are left out.

    >>> zico([[torch.tensor([1.0, 2.0])], [torch.tensor([3.0, 2.0])]]).item()  # log(2 / 1)
    0.6931471824645996
    """
    terms = []
    for layer in zip(*batches, strict=True):
        stacked = torch.stack(layer)
        deviation = stacked.std(0, correction=0)
        varies = deviation > 0
        ratio = (stacked.abs().mean(0)[varies] / deviation[varies]).sum()
        if bool(ratio > 0):
            terms.append(ratio.log())
    return torch.stack(terms).sum() if terms else torch.tensor(0.0)


def gradsign(images: Sequence[Tensors]) -> Tensor:
    """Sum over weights of |sum over images of the sign of the image's own gradient|, in [0, B P] (Zhang & Jia, ICLR 2022).

    The authors' code has the sum over the P weights in one place and the mean in another. The mean ranks upside down: larger networks
    agree less.

    Args:
        images: the gradients of each image alone.

    >>> gradsign([[torch.tensor([1.0, -2.0])], [torch.tensor([3.0, 4.0])]]).item()
    2.0
    """
    layers = [torch.stack([g.sign() for g in layer]).sum(0).abs() for layer in zip(*images, strict=True)]
    return torch.stack([layer.double().sum() for layer in layers]).sum()


def ntk_condition(images: Sequence[Tensors]) -> Tensor:
    """- condition number of the neural tangent kernel, the inner products of the images' gradients (TE-NAS, Chen et al., ICLR 2021).

    Args:
        images: for each image the gradients of its summed logits.

    Raises:
        ValueError: there are none.

    >>> ntk_condition([[torch.tensor([2.0, 0.0])], [torch.tensor([0.0, 1.0])]]).item()
    -4.0
    """
    flat = torch.stack([torch.cat([g.flatten() for g in image]) for image in images])
    values = torch.linalg.eigvalsh((flat @ flat.T).double())
    if not bool(values[-1] > 0):
        raise ValueError("no gradient reaches the weights: the network's output does not depend on its input")
    return -values[-1] / values[0].clamp_min(1e-12 * float(values[-1]))


def synflow(weights: Tensors, gradients: Tensors) -> Tensor:
    """log of the sum of |W dR/dW| (Tanaka et al., NeurIPS 2020): the sum itself passes any float for deep networks.

    Args:
        weights, gradients: float64, of the network with absolute weights and without normalisation on an image of ones.

    >>> weights = torch.tensor([1.0, 2.0], dtype=torch.float64)
    >>> round(synflow([weights], [torch.ones(2)]).item(), 6)  # log 3
    1.098612
    """
    return snip(weights, gradients).clamp_min(1e-300).log()
