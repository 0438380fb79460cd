"""The built-in proxies, each with what it needs: the table behind `diswot list proxies`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from diswot import similarity
from diswot.errors import TeacherError
from diswot.proxies import activation, gradient, passes, spectrum
from diswot.proxies.base import PROXIES, FunctionProxy, Score
from diswot.proxies.candidate import Candidate
from diswot.proxies.forward_pass import ForwardPass
from diswot.proxies.summary import NetworkSummary
from diswot.space import Cost

_FEW = 4  # images for the metrics of the paper
SWAP_MU, SWAP_SIGMA = 1000.0, 1000.0  # thousands of parameters; the paper chooses them for each search


def _add(name: str, summary: str, score: Score, needs: str = "", **facts: Any) -> None:
    """Register a proxy that runs a network; `facts` are the class attributes of `Proxy` that differ from its defaults."""
    facts.setdefault("seeds", 4 if facts.get("batch_size") == _FEW else 2)
    PROXIES.register(name)(FunctionProxy(score, summary=summary, needs=frozenset(f"network {needs}".split()), **facts))


def _count(name: str, summary: str, of: Callable[[Cost], float]) -> None:
    """Register a proxy that is a count."""
    facts = {"needs": frozenset(), "norm": "-", "input": "-", "init": "-", "passes": "none", "batch_size": 2, "seeds": 1}
    PROXIES.register(name)(FunctionProxy(lambda _candidate, _teacher, cost: of(cost), summary=summary, **facts))


_count("params", "the number of parameters: the baseline that every ranking must beat", lambda cost: float(cost.params))
_count("flops", "the number of multiply-accumulates", lambda cost: float(cost.flops))
_count("depth", "layers on the longest path", lambda cost: float(cost.depth))
_count(
    "swap_size",
    f"log of SWAP's bell curve around {SWAP_MU:g} thousand parameters",
    lambda cost: activation.regular_factor(cost.params, SWAP_MU, SWAP_SIGMA),
)


def _effective(name: str, summary: str, of: Callable[[Cost], float]) -> None:
    """Register a count of the network as it is built: what carries nothing to the output is left out."""
    facts: dict[str, Any] = {"norm": "-", "input": "-", "init": "-", "passes": "none", "batch_size": 2}
    _add(name, summary, lambda s, *_: of(s.cost), **facts)


_effective("effective_params", "parameters of what reaches the output: dead branches are not counted", lambda cost: float(cost.params))
_effective("effective_flops", "multiply-accumulates of the same", lambda cost: float(cost.flops))
_add(
    "log_fan_in",
    "log of the product of the convolutions' fan-ins: much of what zen sees, without a pass",
    lambda s, *_: passes.log_fan_in(s.model),
    norm="-",
    input="-",
    init="-",
    passes="none",
    batch_size=2,
    seeds=1,
)


# --- similarity to the teacher: many initialisations with few images each rank best (docs/results/trust.md) ----------


def _semantic_outer(candidate: Candidate, teacher: NetworkSummary, cost: Cost) -> Tensor:
    ours, theirs = candidate.images.gradient, teacher.gradient
    if theirs.shape != ours.shape:
        raise TeacherError(
            f"semantic_outer compares channels one by one, and the teacher has {theirs.shape[1]}, the student {ours.shape[1]}"
        )
    return -similarity.outer_product_distance(theirs, ours)


def _gram(of: str, norm: similarity.Norm) -> Score:
    def score(candidate: Candidate, teacher: NetworkSummary, cost: Cost) -> Tensor:
        return -similarity.gram_distance(getattr(teacher, of), _alive(getattr(candidate.images, of)), norm)

    return score


def _alive(gram: Tensor) -> Tensor:
    """The matrix, or a ValueError where it is all zeros: a network that is nothing would be at a middling distance from everything."""
    if not bool(gram.any()):
        raise ValueError("the network's maps or gradients are all zero: its output does not depend on its input")
    return gram


def _stage_relation(stage: int) -> Score:
    """Return the score of one stage: how similar its sample relations are to the teacher's.

    Stages are resolutions, counted from the finest; a network with fewer than the teacher's gives its last.
    """

    def score(candidate: Candidate, teacher: NetworkSummary, cost: Cost) -> Tensor:
        ours, theirs = candidate.images.stage_grams, teacher.stage_grams
        if not ours or not theirs:
            raise TeacherError(f"relation_stage{stage + 1} needs networks with feature maps (B, C, H, W) on the way")
        return -similarity.gram_distance(theirs[min(stage, len(theirs) - 1)], _alive(ours[min(stage, len(ours) - 1)]), "rows")

    return score


_add(
    "semantic_profile",
    "classifier gradients, averaged over all matchings of channels: any channel counts",
    lambda s, t, _: -similarity.profile_distance(t.profile, s.images.profile),
    "teacher teacher:classifier labels",
    batch_size=_FEW,
)
_add(
    "semantic_outer",
    "the published code's M_s: outer products of classifier gradients; equal channels",
    _semantic_outer,
    "teacher teacher:classifier labels",
    batch_size=_FEW,
)
_add(
    "semantic_cam",
    "the paper's M_s: class activation maps correlated over classes, Frobenius norm",
    _gram("cam_gram", "frobenius"),
    "teacher teacher:classifier",
    batch_size=_FEW,
)
_add("semantic_cam_rows", "semantic_cam with each row normalised", _gram("cam_gram", "rows"), "teacher teacher:classifier", batch_size=_FEW)
_add(
    "relation",
    "the published code's M_r: similarities of samples, each row normalised",
    _gram("sample_gram", "rows"),
    "teacher",
    batch_size=_FEW,
)
_add("relation_frobenius", "the paper's M_r: Frobenius norm", _gram("sample_gram", "frobenius"), "teacher", batch_size=_FEW)
for _stage in range(3):
    _add(f"relation_stage{_stage + 1}", f"relation at the end of stage {_stage + 1}", _stage_relation(_stage), "teacher images:blocks")


_add(
    "relation_jacobian",
    "similarities of the images' Jacobians, compared with the teacher's, each row normalised",
    _gram("jacobian_gram", "rows"),
    "teacher teacher:graph teacher:classifier images:graph images:blocks",
    passes="forward, backward",
    batch_size=16,
)
_add(
    "relation_stem_grad",
    "the same of the gradients at the stem's output",
    _gram("stem_grad_gram", "rows"),
    "teacher teacher:graph teacher:classifier images:graph images:blocks",
    passes="forward, backward",
    batch_size=16,
)


# --- gradients of the weights ----------------------------------------------------------------------------------------

_BACKWARD: dict[str, Any] = {"needs": "labels images:graph", "passes": "forward, backward"}

_add("grad_norm", "sum of the norms of the layers' gradients", lambda s, *_: gradient.grad_norm(s.images.gradients), **_BACKWARD)
_add("plain", "sum of gradient times weight", lambda s, *_: gradient.grad_times_weight(s.images.weights, s.images.gradients), **_BACKWARD)
_add("snip", "sum of |gradient times weight|", lambda s, *_: gradient.snip(s.images.weights, s.images.gradients), **_BACKWARD)
_add(
    "fisher",
    "squared sums of activation times its gradient",
    lambda s, *_: gradient.fisher(*s.images.outputs),
    "labels images:outputs",
    passes="forward, backward",
)
_add(
    "grasp",
    "- weights times (Hessian times gradient)",
    lambda s, *_: gradient.grasp(s.images.weights, s.images.loss),
    "labels images:graph",
    passes="forward, 2 backward, one of them through the other",
)
_add(
    "zico", "mean over deviation of the gradients of the batch's halves", lambda s, *_: passes.zico(s), "labels", passes="forward, backward"
)
_add(
    "gradsign",
    "agreement of the signs of the images' gradients",
    lambda s, *_: passes.gradsign(s),
    "labels",
    norm="image",
    passes="forward, backward",
)
_add(
    "synflow",
    "log of the sum of |W dR/dW| with absolute weights, in float64",
    lambda s, *_: passes.synflow(s),
    norm="bypassed",
    input="ones",
    passes="forward, backward of one image",
)
_add(
    "te_ntk",
    "TE-NAS: - condition number of the neural tangent kernel",
    lambda s, *_: passes.te_ntk(s),
    "images:graph",
    passes="forward, B backward",
)


# --- activations -----------------------------------------------------------------------------------------------------


def _swap_stages(candidate: Candidate, *_: Any) -> float:
    layers_of_stages = candidate.images.codes.values()
    if not layers_of_stages:
        raise ValueError(activation.NO_ACTIVATIONS)
    return sum(map(activation.swap, layers_of_stages))


_add("nwot", "log determinant of how far images share active units", lambda s, *_: activation.nwot(s.images.signs), "images:agreements")
_add(
    "swap",
    "log of the number of different sign patterns among the units",
    lambda s, *_: activation.swap([codes for layers in s.forward_pass("gaussian_images").codes.values() for codes in layers]),
    "gaussian_images:codes",
    init="gaussian",
    batch_size=16,
)
_add("swap_stages", "the same count for the units of each resolution, the logarithms summed", _swap_stages, "images:codes", batch_size=16)
_add(
    "te_regions",
    "TE-NAS: linear regions met by 1,000 tiny inputs; most networks meet all 1,000",
    lambda s, *_: passes.te_regions(s),
    input="noise",
)


# --- spectra ---------------------------------------------------------------------------------------------------------


def _expressivity(candidate: Candidate, *_: Any) -> Tensor:
    forward_pass = _with_blocks(candidate.noise)
    return forward_pass.entropies(forward_pass.every_block).sum()


def _progressivity(candidate: Candidate, *_: Any) -> Tensor:
    forward_pass = _with_blocks(candidate.noise)
    return spectrum.progressivity(forward_pass.entropies(forward_pass.every_block))


def _trainability(candidate: Candidate, *_: Any) -> Tensor:
    """Return the trainability of the blocks. As AZ-NAS has it, a network with a block that is the identity has no score."""
    return _mean(_with_blocks(candidate.noise).trainabilities(candidate.generator(4), identity=False))


def _mean(found: list[Tensor]) -> Tensor:
    if not found:
        raise ValueError("no block of the network passes its input on")
    return torch.stack(found).mean()


def _with_blocks(forward_pass: ForwardPass) -> ForwardPass:
    if len(forward_pass.blocks) < 2:
        raise ValueError("the network has fewer than two blocks with maps (B, C, H, W)")
    return forward_pass


def _entropy(candidate: Candidate, *_: Any) -> Tensor:
    forward_pass = _with_blocks(candidate.images)
    return forward_pass.entropies(forward_pass.first_stage).sum()


def _entropy_stages(candidate: Candidate, *_: Any) -> Tensor:
    forward_pass = _with_blocks(candidate.images)
    return forward_pass.entropies(forward_pass.stage_ends).sum()


def _entropy_layers(candidate: Candidate, *_: Any) -> Tensor:
    layers_of_resolutions = candidate.images.conv_entropies.values()
    if not layers_of_resolutions:
        raise ValueError("the network has no convolutions")
    return torch.stack([entropies.mean() for entropies in layers_of_resolutions]).sum()


def _direction_entropy(block: Callable[[ForwardPass], int]) -> Score:
    """The score of the block whose index `block` gives."""

    def score(candidate: Candidate, *_: Any) -> Tensor:
        forward_pass = _with_blocks(candidate.images)
        return forward_pass.direction_entropy(block(forward_pass))

    return score


def _image_trainability(candidate: Candidate, *_: Any) -> Tensor:
    return _mean(candidate.images.trainabilities(candidate.generator(4)))


def _diversity(candidate: Candidate, *_: Any) -> Tensor:
    return spectrum.diversity(candidate.images.gradients_seen[1])


def _diversity_stages(candidate: Candidate, *_: Any) -> Tensor:
    return torch.stack([spectrum.diversity(gradient) for gradient in _with_blocks(candidate.images).stage_gradients]).sum()


_BLOCKS: dict[str, Any] = {"needs": "images:blocks", "batch_size": 16}
_GRAPH: dict[str, Any] = {"needs": "images:blocks images:graph", "batch_size": 16, "passes": "forward, backward"}

_add("entropy", "entropy of the channels' spectrum, summed over the blocks of the first stage", _entropy, **_BLOCKS)
_add("entropy_stages", "the same after the last block of each stage, summed", _entropy_stages, **_BLOCKS)
_add(
    "entropy_layers",
    "the same at the output of every convolution, the mean of each resolution, summed",
    _entropy_layers,
    "images:conv_entropies",
    batch_size=16,
)
_add(
    "direction_entropy_first",
    "entropy of the features' directions after the first block",
    _direction_entropy(lambda t: t.first_stage[0]),
    **_BLOCKS,
)
_add("direction_entropy", "the same at the end of the first stage", _direction_entropy(lambda t: t.first_stage[-1]), **_BLOCKS)
_add("direction_entropy_last", "the same after the last block", _direction_entropy(lambda t: t.every_block[-1]), **_BLOCKS)
_add("trainability", "how unscaled blocks pass gradients on, on the images", _image_trainability, **_GRAPH)
_add("diversity", "how uncorrelated the images' gradients are at the stem's output", _diversity, **_GRAPH)
_add("diversity_stages", "the same at the end of each stage, summed", _diversity_stages, **_GRAPH)
_add(
    "neg_jacobian_log_norm",
    "- mean log norm of the images' Jacobians",
    lambda s, *_: spectrum.neg_jacobian_log_norm(s.images.jacobian),
    **_GRAPH,
)
_add(
    "isometry",
    "how near to 1 the gain from the images to each logit is, in the mean over the images",
    lambda s, *_: spectrum.isometry(s.images.jacobian, s.images.observation.logits.shape[1]),
    "images:graph",
    batch_size=16,
    passes="forward, backward",
)

_NOISE: dict[str, Any] = {"needs": "noise:blocks", "input": "noise"}

_add(
    "jacov",
    "spectrum of the correlations of the images' Jacobians",
    lambda s, *_: spectrum.jacov(s.images.jacobian),
    "images:graph",
    passes="forward, backward",
)
_add(
    "epe_nas",
    "correlations of the Jacobians inside each class",
    lambda s, *_: spectrum.epe_nas(s.images.jacobian, s.target),
    "labels images:graph",
    passes="forward, backward",
)
_add("az_expressivity", "AZ-NAS: entropy of the channels' spectrum, summed over blocks", _expressivity, **_NOISE)
_add("az_progressivity", "AZ-NAS: least gain of that entropy from block to block", _progressivity, **_NOISE)
_add(
    "az_trainability",
    "AZ-NAS: how unscaled blocks pass gradients on",
    _trainability,
    "noise:blocks noise:graph",
    input="noise",
    passes="forward, backward",
)
_add(
    "zen",
    "change of the last map for a small step, rescaled by the batch norms",
    lambda s, *_: passes.zen(s),
    init="gaussian",
    input="noise",
    passes="2 forward",
)
_add(
    "vkdnw",
    "number of parameter tensors, then entropy of the Fisher information's spectrum",
    lambda s, *_: passes.vkdnw(s),
    norm="fresh",
    input="noise",
    passes="forward, N backward, N the classes",
)
_add("l2_norm", "sum of the norms of the layers' weights", lambda s, *_: gradient.l2_norm(s.images.weights), input="-", norm="-")
