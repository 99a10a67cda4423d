"""Curves against scikit-learn, against a plain count of the rows, and against figures worked by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import auc, roc_auc_score, roc_curve

from esmm import curves, pictures
from esmm.metrics import TaskMetrics

Array = NDArray[np.float64]


def drawn(rows: int, rate: float) -> tuple[Array, Array, Array]:
    """Predictions, labels that follow them, and weights."""
    rng = np.random.default_rng(0)
    predictions = 1 / (1 + np.exp(-(rng.normal(size=rows) * 1.3 + np.log(rate))))
    return predictions, (rng.random(rows) < predictions * 0.8).astype(float), rng.choice([1.0, 2.0], rows)


def task(predictions: Array, labels: Array, weights: Array) -> TaskMetrics:
    metrics = TaskMetrics()
    metrics.update(labels, weights, predictions)
    return metrics


@pytest.mark.parametrize("rate", [0.5, 0.05, 0.002])
def test_the_area_below_the_roc_curve_is_the_auc(rate: float) -> None:
    predictions, labels, weights = drawn(50_000, rate)
    points = np.array(curves.roc(task(predictions, labels, weights)))
    assert len(points) <= curves.POINTS
    assert np.all(np.diff(points, axis=0) >= 0)
    area = auc(points[:, 0], points[:, 1])
    assert area == pytest.approx(roc_auc_score(labels, predictions, sample_weight=weights), abs=1e-3)
    false, true, _ = roc_curve(labels, predictions, sample_weight=weights)
    np.testing.assert_allclose(np.interp(points[:, 0], false, true), points[:, 1], atol=5e-3)


def test_a_roc_curve_by_hand() -> None:
    """Highest first: one positive, then one of each that are equal, then two negatives."""
    found = curves.roc(task(np.array([0.9, 0.5, 0.5, 0.2, 0.1]), np.array([1.0, 0, 1, 0, 0]), np.ones(5)))
    expected = [(0, 0), (0, 0.5), (1 / 3, 1), (2 / 3, 1), (1, 1)]
    assert found == [pytest.approx(point) for point in expected]
    assert curves.roc(task(np.array([0.1, 0.2]), np.zeros(2), np.ones(2))) == []
    assert curves.roc(TaskMetrics()) == []


def test_spans_count_rows_between_round_numbers() -> None:
    predictions, labels, weights = drawn(20_000, 0.3)
    found = curves.spans(task(predictions, labels, weights))
    assert [span.low for span in found] == [
        span for span in curves.EDGES if found[0].low <= span < found[-1].high
    ]
    for span in found:
        inside = (predictions >= span.low) & (predictions < span.high)
        # A bin that an edge lies in counts where its middle is.
        assert span.weight == pytest.approx(weights[inside].sum(), abs=5)
        assert span.mean_prediction == pytest.approx(
            np.average(predictions[inside], weights=weights[inside]), rel=5e-3
        )
    assert sum(span.weight for span in found) == weights.sum()
    assert sum(span.weight * span.mean_label for span in found) == pytest.approx(weights @ labels)


def test_edges_are_round_and_mirrored() -> None:
    assert curves.EDGES[:3].tolist() == [1e-12, 2e-12, 5e-12]
    around = [0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 0.95]
    assert [edge for edge in curves.EDGES if 0.05 <= edge <= 0.95] == around
    [low] = curves.spans(task(np.zeros(2), np.zeros(2), np.ones(2)))
    [high] = curves.spans(task(np.ones(2), np.ones(2), np.ones(2)))
    # The outermost bins, in which what is beyond them counts.
    assert (low.low, high.high) == (5e-12, 0.99999999)


def test_lift_and_gain_by_hand() -> None:
    """Ten rows of rising predictions, the upper five of them with four positives: 0.4 is the mean."""
    labels = np.array([0, 0, 0, 0, 0, 0, 1.0, 1, 1, 1])
    found = curves.tenths(task(np.linspace(0.05, 0.5, 10), labels, np.full(10, 3.0)))
    assert [tenth.lift for tenth in found] == pytest.approx([2.5] * 4 + [0] * 6)
    assert [tenth.share for tenth in found] == pytest.approx(np.arange(1, 11) / 10)
    assert [tenth.gain for tenth in found] == pytest.approx([0.25, 0.5, 0.75] + [1] * 7)
    assert found[0].mean_prediction == pytest.approx(0.5, rel=1e-3)
    nothing = curves.tenths(task(np.array([0.1, 0.2]), np.zeros(2), np.ones(2)))
    assert [(tenth.lift, tenth.gain) for tenth in nothing] == [(None, None)] * 2
    assert curves.tenths(TaskMetrics()) == []


def test_lift_is_the_rate_of_a_tenth_of_the_rows_over_the_mean() -> None:
    predictions, labels, _ = drawn(20_000, 0.05)
    found = curves.tenths(task(predictions, labels, np.ones(20_000)))
    parts = np.array_split(np.argsort(-predictions), 10)
    assert [tenth.lift for tenth in found] == pytest.approx(
        [labels[part].mean() / labels.mean() for part in parts], abs=0.02
    )


def test_pictures_of_nothing_are_empty_and_ticks_are_round() -> None:
    assert (pictures.roc("CTR", []), pictures.rates("CTR", []), pictures.lift("CTR", [])) == ("", "", "")
    assert pictures._ticks(0.004, 0.11) == pytest.approx([0.005, 0.01, 0.02, 0.05, 0.1])
    assert pictures._ticks(0.0004, 0.3) == pytest.approx([0.001, 0.01, 0.1])
    assert [pictures._percent(tick) for tick in (0.00001, 0.02, 1)] == ["0.001 %", "2 %", "100 %"]
    assert [pictures._count(value) for value in (0, 999, 1_000, 25_000, 1_200_000, 3e9)] == [
        "0", "999", "1k", "25k", "1.2M", "3G",
    ]  # fmt: skip


def test_a_title_is_escaped_and_a_point_on_few_rows_is_hollow() -> None:
    predictions, labels, weights = drawn(2_000, 0.05)
    spans = curves.spans(task(predictions, labels, weights))
    picture = pictures.rates("<b>CTR", spans)
    assert "&lt;b&gt;CTR: predicted" in picture
    few = [span for span in spans if 0 < span.weight * span.mean_label < pictures.FEW]
    # Each marker's style is written where it is defined and where it is used.
    assert 0 < len(few) < len([span for span in spans if span.mean_label > 0])
    assert picture.count("fill: var(--paper)") in (len(few), 2 * len(few))
