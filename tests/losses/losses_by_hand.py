"""The losses of `diswot.losses` a second time, from their definitions, in loops over plain numbers. Slow, and made without the other.

Logits are lists (B, N), pooled features (B, C), maps (B, C, H, W), attention maps (B, H W).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from scipy.integrate import quad

Row = list[float]
Rows = list[Row]
Plane = list[Row]
Maps = list[list[Plane]]


def mean(values: Iterable[float]) -> float:
    several = list(values)
    return sum(several) / len(several)


def dot(a: Row, b: Row) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(row: Row, eps: float = 0.0) -> Row:
    """Of length 1; nothing stays nothing."""
    length = math.sqrt(dot(row, row)) + eps
    return [x / (length or 1.0) for x in row]


def flat(nested: Any) -> Row:
    return [x for part in nested for x in flat(part)] if isinstance(nested, list) else [nested]


def squared(a: Any, b: Any) -> float:
    """Sum of squared differences of anything nested."""
    return sum((x - y) ** 2 for x, y in zip(flat(a), flat(b), strict=True))


def softmax(row: Row, temperature: float = 1.0) -> Row:
    top = max(row)
    exponentials = [math.exp((z - top) / temperature) for z in row]
    return [e / sum(exponentials) for e in exponentials]


def divergence(p: Row, q: Row) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def entropy(p: Row) -> float:
    return -sum(a * math.log(a) for a in p)


def cross_entropy(logits: Rows, target: list[int]) -> float:
    return mean(-math.log(softmax(row)[y]) for row, y in zip(logits, target, strict=True))


def kd(student: Rows, teacher: Rows, temperature: float = 4.0) -> float:
    return temperature**2 * mean(
        divergence(softmax(t, temperature), softmax(s, temperature)) for s, t in zip(student, teacher, strict=True)
    )


def dkd(student: Rows, teacher: Rows, target: list[int], alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0) -> float:
    total = 0.0
    for s, t, y in zip(student, teacher, target, strict=True):
        p_s, p_t = softmax(s, temperature)[y], softmax(t, temperature)[y]
        rest_s, rest_t = (softmax(z[:y] + z[y + 1 :], temperature) for z in (s, t))
        total += alpha * divergence([p_t, 1 - p_t], [p_s, 1 - p_s]) + beta * divergence(rest_t, rest_s)
    return temperature**2 * total / len(student)


def pearson(a: Row, b: Row, eps: float = 1e-8) -> float:
    a, b = [x - mean(a) for x in a], [x - mean(b) for x in b]
    return dot(a, b) / (math.sqrt(dot(a, a)) * math.sqrt(dot(b, b)) + eps)


def dist(student: Rows, teacher: Rows, beta: float = 1.0, gamma: float = 1.0, temperature: float = 4.0) -> float:
    p_s, p_t = ([softmax(row, temperature) for row in z] for z in (student, teacher))
    rows = mean(pearson(a, b) for a, b in zip(p_s, p_t, strict=True))
    columns = mean(pearson(list(a), list(b)) for a, b in zip(zip(*p_s, strict=True), zip(*p_t, strict=True), strict=True))
    return temperature**2 * (beta * (1 - rows) + gamma * (1 - columns))


def wsl_weights(student: Rows, teacher: Rows, target: list[int]) -> Row:
    each = [(cross_entropy([s], [y]), cross_entropy([t], [y])) for s, t, y in zip(student, teacher, target, strict=True)]
    return [1 - math.exp(-ce_s / (ce_t + 1e-7)) for ce_s, ce_t in each]


def wsl(student: Rows, teacher: Rows, target: list[int], temperature: float = 4.0) -> float:
    total = 0.0
    for w, s, t in zip(wsl_weights(student, teacher, target), student, teacher, strict=True):
        p_s, p_t = softmax(s, temperature), softmax(t, temperature)
        total -= w * sum(b * math.log(a) for a, b in zip(p_s, p_t, strict=True))
    return temperature**2 * total / len(student)


def spherical(logits: Rows, multiplier: float = 2.0) -> Rows:
    return [[multiplier * (z - mean(row)) / math.sqrt(mean((x - mean(row)) ** 2 for x in row) + 1e-7) for z in row] for row in logits]


def skd(student: Rows, teacher: Rows, temperature: float = 1.0, multiplier: float = 2.0) -> float:
    return kd(spherical(student, multiplier), spherical(teacher, multiplier), temperature)


def symmetric(a: Rows, b: Rows) -> float:
    return (kd(a, b, 1.0) + kd(b, a, 1.0)) / 2


def z_scores(row: Row) -> Row:
    deviation = math.sqrt(sum((z - mean(row)) ** 2 for z in row) / (len(row) - 1))
    return [(z - mean(row)) / (deviation + 1e-7) for z in row]


def logit_std(student: Rows, teacher: Rows, temperature: float = 2.0) -> float:
    return kd([z_scores(s) for s in student], [z_scores(t) for t in teacher], temperature)


def fitnets(student: Any, teacher: Any) -> float:
    return squared(student, teacher) / len(flat(student))


def windows(size: int, cells: int) -> list[range]:
    return [range(i * size // cells, -(-(i + 1) * size // cells)) for i in range(cells)]


def averaged(plane: Plane, height: int, width: int) -> Plane:
    """Each cell of the new grid is the mean of the pixels that it touches."""
    return [[mean(plane[y][x] for y in ys for x in xs) for xs in windows(len(plane[0]), width)] for ys in windows(len(plane), height)]


def resized(maps: Maps, like: Maps) -> Maps:
    return [[averaged(plane, len(like[0][0]), len(like[0][0][0])) for plane in image] for image in maps]


def to_smaller(a: Maps, b: Maps) -> tuple[Maps, Maps]:
    return (resized(a, b), b) if len(a[0][0]) > len(b[0][0]) else (a, resized(b, a))


def energy(image: list[Plane], power: float = 2.0) -> Plane:
    """Mean over the channels of |f|^power."""
    return [[mean(abs(plane[y][x]) ** power for plane in image) for x in range(len(image[0][0]))] for y in range(len(image[0]))]


def attention(maps: Maps, power: float = 2.0) -> Rows:
    return [unit(flat(energy(image, power))) for image in maps]


def at(student: Maps, teacher: Maps, power: float = 2.0, form: str = "squared") -> float:
    student, teacher = to_smaller(student, teacher)
    differences = [squared(a, b) for a, b in zip(attention(student, power), attention(teacher, power), strict=True)]
    return mean(map(math.sqrt, differences)) if form == "norm" else mean(differences) / len(flat(student[0][0]))


def nst(student: Maps, teacher: Maps) -> float:
    student, teacher = to_smaller(student, teacher)
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        a, b = ([unit(flat(plane)) for plane in image] for image in (s, t))
        total += kernel_mean(b, b) + kernel_mean(a, a) - 2 * kernel_mean(a, b)
    return total / len(student)


def kernel_mean(a: Rows, b: Rows) -> float:
    return mean(dot(x, y) ** 2 for x in a for y in b)


def gram(rows: Rows) -> Rows:
    return [[dot(a, b) for b in rows] for a in rows]


def ickd(student: Maps, teacher: Maps) -> float:
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        a, b = ([unit(row) for row in gram([flat(plane) for plane in image])] for image in (s, t))
        total += squared(a, b)
    return total / (len(student) * len(student[0]))


def ofd_margin(mu: float, sigma: float) -> float:
    def density(x: float) -> float:
        return math.exp(-(((x - mu) / sigma) ** 2) / 2) / (sigma * math.sqrt(2 * math.pi))

    least = mu - 12 * sigma
    if least >= 0 or (below := quad(density, least, 0)[0]) <= 0.001:
        return -3 * sigma
    return quad(lambda x: x * density(x), least, 0)[0] / below


def ofd(student: Maps, teacher: Maps, margin: Row) -> float:
    total = 0.0
    for s_image, t_image in zip(student, teacher, strict=True):
        for s_plane, t_plane, m in zip(s_image, t_image, margin, strict=True):
            for s, t in zip(flat(s_plane), flat(t_plane), strict=True):
                raised = max(t, m)
                total += (s - raised) ** 2 if s > raised or t > 0 else 0.0
    return total / len(student)


def mgd(generated: Maps, teacher: Maps) -> float:
    return squared(generated, teacher) / len(teacher)


def pefd(projected: Rows, teacher: Rows) -> float:
    return mean(1 - dot(unit(s), unit(t)) for s, t in zip(projected, teacher, strict=True))


def afd(students: list[Maps], teachers: list[Maps], weights: list[Rows]) -> float:
    total = 0.0
    for j, teacher in enumerate(teachers):
        for i, student in enumerate(students):
            for b, (s, t) in enumerate(zip(student, teacher, strict=True)):
                goal = unit(flat(energy(t)))
                got = unit(flat(averaged(energy(s), len(t[0]), len(t[0][0]))))
                total += weights[b][j][i] * squared(got, goal) / len(goal)
    return total / len(weights)


def smooth_l1(difference: float) -> float:
    return difference**2 / 2 if abs(difference) < 1 else abs(difference) - 0.5


def distances(rows: Rows) -> Rows:
    """Over their mean over pairs of two images, also of two that look the same."""
    apart = [[math.sqrt(squared(a, b)) for b in rows] for a in rows]
    scale = sum(flat(apart)) / (len(rows) * (len(rows) - 1))
    return [[d / scale for d in row] for row in apart]


def rkd_distance(student: Rows, teacher: Rows) -> float:
    return mean(smooth_l1(a - b) for a, b in zip(flat(distances(student)), flat(distances(teacher)), strict=True))


def directions(rows: Rows, corner: int) -> Rows:
    """From every row to one of them, of length 1; nothing from a row to itself."""
    lines = [[x - y for x, y in zip(row, rows[corner], strict=True)] for row in rows]
    return [unit(line) for line in lines]


def rkd_angle(student: Rows, teacher: Rows) -> float:
    total = 0.0
    for j in range(len(student)):
        a, b = gram(directions(student, j)), gram(directions(teacher, j))
        total += sum(smooth_l1(x - y) for x, y in zip(flat(a), flat(b), strict=True))
    return total / len(student) ** 3


def sp(student: list[Any], teacher: list[Any]) -> float:
    a, b = ([unit(row) for row in gram([flat(image) for image in maps])] for maps in (student, teacher))
    return squared(a, b) / len(student) ** 2


def cc(student: Rows, teacher: Rows, gamma: float = 0.4, order: int = 2) -> float:
    def kernel(rows: Rows) -> Rows:
        series = [math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) for p in range(order + 1)]
        return [[sum(c * cosine**p for p, c in enumerate(series)) for cosine in row] for row in gram([unit(row) for row in rows])]

    return squared(kernel(student), kernel(teacher)) / len(student) ** 2


def pkt(student: Rows, teacher: Rows, eps: float = 1e-7) -> float:
    def probabilities(rows: Rows) -> Rows:
        near = [[(cosine + 1) / 2 for cosine in row] for row in gram([unit(row, eps) for row in rows])]
        return [[p / sum(row) for p in row] for row in near]

    pairs = zip(flat(probabilities(student)), flat(probabilities(teacher)), strict=True)
    return mean(t * math.log((t + eps) / (s + eps)) for s, t in pairs)


def correlation(rows: Rows) -> Rows:
    product = gram(rows)
    return [[x / math.sqrt(dot(flat(product), flat(product))) for x in row] for row in product]


def activation_maps(features: Maps, weight: Rows) -> Rows:
    """Of each class, over all images and pixels."""
    of_class = []
    for row in weight:
        of_class.append([dot(row, list(pixel)) for image in features for pixel in zip(*map(flat, image), strict=True)])
    return of_class


def semantic(features: Maps, weight: Rows, teacher_features: Maps, teacher_weight: Rows) -> float:
    a, b = activation_maps(features, weight), activation_maps(teacher_features, teacher_weight)
    return math.sqrt(squared(correlation(a), correlation(b))) / len(weight) ** 2


def relation(features: Maps, teacher_features: Maps) -> float:
    a, b = ([flat(image) for image in maps] for maps in (features, teacher_features))
    return math.sqrt(squared(correlation(a), correlation(b))) / len(features) ** 2


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
