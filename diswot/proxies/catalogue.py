"""Every proxy with what it needs: the table behind `diswot list proxies`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from diswot import similarity
from diswot.errors import TeacherError
from diswot.proxies import activation, gradient, passes, spectrum
from diswot.proxies.base import PROXIES, Proxy, Score
from diswot.proxies.views import Student, Trace, View
from diswot.space import Cost

_FEW = 4  # images for the metrics of the paper
SWAP_MU, SWAP_SIGMA = 1000.0, 1000.0  # thousands of parameters; the paper chooses them for each search


def _add(
    name: str,
    summary: str,
    score: Score,
    needs: str = "",
    *,
    norm: str = "batch",
    input: str = "images",
    init: str = "candidate",
    passes: str = "forward",
    batch: int = 32,
) -> None:
    PROXIES.register(name)(
        Proxy(name, score, summary, frozenset(f"student {needs}".split()), norm, input, init, passes, batch, 4 if batch == _FEW else 2)
    )


def _count(name: str, summary: str, of: Callable[[Cost], float]) -> None:
    PROXIES.register(name)(Proxy(name, lambda _student, _teacher, cost: of(cost), summary))


_count("params", "the number of parameters: the baseline that every ranking must beat", lambda cost: float(cost.params))
_count("flops", "the number of multiply-accumulates", lambda cost: float(cost.flops))
_count("depth", "layers on the longest path", lambda cost: float(cost.depth))
_count(
    "swap_size",
    f"log of SWAP's bell curve around {SWAP_MU:g} thousand parameters",
    lambda cost: activation.regular_factor(cost.params, SWAP_MU, SWAP_SIGMA),
)


_add(
    "live_flops",
    "multiply-accumulates of what reaches the output: dead branches are not counted",
    lambda s, *_: float(s.cost.flops),
    norm="-",
    input="-",
    init="-",
    passes="none",
    batch=2,
)


# --- similarity to the teacher: many initialisations with few images each rank best (docs/trust.md) --------------------------------------


def _semantic_outer(student: Student, teacher: View, cost: Cost) -> Tensor:
    ours, theirs = student.images.gradient, teacher.gradient
    if theirs.shape != ours.shape:
        raise TeacherError(
            f"semantic_outer compares channels one by one, and the teacher has {theirs.shape[1]}, the student {ours.shape[1]}"
        )
    return -similarity.outer_product_distance(theirs, ours)


def _gram(of: str, norm: similarity.Norm) -> Score:
    def score(student: Student, teacher: View, cost: Cost) -> Tensor:
        return -similarity.gram_distance(getattr(teacher, of), _alive(getattr(student.images, of)), norm)

    return score


def _alive(gram: Tensor) -> Tensor:
    """The matrix, or a ValueError where it is all zeros: a network that is nothing would be at a middling distance from everything."""
    if not bool(gram.any()):
        raise ValueError("the network's maps or gradients are all zero: its output does not depend on its input")
    return gram


def _stage_relation(stage: int) -> Score:
    """Stages are resolutions, counted from the finest; a network with fewer than the teacher's gives its last."""

    def score(student: Student, teacher: View, cost: Cost) -> Tensor:
        ours, theirs = student.images.stage_grams, teacher.stage_grams
        if not ours or not theirs:
            raise TeacherError(f"relation_stage{stage + 1} needs networks with feature maps (B, C, H, W) on the way")
        return -similarity.gram_distance(theirs[min(stage, len(theirs) - 1)], _alive(ours[min(stage, len(ours) - 1)]), "rows")

    return score


_add(
    "semantic_profile",
    "classifier gradients, averaged over all matchings of channels: any channel counts",
    lambda s, t, _: -similarity.profile_distance(t.profile, s.images.profile),
    "teacher labels",
    batch=_FEW,
)
_add(
    "semantic_outer",
    "the published code's M_s: outer products of classifier gradients; equal channels",
    _semantic_outer,
    "teacher labels",
    batch=_FEW,
)
_add(
    "semantic_cam",
    "the paper's M_s: class activation maps correlated over classes, Frobenius norm",
    _gram("cam_gram", "frobenius"),
    "teacher",
    batch=_FEW,
)
_add("semantic_cam_rows", "semantic_cam with each row normalised", _gram("cam_gram", "rows"), "teacher", batch=_FEW)
_add(
    "relation",
    "the published code's M_r: similarities of samples, each row normalised",
    _gram("sample_gram", "rows"),
    "teacher",
    batch=_FEW,
)
_add("relation_frobenius", "the paper's M_r: Frobenius norm", _gram("sample_gram", "frobenius"), "teacher", batch=_FEW)
for _stage in range(3):
    _add(f"relation_stage{_stage + 1}", f"relation at the end of stage {_stage + 1}", _stage_relation(_stage), "teacher images:blocks")


_add(
    "relation_jacobian",
    "similarities of the images' Jacobians, compared with the teacher's, each row normalised",
    _gram("jacobian_gram", "rows"),
    "teacher teacher:graph images:graph images:blocks",
    passes="forward, backward",
    batch=16,
)
_add(
    "relation_stem",
    "the same of the gradients at the stem's output",
    _gram("stem_gram", "rows"),
    "teacher teacher:graph images:graph images:blocks",
    passes="forward, backward",
    batch=16,
)


# --- gradients of the weights ------------------------------------------------------------------------------------------------------------

_BACKWARD: dict[str, Any] = {"needs": "labels images:graph", "passes": "forward, backward"}

_add("grad_norm", "sum of the norms of the layers' gradients", lambda s, *_: gradient.grad_norm(s.images.gradients), **_BACKWARD)
_add("plain", "sum of gradient times weight", lambda s, *_: gradient.plain(s.images.weights, s.images.gradients), **_BACKWARD)
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


# --- activations -------------------------------------------------------------------------------------------------------------------------


_add("nwot", "log determinant of how far images share active units", lambda s, *_: activation.nwot(s.images.signs), "images:agreements")
_add(
    "swap",
    "log of the number of different sign patterns among the units",
    lambda s, *_: activation.swap(s.trace("wild_images").codes),
    "wild_images:codes",
    init="gaussian",
    batch=16,
)
_add(
    "te_regions",
    "TE-NAS: linear regions met by 1,000 tiny inputs; most networks meet all 1,000",
    lambda s, *_: passes.te_regions(s),
    input="noise",
)


# --- spectra -----------------------------------------------------------------------------------------------------------------------------


def _expressivity(student: Student, *_: Any) -> Tensor:
    trace = _with_blocks(student.noise)
    return trace.entropies(trace.every_block).sum()


def _progressivity(student: Student, *_: Any) -> Tensor:
    trace = _with_blocks(student.noise)
    return spectrum.progressivity(trace.entropies(trace.every_block))


def _trainability(student: Student, *_: Any) -> Tensor:
    """As AZ-NAS has it, a network with a block that is the identity has no score."""
    return _mean(_with_blocks(student.noise).trainabilities(student.generator(4), identity=False))


def _mean(found: list[Tensor]) -> Tensor:
    if not found:
        raise ValueError("no block of the network passes its input on")
    return torch.stack(found).mean()


def _with_blocks(trace: Trace) -> Trace:
    if len(trace.blocks) < 2:
        raise ValueError("the network has fewer than two blocks with maps (B, C, H, W)")
    return trace


def _entropy(student: Student, *_: Any) -> Tensor:
    trace = _with_blocks(student.images)
    return trace.entropies(trace.first_stage).sum()


def _spread(place: Callable[[Trace], int]) -> Score:
    """Of the block that `place` names."""

    def score(student: Student, *_: Any) -> Tensor:
        trace = _with_blocks(student.images)
        return trace.spread(place(trace))

    return score


def _image_trainability(student: Student, *_: Any) -> Tensor:
    return _mean(student.images.trainabilities(student.generator(4)))


def _diversity(student: Student, *_: Any) -> Tensor:
    return spectrum.diversity(student.images.gradients_seen[1])


_BLOCKS: dict[str, Any] = {"needs": "images:blocks", "batch": 16}
_GRAPH: dict[str, Any] = {"needs": "images:blocks images:graph", "batch": 16, "passes": "forward, backward"}

_add("entropy", "entropy of the channels' spectrum, summed over the blocks of the first stage", _entropy, **_BLOCKS)
_add("spread_first", "entropy of the features' directions after the first block", _spread(lambda t: t.first_stage[0]), **_BLOCKS)
_add("spread", "the same at the end of the first stage", _spread(lambda t: t.first_stage[-1]), **_BLOCKS)
_add("spread_last", "the same after the last block", _spread(lambda t: t.every_block[-1]), **_BLOCKS)
_add("trainability", "how unscaled blocks pass gradients on, on the images", _image_trainability, **_GRAPH)
_add("diversity", "how uncorrelated the images' gradients are at the stem's output", _diversity, **_GRAPH)
_add("calm", "- mean log norm of the images' Jacobians", lambda s, *_: spectrum.calm(s.images.jacobian), **_GRAPH)

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
