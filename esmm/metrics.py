"""Metrics whose states can be summed: AUC, log loss and calibration of click, conversion and both, in NumPy alone.

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

LOWEST, HIGHEST = -26, 18
"""The logits that the bins cover, 5e-12 to 1 − 1.5e-8; the outermost bins take what lies beyond. A float32
cannot come closer to 1 than a logit of 16.6, but closer to 0."""

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

    BINS_PER_LOGIT: ClassVar[int] = 4096
    SIZE = len(_SUMS) + 2 * (HIGHEST - LOWEST) * 4096

    def __init__(self, vector: Floats | None = None) -> None:
        super().__init__(vector)
        self._sums = self.vector[: len(_SUMS)]
        self.histogram = self.vector[len(_SUMS) :].reshape(2, -1)
        """Weight by label and bin: a view of the vector."""

    @property
    def middles(self) -> Floats:
        """The probability in the middle of each bin."""
        bins = self.histogram.shape[1]
        return 1 / (1 + np.exp(-(LOWEST + (np.arange(bins) + 0.5) / self.BINS_PER_LOGIT)))

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
        count = self.histogram.shape[1]
        bins = np.clip((log_p - log_not_p - LOWEST) * self.BINS_PER_LOGIT, 0, count - 1).astype(np.int64)
        np.add.at(self.histogram.reshape(-1), labels * count + bins, weights)

    @property
    def rows(self) -> int:
        """Rows of a weight above 0."""
        return int(self._sums[_SUMS.index("rows")])

    @property
    def weight(self) -> float:
        """Of these rows."""
        return float(self._sums[_SUMS.index("weight")])

    @property
    def invalid(self) -> int:
        """Rows that could not be counted: a prediction outside [0, 1], or a weight that is none."""
        return int(self._sums[_SUMS.index("invalid")])

    def result(self) -> Result:
        """rows, weight, auc, log_loss, accuracy, pcoc, ece, mean_prediction, mean_label; None for what is not defined.

        auc is the chance that a positive row's prediction is above a negative's, a tie counting half; accuracy
        takes 0.5 and more for a positive; pcoc is mean prediction over mean label. ece is the expected calibration
        error (Naeini et al. 2015; Guo et al. 2017, arXiv 1706.04599, equation 3): over bands B of the rows,

            Σ w(B) / w · |mean prediction of B − mean label of B|,

        these being the ten of `bands`, of equal weight: in bands of equal width, as the papers have them, nearly
        all rows of a rare event would share one. Means are by weight.
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
            "log_loss": ratio(log_loss, weight),
            "accuracy": ratio(right, weight),
            "pcoc": ratio(prediction, label),
            "ece": self._ece(),
            "mean_prediction": ratio(prediction, weight),
            "mean_label": ratio(label, weight),
        }

    def _auc(self) -> float | None:
        negative, positive = self.histogram
        below = np.cumsum(negative) - negative / 2
        return ratio(float(positive @ below), float(positive.sum() * negative.sum()))

    def _ece(self) -> float | None:
        bands = self.bands()
        gaps = (band.weight * abs(band.mean_prediction - band.mean_label) for band in bands)
        return ratio(sum(gaps), sum(band.weight for band in bands))

    def bands(self, count: int = 10) -> list[Band]:
        """The rows in at most `count` bands of about equal weight, from the lowest predictions to the highest.

        A bin is never split, so equal predictions share a band; an empty band is left out. A band's mean
        prediction takes every prediction to be its bin's middle.
        """
        filled = np.flatnonzero(self.histogram.any(axis=0))
        negative, positive = self.histogram[:, filled]
        weights = negative + positive
        middles = self.middles[filled]
        position = (np.cumsum(weights) - weights / 2) / max(weights.sum(), 1e-300)
        band = np.minimum((position * count).astype(np.int64), count - 1)
        sums = [np.bincount(band, values, count) for values in (weights, weights * middles, positive)]
        return [
            Band(float(weight), float(predicted / weight), float(happened / weight))
            for weight, predicted, happened in zip(*sums, strict=True)
            if weight
        ]


class CoarseTaskMetrics(TaskMetrics):
    """`TaskMetrics` with a 64th of the bins, for where there are many of them.

    Two predictions in one bin differ by up to 1.6 %.
    """

    BINS_PER_LOGIT = 64
    SIZE = len(_SUMS) + 2 * (HIGHEST - LOWEST) * 64


class Metrics(Additive):
    """The three tasks at once, each a part of one vector."""

    TASK: ClassVar[type[TaskMetrics]] = TaskMetrics
    SIZE = len(TASKS) * TaskMetrics.SIZE

    def __init__(self, vector: Floats | None = None) -> None:
        super().__init__(vector)
        self.ctr, self.cvr, self.ctcvr = map(self.TASK, np.split(self.vector, len(TASKS)))

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


class CoarseMetrics(Metrics):
    """`Metrics` of `CoarseTaskMetrics`: 132 KiB."""

    TASK = CoarseTaskMetrics
    SIZE = len(TASKS) * CoarseTaskMetrics.SIZE


def ratio(part: float, whole: float) -> float | None:
    """None where there is nothing to divide by."""
    return part / whole if whole else None
