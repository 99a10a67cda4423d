"""Isotonic maps from a model's pCTR and pCTCVR to calibrated ones, fitted to what it predicted of validation samples.

    calibration = fit(measured)              # Metrics, summed over all ranks: no row leaves its own
    calibration(model.predictions(logits))   # pctr and pctcvr mapped, pcvr what is left: pctcvr / pctr

A map is a line through a few knots, which are drawn and joined in log-odds, as the histograms' bins are:

    predicted   0.01   0.03   0.2          Isotonic regression itself is a staircase: all rows of a step would get one
    calibrated  0.004  0.02   0.1          probability. Through the steps' centres instead, equal rows stay equal and
                                           no others become so, and the AUCs of CTR and CTCVR are what they were.

In log-odds nothing reaches 0 or 1, and beyond the outermost knots the map goes on in parallel to the model's own
odds. In between, each prediction has its own value, however few the knots.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from sklearn.isotonic import isotonic_regression

from esmm.errors import DataError
from esmm.metrics import HIGHEST, LOWEST, Floats, Metrics, Result, TaskMetrics

KNOTS = 16
"""A map has at most as many: pCVR has the kinks of both, and each of these costs it some of its order."""

LEAST = 100.0
"""What rows tell of a knot's log-odds is at least this, their Fisher information w · r (1 − r) of weight w and rate r:
the odds are then known to about 1 / √100, a tenth. With few positive rows that makes few knots."""

MOST_PCVR = 1 - 2.0**-10
"""Where both maps would make every click a purchase, pCVR ends here: one row can prove a 1 infinitely wrong."""

_NEAREST_TO_ONE = 16.0
"""The log-odds of the highest probability there is: from 16.6 on, float32 has none but 1."""


@dataclass(frozen=True)
class Curve:
    """A line through knots, in log-odds, that rises from below LOWEST to above HIGHEST."""

    predicted: Floats
    """[k + 2]: that of the knots, rising, and of an end on either side."""
    calibrated: Floats
    """[k + 2]: what these become, rising too."""

    def __call__(self, prediction: tf.Tensor) -> tf.Tensor:
        """Probabilities of any shape to calibrated ones, float32, above 0 and below 1."""
        # In float64: of neighbouring float32 probabilities, float32 logarithms would be equal, or the wrong way round.
        p = tf.cast(prediction, tf.float64)
        x = tf.clip_by_value(tf.math.log(p) - tf.math.log1p(-p), LOWEST, HIGHEST)
        piece = tf.searchsorted(self.predicted[1:-1], tf.reshape(x, [-1]), side="right")
        piece = tf.reshape(piece, tf.shape(x))
        slopes = np.diff(self.calibrated) / np.diff(self.predicted)
        beyond_knot = x - tf.gather(self.predicted, piece)
        y = tf.gather(self.calibrated, piece) + tf.gather(slopes, piece) * beyond_knot
        return tf.cast(tf.sigmoid(tf.clip_by_value(y, LOWEST, _NEAREST_TO_ONE)), tf.float32)


@dataclass(frozen=True)
class Calibration:
    """The maps of a model."""

    ctr: Curve
    ctcvr: Curve

    @property
    def knots(self) -> dict[str, int]:
        """How many each map has."""
        return {"ctr": len(self.ctr.predicted) - 2, "ctcvr": len(self.ctcvr.predicted) - 2}

    def __call__(self, predictions: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """pctr, pcvr and pctcvr to calibrated ones, float32, with pctr · pcvr = pctcvr to rounding.

        pctcvr is capped at MOST_PCVR · pctr, and the given pcvr is not looked at: pcvr is pctcvr / pctr.
        """
        pctr = self.ctr(predictions["pctr"])
        pctcvr = tf.minimum(self.ctcvr(predictions["pctcvr"]), MOST_PCVR * pctr)
        return {"pctr": pctr, "pcvr": pctcvr / pctr, "pctcvr": pctcvr}


def check(validated: dict[str, Result]) -> None:
    """Raise DataError where no map can be fitted to samples of which these are the metrics."""
    for task, positive in (("ctr", "clicks"), ("ctcvr", "purchases")):
        rate = validated[task]["mean_label"]
        if rate is None or not 0 < rate < 1:
            found = "no rows" if rate is None else f"a rate of {rate:g}"
            raise DataError("validation samples", expected=f"rows with and without {positive} (training.calibrate)",
                            found=found)  # fmt: skip


def fit(measured: Metrics) -> Calibration:
    """The maps of what was measured of a model; both CTR and CTCVR need rows of both labels (`check`)."""
    return Calibration(curve(measured.ctr), curve(measured.ctcvr))


def curve(task: TaskMetrics) -> Curve:
    """The map of a task: isotonic regression of label on prediction, its steps' centres joined.

    The mean of what it makes of the rows is that of their labels: joining centres changes it by a little, which is
    given back by moving all knots alike.
    """
    weights, predicted, positive = _merged(_steps(task))
    x, y = _log_odds(predicted / weights), _log_odds(positive / weights)
    ends = np.array([LOWEST - 1.0, HIGHEST + 1.0])
    beyond = y[[0, -1]] + ends - x[[0, -1]]
    x, y = np.array([ends[0], *x, ends[1]]), np.array([beyond[0], *y, beyond[1]])
    return Curve(x, y + _shift(task, x, y))


def _steps(task: TaskMetrics) -> Floats:
    """The steps of isotonic regression, [3, steps]: weight, sum of predictions and sum of labels by weight."""
    filled = np.flatnonzero(task.histogram.any(axis=0))
    negative, positive = task.histogram[:, filled]
    weights = negative + positive
    levels = isotonic_regression(positive / weights, sample_weight=weights)
    starts = np.flatnonzero(np.diff(levels, prepend=-1.0))
    return np.add.reduceat([weights, weights * task.middles[filled], positive], starts, axis=1)


def _merged(steps: Floats) -> Floats:
    """Neighbouring steps made one until each tells enough of its rate; so none is all of one label. [3, knots]."""
    enough = max(_information(steps).sum() / KNOTS, LEAST)
    merged, open_ = [], np.zeros(3)
    for step in steps.T:
        open_ = open_ + step
        if _information(open_) >= enough:
            merged.append(open_)
            open_ = np.zeros(3)
    if merged:
        merged[-1] = merged[-1] + open_
    return np.array(merged or [open_]).T


def _information(rows: Floats) -> Floats:
    """Of the log-odds, in rows [3, …] of weight, predictions and labels."""
    weights, _, positive = rows
    return positive * (weights - positive) / weights


def _shift(task: TaskMetrics, x: Floats, y: Floats) -> float:
    """What to add to a curve so that the mean of its values is that of the labels, found by bisection."""
    filled = np.flatnonzero(task.histogram.any(axis=0))
    negative, positive = task.histogram[:, filled]
    values = np.interp(_log_odds(task.middles[filled]), x, y)
    low, high = -30.0, 30.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        total = (negative + positive) @ (1 / (1 + np.exp(-values - middle)))
        low, high = (middle, high) if total < positive.sum() else (low, middle)
    return low


def _log_odds(probability: Floats) -> Floats:
    return np.log(probability) - np.log1p(-probability)
