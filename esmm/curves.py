"""What a task's histogram shows beside its figures: the ROC curve, predicted and actual rates, lift by tenths.

    points = roc(metrics.ctr)               # [(0.0, 0.0), (0.004, 0.03), …, (1.0, 1.0)]
    spans(metrics.ctr)[0]                   # Span(low=0.005, high=0.01, weight=1210.0, mean_prediction=0.008, …)
    tenths(metrics.ctr)[0].lift             # 3.9: of the highest predictions, positive 3.9 times as often as all

All of it comes from states that were summed over ranks or workers.
"""

from dataclasses import dataclass

import numpy as np

from esmm.metrics import Band, TaskMetrics

POINTS = 100
"""Of a ROC curve, at most; the area below so few is that below all but for 1e-4 or so."""

_LOW_EDGES = [step * 10.0**power for power in range(-12, 0) for step in (1, 2, 5)]
EDGES = np.array([*_LOW_EDGES, *(1 - edge for edge in reversed(_LOW_EDGES[:-1]))]).round(12)
"""What predictions are counted between: 0.01, 0.02, 0.05, 0.1 and so on up to 0.5, then 0.8, 0.9, 0.95, …"""


@dataclass(frozen=True)
class Span(Band):
    """Rows whose predictions lie between two round numbers."""

    low: float
    high: float


@dataclass(frozen=True)
class Tenth(Band):
    """A tenth of the rows."""

    lift: float | None
    """Its rate over that of all rows; None where no row is positive."""
    share: float
    """How much of the weight it and the tenths above it hold."""
    gain: float | None
    """How many of the positive rows these hold; None where there are none."""


def roc(task: TaskMetrics) -> list[tuple[float, float]]:
    """Points (false positive rate, true positive rate) from (0, 0) to (1, 1); none where a label is missing.

    Every bin is a threshold, and rows of one bin are tied: a straight line. Of all these points those are kept that
    are about as far from each other.
    """
    filled = np.flatnonzero(task.histogram.any(axis=0))[::-1]
    rates = np.zeros((2, len(filled) + 1))
    np.cumsum(task.histogram[:, filled], axis=1, out=rates[:, 1:])
    if not rates[:, -1].all():
        return []
    rates /= rates[:, -1:]
    wanted = np.linspace(0, 2, POINTS)
    kept = np.unique(np.searchsorted(rates.sum(axis=0), wanted - 1e-9))
    return [(float(false), float(true)) for false, true in rates[:, kept].T]


def spans(task: TaskMetrics) -> list[Span]:
    """The rows by their predictions between EDGES, from the lowest; spans without rows are left out."""
    negative, positive = task.histogram
    weights = negative + positive
    span = np.searchsorted(EDGES, task.middles, side="right")
    sums = [
        np.bincount(span, values, len(EDGES) + 1) for values in (weights, weights * task.middles, positive)
    ]
    edges = [0.0, *EDGES.tolist(), 1.0]
    return [
        Span(
            float(weight),
            float(predicted / weight),
            float(happened / weight),
            edges[number],
            edges[number + 1],
        )
        for number, (weight, predicted, happened) in enumerate(zip(*sums, strict=True))
        if weight
    ]


def tenths(task: TaskMetrics) -> list[Tenth]:
    """`TaskMetrics.bands` from the highest predictions to the lowest, and what each of them adds."""
    bands = task.bands()[::-1]
    total, positive = sum(band.weight for band in bands), sum(band.weight * band.mean_label for band in bands)
    found, weight, gained = [], 0.0, 0.0
    for band in bands:
        weight, gained = weight + band.weight, gained + band.weight * band.mean_label
        found.append(
            Tenth(
                band.weight, band.mean_prediction, band.mean_label,
                lift=band.mean_label * total / positive if positive else None,
                share=weight / total,
                gain=gained / positive if positive else None,
            )
        )  # fmt: skip
    return found
