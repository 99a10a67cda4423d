"""Metrics against scikit-learn, against figures worked by hand, and under splitting, shuffling and weighting."""

import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from esmm.agreement import Agreement
from esmm.errors import DataError
from esmm.metrics import TASKS, Metrics, Result, TaskMetrics

ROWS = 20_000
Array = NDArray[np.float64]

SHAPES: dict[str, Callable[[Array], Array]] = {
    "uniform": lambda u: u,
    "rare": lambda u: 1e-4 + u * 1e-4,
    "rarer": lambda u: 1e-11 + u * 1e-9,
    "many orders of magnitude": lambda u: 10 ** (-9 * u),
    "skewed": lambda u: u**8,
    "around a half": lambda u: 0.5 + (u - 0.5) * 0.02,
    "near one": lambda u: 1 - 1e-7 - u * 1e-6,
    "both ends": lambda u: np.where(u < 0.5, u * 1e-5, 1 - (1 - u) * 1e-5),
    "within two per cent": lambda u: 0.03 * (1 + 0.02 * u),
    "a few values": lambda u: np.ceil(u * 5) / 7,
    "three decimals": lambda u: np.round(u * 0.03, 3),
    "one value": lambda u: np.full_like(u, 0.02),
    "zeros and ones among others": lambda u: np.clip(u * 3 - 1, 0, 1),
}


def drawn(seed: int, signal: float, rate: float = 0.1) -> tuple[Array, NDArray[np.int8]]:
    """Ranks in (0, 1), and labels that follow them the more the greater the signal."""
    rng = np.random.default_rng(seed)
    ranks = rng.random(ROWS)
    chances = rate * np.exp(signal * (ranks - 0.5))
    return ranks, (rng.random(ROWS) < chances).astype(np.int8)


def task(label: NDArray[Any], prediction: Array, weight: Array | None = None) -> TaskMetrics:
    metrics = TaskMetrics()
    metrics.update(label, np.ones(len(label)) if weight is None else weight, prediction)
    return metrics


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("signal", [-2.0, 0.0, 1.0, 4.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_auc_and_log_loss_agree_with_scikit_learn(shape: str, signal: float, kind: type) -> None:
    ranks, labels = drawn(3, signal)
    predictions: Array = SHAPES[shape](ranks).astype(kind)
    found = task(labels, predictions).result()
    assert found["auc"] == pytest.approx(roc_auc_score(labels, predictions), abs=5e-4)
    # In float64: scikit-learn keeps float32 predictions much farther away from 0 and 1.
    assert found["log_loss"] == pytest.approx(log_loss(labels, predictions.astype(np.float64)), rel=1e-9)
    assert found["mean_prediction"] == pytest.approx(predictions.astype(np.float64).mean(), rel=1e-12)


@pytest.mark.parametrize("shape", ["uniform", "rare", "a few values"])
def test_weights_agree_with_scikit_learn(shape: str) -> None:
    ranks, labels = drawn(4, 2.0)
    weights = np.random.default_rng(5).exponential(size=ROWS)
    predictions = SHAPES[shape](ranks)
    found = task(labels, predictions, weights).result()
    assert found["auc"] == pytest.approx(roc_auc_score(labels, predictions, sample_weight=weights), abs=5e-4)
    expected = log_loss(labels, predictions, sample_weight=weights)
    assert found["log_loss"] == pytest.approx(expected, rel=1e-9)
    assert found["pcoc"] == pytest.approx((weights @ predictions) / (weights @ labels), rel=1e-12)


@pytest.mark.parametrize("shape", ["uniform", "around a half", "a few values", "one value"])
def test_accuracy_agrees_with_scikit_learn(shape: str) -> None:
    ranks, labels = drawn(6, 2.0, rate=0.4)
    weights = np.random.default_rng(7).exponential(size=ROWS)
    predictions = SHAPES[shape](ranks)
    predictions[:500] = 0.5
    expected = accuracy_score(labels, predictions >= 0.5, sample_weight=weights)
    assert task(labels, predictions, weights).result()["accuracy"] == pytest.approx(expected, rel=1e-9)


def test_the_worst_order_inside_bins_stays_within_the_bound() -> None:
    """All of 1e-4 to 2e-4, each positive just above a negative: bins blur as much as they ever can."""
    predictions = np.linspace(1e-4, 2e-4, 2 * 1_500)
    labels = np.tile(np.array([0, 1], np.int8), 1_500)
    found = task(labels, predictions).result()["auc"]
    assert found == pytest.approx(roc_auc_score(labels, predictions), abs=5e-4)


def test_by_hand() -> None:
    metrics = Metrics()
    metrics.update(
        click=[1, 0, 1, 0],
        purchase=[0, 0, 1, 0],
        weight=np.ones(4, np.float32),
        pctr=[0.8, 0.6, 0.4, 0.2],
        pcvr=[0.5, 0.9, 0.25, 0.9],
        pctcvr=[0.4, 0.54, 0.1, 0.18],
    )
    found = metrics.result()
    # Of the four pairs of a clicked and an unclicked row, only (0.4, 0.6) is in the wrong order.
    assert found["ctr"] == {
        "rows": 4,
        "weight": 4.0,
        "auc": 0.75,
        "log_loss": pytest.approx(-(2 * math.log(0.8) + 2 * math.log(0.4)) / 4),
        "accuracy": 0.5,
        "pcoc": pytest.approx(1.0),
        "ece": pytest.approx((0.2 + 0.6 + 0.6 + 0.2) / 4, rel=3e-4),  # a band a row
        "mean_prediction": pytest.approx(0.5),
        "mean_label": 0.5,
    }
    # Among the two clicked rows the bought one ranks last; the unclicked rows' 0.9 are nowhere.
    assert found["cvr"] == {
        "rows": 2,
        "weight": 2.0,
        "auc": 0.0,
        "log_loss": pytest.approx(-(math.log(0.5) + math.log(0.25)) / 2),
        "accuracy": 0.0,  # a prediction of 0.5 says that it is bought
        "pcoc": pytest.approx(0.75),
        "ece": pytest.approx((0.5 + 0.75) / 2, rel=3e-4),
        "mean_prediction": pytest.approx(0.375),
        "mean_label": 0.5,
    }
    assert found["ctcvr"]["auc"] == 0.0
    assert found["ctcvr"]["mean_label"] == 0.25
    assert found["ctcvr"]["pcoc"] == pytest.approx(1.22)


def test_equal_predictions_count_half() -> None:
    assert task(np.array([1, 0, 0, 1], np.int8), np.array([0.3, 0.3, 0.1, 0.3])).result()["auc"] == 0.75


def test_what_is_not_defined_is_none() -> None:
    none = Metrics().result()["ctr"]
    assert none.pop("rows") == 0
    assert none.pop("weight") == 0
    assert set(none.values()) == {None}
    negatives = task(np.zeros(3, np.int8), np.array([0.1, 0.2, 0.3])).result()
    assert (negatives["auc"], negatives["pcoc"]) == (None, None)
    assert negatives["log_loss"] == pytest.approx(-sum(map(math.log, (0.9, 0.8, 0.7))) / 3)
    positives = task(np.ones(3, np.int8), np.array([0.1, 0.2, 0.3])).result()
    assert positives["auc"] is None
    assert positives["pcoc"] == pytest.approx(0.2)


def test_rows_of_weight_0_do_not_count_whatever_they_hold() -> None:
    metrics = task(np.array([1, 0, 1], np.int8), np.array([0.5, 0.25, np.nan]), np.array([1.0, 1.0, 0.0]))
    assert metrics.rows == 2
    assert metrics.result()["auc"] == 1.0


@pytest.mark.parametrize(
    ("prediction", "weight"), [(np.nan, 1), (1.5, 1), (-1e-9, 1), (0.5, np.nan), (0.5, -1)]
)
def test_what_is_no_probability_or_weight_is_counted_and_raised_by_the_sum(
    prediction: float, weight: float
) -> None:
    good, bad = task(np.array([1], np.int8), np.array([0.5])), TaskMetrics()
    bad.update([1, 1], [1, weight], [0.5, prediction])
    both = good + bad
    assert (both.rows, both.invalid) == (2, 1)
    message = (
        r"predictions: expected probabilities in \[0, 1\], and weights of at least 0, found others in 1 rows"
    )
    with pytest.raises(DataError, match=message):
        both.result()


def assert_same(found: Result, expected: Result) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        other = expected[name]
        assert value == (None if other is None else pytest.approx(other, rel=1e-9, abs=1e-12)), name


batches = st.integers(0, 60).flatmap(
    lambda rows: st.tuples(
        hnp.arrays(np.int8, rows, elements=st.integers(0, 1)),
        hnp.arrays(np.int8, rows, elements=st.integers(0, 1)),
        hnp.arrays(np.int64, rows, elements=st.integers(0, 3)),
        *[hnp.arrays(np.float32, rows, elements=st.floats(0, 1, width=32)) for _ in range(3)],
    )
)


def counted(columns: Sequence[NDArray[Any]]) -> Metrics:
    metrics = Metrics()
    metrics.update(*columns)
    return metrics


@settings(max_examples=40, deadline=None)
@given(batches, st.data())
def test_the_sum_of_parts_is_the_whole_in_any_order(
    columns: tuple[NDArray[Any], ...], data: st.DataObject
) -> None:
    rows = len(columns[0])
    order = np.array(data.draw(st.permutations(range(rows))), np.int64)
    cut = data.draw(st.integers(0, rows))
    one, other = (counted([column[part] for column in columns]) for part in (order[cut:], order[:cut]))
    whole = counted(columns).result()
    all_reduced = Metrics(one.vector + other.vector)  # as ranks sum them
    for name in TASKS:
        assert_same((one + other).result()[name], whole[name])
        assert_same(all_reduced.result()[name], whole[name])


@settings(max_examples=40, deadline=None)
@given(batches)
def test_a_weight_of_3_is_three_rows(columns: tuple[NDArray[Any], ...]) -> None:
    click, purchase, weight, *predictions = columns
    click, purchase, *predictions = (np.repeat(column, weight) for column in (click, purchase, *predictions))
    rows = counted((click, purchase, np.ones(len(click)), *predictions)).result()
    for name, found in counted(columns).result().items():
        assert found["weight"] == rows[name]["rows"]
        assert_same({**found, "rows": rows[name]["rows"]}, rows[name])


def test_bands_are_tenths_of_the_rows_from_low_to_high() -> None:
    rng = np.random.default_rng(0)
    predictions = rng.random(5_000) * 0.2
    labels = (rng.random(5_000) < predictions).astype(np.int8)
    bands = task(labels, predictions).bands()
    expected = np.array_split(np.argsort(predictions), 10)
    assert [band.weight for band in bands] == pytest.approx([500] * 10, abs=5)
    assert [band.mean_prediction for band in bands] == pytest.approx(
        [predictions[part].mean() for part in expected], rel=2e-3
    )
    assert [band.mean_label for band in bands] == pytest.approx(
        [labels[part].mean() for part in expected], abs=0.01
    )
    assert sum(band.weight * band.mean_label for band in bands) == pytest.approx(labels.sum())


def test_a_band_never_splits_equal_predictions() -> None:
    labels = np.array([0, 0, 1, 0, 1, 1], np.int8)
    predictions = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.7])
    low, high = task(labels, predictions).bands(2)
    assert (low.weight, low.mean_label) == (5, pytest.approx(0.4))
    assert (high.weight, high.mean_label) == (1, 1)
    assert low.mean_prediction == pytest.approx(0.1, rel=3e-4)
    assert TaskMetrics().bands() == []


def test_the_expected_calibration_error_by_hand() -> None:
    """Twenty predictions, two in a band: right in nine of them, in one 0.25 too low; then also with unequal weights."""
    predictions = np.repeat(np.arange(1, 11) / 20, 2)
    labels, weights = np.tile([0.0, 1.0], 10), np.ones(20)
    weights[1::2], weights[::2] = (
        2 * predictions[1::2],
        2 - 2 * predictions[::2],
    )  # the rate of each pair is right
    assert task(labels, predictions, weights).result()["ece"] == pytest.approx(0, abs=1e-4)
    weights[8:10] = 1.0, 1.0  # of the pair at 0.25: half of it is positive
    assert task(labels, predictions, weights).result()["ece"] == pytest.approx(0.25 / 10, abs=1e-4)
    weights *= 3
    assert task(labels, predictions, weights).result()["ece"] == pytest.approx(0.25 / 10, abs=1e-4)


def test_the_expected_calibration_error_agrees_with_tenths_of_the_rows() -> None:
    ranks, labels = drawn(8, 2.0)
    predictions = SHAPES["skewed"](ranks)
    tenths = np.array_split(np.argsort(predictions), 10)
    gaps = [abs(predictions[part].mean() - labels[part].mean()) for part in tenths]
    assert task(labels, predictions).result()["ece"] == pytest.approx(np.mean(gaps), abs=1e-4)


def test_agreement_is_pearsons_correlation_and_the_ratio_of_means() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(1_000) * 0.1
    predicted = truth * 1.2 + rng.random(1_000) * 0.05
    halves = [Agreement(), Agreement()]
    for half, rows in zip(halves, (slice(0, 300), slice(300, None)), strict=True):
        half.update(np.ones(1_000)[rows], predicted[rows], truth[rows])
    halves[1].update([0.0], [np.nan], [np.nan])
    found = (halves[0] + halves[1]).result()
    assert found["correlation"] == pytest.approx(np.corrcoef(predicted, truth)[0, 1], rel=1e-9)
    assert found["pcoc"] == pytest.approx(predicted.mean() / truth.mean())
    assert (found["mean_prediction"], found["mean_truth"]) == pytest.approx((predicted.mean(), truth.mean()))


def test_agreement_with_what_does_not_vary_is_none() -> None:
    constant = Agreement()
    constant.update(np.ones(1_000), np.full(1_000, 0.1), np.linspace(0, 1, 1_000))
    assert constant.result()["correlation"] is None
    assert Agreement().result() == dict.fromkeys(
        ("correlation", "pcoc", "mean_prediction", "mean_truth"), None
    )


def test_metrics_need_neither_tensorflow_nor_spark() -> None:
    code = "import sys, esmm.metrics; sys.exit(bool({'tensorflow', 'pyspark', 'horovod'} & set(sys.modules)))"
    root = Path(__file__).resolve().parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
