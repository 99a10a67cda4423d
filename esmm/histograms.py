"""What rows look like to the model, and what it makes of them, in histograms of a few bins that can be added up.

    bins = binned(config, columns, predictions)      # {"pctr": [43, 45], "clicked": [0, 3], "seller": [1, 0], …}
    added(counted(bins, weights), others)            # {"pctr": {43: 1.0, 45: 2.0}, …}

| what | bins |
|---|---|
| scores | half a unit of log-odds: what is rare is told apart as well as what is likely |
| numbers and statistics | half octaves: [1, √2), [√2, 2), …, the same below zero, and zero itself |
| lists and bags | by entries: 0, 1, 2–3, 4–7, … |
| ids | absent or not |

A feature that has a value for scoring (`at_scoring`) is not there: scored rows have it by intention.
"""

from collections.abc import Mapping

import numpy as np

from esmm import schema
from esmm.config import Config, IdFeature
from esmm.metrics import HIGHEST, LOWEST

Histogram = dict[int, float]
"""Bin to the weight of its rows; a bin that is not there is empty."""

Histograms = dict[str, Histogram]
"""By score, feature and list."""

FACT = "histograms"
"""What a model's manifest calls those of its own samples, and of what it makes of them."""

_OCTAVES = 40
"""Of numbers, as far as bins go on either side of 1; the outermost take what lies beyond."""


def binned(
    config: Config, columns: Mapping[str, np.ndarray], predictions: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The bins of rows, int64 [rows] each, of the columns and predictions that there are.

    Columns are the model's, [rows] or [rows, length], lists padded.
    """
    found = {name: _of_probabilities(p) for name, p in predictions.items()}
    for name, feature in schema.sourced_features(config).items():
        if feature.at_scoring is None and name in columns:
            is_id = isinstance(feature, IdFeature)
            found[name] = _of_ids(columns[name]) if is_id else _of_numbers(columns[name])
    for column in schema.statistic_columns(config):
        if column.name in columns:
            found[column.name] = _of_numbers(columns[column.name])
    for name in (*config.lists, *config.bags):
        if (weights := columns.get(f"{name}_weight")) is not None:
            found[name] = _of_lists(weights)
    return found


def counted(bins: Mapping[str, np.ndarray], weights: np.ndarray) -> Histograms:
    """The histograms of rows of some weights, [rows]."""
    found = {}
    for name, bins_b in bins.items():
        lowest = int(bins_b.min(initial=0))
        sums = np.bincount(bins_b - lowest, weights)
        found[name] = {lowest + int(place): float(sums[place]) for place in np.flatnonzero(sums)}
    return found


def added(one: Mapping[str, Histogram], other: Mapping[str, Histogram]) -> Histograms:
    """The histograms of the rows of both."""
    return {
        name: {
            value: one.get(name, {}).get(value, 0.0) + other.get(name, {}).get(value, 0.0)
            for value in sorted({*one.get(name, {}), *other.get(name, {})})
        }
        for name in {**one, **other}
    }


def _of_probabilities(p: np.ndarray) -> np.ndarray:
    # What is no number is for `esmm.ranking` to complain of, by name: here it must only have a bin.
    p = np.nan_to_num(p.astype(np.float64))
    with np.errstate(divide="ignore"):
        return np.floor(2 * np.clip(np.log(p) - np.log1p(-p), LOWEST, HIGHEST)).astype(np.int64)


def _of_ids(ids: np.ndarray) -> np.ndarray:
    return np.not_equal(ids, schema.ABSENT).astype(np.int64)


def _of_lists(weights: np.ndarray) -> np.ndarray:
    return np.ceil(np.log2(np.count_nonzero(weights, axis=1) + 1)).astype(np.int64)


def _of_numbers(x: np.ndarray) -> np.ndarray:
    size = np.abs(x.astype(np.float64))
    with np.errstate(divide="ignore"):
        place = np.clip(np.floor(2 * np.log2(size)), -2 * _OCTAVES, 2 * _OCTAVES)
    # From 1 on, since the sign has to make a difference; of 0 it makes none.
    return (np.sign(x) * (place + 2 * _OCTAVES + 1)).astype(np.int64)
