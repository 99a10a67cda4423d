"""Calibration against scikit-learn's isotonic regression on the rows themselves, and against NumPy's interpolation."""

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

from esmm import calibration
from esmm.calibration import KNOTS, LEAST, MOST_PCVR, Calibration, Curve
from esmm.errors import DataError
from esmm.metrics import Metrics, TaskMetrics

Array = NDArray[np.float64]


def logit(p: Array) -> Array:
    return np.log(p) - np.log1p(-p)


def expit(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def drawn(rows: int, rate: float, seed: int = 0) -> tuple[Array, Array, Array]:
    """Predictions that are too high and not steep enough, labels, and weights."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(scale=1.2, size=rows) + logit(np.array(rate))
    predicted = expit(0.6 * truth + 0.2 * rng.normal(size=rows) - 0.5).astype(np.float32)
    label = rng.random(rows) < expit(truth)
    return predicted.astype(np.float64), label.astype(np.float64), rng.choice([0.5, 1.0, 2.0], rows)


def task(predicted: Array, label: Array, weight: Array) -> TaskMetrics:
    metrics = TaskMetrics()
    metrics.update(label, weight, predicted)
    return metrics


def by_numpy(curve: Curve, predicted: Array) -> Array:
    return expit(np.interp(logit(predicted.astype(np.float64)), curve.predicted, curve.calibrated))


@pytest.mark.parametrize("rate", [0.3, 0.02])
def test_steps_are_those_of_isotonic_regression_on_the_rows(rate: float) -> None:
    """Predictions that are apart by more than a bin, so that no two share one."""
    predicted, label, weight = drawn(20_000, rate)
    predicted = expit(np.round(logit(predicted) * 100) / 100)
    fitted = IsotonicRegression().fit_transform(predicted, label, sample_weight=weight)
    levels, step = np.unique(fitted.round(12), return_inverse=True)
    found = calibration._steps(task(predicted, label, weight))
    np.testing.assert_allclose(found[0], np.bincount(step, weight), rtol=1e-9)
    np.testing.assert_allclose(found[2] / found[0], levels, atol=1e-9)
    means = np.bincount(step, weight * predicted) / np.bincount(step, weight)
    np.testing.assert_allclose(
        found[1] / found[0], means, rtol=2e-4
    )  # a bin's middle stands for what is in it


def test_the_map_follows_isotonic_regression_on_the_rows() -> None:
    predicted, label, weight = drawn(200_000, 0.05)
    found = calibration.curve(task(predicted, label, weight))(predicted).numpy()
    staircase = IsotonicRegression().fit_transform(predicted, label, sample_weight=weight)
    assert np.average(np.abs(found - staircase), weights=weight) < 0.05 * label.mean()
    assert np.average(np.abs(predicted - staircase), weights=weight) > 0.3 * label.mean()


@pytest.mark.parametrize(("rows", "rate"), [(100_000, 0.1), (100_000, 0.002), (3_000, 0.01), (500, 0.5)])
def test_the_mean_of_calibrated_rows_is_that_of_their_labels(rows: int, rate: float) -> None:
    predicted, label, weight = drawn(rows, rate)
    before = task(predicted, label, weight)
    after = task(calibration.curve(before)(predicted).numpy(), label, weight).result()
    assert after["pcoc"] == pytest.approx(1, abs=2e-4)
    for name in ("ece", "log_loss"):
        assert after[name] < before.result()[name]


def test_a_map_is_numpys_interpolation_in_log_odds() -> None:
    predicted, label, weight = drawn(50_000, 0.05)
    curve = calibration.curve(task(predicted, label, weight))
    wide = np.concatenate([predicted, np.logspace(-11, -1, 50), 1 - np.logspace(-7, -1, 50)])
    inside = (by_numpy(curve, wide) > 5.2e-12) & (
        by_numpy(curve, wide) < 1 - 1.2e-7
    )  # others come to these ends
    found = curve(wide.reshape(2, -1)).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.ravel()[inside], by_numpy(curve, wide)[inside], rtol=2e-7)


def test_a_map_rises_makes_no_ties_and_never_reaches_0_or_1() -> None:
    predicted, label, weight = drawn(50_000, 0.05)
    curve = calibration.curve(task(predicted, label, weight))
    found = curve(predicted).numpy()
    assert roc_auc_score(label, found) == pytest.approx(roc_auc_score(label, predicted), abs=1e-6)
    assert len(np.unique(found)) > 0.5 * len(np.unique(predicted))
    neighbours = np.float32(0.05) + np.spacing(np.float32(0.05)) * np.arange(20_000, dtype=np.float32)
    assert np.all(np.diff(curve(neighbours).numpy()) >= 0)
    ends = curve(np.array([0, 1e-45, 1e-20, 1e-6, 0.5, 1 - 2.0**-24, 1], np.float32)).numpy()
    assert np.all(np.diff(ends) >= 0)
    assert np.all((ends > 0) & (ends < 1))
    assert np.isnan(curve(np.float32([np.nan])).numpy()).all(), "what is no probability is still found out"


def test_knots_are_few_and_each_rests_on_enough_rows() -> None:
    for rows, rate in ((200_000, 0.3), (30_000, 0.02)):
        steps = calibration._steps(task(*drawn(rows, rate)))
        merged = calibration._merged(steps)
        weights, _, positive = merged
        assert 1 < merged.shape[1] <= min(KNOTS, positive.sum() / LEAST, steps.shape[1] - 1)
        assert np.all(positive * (weights - positive) / weights >= LEAST)
        np.testing.assert_allclose(merged.sum(axis=1), steps.sum(axis=1), rtol=1e-9)
        assert np.all(np.diff(positive / weights) > 0)


def test_with_hardly_a_positive_row_all_odds_change_alike() -> None:
    predicted, label, weight = np.linspace(0.01, 0.2, 1_000), np.zeros(1_000), np.ones(1_000)
    label[[100, 900, 950]] = 1
    curve = calibration.curve(task(predicted, label, weight))
    found = curve(predicted).numpy().astype(np.float64)
    change = logit(found) - logit(predicted)
    assert np.ptp(change) < 1e-5
    assert found.sum() == pytest.approx(3, rel=1e-3)


def curve_of(x: list[float], y: list[float]) -> Curve:
    return Curve(logit(np.array(x)), logit(np.array(y)))


def test_the_product_holds_and_conversion_is_capped_at_the_click() -> None:
    rng = np.random.default_rng(0)
    raw = rng.uniform(1e-4, 0.99, (2, 1_000)).astype(np.float32)
    predictions = {
        "pctr": tf.constant(raw[0]),
        "pcvr": tf.constant(raw[1]),
        "pctcvr": tf.constant(raw[0] * raw[1]),
    }
    halved = curve_of([1e-12, 0.1, 0.999999], [1e-12, 0.05, 0.9])
    raised = curve_of([1e-12, 0.1, 0.999999], [1e-12, 0.3, 0.9999])
    found = {
        name: values.numpy() for name, values in Calibration(ctr=halved, ctcvr=raised)(predictions).items()
    }
    assert list(found) == ["pctr", "pcvr", "pctcvr"]
    assert {values.dtype.name for values in found.values()} == {"float32"}
    np.testing.assert_allclose(found["pctr"] * found["pcvr"], found["pctcvr"], rtol=2e-7)
    assert all(np.all((values > 0) & (values < 1)) for values in found.values())
    capped = by_numpy(raised, raw[0] * raw[1]) > by_numpy(halved, raw[0])
    assert 0.05 < capped.mean() < 0.95
    np.testing.assert_allclose(found["pcvr"][capped], MOST_PCVR, rtol=1e-6)
    np.testing.assert_allclose(found["pctcvr"][~capped], np.minimum(
        by_numpy(raised, raw[0] * raw[1]), MOST_PCVR * by_numpy(halved, raw[0]))[~capped], rtol=1e-6)  # fmt: skip
    np.testing.assert_allclose(found["pctr"], by_numpy(halved, raw[0]), rtol=2e-7)


def test_samples_of_one_label_are_an_error() -> None:
    measured = Metrics()
    measured.update([1, 0], [0, 0], [1, 1], [0.1, 0.2], [0.1, 0.2], [0.01, 0.04])
    expected = r"^validation samples: expected rows with and without purchases .*, found a rate of 0$"
    with pytest.raises(DataError, match=expected):
        calibration.check(measured.result())
    with pytest.raises(DataError, match=r"with and without clicks .*, found no rows"):
        calibration.check(Metrics().result())
    measured.update([1], [1], [1], [0.1], [0.1], [0.01])
    calibration.check(measured.result())
