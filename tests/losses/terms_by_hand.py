"""The terms of the losses of `diswot.losses` a second time, with the layers of their adapters, from `functions_by_hand`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.losses.functions_by_hand import (
    Maps,
    Plane,
    Row,
    Rows,
    afd,
    at,
    cc,
    cross_entropy,
    dist,
    dkd,
    dot,
    fitnets,
    flat,
    ickd,
    kd,
    logit_std,
    mean,
    mgd,
    nst,
    ofd,
    ofd_margin,
    pefd,
    pkt,
    relation,
    rkd_angle,
    rkd_distance,
    semantic,
    skd,
    softmax,
    sp,
    spherical,
    symmetric,
    wsl,
)

# The layers of adapters, with the parameters of theirs as lists


def relu(nested: Any) -> Any:
    return [relu(part) for part in nested] if isinstance(nested, list) else max(nested, 0.0)


def linear(rows: Rows, weight: Rows, bias: Row) -> Rows:
    return [[dot(row, w) + b for w, b in zip(weight, bias, strict=True)] for row in rows]


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


def convolution(maps: Maps, weight: list[Maps], bias: Row | None = None) -> Maps:
    """Of stride 1, with zeros around so that the size stays."""
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
        return [[at_pixel(image, kernel, y, x) + b for x in range(width)] for y in range(height)]

    biases = bias or [0.0] * len(weight)
    return [[plane_of(image, kernel, b) for kernel, b in zip(weight, biases, strict=True)] for image in maps]


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


def udml_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    """Half of what both sides get together."""
    apart = fitnets(linear(s.pooled, *parameters(loss.adapter)), t.pooled)
    return {"js": loss.js_weight * symmetric(s.logits, t.logits) / 2, "features": loss.feature_weight * apart / 2}


def rkd_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    distance, angle = rkd_distance(s.pooled, t.pooled), rkd_angle(s.pooled, t.pooled)
    return {"distance": loss.distance_weight * distance, "angle": loss.angle_weight * angle}


def metrics(s: Any, t: Any) -> tuple[float, float]:
    return semantic(s.features, s.weight, t.features, t.weight), relation(s.features, t.features)


def diswot_terms(loss: Any, s: Any, t: Any, y: list[int]) -> Terms:
    of_classes, of_images = metrics(s, t)
    terms = {"semantic": loss.semantic_weight * of_classes, "relation": loss.relation_weight * of_images}
    return terms | {"kd": loss.kd_weight * softened(loss, s, t)}


TERMS: dict[str, Callable[[Any, Any, Any, list[int]], Terms]] = {
    "none": lambda loss, s, t, y: {},
    "kd": lambda loss, s, t, y: {"kd": loss.kd_weight * softened(loss, s, t)},
    "dkd": dkd_terms,
    "dist": lambda loss, s, t, y: {"dist": loss.weight * dist(s.logits, t.logits, loss.beta, loss.gamma, loss.temperature)},
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
    "semantic": lambda loss, s, t, y: {"semantic": loss.weight * metrics(s, t)[0]},
    "relation": lambda loss, s, t, y: {"relation": loss.weight * metrics(s, t)[1]},
    "diswot": diswot_terms,
}


def label_term(name: str, loss: Any, s: Any, y: list[int]) -> Terms:
    """SKD's own is of the normalised logits."""
    weight, logits = loss.ce_weight, s.logits
    if name == "skd":
        weight, logits = weight * (1 - loss.alpha), spherical(logits, loss.multiplier)
    return {"ce": weight * cross_entropy(logits, y)} if weight else {}
