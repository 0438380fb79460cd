"""The functions of `diswot.losses` a second time, from their definitions, in loops over plain numbers. Slow, and made without the other.

Logits are lists (B, N), pooled features (B, C), maps (B, C, H, W), attention maps (B, H W).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
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


def semantic(features: Maps, weight: Rows, teacher_features: Maps, teacher_weight: Rows, scale: str = "paper") -> float:
    a, b = activation_maps(features, weight), activation_maps(teacher_features, teacher_weight)
    return math.sqrt(squared(correlation(a), correlation(b))) / {"paper": len(weight) ** 2, "unit": 1}[scale]


def relation(features: Maps, teacher_features: Maps, scale: str = "paper") -> float:
    a, b = ([flat(image) for image in maps] for maps in (features, teacher_features))
    return math.sqrt(squared(correlation(a), correlation(b))) / {"paper": len(features) ** 2, "unit": 1}[scale]


def wttm(student: Rows, teacher: Rows, exponent: float = 0.2) -> float:
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        powers = [p**exponent for p in softmax(t)]
        total += sum(powers) * divergence([p / sum(powers) for p in powers], softmax(s))
    return total / len(student)


def mlkd(student: Rows, teacher: Rows, temperatures: tuple[float, ...] = (2, 3, 4, 5, 6)) -> Row:
    levels = [0.0, 0.0, 0.0]
    for temperature in temperatures:
        p_s, p_t = ([softmax(row, temperature) for row in z] for z in (student, teacher))
        of_classes = [[list(column) for column in zip(*p, strict=True)] for p in (p_s, p_t)]
        levels[0] += kd(student, teacher, temperature)
        levels[1] += squared(gram(p_s), gram(p_t)) / len(student)
        levels[2] += squared(gram(of_classes[0]), gram(of_classes[1])) / len(student[0])
    return levels


def ofa(student: Rows, teacher: Rows, target: list[int], power: float = 1.0, temperature: float = 1.0) -> float:
    total = 0.0
    for s, t, y in zip(student, teacher, target, strict=True):
        for n, (p_s, p_t) in enumerate(zip(softmax(s, temperature), softmax(t, temperature), strict=True)):
            asked = 1.0 if n == y else 0.0
            total -= ((p_t + asked) ** power - asked) * math.log(p_s)
    return total / len(student)


def vid(middle: Maps, teacher: Maps, variance: Row) -> float:
    total = 0.0
    for a, b in zip(middle, teacher, strict=True):
        for mu, t, v in zip(a, b, variance, strict=True):
            total += squared(mu, t) / v + len(flat(mu)) * math.log(v)
    return total / len(flat(middle)) / 2


def srrl(projected: Rows, teacher: Rows, weight: Rows) -> Row:
    logits = [[[dot(row, w) for w in weight] for row in rows] for rows in (projected, teacher)]
    return [fitnets(projected, teacher), fitnets(logits[0], logits[1])]


def hcl(student: Maps, teacher: Maps) -> float:
    height, width = len(student[0][0]), len(student[0][0][0])
    terms, weights = [fitnets(student, teacher)], [1.0]
    for cells in (4, 2, 1):
        if cells < min(height, width):
            pooled = [[[averaged(plane, cells, cells) for plane in image] for image in maps] for maps in (student, teacher)]
            terms.append(fitnets(pooled[0], pooled[1]))
            weights.append(weights[-1] / 2)
    return dot(terms, weights) / sum(weights)


def flow(before: Maps, after: Maps) -> list[Rows]:
    before, after = to_smaller(before, after) if len(before[0][0]) != len(after[0][0]) else (before, after)
    return [
        [[dot(flat(a), flat(b)) / len(flat(b)) for b in image_after] for a in image_before]
        for image_before, image_after in zip(before, after, strict=True)
    ]


def fsp(students: list[Maps], teachers: list[Maps]) -> float:
    total = 0.0
    for number in range(len(students) - 1):
        a, b = (flow(maps[number], maps[number + 1]) for maps in (students, teachers))
        total += squared(a, b) / len(flat(a))
    return total


def ab(student: Maps, teacher: Maps, margin: float = 1.0) -> float:
    total = 0.0
    for s, t in zip(flat(student), flat(teacher), strict=True):
        if t > 0 and s <= margin:
            total += (s - margin) ** 2
        elif t <= 0 and s > -margin:
            total += (s + margin) ** 2
    return total / len(student)


def ft(student: Maps, teacher: Maps) -> float:
    student, teacher = to_smaller(student, teacher)
    pairs = list(zip(flat(attention(student)), flat(attention(teacher)), strict=True))
    return mean(abs(a - b) for a, b in pairs)


def leading(image: list[Plane], count: int) -> tuple[Row, Rows]:
    """The first singular values, as a vector of length 1, and right singular vectors of an image's map, pixels by channels."""
    pixels = [list(pixel) for pixel in zip(*map(flat, image), strict=True)]
    _, values, vectors = np.linalg.svd(np.array(pixels))
    return unit(values[:count].tolist()), vectors[:count].tolist()


def kdsvd(students: list[Maps], teachers: list[Maps], count: int = 1) -> float:
    total = 0.0
    for b in range(len(students[0])):
        before: tuple[Rows, Rows] | None = None
        for student, teacher in zip(students, teachers, strict=True):
            values, theirs = leading(teacher[b], count)
            _, candidates = leading(student[b], count + 3)
            theirs = [[-x for x in row] if sum(row) < 0 else row for row in theirs]
            mine = []
            for row in theirs:
                nearest = max(candidates, key=lambda other: abs(dot(other, row)))
                mine.append([x * (1 if dot(nearest, row) > 0 else -1) for x in nearest])
            mine, theirs = ([[v * x for x in row] for v, row in zip(values, rows, strict=True)] for rows in (mine, theirs))
            if before is not None:
                for k in range(len(theirs)):
                    for i in range(len(theirs[k])):
                        for j in range(len(before[1][k])):
                            a, c = (
                                math.exp(-((now[k][i] - past[k][j]) ** 2) / 8) for now, past in zip((mine, theirs), before, strict=True)
                            )
                            total += (a - c) ** 2
            before = mine, theirs
    return total / len(students[0])


def crd(likelihoods: Rows, num_images: int) -> float:
    total = 0.0
    for positive, *negatives in likelihoods:
        noise = len(negatives) / num_images
        total -= math.log(positive / (positive + noise + 1e-7))
        total -= sum(math.log(noise / (q + noise + 1e-7)) for q in negatives)
    return total / len(likelihoods)


def hard_label(student: Rows, teacher: Rows) -> float:
    return cross_entropy(student, [row.index(max(row)) for row in teacher])
