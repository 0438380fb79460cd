"""The terms of the losses of `diswot.losses` a second time, with the layers of their adapters, from `functions_by_hand`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from tests.losses.functions_by_hand import (
    Maps,
    Plane,
    Row,
    Rows,
    ab,
    afd,
    at,
    cc,
    crd,
    cross_entropy,
    dist,
    dkd,
    dot,
    fitnets,
    flat,
    fsp,
    ft,
    hard_label,
    hcl,
    ickd,
    kd,
    kdsvd,
    logit_std,
    mean,
    mgd,
    mlkd,
    nst,
    ofa,
    ofd,
    ofd_margin,
    pefd,
    pkt,
    relation,
    resized,
    rkd_angle,
    rkd_distance,
    semantic,
    skd,
    softmax,
    sp,
    spherical,
    srrl,
    symmetric,
    to_smaller,
    unit,
    vid,
    wsl,
    wttm,
)

# The layers of adapters, with the parameters of theirs as lists


def relu(nested: Any) -> Any:
    return [relu(part) for part in nested] if isinstance(nested, list) else max(nested, 0.0)


def linear(rows: Rows, weight: Rows, bias: Row | None = None) -> Rows:
    return [[dot(row, w) + b for w, b in zip(weight, bias or [0.0] * len(weight), strict=True)] for row in rows]


def batch_norm(rows: Rows, weight: Row, bias: Row) -> Rows:
    """Over the rows, in training: biased variance, eps 1e-5."""
    columns = []
    for column, w, b in zip(zip(*rows, strict=True), weight, bias, strict=True):
        middle = mean(column)
        deviation = math.sqrt(mean((x - middle) ** 2 for x in column) + 1e-5)
        columns.append([w * (x - middle) / deviation + b for x in column])
    return [list(row) for row in zip(*columns, strict=True)]


def batch_norm_maps(maps: Maps, weight: Row, bias: Row) -> Maps:
    pixels = [list(pixel) for image in maps for pixel in zip(*map(flat, image), strict=True)]
    normed = iter(batch_norm(pixels, weight, bias))
    out = [[[[0.0] * len(row) for row in plane] for plane in image] for image in maps]
    for image in out:
        for y in range(len(image[0])):
            for x in range(len(image[0][0])):
                for plane, value in zip(image, next(normed), strict=True):
                    plane[y][x] = value
    return out


def convolution(maps: Maps, weight: list[Maps], bias: Row | None = None, stride: int = 1, groups: int = 1) -> Maps:
    """With zeros around, so that the size stays, but for the stride."""
    height, width, reach = len(maps[0][0]), len(maps[0][0][0]), len(weight[0][0]) // 2

    def at_pixel(image: list[Plane], kernel: Any, y: int, x: int) -> float:
        total = 0.0
        for plane, cells in zip(image, kernel, strict=True):
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    inside = 0 <= y + dy < height and 0 <= x + dx < width
                    total += cells[dy + reach][dx + reach] * plane[y + dy][x + dx] if inside else 0.0
        return total

    def plane_of(image: list[Plane], kernel: Any, b: float) -> Plane:
        return [[at_pixel(image, kernel, y, x) + b for x in range(0, width, stride)] for y in range(0, height, stride)]

    biases = bias or [0.0] * len(weight)
    out, into = len(weight) // groups, len(maps[0]) // groups
    return [
        [plane_of(image[n // out * into :][:into], kernel, b) for n, (kernel, b) in enumerate(zip(weight, biases, strict=True))]
        for image in maps
    ]


def transposed_convolution(maps: Maps, weight: Any, bias: Row) -> Maps:
    """Of stride 1, 3x3 and padding 1: every pixel spreads its kernel around itself."""
    height, width = len(maps[0][0]), len(maps[0][0][0])
    out = [[[[b] * width for _ in range(height)] for b in bias] for _ in maps]
    for image, target in zip(maps, out, strict=True):
        for plane, kernels in zip(image, weight, strict=True):
            for into, cells in zip(target, kernels, strict=True):
                for y, row in enumerate(plane):
                    for x, value in enumerate(row):
                        for dy in (-1, 0, 1):
                            for dx in (-1, 0, 1):
                                if 0 <= y + dy < height and 0 <= x + dx < width:
                                    into[y + dy][x + dx] += value * cells[dy + 1][dx + 1]
    return out


def nearest(maps: Maps, height: int, width: int) -> Maps:
    """Each pixel of the new grid is the one of the old that it begins in."""

    def plane_of(plane: Plane) -> Plane:
        return [[plane[y * len(plane) // height][x * len(plane[0]) // width] for x in range(width)] for y in range(height)]

    return [[plane_of(plane) for plane in image] for image in maps]


def leaky(nested: Any) -> Any:
    return [leaky(part) for part in nested] if isinstance(nested, list) else max(nested, 0.1 * nested)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def over_pixels(maps: Maps) -> Rows:
    return [[mean(flat(plane)) for plane in image] for image in maps]


# The terms of the modules but that of the labels. Their options, and the parameters of their adapters, are read off them. The student
# has two stages, the teacher three, of which the finest is left out.

Terms = dict[str, float]


def parameters(layer: Any) -> list[Any]:
    return [p.tolist() for p in (layer.weight, layer.bias) if p is not None]


def conv_bn(layers: Any, maps: Maps) -> Maps:
    return batch_norm_maps(convolution(maps, *parameters(layers[0])), *parameters(layers[1]))


def linear_bn(layers: Any, rows: Rows) -> Rows:
    return batch_norm(linear(rows, *parameters(layers[0])), *parameters(layers[1]))


def softened(loss: Any, s: Any, t: Any) -> float:
    """Of the images that both have seen, which come first."""
    return kd(s.logits[: len(t.logits)], t.logits, loss.temperature)


def dkd_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    def part(alpha: float, beta: float) -> float:
        return dkd(s.logits, t.logits, y, alpha, beta, loss.temperature)

    return {"tckd": part(loss.alpha, 0), "nckd": part(0, loss.beta)}


def fitnets_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    """Of the last stage."""
    return {"fitnets": loss.weight * fitnets(relu(conv_bn(loss.regressor, s.stages[-1])), t.stages[-1])}


def ickd_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    terms = {"ickd": loss.weight * ickd(conv_bn(loss.embedding, s.features), t.features)}
    return terms | ({"kd": loss.kd_weight * softened(loss, s, t)} if loss.kd_weight else {})


def ofd_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    total = 0.0
    for i, (a, b, norm) in enumerate(zip(s.preacts, t.preacts[1:], t.norms[1:], strict=True)):
        margin = [ofd_margin(m, d) for m, d in zip(*norm, strict=True)]
        total += ofd(conv_bn(loss.connectors[i], a), b, margin) / 2 ** (1 - i)
    return {"ofd": loss.weight * total}


def mgd_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    """Without a mask."""
    between = relu(convolution(convolution(s.features, *parameters(loss.align)), *parameters(loss.generator[0])))
    return {"mgd": loss.alpha * mgd(convolution(between, *parameters(loss.generator[2])), t.features)}


def pefd_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    each = [relu(linear(s.pooled, *parameters(layer))) for layer in loss.layers]
    projected = [[mean(values) for values in zip(*rows, strict=True)] for rows in zip(*each, strict=True)]
    return {"pefd": loss.weight * pefd(projected, t.pooled)}


def afd_attention(loss: Any, students: list[Maps], teachers: list[Maps]) -> list[Rows]:
    """softmax over the student's of (key . query + p_t . p_s) / sqrt(d), the bilinear layer's batch norm over images and blocks."""
    keys = [relu(linear_bn(layers, over_pixels(m))) for layers, m in zip(loss.keys, students, strict=True)]
    queries = [linear_bn(layers, over_pixels(m)) for layers, m in zip(loss.queries, teachers, strict=True)]
    count, several, d, place_s, place_t = len(students[0]), len(students), loss.width, loss.place_s.tolist(), loss.place_t.tolist()
    heads = linear_bn(loss.bilinear, [key[b] for b in range(count) for key in keys])

    def score(b: int, j: int, i: int) -> float:
        return (dot(heads[b * several + i][j * d : (j + 1) * d], queries[j][b]) + dot(place_t[j], place_s[i])) / math.sqrt(d)

    return [[softmax([score(b, j, i) for i in range(several)]) for j in range(len(teachers))] for b in range(count)]


def afd_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    """Of every block but the stem."""
    students, teachers = s.blocks[1:], t.blocks[1:]
    value = afd(students, teachers, afd_attention(loss, students, teachers))
    return {"kd": loss.kd_weight * softened(loss, s, t), "afd": loss.weight * value}


def ctkd_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    temperature = loss.lowest + loss.span * sigmoid(loss.position.item())
    return {"kd": loss.kd_weight * kd(s.logits, t.logits, temperature)}


def mlkd_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    weights = loss.kd_weight, loss.batch_weight, loss.class_weight
    return dict(zip(("kd", "batch", "classes"), (w * x for w, x in zip(weights, mlkd(s.logits, t.logits), strict=True)), strict=True))


def vid_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    total = 0.0
    for predictor, of_student, of_teacher in zip(loss.predictors, s.stages, t.stages[1:], strict=True):
        maps = of_student
        for number in (0, 2, 4):
            maps = convolution(relu(maps) if number else maps, *parameters(predictor.mean[number]))
        total += vid(maps, of_teacher, [math.log1p(math.exp(scale)) + 1e-5 for scale in predictor.scale.tolist()])
    return {"vid": loss.weight * total}


def srrl_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    features, regression = srrl(relu(linear_bn(loss.projection, s.pooled)), t.pooled, t.weight)
    return {"features": loss.feature_weight * features, "regression": loss.regression_weight * regression}


def as_pixels(rows: Rows) -> Maps:
    return [[[[x]] for x in row] for row in rows]


def reviewkd_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    """The pooled features, then the stages from the coarsest."""
    mine, theirs = [as_pixels(s.pooled), *s.stages[::-1]], [as_pixels(t.pooled), *t.preacts[1:][::-1]]
    total, coarser = 0.0, None
    for fusion, of_student, of_teacher in zip(loss.fusions, mine, theirs, strict=True):
        fused = conv_bn(fusion.enter, of_student)
        if coarser is not None:
            height, width = len(fused[0][0]), len(fused[0][0][0])
            coarser = nearest(coarser, height, width)
            both = [a + b for a, b in zip(fused, coarser, strict=True)]
            shares = convolution(both, *parameters(fusion.attend[0]))
            for image, other, (own, past) in zip(fused, coarser, shares, strict=True):
                for plane, beside in zip(image, other, strict=True):
                    for v in range(height):
                        for u in range(width):
                            plane[v][u] = sigmoid(own[v][u]) * plane[v][u] + sigmoid(past[v][u]) * beside[v][u]
        coarser = nearest(fused, len(of_teacher[0][0]), len(of_teacher[0][0][0]))
        total += hcl(conv_bn(fusion.leave, coarser), of_teacher)
    return {"reviewkd": loss.weight * total}


def fsp_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    """The stem and the stages, in the first phase."""
    return {"fsp": loss.weight * fsp([s.blocks[0], *s.stages], [t.blocks[0], *t.stages])}


def ab_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    """In the first phase."""
    total = 0.0
    for i, (a, b) in enumerate(zip(s.preacts, t.preacts[1:], strict=True)):
        total += ab(resized(conv_bn(loss.connectors[i], a), b), b, loss.margin) / 2 ** (1 - i)
    return {"ab": loss.weight * total}


def ft_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    """In the first phase and in the second."""

    def coded(layers: Any, maps: Maps) -> Maps:
        for layer in layers:
            if type(layer).__name__ == "Conv2d":
                maps = convolution(maps, *parameters(layer))
            elif type(layer).__name__ == "ConvTranspose2d":
                maps = transposed_convolution(maps, *parameters(layer))
            else:
                maps = leaky(maps) if type(layer).__name__ == "LeakyReLU" else batch_norm_maps(maps, *parameters(layer))
        return maps

    if loss.in_first_phase:
        return {"paraphrase": fitnets(coded(loss.decoder, coded(loss.encoder, t.features)), t.features)}
    return {"ft": loss.weight * ft(coded(loss.translator, s.features), coded(loss.paraphraser, t.features))}


def ofa_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    """The first of two stages is halved once, the last is not."""

    def halved(layers: Any, maps: Maps) -> Maps:
        for first, stride in ((0, 2), (4, 1)):
            deep = convolution(maps, *parameters(layers[first]), stride=stride, groups=len(maps[0]))
            maps = relu(batch_norm_maps(convolution(deep, *parameters(layers[first + 1])), *parameters(layers[first + 2])))
        return maps

    before = [halved(loss.exits[0][0], s.stages[0]), convolution(s.stages[1], *parameters(loss.exits[1][0]))]
    logits = [linear(over_pixels(maps), *parameters(leave[-1])) for maps, leave in zip(before, loss.exits, strict=True)]
    answers = [ofa(z, t.logits, y, loss.power, loss.temperature) for z in (s.logits, *logits)]
    return {"kd": loss.kd_weight * answers[0], "ofa": loss.weight * sum(answers[1:])}


def crd_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    """In the first step ever: with the memories as they were drawn, which the likelihoods are scaled by."""
    torch.manual_seed(0)
    drawn = loss.others.draw(torch.tensor(y), loss.negatives).tolist()
    total = 0.0
    for layer, rows, memory in (
        (loss.embed_student, s.pooled, loss.memory_teacher.tolist()),
        (loss.embed_teacher, t.pooled, loss.memory_student.tolist()),
    ):
        anchors = [unit(row) for row in linear(rows, *parameters(layer))]
        exponentials = [
            [math.exp(dot(anchor, memory[other]) / loss.temperature) for other in (own, *others)]
            for anchor, own, others in zip(anchors, s.indices, drawn, strict=True)
        ]
        scale = mean(flat(exponentials)) * len(memory)
        total += crd([[x / scale for x in row] for row in exponentials], len(memory))
    torch.manual_seed(0)
    return {"crd": loss.weight * total}


def deit_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    answers = [tokens[1] for tokens in s.token_logits]
    if loss.soft:
        return {"token": loss.share * kd(answers, t.logits, loss.temperature)}
    return {"token": loss.share * hard_label(answers, t.logits)}


def udml_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    """Half of what both sides get together."""
    apart = fitnets(linear(s.pooled, *parameters(loss.adapter)), t.pooled)
    return {"js": loss.js_weight * symmetric(s.logits, t.logits) / 2, "features": loss.feature_weight * apart / 2}


def rkd_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    distance, angle = rkd_distance(s.pooled, t.pooled), rkd_angle(s.pooled, t.pooled)
    return {"distance": loss.distance_weight * distance, "angle": loss.angle_weight * angle}


def metrics(loss: Any, s: Any, t: Any) -> tuple[float, float]:
    return semantic(s.features, s.weight, t.features, t.weight, loss.scale), relation(s.features, t.features, loss.scale)


def diswot_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    of_classes, of_images = metrics(loss, s, t)
    terms = {"semantic": loss.semantic_weight * of_classes, "relation": loss.relation_weight * of_images}
    return terms | {"kd": loss.kd_weight * softened(loss, s, t)}


TERMS: dict[str, Callable[[Any, Any, Any, list[int]], Terms]] = {
    "none": lambda loss, s, t, y: {},
    "kd": lambda loss, s, t, y: {"kd": loss.kd_weight * softened(loss, s, t)},
    "dkd": dkd_terms,
    "dist": lambda loss, s, t, y: {"dist": loss.weight * dist(s.logits, t.logits, loss.beta, loss.gamma, loss.temperature)},
    "wttm": lambda loss, s, t, y: {"wttm": loss.weight * wttm(s.logits, t.logits, loss.exponent)},
    "deit": deit_terms,
    "simkd": lambda loss, s, t, y: {"simkd": loss.weight * fitnets(*to_smaller(s.features, t.features))},
    "mlkd": mlkd_terms,
    "ctkd": ctkd_terms,
    "vid": vid_terms,
    "srrl": srrl_terms,
    "reviewkd": reviewkd_terms,
    "fsp": fsp_terms,
    "ab": ab_terms,
    "ft": ft_terms,
    "ofa": ofa_terms,
    "crd": crd_terms,
    "kdsvd": lambda loss, s, t, y: {"kdsvd": loss.weight * kdsvd(s.stages, t.stages, loss.count)},
    "wsl": lambda loss, s, t, y: {"wsl": loss.weight * wsl(s.logits, t.logits, y, loss.temperature)},
    "skd": lambda loss, s, t, y: {"skd": loss.alpha * skd(s.logits, t.logits, loss.temperature, loss.multiplier)},
    "ssld": lambda loss, s, t, y: {"ssld": loss.weight * symmetric(s.logits, t.logits)},
    "logit_std": lambda loss, s, t, y: {"logit_std": loss.kd_weight * logit_std(s.logits, t.logits, loss.temperature)},
    "dml": lambda loss, s, t, y: {"dml": loss.kd_weight * softened(loss, s, t)},
    "dlb": lambda loss, s, t, y: {"dlb": loss.alpha * softened(loss, s, t)},
    "fitnets": fitnets_terms,
    "at": lambda loss, s, t, y: {"at": loss.weight * sum(map(partial(at, power=loss.power, form=loss.form), s.stages, t.stages[1:]))},
    "nst": lambda loss, s, t, y: {"nst": loss.weight * sum(map(nst, s.stages, t.stages[1:]))},
    "ickd": ickd_terms,
    "ofd": ofd_terms,
    "mgd": mgd_terms,
    "pefd": pefd_terms,
    "afd": afd_terms,
    "udml": udml_terms,
    "rkd": rkd_terms,
    "sp": lambda loss, s, t, y: {"sp": loss.weight * sp(s.features, t.features)},
    "cc": lambda loss, s, t, y: {"cc": loss.weight * cc(s.pooled, t.pooled, loss.gamma, loss.order)},
    "pkt": lambda loss, s, t, y: {"pkt": loss.weight * pkt(s.pooled, t.pooled)},
    "semantic": lambda loss, s, t, y: {"semantic": loss.weight * metrics(loss, s, t)[0]},
    "relation": lambda loss, s, t, y: {"relation": loss.weight * metrics(loss, s, t)[1]},
    "diswot": diswot_terms,
}


def label_term(name: str, loss: Any, s: Any, y: list[int]) -> Terms:
    """SKD's own is of the normalised logits, DeiT's of the class token's."""
    weight, logits = loss.ce_weight * loss.is_supervised, s.logits
    if name == "skd":
        weight, logits = weight * (1 - loss.alpha), spherical(logits, loss.multiplier)
    if name == "deit":
        weight, logits = weight * (1 - loss.share), [tokens[0] for tokens in s.token_logits]
    return {"ce": weight * cross_entropy(logits, y)} if weight else {}
