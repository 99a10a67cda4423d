"""Boundaries that cut a number into buckets of equal weight, from a histogram whose bins are float32's own.

    histogram = Histogram()
    histogram.add(np.array([1, 1, 2, 3, 0], np.float32), weights=np.ones(5))
    histogram.boundaries(exchange, 2)          # [2.0]: two of weight 2 below it, two from it on; 0 is no value

A bin holds the float32 values that agree in sign, exponent and the first 11 bits of the fraction: they differ by less
than one in 2,048, whatever their size, and integers up to 4,096 have a bin each. So there are 2^20 bins, whatever the
number of rows, and ranks' bins add up.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from esmm.distributed.exchange import Exchange

_BITS_LEFT_OUT = 12
_BINS = 2**32 >> _BITS_LEFT_OUT
_SIGN = np.uint32(2**31)


class Histogram:
    """One rank's, of one column: the weight of each bin."""

    def __init__(self) -> None:
        self._weights = np.zeros(_BINS)

    def add(self, values: np.ndarray, weights: np.ndarray) -> None:
        """Count rows, [rows] each, values float32 and finite; 0, which is absent, does not count."""
        there = values != 0
        bins = _ordered(values[there]) >> _BITS_LEFT_OUT
        np.add.at(self._weights, bins, weights[there].astype(np.float64))

    def boundaries(self, exchange: "Exchange", buckets: int) -> np.ndarray:
        """Where all buckets but the lowest begin: float32, ascending, fewer where equal values weigh too much.

        The k-th is the first bin after the least that has k / buckets of the weight of all ranks up to it.
        """
        used = np.flatnonzero(self._weights)
        weights = np.zeros(_BINS)
        for bins, of_rank in exchange.gather_objects((used, self._weights[used])):
            weights[bins] += of_rank
        used = np.flatnonzero(weights)
        up_to = np.cumsum(weights[used])
        if not used.size:
            return np.empty(0, np.float32)
        wanted = up_to[-1] * np.arange(1, buckets) / buckets
        first_above = np.unique(np.searchsorted(up_to, wanted) + 1)
        return _value(used[first_above[first_above < len(used)]] << _BITS_LEFT_OUT)


def _ordered(values: np.ndarray) -> np.ndarray:
    """float32 to uint32 that compare as the values do: below 0, a larger magnitude has to come first."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _value(ordered: np.ndarray) -> np.ndarray:
    """The float32 values of `_ordered`, back."""
    bits = ordered.astype(np.uint32)
    return np.where(bits & _SIGN, bits ^ _SIGN, ~bits).view(np.float32)
