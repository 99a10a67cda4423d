"""Mean and deviation of a number by the samples' weight, from sums that row groups and ranks add to.

    sums = Sums(feature)
    sums.add(np.array([1.0, 4.0]), weights=np.array([2.0, 1.0]))
    sums.moments(exchange)             # Moments(mean=2.0, deviation=1.414…): √((2 · 1 + 1 · 4) / 3)

Squares are taken about each part's own mean and moved to the common one (Chan et al. 1979), since the difference of
two large sums would leave little of a small deviation.
"""

from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf

from esmm.config import NumberFeature
from esmm.fitted import Moments
from esmm.layers.inputs import transformed

if TYPE_CHECKING:
    from esmm.distributed.exchange import Exchange


class _Part(NamedTuple):
    """Of some rows."""

    weight: float = 0.0
    mean: float = 0.0
    squares: float = 0.0
    """Σ weight · (x - mean)²."""


class Sums:
    """One rank's, of one numeric feature."""

    def __init__(self, feature: NumberFeature) -> None:
        self._feature, self._part = feature, _Part()

    def add(self, values: np.ndarray, weights: np.ndarray) -> None:
        """Count rows, [rows] each: values as the samples have them."""
        x = transformed(tf.constant(values, tf.float64), self._feature).numpy()
        weights = weights.astype(np.float64)
        weight = weights.sum()
        if weight > 0:
            mean = weights @ x / weight
            self._part = _together(self._part, _Part(weight, mean, weights @ (x - mean) ** 2))

    def moments(self, exchange: "Exchange") -> Moments:
        """Of all ranks' rows; 0 and 1 where nothing has a weight."""
        weight, mean, squares = reduce(_together, exchange.gather_objects(self._part), _Part())
        deviation = float(np.sqrt(squares / weight)) if weight else 0.0
        # Below what float32 tells apart, values do not differ but by rounding.
        is_constant = deviation <= np.finfo(np.float32).eps * abs(mean)
        return Moments(float(mean), 1.0 if is_constant else deviation)


def _together(one: _Part, other: _Part) -> _Part:
    weight = one.weight + other.weight
    if not weight:
        return one
    apart, share = other.mean - one.mean, other.weight / weight
    return _Part(
        weight, one.mean + apart * share, one.squares + other.squares + apart**2 * one.weight * share
    )
