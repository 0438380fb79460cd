"""The time of units that nobody measured, from those that somebody did."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from scipy.optimize import nnls

from diswot.latency.units import Layer, Unit

Vector = NDArray[np.float64]
_FEWEST = 8  # units of a kind below which the kind has no correction of its own
_FOLDS = 5
_SMOOTHINGS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_FLOOR = 1e-6  # milliseconds


class FillIn:
    """A small model of the time of units.

    The time is first a sum of parts that cannot be negative: for a call, for each layer, for multiply-accumulates (of k x k, 1x1 and
    grouped convolutions apart), for weights and for what is read and written; least squares of the relative error. What that misses is a
    smooth function for each kind of unit: the logarithm of measured over predicted time, interpolated over channels, kernel and
    resolution (`scipy.interpolate.RBFInterpolator`, linear kernel), as smooth as held-out units like it best.

    Args:
        units: units that were measured.
        milliseconds: the time of each, positive.
    """

    def __init__(self, units: Sequence[Unit], milliseconds: Sequence[float]) -> None:
        times = np.asarray(milliseconds, np.float64)
        self._scale = np.maximum(np.abs(_parts(units)).max(axis=0), 1e-12)
        self._rates, _ = nnls(_parts(units) / self._scale / times[:, None], np.ones(len(times)))
        missed = np.log(times / self._by_parts(units))
        self._corrections: dict[str, RBFInterpolator] = {}
        for kind in sorted({unit.kind for unit in units}):
            which = np.array([unit.kind == kind for unit in units])
            of_kind = [unit for unit in units if unit.kind == kind]
            if len(of_kind) >= _FEWEST:
                self._corrections[kind] = _smooth(places_of(of_kind), missed[which])

    def __call__(self, units: Sequence[Unit]) -> Vector:
        """The time of units in milliseconds, (n,)."""
        found = self._by_parts(units)
        for kind, correction in self._corrections.items():
            which = [index for index, unit in enumerate(units) if unit.kind == kind]
            if which:
                found[which] *= np.exp(correction(places_of([units[index] for index in which])))
        return found

    def _by_parts(self, units: Sequence[Unit]) -> Vector:
        return np.maximum(_parts(units) / self._scale @ self._rates, _FLOOR)


def held_out_error(units: Sequence[Unit], milliseconds: Sequence[float]) -> float:
    """The median relative error of the model on units that it was not given, a fifth at a time; NaN for fewer than ten.

    Args:
        units: units that were measured.
        milliseconds: the time of each.
    """
    if len(units) < 2 * _FOLDS:
        return math.nan
    times, errors = np.asarray(milliseconds), []
    for fold in range(_FOLDS):
        inside = [index for index in range(len(units)) if index % _FOLDS != fold]
        outside = [index for index in range(len(units)) if index % _FOLDS == fold]
        model = FillIn([units[index] for index in inside], times[inside].tolist())
        errors += list(np.abs(model([units[index] for index in outside]) / times[outside] - 1))
    return float(np.median(errors))


def _parts(units: Sequence[Unit]) -> Vector:
    """What the time of a unit is a sum of, (n, parts)."""
    return np.array([_unit_parts(unit) for unit in units], np.float64)


def _unit_parts(unit: Unit) -> list[float]:
    dense = [layer for layer in unit.convs if layer.groups == 1]
    grouped = [layer for layer in unit.convs if layer.groups > 1]
    other = [layer for layer in unit.layers if not layer.weights]
    wide = [layer for layer in dense if math.prod(layer.kernel) > 1]
    point = [layer for layer in dense if math.prod(layer.kernel) <= 1]
    flops = [sum(layer.flops for layer in some) for some in (wide, point, grouped)]
    moved = [sum(map(_moved, some)) for some in (unit.convs, other)]
    return [1, len(unit.convs), len(other), *flops, sum(layer.weights for layer in unit.convs), *moved, math.prod(unit.inputs)]


def _moved(layer: Layer) -> int:
    """Numbers that a layer reads and writes."""
    return math.prod(layer.inputs) + math.prod(layer.outputs)


def places_of(units: Sequence[Unit]) -> Vector:
    """Where a unit lies among those of its kind, (n, coordinates): logarithms of channels, kernel and sides."""
    return np.array([_unit_place(unit) for unit in units], np.float64)


def _unit_place(unit: Unit) -> list[float]:
    convs = unit.convs or unit.layers
    inside = sum(math.log2(layer.outputs[0]) for layer in convs) / max(len(convs), 1)
    outputs = unit.layers[-1].outputs if unit.layers else unit.inputs
    kernel = max((math.prod(layer.kernel) for layer in convs), default=1)
    sides = (math.prod(unit.inputs[1:]), math.prod(outputs[1:]))
    return [math.log2(unit.inputs[0]), inside, math.log2(outputs[0]), math.log2(max(kernel, 1)), *(math.log2(side) / 2 for side in sides)]


def _smooth(places: Vector, values: Vector) -> RBFInterpolator:
    """The interpolator that predicts held-out values best."""

    def error(smoothing: float) -> float:
        total = 0.0
        for fold in range(_FOLDS):
            outside = np.arange(len(values)) % _FOLDS == fold
            model = _interpolator(places[~outside], values[~outside], smoothing)
            total += float(np.abs(model(places[outside]) - values[outside]).sum())
        return total

    return _interpolator(places, values, min(_SMOOTHINGS, key=error))


def _interpolator(places: Vector, values: Vector, smoothing: float) -> RBFInterpolator:
    return RBFInterpolator(places, values, smoothing=smoothing, kernel="linear", degree=0)
