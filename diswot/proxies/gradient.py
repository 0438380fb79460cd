"""Proxies that look at the gradients of the weights, as functions of plain tensors.

A higher value is better. `weights` and `gradients` are lists with one tensor for each convolution and linear layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Tensors = Sequence[Tensor]


def grad_norm(gradients: Tensors) -> Tensor:
    """Return the sum over layers of the Euclidean norm of the gradient (Abdelfattah et al., ICLR 2021).

    >>> grad_norm([torch.tensor([3.0, 4.0]), torch.tensor([2.0])]).item()
    7.0
    """
    return torch.stack([g.norm() for g in gradients]).sum()


def l2_norm(weights: Tensors) -> Tensor:
    """Return the sum over layers of the Euclidean norm of the weights, which needs no data (Abdelfattah et al., ICLR 2021).

    >>> l2_norm([torch.tensor([3.0, 4.0])]).item()
    5.0
    """
    return grad_norm(weights)


def grad_times_weight(weights: Tensors, gradients: Tensors) -> Tensor:
    """Return the sum of g W over all weights W with gradients g, with its sign (Mozer & Smolensky 1989).

    >>> grad_times_weight([torch.tensor([1.0, 2.0])], [torch.tensor([3.0, -1.0])]).item()
    1.0
    """
    return torch.stack([(g * w).sum() for w, g in zip(weights, gradients, strict=True)]).sum()


def snip(weights: Tensors, gradients: Tensors) -> Tensor:
    """Return the sum of |g W| over all weights W with gradients g (Lee et al., ICLR 2019).

    To first order, |g W| is the change of the loss if the weight is removed.

    >>> snip([torch.tensor([1.0, 2.0])], [torch.tensor([3.0, -1.0])]).item()
    5.0
    """
    return torch.stack([(g * w).abs().sum() for w, g in zip(weights, gradients, strict=True)]).sum()


def grasp(weights: Tensors, loss: Tensor) -> Tensor:
    """Return minus the sum of W (H g), where H is the Hessian of the loss and g its gradient (Wang et al., ICLR 2020).

    Args:
        weights: the weights W, which require gradients.
        loss: scalar that was computed from them.

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> grasp([w], (w**2).sum()).item()  # g = 2 w, H = 2
    -20.0
    """
    gradients = torch.autograd.grad(loss, weights, create_graph=True)
    with torch.enable_grad():
        squared_norm = torch.stack([(g.detach() * g).sum() for g in gradients]).sum()
    hessian_product = torch.autograd.grad(squared_norm, weights, retain_graph=True, materialize_grads=True)
    return -grad_times_weight(weights, hessian_product)


def fisher(outputs: Tensors, gradients: Tensors) -> Tensor:
    """Return the sum over channels of 0.5 mean_n (sum_hw a dL/da)^2, where a is a layer's output for image n and L the loss.

    The source is Theis et al. 2018 and Turner et al., ICLR 2020.

    Args:
        outputs: outputs (B, C, ...) of the layers that take part in the loss.
        gradients: gradients of the loss with respect to them.

    >>> a = torch.tensor([[[[1.0, 2.0]]]])
    >>> fisher([a], [torch.ones(1, 1, 1, 2)]).item()
    4.5
    """
    saliency = [(a * g).flatten(2).sum(2) if a.ndim > 2 else a * g for a, g in zip(outputs, gradients, strict=True)]
    return torch.stack([0.5 * s.square().mean(0).sum() for s in saliency]).sum()


def zico(batches: Sequence[Tensors]) -> Tensor:
    """Return the sum over layers of log sum_W mean|g| / std(g), with mean and deviation over batches (Li et al., ICLR 2023).

    The inner sum is over the weights W of the layer whose gradient g varies between the batches; layers without such weights are left out.
    The deviation is that of the population, with the number of batches as the divisor.

    Args:
        batches: for each of two or more batches, the gradients of all layers.

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
    """Return how much the images agree on the signs of their gradients, in [0, B P] for B images and P weights (Zhang & Jia, ICLR 2022).

    It is the sum over the weights of |sum over the images of the sign of the image's own gradient|. The authors' code takes the sum over
    the weights in one place and the mean in another. The mean ranks networks in the opposite order, since the images agree less in
    larger networks.

    Args:
        images: for each image, the gradients of all layers for this image alone.

    >>> gradsign([[torch.tensor([1.0, -2.0])], [torch.tensor([3.0, 4.0])]]).item()
    2.0
    """
    layers = [torch.stack([g.sign() for g in layer]).sum(0).abs() for layer in zip(*images, strict=True)]
    return torch.stack([layer.double().sum() for layer in layers]).sum()


def ntk_condition(images: Sequence[Tensors]) -> Tensor:
    """Return minus the condition number of the neural tangent kernel (TE-NAS, Chen et al., ICLR 2021).

    The kernel is the matrix of the inner products of the images' gradients.

    Args:
        images: for each image, the gradients of its summed logits with respect to all layers.

    Raises:
        ValueError: all gradients are zero.

    >>> ntk_condition([[torch.tensor([2.0, 0.0])], [torch.tensor([0.0, 1.0])]]).item()
    -4.0
    """
    flat = torch.stack([torch.cat([g.flatten() for g in image]) for image in images])
    values = torch.linalg.eigvalsh((flat @ flat.T).double())
    if not bool(values[-1] > 0):
        raise ValueError("no gradient reaches the weights, since the network's output does not depend on its input")
    return -values[-1] / values[0].clamp_min(1e-12 * float(values[-1]))


def synflow(weights: Tensors, gradients: Tensors) -> Tensor:
    """Return log sum |W dR/dW|, where R is the sum of the network's outputs (Tanaka et al., NeurIPS 2020).

    The logarithm is taken because the sum itself overflows for deep networks.

    Args:
        weights: absolute values of the network's weights, float64.
        gradients: gradients of R with respect to these weights, for an image of ones and without normalisation layers.

    >>> weights = torch.tensor([1.0, 2.0], dtype=torch.float64)
    >>> round(synflow([weights], [torch.ones(2)]).item(), 6)  # log 3
    1.098612
    """
    return snip(weights, gradients).clamp_min(1e-300).log()
