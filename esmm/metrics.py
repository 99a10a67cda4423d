"""Metrics whose states can be summed: AUC, log loss and PCOC of click, conversion and both, in NumPy alone.

    ours, theirs = Metrics(), Metrics()            # one a Horovod rank, or one a Spark partition
    ours.update(click=[1, 0], purchase=[0, 0], weight=[1, 1],
                pctr=[0.9, 0.2], pcvr=[0.5, 0.5], pctcvr=[0.45, 0.1])
    both = ours + theirs                           # or Metrics(all-reduced sum of the ranks' vectors)
    both.result()["ctr"]["auc"]                    # 1.0
    both.result()["cvr"]["auc"]                    # None: one clicked row, so there is nothing to rank

Averaging the ranks' AUCs would be wrong; summing their states is exact. Each state is one float64 vector of
fixed size: sums, and histograms of the predictions by label. A bin is 1/4096 wide in logit(p), so that
predictions around 1e-4 are told apart as well as those around 0.5: two in one bin differ by less than 0.025 %
of themselves (near 1, of 1 − p). Two rows in one bin count as tied, so an AUC is off by at most half the
share of (positive, negative) pairs that fall into one bin.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from esmm.errors import DataError

BINS_PER_LOGIT = 4096
LOWEST, HIGHEST = -26, 18
"""The logits that the bins cover, 5e-12 to 1 − 1.5e-8; the outermost bins take what lies beyond. A float32
cannot come closer to 1 than a logit of 16.6, but closer to 0."""

BINS = (HIGHEST - LOWEST) * BINS_PER_LOGIT

TASKS = ("ctr", "cvr", "ctcvr")
"""Click among all rows; purchase among clicked rows; click and purchase among all rows."""

_SUMS = ("rows", "weight", "label", "prediction", "log_loss", "right", "invalid")
_EPSILON = np.finfo(
    np.float64
).eps  # log loss takes predictions to lie this far from 0 and 1 (as scikit-learn)

Floats = npt.NDArray[np.float64]
Result = dict[str, int | float | None]


class Additive:
    """A state that is one float64 vector of SIZE entries: the state of all rows is the sum of the parts'."""

    SIZE: ClassVar[int]

    def __init__(self, vector: Floats | None = None) -> None:
        self.vector = np.zeros(self.SIZE) if vector is None else np.asarray(vector, np.float64)
        assert self.vector.shape == (self.SIZE,), (self.vector.shape, self.SIZE)

    def __add__(self, other: Self) -> Self:
        return type(self)(self.vector + other.vector)


@dataclass(frozen=True)
class Band:
    """Rows whose predictions are neighbours: what was predicted of them and what happened."""

    weight: float
    mean_prediction: float
    mean_label: float


class TaskMetrics(Additive):
    """One task: a label, 0 or 1, and the probability that was predicted for it."""

    SIZE = len(_SUMS) + 2 * BINS

    def __init__(self, vector: Floats | None = None) -> None:
        super().__init__(vector)
        self._sums = self.vector[: len(_SUMS)]
        self.histogram = self.vector[len(_SUMS) :].reshape(2, BINS)
        """Weight by label and bin: a view of the vector."""

    def update(self, label: npt.ArrayLike, weight: npt.ArrayLike, prediction: npt.ArrayLike) -> None:
        """Count rows: three arrays of one shape. Rows of weight 0 do not count, whatever else they hold.

        A prediction that is no probability is not raised here, where a rank alone would stop and the others
        wait for it: it is counted, and `result` raises on all of them.
        """
        labels = np.asarray(label).ravel() != 0
        weights = np.asarray(weight, np.float64).ravel()
        predictions = np.asarray(prediction, np.float64).ravel()
        valid = (predictions >= 0) & (predictions <= 1) & (weights > 0) & np.isfinite(weights)
        invalid = np.count_nonzero((weights != 0) & ~valid)
        labels, weights, predictions = labels[valid], weights[valid], predictions[valid]
        clipped = np.clip(predictions, _EPSILON, 1 - _EPSILON)
        log_p, log_not_p = np.log(clipped), np.log1p(-clipped)
        losses = -np.where(labels, log_p, log_not_p)
        right = labels == (predictions >= 0.5)
        self._sums += (
            len(weights), weights.sum(), weights @ labels, weights @ predictions, weights @ losses,
            weights @ right, invalid,
        )  # fmt: skip
        bins = np.clip((log_p - log_not_p - LOWEST) * BINS_PER_LOGIT, 0, BINS - 1).astype(np.int64)
        np.add.at(self.histogram.reshape(-1), labels * BINS + bins, weights)

    @property
    def rows(self) -> int:
        """Rows of a weight above 0."""
        return int(self._sums[_SUMS.index("rows")])

    @property
    def invalid(self) -> int:
        """Rows that could not be counted: a prediction outside [0, 1], or a weight that is none."""
        return int(self._sums[_SUMS.index("invalid")])

    def result(self) -> Result:
        """rows, weight, auc, log_loss, accuracy, pcoc, mean_prediction, mean_label; None for what is not defined.

        auc is the chance that a positive row's prediction is above a negative's, a tie counting half; accuracy
        takes 0.5 and more for a positive; pcoc is mean prediction over mean label. Means are by weight.
        Raises DataError where a row was invalid.
        """
        if self.invalid:
            raise DataError("predictions", expected="probabilities in [0, 1], and weights of at least 0",
                            found=f"others in {self.invalid:,} rows")  # fmt: skip
        _, weight, label, prediction, log_loss, right, _ = map(float, self._sums)
        return {
            "rows": self.rows,
            "weight": weight,
            "auc": self._auc(),
            "log_loss": _ratio(log_loss, weight),
            "accuracy": _ratio(right, weight),
            "pcoc": _ratio(prediction, label),
            "mean_prediction": _ratio(prediction, weight),
            "mean_label": _ratio(label, weight),
        }

    def _auc(self) -> float | None:
        negative, positive = self.histogram
        below = np.cumsum(negative) - negative / 2
        return _ratio(float(positive @ below), float(positive.sum() * negative.sum()))

    def bands(self, count: int = 10) -> list[Band]:
        """The rows in at most `count` bands of about equal weight, from the lowest predictions to the highest.

        A bin is never split, so equal predictions share a band; an empty band is left out. A band's mean
        prediction takes every prediction to be its bin's middle.
        """
        filled = np.flatnonzero(self.histogram.any(axis=0))
        negative, positive = self.histogram[:, filled]
        weights = negative + positive
        middles = 1 / (1 + np.exp(-(LOWEST + (filled + 0.5) / BINS_PER_LOGIT)))
        position = (np.cumsum(weights) - weights / 2) / max(weights.sum(), 1e-300)
        band = np.minimum((position * count).astype(np.int64), count - 1)
        sums = [np.bincount(band, values, count) for values in (weights, weights * middles, positive)]
        return [
            Band(float(weight), float(predicted / weight), float(happened / weight))
            for weight, predicted, happened in zip(*sums, strict=True)
            if weight
        ]


class Metrics(Additive):
    """The three tasks at once, each a part of one vector."""

    SIZE = len(TASKS) * TaskMetrics.SIZE

    def __init__(self, vector: Floats | None = None) -> None:
        super().__init__(vector)
        self.ctr, self.cvr, self.ctcvr = map(TaskMetrics, np.split(self.vector, len(TASKS)))

    @property
    def tasks(self) -> dict[str, TaskMetrics]:
        """The parts under the names of TASKS."""
        return {"ctr": self.ctr, "cvr": self.cvr, "ctcvr": self.ctcvr}

    def update(
        self,
        click: npt.ArrayLike,
        purchase: npt.ArrayLike,
        weight: npt.ArrayLike,
        pctr: npt.ArrayLike,
        pcvr: npt.ArrayLike,
        pctcvr: npt.ArrayLike,
    ) -> None:
        """Count rows: labels 0 or 1, weights of at least 0 and probabilities, arrays of one shape."""
        clicked, bought = np.asarray(click).ravel() != 0, np.asarray(purchase).ravel() != 0
        weights = np.asarray(weight, np.float64).ravel()
        self.ctr.update(clicked, weights, pctr)
        self.cvr.update(bought, np.where(clicked, weights, 0.0), pcvr)
        self.ctcvr.update(clicked & bought, weights, pctcvr)

    def result(self) -> dict[str, Result]:
        """Each task's `TaskMetrics.result`, under the names of TASKS."""
        return {name: task.result() for name, task in self.tasks.items()}


class Agreement(Additive):
    """How far predictions follow true probabilities, where these are known: Pearson's r and the means."""

    SIZE = 6

    def update(self, weight: npt.ArrayLike, prediction: npt.ArrayLike, truth: npt.ArrayLike) -> None:
        """Count rows: three arrays of one shape. Rows of weight 0 do not count."""
        weights, x, y = (np.asarray(values, np.float64).ravel() for values in (weight, prediction, truth))
        used = weights != 0
        weights, x, y = weights[used], x[used], y[used]
        self.vector += [weights @ values for values in (np.ones_like(x), x, y, x * x, y * y, x * y)]

    def result(self) -> Result:
        """correlation, pcoc, mean_prediction and mean_truth; None for what is not defined.

        pcoc is mean prediction over mean truth; the correlation is None where either does not vary.
        """
        weight, x, y, xx, yy, xy = map(float, self.vector)
        of_x, of_y = weight * xx - x * x, weight * yy - y * y
        # Of values that are all equal, rounding leaves a variance that is not quite 0.
        varies = of_x > 1e-12 * x * x and of_y > 1e-12 * y * y
        return {
            "correlation": (weight * xy - x * y) / float(np.sqrt(of_x * of_y)) if varies else None,
            "pcoc": _ratio(x, y),
            "mean_prediction": _ratio(x, weight),
            "mean_truth": _ratio(y, weight),
        }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
